"""The command: usage, and one sentence where something is wrong, on any terminal."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from spladelet import Index, SparseVector, SparseVectors, __version__
from spladelet.cli.main import main

SHOW = "import sys; from spladelet.cli.main import main; sys.exit(main(sys.argv[1:]))"


def start(*arguments, **options):
    """Start the command as a process of its own."""
    command = [sys.executable, "-m", "spladelet.cli", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", **options
    )


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as exited:
        main(["--version"])
    assert exited.value.code == 0
    assert capsys.readouterr().out == f"spladelet {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["search"],
        ["index", "documents.jsonl"],
        ["search", "index", "query", "-k", "many"],
        ["encode", "cat", "--side", "both"],
        ["encode", "cat", "--wings"],
        *(["encode", "cat", "--top", top] for top in ("0", "-1")),
        *(["explain", "cat", "cat", "--top", top] for top in ("0", "-1")),
    ],
)
def test_wrong_usage_exits_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 2
    assert "usage: spladelet" in capsys.readouterr().err


def test_a_missing_file_is_one_sentence(fail, tmp_path):
    missing = tmp_path / "none.jsonl"

    assert "none.jsonl: No such file" in fail("index", missing, "-o", tmp_path / "index")
    assert "none.jsonl: No such file" in fail("search", missing, "cat")
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("command", [["encode", "cat"], ["explain", "a", "b"], ["demo"]])
def test_a_missing_model_is_one_sentence(fail, command):
    assert "there is no bundle at './none'" in fail(*command, "--model", "./none")


@pytest.mark.parametrize("command", ["info", "verify"])
def test_a_missing_path_is_one_sentence(fail, command):
    assert "there is no bundle at './none'" in fail(command, "./none")


def test_a_bad_k_is_one_sentence(fail, saved):
    assert "k is 0; expected at least 1" in fail("search", saved, "cat", "-k", "0")


@pytest.mark.parametrize(
    ("option", "value"), [("--max-active-dims", "0"), ("--min-weight", "-1"), ("--threads", "0")]
)
def test_a_bad_limit_is_one_sentence(fail, option, value):
    name = option.removeprefix("--").replace("-", "_")

    assert f"error: {name} is {value}" in fail("encode", "cat", option, value)


def test_a_line_that_is_no_json_is_one_sentence(fail, file, tmp_path):
    with file.open("a") as appended:
        appended.write("{broken\n")

    assert "line 4 is no JSON" in fail("index", file, "-o", tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_an_id_given_twice_is_one_sentence(fail, tmp_path):
    (tmp_path / "twice.jsonl").write_text('{"id": 1, "text": "a"}\n' * 2)

    assert "both have id '1'" in fail("search", tmp_path / "twice.jsonl", "cat")


def test_an_index_of_another_model_is_one_sentence(fail, encoder, tmp_path):
    row = SparseVector([1], [1.0], encoder.vocab_size, "f" * 64)
    Index.build(SparseVectors.from_rows([row], row.vocab_size, row.model)).save(tmp_path / "index")

    assert "same model" in fail("search", tmp_path / "index", "cat")


def test_an_unknown_document_is_one_sentence(fail, saved, tmp_path):
    assert "no document with id 'dogs'" in fail("explain", "cat", "dogs", "--index", saved)
    assert "holds no index" in fail("explain", "cat", "dogs", "--index", tmp_path)


def test_texts_that_are_cut_are_noted_on_standard_error(capsys):
    assert main(["encode", "cat " * 600]) == 0

    printed = capsys.readouterr()
    assert re.fullmatch(r"note: 1 of 1 texts were longer than \d+ tokens .*\n", printed.err)
    assert printed.out.startswith("cat")


def test_a_reader_that_leaves_early_meets_no_traceback():
    # Buffered, as it is for users, so that the last words are written when all else is done.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with start("encode", "the cat purrs", env=buffered) as process:
        process.stdout.close()  # long before anything is printed
        error = process.stderr.read()

    assert (process.returncode, error) == (0, "")


def test_a_full_disk_behind_the_output_is_one_sentence():
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    command = [sys.executable, "-m", "spladelet.cli", "encode", "cat"]
    with full.open("w") as output:
        result = subprocess.run(
            command, stdout=output, stderr=subprocess.PIPE, encoding="utf-8", check=False
        )

    assert result.returncode == 1
    assert re.fullmatch(r"error: [^\n]*No space left[^\n]*\n", result.stderr)


def test_a_terminal_without_blocks_gets_hashes(run_python):
    result = run_python(
        SHOW, "encode", "cat", "--max-active-dims", 5, env={"PYTHONIOENCODING": "ascii"}
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert re.match(r"cat +#{20} ", result.stdout)
    assert result.stdout.isascii()


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "d.jsonl").write_text(
        '{"id": "s", "text": "caf\\u00e9 \\u2603 a broken \\ud83d emoji in snow"}\n'
    )
    return tmp_path / "d.jsonl"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_any_text_is_printed_on_any_terminal(run_python, corpus, encoding, form):
    arguments = ("search", *form, corpus, "snow")

    result = run_python(SHOW, *arguments, env={"PYTHONIOENCODING": encoding})

    assert (result.returncode, result.stderr) == (0, "")
    if form:
        assert json.loads(result.stdout)[0]["text"].startswith("café ☃")


def test_many_terms_are_drawn_on_an_ascii_terminal(run_python):
    arguments = ("encode", "--top", "2", "the cat sat")

    result = run_python(SHOW, *arguments, env={"PYTHONIOENCODING": "ascii"})

    assert (result.returncode, result.stderr) == (0, "")
