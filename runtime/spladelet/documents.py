"""Documents, and reading them from JSONL or plain text.

JSONL: one object a line with "text" (or "title" and "text"), and "id" or BEIR's "_id"; without
one, the line number counts. Plain text: one document a line. Both may be gzipped; Windows line
ends and a byte order mark are taken. Other fields of an object are ignored.
"""

import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from spladelet.errors import InputError, RecordError


@dataclass(frozen=True, slots=True)
class Document:
    """A text that can be found.

    Attributes:
        id: Its name, unique in an index.
        text: What is encoded, after the title.
        title: May be empty.
    """

    id: str
    text: str
    title: str = ""

    @property
    def content(self) -> str:
        """Title and text as one, as BEIR has it."""
        return f"{self.title} {self.text}".strip()


def read_documents(source: str | os.PathLike[str] | IO[str]) -> Iterator[Document]:
    """Read documents one by one; see the module for the formats.

    Args:
        source: A path (".gz" is unpacked), or an open text file.

    Raises:
        InputError: The file cannot be read, or is no UTF-8 text.
        RecordError: A line is no document; the message names file and line.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        try:
            with _open(path) as file:
                yield from _parse(file, str(path))
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"cannot read {path}: {reason}.") from error
    else:
        yield from _parse(source, getattr(source, "name", "input"))


def _open(path: Path) -> IO[str]:
    raw: IO[bytes] = gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[assignment]
    return io.TextIOWrapper(raw, encoding="utf-8-sig", newline="\n")


def _parse(file: IO[str], name: str) -> Iterator[Document]:
    as_json: bool | None = None
    try:
        for number, raw in enumerate(file, start=1):
            line = raw.lstrip("\ufeff").strip()  # standard input may bring a byte order mark
            if not line:
                continue
            if as_json is None:
                as_json = line.startswith("{")
            yield _from_json(line, number, name) if as_json else Document(str(number), line)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} is no UTF-8 text ({error.reason}). Convert it first, for "
            "example with `iconv -t utf-8`."
        ) from error


def _from_json(line: str, number: int, name: str) -> Document:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{name}, line {number} is no JSON: {error}.") from error
    if not isinstance(record, dict):
        raise RecordError(
            f"{name}, line {number} is a JSON {type(record).__name__}; expected an object such as "
            '{"id": "1", "title": "…", "text": "…"}.'
        )
    text, title = record.get("text"), record.get("title") or ""
    if not isinstance(text, str) or not isinstance(title, str):
        raise RecordError(
            f'{name}, line {number} has text {text!r:.40} and title {title!r:.40}; expected "text" '
            'to be a string, and "title" one too if it is there.'
        )
    identity = record.get("id", record.get("_id", number))
    if not isinstance(identity, (str, int)) or isinstance(identity, bool):
        raise RecordError(
            f"{name}, line {number} has id {identity!r:.40}; expected a string or whole number."
        )
    return Document(str(identity), text, title)
