"""Where text comes from: paths, files in a .zip, open files and standard input, line by line.

Text is UTF-8, whatever the locale. What gzip, bzip2 or xz has packed is unpacked, whatever it is
called. No line is held that is longer than `MAX_LINE`, so a file that unpacks to a thousand times
its size, or a device that never ends, is refused in little memory. Knows nothing of documents.
"""

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

from spladelet.errors import InputError, RecordError, SpladeletError
from spladelet.text import shown

Source: TypeAlias = str | os.PathLike[str] | Traversable | IO[str] | IO[bytes]

MAX_LINE = 64 << 20  # bytes; of text that somebody else decoded, characters

_MARK = "\ufeff"
_PEEKED = 64  # bytes of a file that say what it is
# Suffixes, the bytes that such a file begins with, and what unpacks it.
_PACKED: tuple[tuple[tuple[str, ...], bytes, Callable[[IO[bytes]], Any]], ...] = (
    ((".gz",), b"\x1f\x8b\x08", lambda raw: gzip.GzipFile(fileobj=raw)),
    ((".bz2",), b"BZh", bz2.BZ2File),
    ((".xz", ".lzma"), b"\xfd7zXZ\0", lzma.LZMAFile),
)
_BZ2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")  # "BZh" alone might begin a text
_TO_JSONL = (
    "make it JSONL first, for example with pandas: read_{}(FILE).to_json(OUT, orient='records', "
    "lines=True)"
)
# What is no text: the bytes that it begins with, its name, and the way out.
_NO_TEXT = (
    (b"PAR1", "a Parquet file", _TO_JSONL.format("parquet")),
    (b"ARROW1", "an Arrow file", _TO_JSONL.format("feather")),
    (b"ORC", "an ORC file", _TO_JSONL.format("orc")),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", "unpack it first, for example with `zstd -d`"),
    (b"PK\x03\x04", "a .zip", "unpack it first, for example with `unzip`"),
    (b"7z\xbc\xaf\x27\x1c", "a .7z", "unpack it first"),
    (b"\x93NUMPY", "an array of numpy", "documents are text; write them as JSONL"),
    (b"SQLite format 3\0", "a data base of SQLite", "export its table as CSV"),
    (b"%PDF-", "a PDF", "take its text out first, for example with `pdftotext`"),
    *(
        (bytes([0x80, version]), "a pickle", "load it where it is from, and write JSONL")
        for version in range(2, 6)
    ),
    *(
        (mark, f"{name} text", f"convert it first, for example with `iconv -f {name} -t utf-8`")
        for mark, name in (
            (b"\xff\xfe\0\0", "utf-32"),
            (b"\0\0\xfe\xff", "utf-32"),
            (b"\xff\xfe", "utf-16"),
            (b"\xfe\xff", "utf-16"),
        )
    ),
)


def name_of(source: Source) -> str:
    """Return what messages call a source."""
    if isinstance(source, (str, os.PathLike, Traversable)):
        return str(source)
    return str(getattr(source, "name", "input"))


def suffix_of(name: str) -> str:
    """Return a name's suffix, in lower case, before that of a packer: ".tsv" of "a.TSV.gz"."""
    path = Path(name.lower())
    packed = any(path.suffix in suffixes for suffixes, _, _ in _PACKED)
    return Path(path.stem).suffix if packed else path.suffix


def read_lines(source: Source) -> Iterator[tuple[str, int, str]]:
    """Read the lines of a text file that are not blank: (file, line number from 1, line).

    Args:
        source: A path, a file in a folder or .zip, or an open file; what is packed is unpacked.

    Raises:
        InputError: The file cannot be read, or is no UTF-8 text.
        RecordError: A line is longer than `MAX_LINE`.
    """
    name = name_of(source)
    for number, raw in enumerate(raw_lines(source), start=1):
        line = raw.lstrip(_MARK).strip()
        if line:
            yield name, number, line


