"""The words of a segment's documents: which document has which, how often, and how many in all.

Words are sorted, so that one is found by halving. Counts are kept as they are, not as weights: what
a word weighs depends on all documents of the index, and is computed when it is asked for, so that
nothing goes stale when documents come and go. Does not know how a text becomes words, nor what they
weigh: see `lexical`.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelet.index.transposing import stable_order, transpose
from spladelet.lazy import lazy
from spladelet.lexical.analyzer import analyzer_of
from spladelet.lexical.languages import NONE

_BLOCK = 32  # words of which one is kept in memory
_PLACES = range(1 << 40)  # of words, however many there are
_AT_ONCE = 1 << 24  # words of documents that are counted together
MANY = 255  # and above: such a count stands elsewhere, and few do


class _Counting:
    """Words of documents, as they are read.

    Attributes:
        words: All of them, one after another, numbered as they came.
    """

    def __init__(self) -> None:
        self._known: defaultdict[str, int] = defaultdict()
        self._known.default_factory = self._known.__len__
        self.words, self._lengths = array("i"), array("i")

    def add(self, words: Sequence[str]) -> None:
        """Take the words of the next document."""
        self.words.extend(map(self._known.__getitem__, words))
        self._lengths.append(len(words))

    def lists(self) -> "WordLists":
        """Count them."""
        names = sorted(self._known)  # by code point, which is how their bytes in UTF-8 compare
        ranks = np.empty(len(names), np.int32)
        ranks[[self._known[name] for name in names]] = np.arange(len(names), dtype=np.int32)
        lengths = np.array(self._lengths, np.int32)
        row_ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        words, unread = ranks[np.array(self.words, np.int32)], np.ones(len(self.words), np.int8)
        _, offsets, numbers, _ = transpose(words, row_ends, len(names), unread)
        # A document that has a word several times stands in its list as often, side by side.
        is_first = np.ones(len(numbers), bool)
        is_first[1:] = numbers[1:] != numbers[:-1]
        is_first[offsets[:-1]] = True  # no list is empty
        starts = np.flatnonzero(is_first)
        return WordLists.of_names(
            [name.encode() for name in names],
            np.searchsorted(starts, offsets),
            numbers[starts],
            np.diff(starts, append=len(numbers)),
            lengths,
        )


@dataclass(frozen=True)
class WordLists:
    """Posting lists of words.

    Attributes:
        names: uint8[bytes], all words one after another, in UTF-8, ascending.
        name_offsets: int64[words + 1], where each begins.
        offsets: int64[words + 1]; the i-th word's list is `[offsets[i]:offsets[i + 1]]`.
        numbers: int32[postings], document numbers, ascending within a list.
        counts: uint8[postings], how often the document has the word; 255 is 255 or more.
        many: int64[postings of which the count is 255 or more], their places, ascending.
        many_counts: int64[as many], their counts.
        lengths: uint16[documents], how many words each document has; int32 where one has more than
            65,535. They are looked up all over the place, and half of them fit a processor's cache.
    """

    names: NDArray[np.uint8]
    name_offsets: NDArray[np.int64]
    offsets: NDArray[np.int64]
    numbers: NDArray[np.int32]
    counts: NDArray[np.uint8]
    many: NDArray[np.int64]
    many_counts: NDArray[np.int64]
    lengths: NDArray[Any]

    @classmethod
    def of(cls, texts: Iterable[str], language: str) -> "WordLists":
        """Count the words of documents, in their order."""
        split = analyzer_of(language).words
        parts, counting = [], _Counting()
        for text in texts:
            counting.add(split(text))
            if len(counting.words) > _AT_ONCE:  # so that long texts take no more memory than short
                parts.append(counting.lists())
                counting = _Counting()
        if not parts:
            return counting.lists()
        return cls.merge([*parts, counting.lists()], [None] * (len(parts) + 1))

    @classmethod
    def merge(
        cls, parts: Sequence["WordLists"], kept: Sequence[NDArray[np.int64] | None]
    ) -> "WordLists":
        """Join the lists of several segments.

        Args:
            parts: The segments' lists.
            kept: The numbers of those of its documents that are kept, ascending; None for all.
        """
        if not parts:
            return cls.of((), NONE)
        names = sorted({name for part in parts for name in part.all_names()})
        ranks = {name: rank for rank, name in enumerate(names)}
        words, numbers, counts, lengths = [], [], [], []
        start = 0
        for part, live in zip(parts, kept, strict=True):
            own = np.fromiter(map(ranks.__getitem__, part.all_names()), np.int32)
            word = np.repeat(own, np.diff(part.offsets))
            number, count, length = part.numbers, part.all_counts(), part.lengths
            if live is not None:
                places = np.full(len(length), -1, np.int32)
                places[live] = np.arange(len(live), dtype=np.int32)
                number = places[number]
                stays = number >= 0
                word, number, count, length = (
                    word[stays],
                    number[stays],
                    count[stays],
                    length[live],
                )
            words.append(word)
            numbers.append(number + np.int32(start))
            counts.append(count)
            lengths.append(length)
            start += len(length)
        joined = np.concatenate(words)
        order = stable_order(joined)
        frequency = np.bincount(joined, minlength=len(names))
        occurring = np.flatnonzero(frequency)
        return cls.of_names(
            [names[rank] for rank in occurring.tolist()],
            np.concatenate([[0], np.cumsum(frequency[occurring])]),
            np.concatenate(numbers)[order],
            np.concatenate(counts)[order],
            np.concatenate(lengths),
        )

    @classmethod
    def of_names(
        cls,
        names: Sequence[bytes],
        offsets: NDArray[np.int64],
        numbers: NDArray[np.int32],
        counts: NDArray[Any],
        lengths: NDArray[Any],
    ) -> "WordLists":
        """Make lists of words, ascending, and of the rest as the class has it."""
        many = np.flatnonzero(counts >= MANY)
        is_short = lengths.max(initial=0) <= np.iinfo(np.uint16).max
        return cls(
            np.frombuffer(b"".join(names), np.uint8),
            np.cumsum([0, *map(len, names)], dtype=np.int64),
            offsets.astype(np.int64),
            numbers,
            np.minimum(counts, MANY).astype(np.uint8),
            many,
            counts[many].astype(np.int64),
            lengths.astype(np.uint16 if is_short else np.int32),
        )

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return sum(getattr(self, item.name).nbytes for item in fields(self))

    def span(self, place: int) -> tuple[int, int]:
        """Return where a word's list begins and ends."""
        offsets = self._views[2]
        return offsets[place], offsets[place + 1]

    def counts_of(self, start: int, end: int) -> NDArray[np.float32]:
        """Return how often documents have a word, float32: exact up to 16 millions."""
        counts = self.counts[start:end].astype(np.float32)
        self.mend(counts, start, end)
        return counts

    def mend(self, counts: NDArray[np.float32], start: int, end: int) -> None:
        """Put the counts that do not fit a byte into those of a list."""
        if len(self.many):
            first, last = np.searchsorted(self.many, (start, end))
            counts[self.many[first:last] - start] = self.many_counts[first:last]

    def all_counts(self) -> NDArray[np.uint32]:
        """Return all counts: uint32[postings]."""
        counts = self.counts.astype(np.uint32)
        counts[self.many] = self.many_counts
        return counts

    def all_names(self) -> list[bytes]:
        """Return the words, in UTF-8, ascending."""
        raw = self.names.tobytes()
        return [raw[start:end] for start, end in pairwise(self.name_offsets.tolist())]

    def name(self, place: int) -> str:
        """Return a word by its place."""
        return self._name(place).decode("utf-8", "replace")

    def find(self, words: Iterable[bytes]) -> list[int]:
        """Return the places of words, -1 for each that no document has."""
        marks, name, last = self._marks, self._name, len(self.offsets) - 1
        found = []
        for word in words:
            block = max(bisect_right(marks, word) - 1, 0) * _BLOCK
            end = min(block + _BLOCK, last)
            place = bisect_left(_PLACES, word, block, end, key=name)
            found.append(place if place < end and name(place) == word else -1)
        return found

    @lazy
    def _marks(self) -> list[bytes]:
        """Every so many words: halving begins in memory, and few are read where they lie."""
        return [self._name(place) for place in range(0, len(self.offsets) - 1, _BLOCK)]

    @lazy
    def _views(self) -> tuple[memoryview, memoryview, memoryview]:
        """The words, where each begins, and where its list does: numpy takes thrice as long."""
        return self.names.data, self.name_offsets.data, self.offsets.data

    def _name(self, place: int) -> bytes:
        names, offsets, _ = self._views
        return bytes(names[offsets[place] : offsets[place + 1]])
