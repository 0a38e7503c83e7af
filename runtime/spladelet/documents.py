"""Documents, and reading them from JSONL or plain text.

JSONL: one object a line with "text" (or "title" and "text"), "id" or BEIR's "_id" (without one,
the line number counts), and maybe "metadata", an object. Plain text: one document a line. Both may
be gzipped; Windows line ends and a byte order mark are taken. Other fields are ignored.
"""

import gzip
import io
import json
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import IO, Any

from spladelet.errors import DuplicateIdError, InputError, RecordError
from spladelet.metadata import check_metadata


@dataclass(frozen=True, slots=True)
class Document:
    """A text that can be found.

    Attributes:
        id: Its name, unique in an index.
        text: What is encoded, after the title.
        title: May be empty.
        metadata: What searches can be narrowed by: text, finite numbers, true, false or None by
            name, or lists of these; or objects, which are only kept.
    """

    id: str
    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def content(self) -> str:
        """Title and text as one, as BEIR has it."""
        return f"{self.title} {self.text}".strip()


def read_documents(
    source: str | os.PathLike[str] | Traversable | IO[str],
) -> Iterator[Document]:
    """Read documents one by one; see the module for the formats.

    Args:
        source: A path (".gz" is unpacked), a file in a folder or .zip, or an open text file.

    Raises:
        InputError: The file cannot be read, or is no UTF-8 text.
        RecordError: A line is no document; the message names file and line.
    """
    as_json: bool | None = None
    for name, number, line in read_lines(source):
        if as_json is None:
            as_json = line.startswith("{")
        if as_json:
            yield to_document(json_object(line, number, name), number, name)
        else:
            yield Document(str(number), line)


def read_lines(
    source: str | os.PathLike[str] | Traversable | IO[str],
) -> Iterator[tuple[str, int, str]]:
    """Read the lines of a text file that are not blank: (file, line number from 1, line).

    Args:
        source: A path, or a file in a folder or .zip (".gz" is unpacked), or an open text file.

    Raises:
        InputError: The file cannot be read, or is no UTF-8 text.
    """
    if isinstance(source, (str, os.PathLike)):
        source = Path(source)
    if not isinstance(source, Traversable):
        yield from _lines(source, getattr(source, "name", "input"))
        return
    try:
        with source.open("rb") as raw:
            unpacked = gzip.GzipFile(fileobj=raw) if source.name.endswith(".gz") else raw
            # newline: only "\n" ends a line; what else stands before it is stripped.
            with io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline="\n") as file:
                yield from _lines(file, str(source))
    except (
        OSError,
        EOFError,
        RuntimeError,
        zlib.error,
        lzma.LZMAError,
        zipfile.BadZipFile,
    ) as error:
        # RuntimeError: a .zip that is encrypted, or packed in a way that is not known here.
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise InputError(f"cannot read {source}: {reason}.") from error


def _lines(file: IO[str], name: str) -> Iterator[tuple[str, int, str]]:
    try:
        for number, raw in enumerate(file, start=1):
            line = raw.lstrip("\ufeff").strip()  # standard input may bring a byte order mark
            if line:
                yield name, number, line
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} is no UTF-8 text ({error.reason}). Convert it first, for "
            "example with `iconv -t utf-8`."
        ) from error


def json_object(line: str, number: int, name: str) -> dict[str, Any]:
    """Parse a line of a file.

    Raises:
        RecordError: It is no JSON object; the message names file and line.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{name}, line {number} is no JSON: {error}.") from error
    if not isinstance(record, dict):
        raise RecordError(
            f"{name}, line {number} is a JSON {type(record).__name__}; expected an object such as "
            '{"id": "1", "title": "…", "text": "…"}.'
        )
    return record


def to_document(record: Mapping[str, Any], number: int, name: str) -> Document:
    """Make a document of a record: "text", and maybe "id" (or "_id"), "title" and "metadata".

    Raises:
        RecordError: A field is missing or of another type; the message names file and line.
    """
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
    metadata = record.get("metadata") or {}
    try:
        check_metadata(metadata, str(identity))
    except InputError as error:
        raise RecordError(f"{name}, line {number}: {error}") from error
    return Document(str(identity), text, title, metadata)


def to_record(document: Document) -> dict[str, Any]:
    """Return a document as a record that `to_document` reads."""
    fields: dict[str, Any] = {"id": document.id, "text": document.text}
    if document.title:
        fields["title"] = document.title
    if document.metadata:
        fields["metadata"] = dict(document.metadata)
    return fields


def to_line(document: Document) -> bytes:
    """Return a document as a line of JSONL, in half the time of its record's."""
    quote = json.encoder.encode_basestring_ascii
    fields = f'"id": {quote(document.id)}, "text": {quote(document.text)}'
    if document.title:
        fields += f', "title": {quote(document.title)}'
    if document.metadata:
        fields += f', "metadata": {json.dumps(dict(document.metadata))}'
    return f"{{{fields}}}\n".encode()


def as_documents(
    documents: Iterable[str | Document] | None, expected: int, first: int = 0
) -> list[Document]:
    """Return as many documents as expected; a str gets its number, counted from `first`, as id.

    Raises:
        InputError: There are more or fewer, or metadata of one cannot be kept.
    """
    if isinstance(documents, str):
        raise InputError("documents is one str; expected as many as there are vectors.")
    given = [""] * expected if documents is None else documents
    kept = [
        item if isinstance(item, Document) else Document(str(number), item)
        for number, item in enumerate(given, start=first)
    ]
    if len(kept) != expected:
        raise InputError(f"{expected} vectors came with {len(kept)} documents; give one for each.")
    for document in kept:
        if document.metadata != {}:
            check_metadata(document.metadata, document.id)
    return kept


def check_ids(documents: Sequence[Document]) -> None:
    """Raise DuplicateIdError if two documents have one id."""
    seen: dict[str, int] = {}
    for number, document in enumerate(documents):
        first = seen.setdefault(document.id, number)
        if first != number:
            raise DuplicateIdError(
                f"documents {first} and {number} (from 0) both have id {document.id!r}. Give each "
                "its own."
            )


def check_id_list(ids: Iterable[str]) -> list[str]:
    """Return ids, each once.

    Raises:
        InputError: It is one str, not several, or one of them is no str.
    """
    if isinstance(ids, str):
        raise InputError(f"ids is the str {ids!r}; expected several, as in [{ids!r}].")
    asked = list(ids)
    for identity in asked:
        if not isinstance(identity, str):
            raise InputError(f"ids has {identity!r:.40} in it; expected each to be a str.")
    return list(dict.fromkeys(asked))