def raw_lines(source: Source) -> Iterator[str]:
    """Read all lines of a text file as they are, with their line feeds; see `read_lines`.

    A byte order mark before the first one is dropped.
    """
    name = name_of(source)
    with translated(name), _opened(source, name) as file:
        number = 0
        try:
            while raw := file.readline(MAX_LINE + 1):
                number += 1
                if len(raw) > MAX_LINE:
                    raise _too_long(name, number)
                line = raw.decode() if isinstance(raw, bytes) else raw
                yield line if number > 1 else line.removeprefix(_MARK)
        except UnicodeDecodeError as error:
            raise InputError(
                f"{name} is no UTF-8 text ({error.reason}, in line {number or 1}). Convert it "
                "first, for example with `iconv -t utf-8`."
            ) from error


@contextmanager
def open_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a regular file, for bytes.

    Raises:
        InputError: It is a pipe, a device or a folder, or it cannot be read.
    """
    with translated(str(path)):
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise InputError(f"{path} is a pipe or a device; expected a file.")
        file = path.open("rb")
    with file:
        yield file


@contextmanager
def _opened(source: Source, name: str) -> Iterator[IO[bytes] | IO[str]]:
    """Open a source for bytes, unpacked; a text file that is open already stays one."""
    if isinstance(source, (str, os.PathLike)):
        source = Path(source)
        _check_no_device(source)
    if isinstance(source, Traversable):
        with source.open("rb") as raw, _buffered(raw) as file:
            yield _unpacked(file, name)
        return
    if source is sys.stdin:  # the locale decoded it
        source = getattr(source, "buffer", source)
    if not hasattr(source, "readline"):
        raise InputError(f"{shown(source)} is no source of text; expected a path or an open file.")
    if isinstance(source.read(0), str):
        yield source
        return
    with _buffered(cast(IO[bytes], source)) as file:
        yield _unpacked(file, name)


@contextmanager
def _buffered(file: IO[bytes]) -> Iterator["io.BufferedReader[Any]"]:
    """Read a file with a buffer that can be looked into; whoever opened it closes it."""
    if isinstance(file, io.BufferedReader):
        yield file
        return
    reader = io.BufferedReader(cast(io.RawIOBase, file))
    try:
        yield reader
    finally:
        reader.detach()


def _unpacked(file: "io.BufferedReader[Any]", name: str) -> IO[bytes]:
    head = file.peek(_PEEKED)[:_PEEKED]
    for suffixes, magic, unpack in _PACKED:
        is_bz2_text = magic == b"BZh" and head[4:10] not in _BZ2_BLOCKS
        if name.lower().endswith(suffixes) or (head.startswith(magic) and not is_bz2_text):
            file = io.BufferedReader(unpack(file))
            head = file.peek(_PEEKED)[:_PEEKED]
            break
    for magic, kind, remedy in _NO_TEXT:
        # Three letters may begin a text, but no control character follows them there.
        begins_text = magic.isalpha() and not any(byte < ord("\t") for byte in head[len(magic) :])
        if head.startswith(magic) and not begins_text:
            raise InputError(f"{name} is {kind}, not UTF-8 text: {remedy}.")
    if len(head) > 3 and not (any(head[::2]) and any(head[1::2])):  # every other byte is NUL
        raise InputError(
            f"{name} looks like utf-16 text: convert it first, for example with "
            f"`iconv -f utf-16{'be' if any(head[1::2]) else 'le'} -t utf-8`."
        )
    return file


def _check_no_device(path: Path) -> None:
    """Raise InputError for what may have no end; a pipe is what a shell gives for a command."""
    status = path.stat()
    is_device = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
    if is_device and not os.path.samestat(status, os.stat(os.devnull)):
        raise InputError(f"{path} is a device; expected a file, or - for standard input.")


def _too_long(name: str, number: int) -> RecordError:
    return RecordError(
        f"{name}, line {number} is longer than {MAX_LINE >> 20} MiB, the most that is read. Put "
        "one document on a line; `jq -c '.[]'` makes such lines of a JSON array."
    )


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Say in the package's terms why a file cannot be read."""
    try:
        yield
    except SpladeletError:
        raise
    except (
        OSError,
        EOFError,
        ValueError,  # a name with a NUL in it, or a file that is closed
        RuntimeError,  # a .zip that is encrypted, or packed in a way that is not known here
        MemoryError,
        struct.error,
        zlib.error,
        lzma.LZMAError,
        zipfile.BadZipFile,
    ) as error:
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise InputError(f"cannot read {name}: {reason}.") from error
