"""Documents as an index keeps them: lines of JSONL, read where they lie, parsed when asked for."""

import json
from collections.abc import Iterator, Sequence
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import NewType, Protocol

import numpy as np
from numpy.typing import NDArray

from spladelet.documents import Document
from spladelet.errors import IndexFormatError

StoredLine = NewType("StoredLine", str)

_START = '{"id": "'  # of every line that `to_line` wrote
# Takes a third of the time of json.loads, which looks for an encoding and for what follows.
_parse = json.JSONDecoder().raw_decode


class LineChecks(Protocol):
    """Raises IndexFormatError where a document is not what was written: see `integrity.Checks`."""

    def document(self, number: int, line: bytes, /) -> None:
        """Check a document as it is read."""


class DocumentList(list[Document]):
    """The documents of a segment in memory."""

    def sources(self, numbers: Sequence[int]) -> Sequence[Document | StoredLine]:
        """Return what some of them can be read from."""
        return [self[number] for number in numbers]


class StoredDocuments:
    """The documents of a segment on disk, read one by one from the mapped file."""

    def __init__(self, lines: memoryview, offsets: NDArray[np.int64], checks: LineChecks) -> None:
        self._lines = lines  # slices of numpy arrays take three times as long
        self._offsets = offsets
        self._checks = checks

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __iter__(self) -> Iterator[Document]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Document:
        return document_of(self._line(number))

    def sources(self, numbers: Sequence[int]) -> Sequence[StoredLine]:
        """Return the lines of some of them.

        Raises:
            IndexFormatError: One is not what was written.
        """
        return [self._line(number) for number in numbers]

    def _line(self, number: int) -> StoredLine:
        start, end = self._offsets[number : number + 2].tolist()
        line = bytes(self._lines[start:end])
        self._checks.document(number, line)
        try:
            return StoredLine(line.decode())
        except UnicodeDecodeError as error:
            raise _unreadable(error) from error


def document_of(source: Document | StoredLine) -> Document:
    """Return the document that a line holds.

    Raises:
        IndexFormatError: It holds none.
    """
    if isinstance(source, Document):
        return source
    try:
        return Document(**_parse(source)[0])
    except (ValueError, TypeError, RecursionError) as error:
        raise _unreadable(error) from error


def id_of(source: Document | StoredLine) -> str:
    """Return a document's id; a line is read no further than that.

    Raises:
        IndexFormatError: The line has none.
    """
    if isinstance(source, str) and source.startswith(_START):
        # Results of a thousand hits need their ids, and few of their texts: json's own scanner of
        # strings stops where the id ends.
        try:
            return str(scanstring(source, len(_START))[0])
        except ValueError as error:
            raise _unreadable(error) from error
    return document_of(source).id


def _unreadable(error: Exception) -> IndexFormatError:
    return IndexFormatError(f"a document of the index cannot be read ({error}). Build it again.")
