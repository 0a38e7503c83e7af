"""Where text comes from: packed or not, and what is refused before it fills the memory."""

import bz2
import gzip
import io
import lzma
import os
import subprocess
import sys
import threading
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from spladelet.errors import InputError, RecordError
from spladelet.sources import open_file, raw_lines, read_lines, suffix_of

LINES = ["Zürich", "snow"]
CONTENT = "\n".join(LINES).encode()
SHORT = "spladelet.sources.MAX_LINE"


def texts(source):
    return [line for _, _, line in read_lines(source)]


@pytest.fixture
def write(tmp_path):
    """Return a function that writes bytes to a file and returns its path."""

    def write(content, name="file"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, bytes])
def test_what_is_packed_is_unpacked_whatever_it_is_called(write, pack):
    assert texts(write(pack(CONTENT))) == LINES
    assert texts(io.BytesIO(pack(CONTENT))) == LINES
    with write(pack(CONTENT)).open("rb") as file:
        assert texts(file) == LINES
        assert not file.closed


def test_a_name_says_that_it_is_packed(write):
    for pack, suffix in ((gzip.compress, ".gz"), (bz2.compress, ".bz2"), (lzma.compress, ".XZ")):
        assert texts(write(pack(CONTENT), f"file{suffix}")) == LINES
        with pytest.raises(InputError, match="cannot read"):
            texts(write(CONTENT, f"file{suffix}"))
    assert texts(write(b"BZh1 is a text")) == ["BZh1 is a text"]
    assert [suffix_of(name) for name in ("a.TSV.gz", "b/a.csv", "a.gz", "a")] == [
        ".tsv",
        ".csv",
        "",
        "",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PAR1\x15\x04", "a Parquet file.*read_parquet"),
        (b"ARROW1\0\0", "an Arrow file"),
        (b"\x28\xb5\x2f\xfd\x04", "packed by zstd.*zstd -d"),
        (b"PK\x03\x04\x14\0", r"a \.zip.*unzip"),
        (b"\x80\x04\x95\x10", "a pickle"),
        ("cats".encode("utf-16"), "utf-16 text.*iconv -f utf-16"),
        ("cats".encode("utf-32"), "utf-32 text.*iconv -f utf-32"),
        ("cats".encode("utf-16-le"), "looks like utf-16 text.*iconv -f utf-16le"),
        ("cats".encode("utf-16-be"), "looks like utf-16 text.*iconv -f utf-16be"),
        (b"\x93NUMPY\x01\0", "an array of numpy"),
        ("cats\nZürich".encode("latin-1"), "no UTF-8 text .*in line 2.*iconv -t utf-8"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_what_is_no_text_is_called_by_its_name(write, content, message, pack):
    with pytest.raises(InputError, match=message):
        texts(write(pack(content)))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_line_has_a_longest_length(write, monkeypatch, pack):
    monkeypatch.setattr(SHORT, 20)
    line = b"x" * 20

    assert len(texts(write(pack(line[:-1] + b"\n" + line)))) == 2
    with pytest.raises(RecordError, match=r"file, line 2 is longer than .*jq"):
        texts(write(pack(b"x\n" + line + b"x\n")))
    with pytest.raises(RecordError, match="line 1 is longer"):
        texts(io.StringIO("x" * 21))


def test_a_line_that_unpacks_to_far_more_than_its_file_takes_little_memory(write):
    path = write(gzip.compress(b"x" * (1 << 20)) * 300)

    tracemalloc.start()
    try:
        with pytest.raises(RecordError, match="file, line 1 is longer than 64 MiB"):
            texts(path)
        assert tracemalloc.get_traced_memory()[1] < 150 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such devices")
def test_a_device_is_no_file_and_a_pipe_is_read(tmp_path):
    with pytest.raises(InputError, match="/dev/zero is a device"):
        texts("/dev/zero")
    assert texts("/dev/null") == []
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(gzip.compress(CONTENT),))
    writer.start()
    assert texts(pipe) == LINES
    writer.join()
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(InputError, match="is a pipe or a device"), open_file(path):
            pass


def test_a_file_in_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("plain.txt", CONTENT)
        archive.writestr("packed.txt", gzip.compress(CONTENT))
    for name in ("plain.txt", "packed.txt"):
        assert texts(zipfile.Path(tmp_path / "a.zip") / name) == LINES


def test_lines_are_as_they_were_written(write):
    path = write(b"\xef\xbb\xbfa \r\n\n\xef\xbb\xbfb")

    assert list(raw_lines(path)) == ["a \r\n", "\n", "\ufeffb"]
    assert list(read_lines(path)) == [(str(path), 1, "a"), (str(path), 3, "b")]


@pytest.mark.parametrize("source", [None, 5, b"path", "a\0b", "\ud800", "x" * 5000])
def test_what_is_no_source_is_refused(source):
    with pytest.raises(InputError, match=r"cannot read|is no source of text"):
        texts(source)


def test_a_closed_file_is_refused(write):
    with write(CONTENT).open() as file:
        pass
    with pytest.raises(InputError, match="closed"):
        texts(file)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that fails")
def test_a_file_that_fails_when_it_is_read_is_refused():
    with pytest.raises(InputError, match="cannot read /proc/self/mem: Input/output error"):
        texts("/proc/self/mem")


@pytest.mark.parametrize(
    "settings",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONUTF8": "1"},
    ],
)
def test_standard_input_is_utf_8_whatever_the_locale(settings):
    code = (
        "import sys; from spladelet import read_documents;"
        "print(ascii([document.text for document in read_documents(sys.stdin)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=gzip.compress(CONTENT) if "LC_ALL" in settings else b"\xef\xbb\xbf" + CONTENT,
        env=os.environ | settings,
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().strip() == ascii(LINES)


def test_standard_input_that_is_closed_is_refused():
    code = (
        "import sys; from spladelet import read_documents; from spladelet.errors import *\n"
        "try: list(read_documents(sys.stdin))\n"
        "except InputError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.stdin = None\n{code}"],
        capture_output=True,
        check=True,
    )
    assert b"None is no source of text" in done.stdout
