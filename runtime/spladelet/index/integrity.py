"""Finding what was changed or damaged on disk, each part at its first use.

A sum for each posting list and each document, so that a search looks at no more than it reads.
Does not guard against forged files: who can write to an index can write sums too. What the
compiled kernel trusts blindly is therefore checked as well.
"""

import hashlib
import os
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelet.errors import IndexFormatError
from spladelet.files import FileEntry, Folder
from spladelet.index.format import SegmentEntry
from spladelet.index.scoring import Postings
from spladelet.index.word_lists import MANY, WordLists

# What every search for words depends on.
_OF_ALL_WORDS = (
    "word_names.npy",
    "word_name_offsets.npy",
    "word_offsets.npy",
    "word_many.npy",
    "word_many_counts.npy",
    "word_lengths.npy",
    "words_crc.npy",
)


def sums(parts: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return the CRC-32 of each part of a flat array, uint32[len(offsets) - 1]."""
    view = np.ascontiguousarray(parts).data
    # No loop in Python: there are as many parts as documents, or terms.
    spans = map(slice, offsets[:-1].tolist(), offsets[1:].tolist())
    return np.fromiter(map(zlib.crc32, map(view.__getitem__, spans)), np.uint32, len(offsets) - 1)


def word_sums(lists: WordLists) -> NDArray[np.uint32]:
    """Return the CRC-32 of each word's list, its document numbers and then its counts."""
    numbers, counts = lists.numbers.data, lists.counts.data
    spans = pairwise(lists.offsets.tolist())
    return np.fromiter(
        (zlib.crc32(counts[start:end], zlib.crc32(numbers[start:end])) for start, end in spans),
        np.uint32,
        len(lists.offsets) - 1,
    )


class Checks:
    """What is known of a segment's files, and what was found sound since it was opened.

    Args:
        path: The segment's folder, for messages.
        entry: What the manifest says of it.
        contents: Its files, mapped: they can be read when others have removed them.
        crcs: CRC-32 of the "numbers" and of the "impacts" of each posting list, of each one of the
            "documents", and of each word's list ("words"), if there are any.
    """

    def __init__(
        self,
        path: Path,
        entry: SegmentEntry,
        contents: Mapping[str, NDArray[np.uint8]],
        crcs: Mapping[str, NDArray[np.uint32] | None],
    ) -> None:
        self._path = path
        self._entry = entry
        self._contents = contents
        none = np.empty(0, np.uint32)
        self._numbers, self._impacts, self._documents, self._words = (
            none if (found := crcs.get(name)) is None else found
            for name in ("numbers", "impacts", "documents", "words")
        )
        # Threads share these without a lock: whoever checks a list twice finds the same.
        self._sound_lists = np.zeros(len(self._numbers), bool)
        self._sound_words = bytearray(len(self._words))
        self._are_words_begun = False
        self._sound_files: set[str] = set()

    def lists(self, postings: Postings, places: NDArray[np.int64]) -> None:
        """Check posting lists.

        Raises:
            IndexFormatError: One is not what was written, or would lead the kernel astray.
        """
        for place in places[~self._sound_lists[places]].tolist():
            span = slice(int(postings.offsets[place]), int(postings.offsets[place + 1]))
            numbers, impacts = postings.numbers[span], postings.impacts[span]
            what = f"the posting list of term {postings.terms[place]}"
            if not _ascends(numbers, postings.documents) or (
                zlib.crc32(numbers.data) != self._numbers[place]
            ):
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
        if not _ascend(numbers, postings.offsets, postings.documents):
            raise self._damage("numbers.npy", "a posting list")
        if not (np.isfinite(impacts).all() and (impacts > 0).all()):
            raise self._damage("impacts.npy", "a posting list")
        self._sound_lists[:] = True

    def words(self, lists: WordLists, places: Sequence[int]) -> None:
        """Check posting lists of words, and what every search for words depends on.

        Raises:
            IndexFormatError: One is not what was written, or would lead the kernel astray.
        """
        if not self._are_words_begun:
            self.files(*_OF_ALL_WORDS)
            self._are_words_begun = True
        for place in places:
            if self._sound_words[place]:
                continue
            start, end = lists.span(place)
            numbers, counts = lists.numbers[start:end], lists.counts[start:end]
            what = f"the posting list of the word {lists.name(place)!r:.60}"
            if zlib.crc32(counts.data, zlib.crc32(numbers.data)) != self._words[place]:
                self.files("word_counts.npy")  # names it, if that is the one
                raise self._damage("word_numbers.npy", what)
            if not _ascends(numbers, len(lists.lengths)):
                raise self._damage("word_numbers.npy", what)
            if not (counts > 0).all() or (
                np.count_nonzero(counts == MANY)
                != np.diff(np.searchsorted(lists.many, (start, end)))[0]
            ):
                raise self._damage("word_counts.npy", what)
            self._sound_words[place] = True

    def all_words(self, lists: WordLists) -> None:
        """Check all posting lists of words at once.

        Raises:
            IndexFormatError: One is not what was written, or would lead the kernel astray.
        """
        self.files(*_OF_ALL_WORDS, "word_numbers.npy", "word_counts.npy")
        if not _ascend(lists.numbers, lists.offsets, len(lists.lengths)):
            raise self._damage("word_numbers.npy", "a posting list")
        if not (lists.counts > 0).all() or np.count_nonzero(lists.counts == MANY) != len(
            lists.many
        ):
            raise self._damage("word_counts.npy", "a posting list")
        if not _are_words(lists.all_names()):
            raise self._damage("word_names.npy", "a word")
        self._sound_words = bytearray(b"\1" * len(self._words))

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

    def everything(self, postings: Postings, words: WordLists | None) -> None:
        """Check all there is, before it is written elsewhere with sums of its own.

        Raises:
            IndexFormatError: See `files` and `all_lists`.
        """
        self.files(*self._contents)
        self.all_lists(postings)
        if words is not None:
            self.all_words(words)

    def _damage(self, name: str, what: str) -> IndexFormatError:
        return IndexFormatError(
            f"{self._path / name}: {what} was changed or damaged. Build the index again."
        )


def _ascends(numbers: NDArray[np.int32], end: int) -> bool:
    """Say whether a list's numbers rise, from 0 to below an end.

    Asked whatever the sum says: a forger makes that, too. The kernel writes wherever a number
    points, and numpy's way counts a number once that comes twice.
    """
    return not len(numbers) or bool(
        0 <= numbers[0] and numbers[-1] < end and (numbers[1:] > numbers[:-1]).all()
    )


def _ascend(numbers: NDArray[np.int32], offsets: NDArray[np.int64], end: int) -> bool:
    """Say the same of all lists: one comparison of neighbours, with excuses at their borders."""
    rises = np.ones(len(numbers) + 1, bool)
    rises[1:-1] = numbers[1:] > numbers[:-1]
    rises[offsets] = True  # from one list to the next they may fall
    return bool(rises.all()) and (
        not len(numbers) or bool(0 <= numbers.min() <= numbers.max() < end)
    )


def _are_words(names: Sequence[bytes]) -> bool:
    """Say whether words are text, ascending, none twice."""
    try:
        b"\n".join(names).decode()
    except UnicodeDecodeError:
        return False
    return all(one < other for one, other in pairwise(names))


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
