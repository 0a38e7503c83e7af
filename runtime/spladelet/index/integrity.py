"""Finding what was changed or damaged on disk, each part at its first use.

A sum for each posting list and each document, so that a search looks at no more than it reads.
Does not guard against forged files: who can write to an index can write sums too. What the
compiled kernel trusts blindly is therefore checked as well.
"""

import hashlib
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelet.errors import IndexFormatError
from spladelet.files import FileEntry, Folder
from spladelet.index.format import SegmentEntry
from spladelet.index.scoring import Postings


def sums(parts: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return the CRC-32 of each part of a flat array, uint32[len(offsets) - 1]."""
    view = np.ascontiguousarray(parts).data
    # No loop in Python: there are as many parts as documents, or terms.
    spans = map(slice, offsets[:-1].tolist(), offsets[1:].tolist())
    return np.fromiter(map(zlib.crc32, map(view.__getitem__, spans)), np.uint32, len(offsets) - 1)


class Checks:
    """What is known of a segment's files, and what was found sound since it was opened.

    Args:
        path: The segment's folder, for messages.
        entry: What the manifest says of it.
        contents: Its files, mapped: they can be read when others have removed them.
        numbers: CRC-32 of the document numbers of each posting list.
        impacts: CRC-32 of the impacts of each.
        documents: CRC-32 of each document.
    """

    def __init__(
        self,
        path: Path,
        entry: SegmentEntry,
        contents: Mapping[str, NDArray[np.uint8]],
        numbers: NDArray[np.uint32],
        impacts: NDArray[np.uint32],
        documents: NDArray[np.uint32],
    ) -> None:
        self._path = path
        self._entry = entry
        self._contents = contents
        self._numbers = numbers
        self._impacts = impacts
        self._documents = documents
        # Threads share these without a lock: whoever checks a list twice finds the same.
        self._sound_lists = np.zeros(len(numbers), bool)
        self._sound_files: set[str] = set()

    def lists(self, postings: Postings, places: NDArray[np.int64]) -> None:
        """Check posting lists.

        Raises:
            IndexFormatError: One is not what was written, or would lead the kernel astray.
        """
        for place in places[~self._sound_lists[places]].tolist():
            span = slice(int(postings.offsets[place]), int(postings.offsets[place + 1]))
            numbers, impacts = postings.numbers[span], postings.impacts[span]
            # Whatever the sum says: a forger makes that, too. The kernel writes wherever a number
            # points, and numpy's way counts a number once that comes twice.
            ascending = not len(numbers) or (
                0 <= numbers[0]
                and numbers[-1] < postings.documents
                and (numbers[1:] > numbers[:-1]).all()
            )
            what = f"the posting list of term {postings.terms[place]}"
            if not ascending or zlib.crc32(numbers.data) != self._numbers[place]:
                raise self._damage("numbers.npy", what)
            if zlib.crc32(impacts.data) != self._impacts[place] or not (
                np.isfinite(impacts).all() and (impacts > 0).all()
            ):
                raise self._damage("impacts.npy", what)
            self._sound_lists[place] = True

    def all_lists(self, postings: Postings) -> None:
        """Check all posting lists at once, which takes a tenth of the time of one after another.

        Raises:
            IndexFormatError: One is not what was written, or would lead the kernel astray.
        """
        self.files("numbers.npy", "impacts.npy")
        numbers, impacts = postings.numbers, postings.impacts
        # One comparison of neighbours for all lists, then what stands at their borders is excused.
        rises = np.ones(len(numbers) + 1, bool)
        rises[1:-1] = numbers[1:] > numbers[:-1]
        rises[postings.offsets] = True  # from one list to the next they may fall
        if not rises.all() or (
            len(numbers) and not 0 <= numbers.min() <= numbers.max() < postings.documents
        ):
            raise self._damage("numbers.npy", "a posting list")
        if not (np.isfinite(impacts).all() and (impacts > 0).all()):
            raise self._damage("impacts.npy", "a posting list")
        self._sound_lists[:] = True

    def document(self, number: int, line: bytes) -> None:
        """Check a document as it is read.

        Raises:
            IndexFormatError: It is not what was written.
        """
        if zlib.crc32(line) != self._documents[number]:
            # Wrong offsets or a wrong sum look the same: where they are damaged, they are named.
            self.files("document_offsets.npy", "documents_crc.npy")
            raise self._damage("documents.jsonl", f"document {number}")

    def files(self, *names: str) -> None:
        """Check whole files.

        Raises:
            IndexFormatError: The sha256 of one is not the manifest's.
        """
        for name in names:
            if name not in self._sound_files:
                check_content(self._contents[name], self._path / name, self._entry.files[name])
                self._sound_files.add(name)

    def everything(self, postings: Postings) -> None:
        """Check all there is, before it is written elsewhere with sums of its own.

        Raises:
            IndexFormatError: See `files` and `all_lists`.
        """
        self.files(*self._contents)
        self.all_lists(postings)

    def _damage(self, name: str, what: str) -> IndexFormatError:
        return IndexFormatError(
            f"{self._path / name}: {what} was changed or damaged. Build the index again."
        )


def check_content(content: NDArray[np.uint8], path: Path, entry: FileEntry) -> None:
    """Raise IndexFormatError unless a file's sha256 is the manifest's."""
    if hashlib.sha256(content.data).hexdigest() != entry.sha256:
        raise _changed(path)


def check_file(folder: Folder, name: str, entry: FileEntry) -> None:
    """Raise IndexFormatError unless a file's size, and then its sha256, are the manifest's."""
    with folder.open(name) as file:
        # The size first: of a file that was made a terabyte long, no more is read.
        if os.fstat(file.fileno()).st_size != entry.size or (
            hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256
        ):
            raise _changed(folder.path / name)


def _changed(path: Path) -> IndexFormatError:
    return IndexFormatError(
        f"{path} was changed or damaged: its sha256 is not the manifest's. Build the index again."
    )
