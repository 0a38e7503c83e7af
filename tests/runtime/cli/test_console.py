"""The door between commands and people: errors, signals, and streams that are not there."""

import io
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from spladelet.cli import console
from spladelet.encoder.notices import LanguageWarning, TruncationWarning
from spladelet.errors import InputError


def failing(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (InputError("k is 0"), 1, "error: k is 0\n"),
        (InputError("id 'a\x1b[2J\n\nerror: b'"), 1, "error: id 'a\\x1b[2J error: b'\n"),
        (OSError(28, "No space"), 1, "error: [Errno 28] No space. Mend that and try again.\n"),
        (MemoryError(), 1, "error: there is not enough memory. "),
        (MemoryError("3.5 GiB"), 1, "error: there is not enough memory (3.5 GiB). "),
        (RecursionError("deep"), 1, "error: what was given is nested too deeply. "),
        (ZeroDivisionError("by zero"), 70, "error: this is a bug in spladelet (ZeroDivision"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_an_error_is_one_line_and_a_status(capsys, error, status, told):
    assert console.run(failing(error)) == status

    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(told)
    assert printed.err.count("\n") == bool(told)


def test_where_an_error_comes_from_is_told_when_asked_for(capsys, monkeypatch):
    monkeypatch.setenv(console.DEBUG, "1")

    assert console.run(failing(ZeroDivisionError("\x1b[2J"))) == 70

    traceback = capsys.readouterr().err
    assert "Traceback (most recent call last)" in traceback
    assert "\x1b" not in traceback


def test_what_is_shown_is_not_obeyed(capsys):
    console.show("one\x1b[2J\ntwo\t\x9b\r\x00")
    console.tell("one\x1b[2J\r\ntwo")

    printed = capsys.readouterr()
    assert printed.out == "one\\x1b[2J\ntwo\t\\x9b\\r\\x00\n"
    assert printed.err == "one\\x1b[2J two\n"


def test_wrong_usage_is_repeated_as_plain_text(capsys):
    with pytest.raises(SystemExit):
        console.Parser(prog="x").parse_args(["--no\x1b[2J\nx: error: forged"])

    printed = capsys.readouterr().err
    assert printed.endswith("x: error: unrecognized arguments: --no\\x1b[2J x: error: forged\n")


def test_notes_of_batches_are_told_once_and_others_all(capsys):
    def command():
        for message in ("1 of 2 texts", "2 of 2 texts"):
            warnings.warn(message, TruncationWarning, stacklevel=1)
        warnings.warn("1 of 2\x1b texts", LanguageWarning, stacklevel=1)

    assert console.run(command) == 0
    assert capsys.readouterr().err.splitlines() == [
        "note: 1 of 2 texts (And 1 more notes like this one.)",
        r"note: 1 of 2\x1b texts",
    ]


def test_standard_input_that_is_closed_is_said(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="standard input is closed"):
        console.standard_input()


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_standard_input_is_utf_8_whatever_the_locale(monkeypatch, encoding):
    stream = io.TextIOWrapper(io.BytesIO("zürich".encode()), encoding, "surrogateescape")
    monkeypatch.setattr(sys, "stdin", stream)
    read = []

    assert console.run(lambda: read.append(console.standard_input().read())) == 0
    assert read == ["zürich"]


posix = pytest.mark.skipif(os.name == "nt", reason="descriptors and signals of POSIX")

# Writes to the number that standard error would have, as a native library does.
CLOSED = """
import os, sys
from spladelet.cli import console
def command():
    with open(sys.argv[1], "wb") as file:
        os.write(2, b"from below")
        file.write(b"ours")
    console.show("told")
sys.exit(console.run(command))
"""


@posix
@pytest.mark.parametrize(
    ("streams", "status"), [("<&-", 0), (">&-", 1), ("2>&-", 0), ("<&- >&- 2>&-", 1)]
)
def test_a_closed_stream_is_no_traceback_and_no_file_of_ours(tmp_path, streams, status):
    script = f'"$0" -c "$1" "$2" {streams}'
    result = subprocess.run(
        ["sh", "-c", script, sys.executable, CLOSED, str(tmp_path / "file")],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )

    assert result.returncode == status
    assert "Traceback" not in result.stderr
    assert ("standard output is closed" in result.stderr) == (streams == ">&-")
    assert (tmp_path / "file").read_bytes() == b"ours"


FULL = """
import sys
from spladelet.cli import console
sys.exit(console.run(lambda: console.Parser(prog="x").parse_args(["--help"])))
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_help_that_is_lost_is_an_error():
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-c", FULL],
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            check=False,
        )

    assert result.returncode == 1
    assert result.stderr.startswith("error: [Errno 28]")
    assert result.stderr.count("\n") == 1


@posix
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_leaves_with_blocks_and_no_traceback(capsys, monkeypatch, name, status):
    number = getattr(signal, name)
    if name == "SIGINT":  # which a shell has its background jobs ignore
        signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(number)
    left = []

    def command():
        try:
            signal.raise_signal(number)
        finally:
            left.append(True)

    assert console.run(command) == status
    assert left == [True]
    assert signal.getsignal(number) == before
    assert capsys.readouterr().err == ""


@posix
def test_a_handler_of_somebody_else_is_left_alone():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(True))
    try:
        assert console.run(lambda: signal.raise_signal(signal.SIGTERM)) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [True]


def test_it_runs_in_a_thread_too():
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(console.run(lambda: None)))
    thread.start()
    thread.join()

    assert statuses == [0]
