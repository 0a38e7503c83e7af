"""A segment: up to 262,144 documents with their posting lists, never changed once made.

So many that lists are long enough to be read at full speed, and few enough that one is made or
merged in about a gigabyte of memory, however large the index. Weights are kept as impacts of 4, 2
or 1 bytes, with a scale for each term; what that loses is measured when the segment is made, and
kept beside each term. Does not know files: see `segment_files`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spladelet.documents import Document
from spladelet.index.filters import Filter
from spladelet.index.format import ID_FILES, METADATA_FILES
from spladelet.index.metadata_table import MetadataTable
from spladelet.index.scoring import Postings, score, score_among, shared, top_k
from spladelet.index.stored_documents import StoredLine, document_of, id_of
from spladelet.index.transposing import stable_order
from spladelet.index.word_lists import WordLists
from spladelet.index.word_scoring import AskedWords, score_words, score_words_among
from spladelet.lazy import lazy

# Looking a few documents up in one posting list takes as long as summing so many postings, and so
# many for each document.
_LOOK_UP = 4096
_LOOK_UP_EACH = 8
# With a larger share of the documents than this, masking every score is faster than picking some.
_MANY = 0.2


class Checks(Protocol):
    """Raises IndexFormatError where something on disk is damaged: see `integrity.Checks`."""

    def lists(self, postings: Postings, places: NDArray[np.int64], /) -> None:
        """Check posting lists."""

    def all_lists(self, postings: Postings, /) -> None:
        """Check all posting lists."""

    def words(self, lists: WordLists, places: Sequence[int], /) -> None:
        """Check posting lists of words, and what every search for words depends on."""

    def all_words(self, lists: WordLists, /) -> None:
        """Check all posting lists of words."""

    def files(self, *names: str) -> None:
        """Check whole files."""

    def everything(self, postings: Postings, words: WordLists | None, /) -> None:
        """Check all there is."""


class Documents(Protocol):
    """Documents by number, in memory or on disk: see `stored_documents`."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int, /) -> Document: ...
    def __iter__(self) -> Iterator[Document]: ...

    def sources(self, numbers: Sequence[int], /) -> Sequence[Document | StoredLine]:
        """Return what some of them can be read from."""


@dataclass(frozen=True, slots=True)
class IdTable:
    """Documents' numbers by the hash of their ids.

    Attributes:
        hashes: uint64[documents], ascending.
        numbers: int32[documents], whose hash it is.
    """

    hashes: NDArray[np.uint64]
    numbers: NDArray[np.int32]

    @classmethod
    def of(cls, ids: Iterable[str]) -> "IdTable":
        """Make the table of documents in their order."""
        hashes = hash_ids(ids)
        order = np.argsort(hashes, kind="stable")
        return cls(hashes[order], order.astype(np.int32))


@dataclass(frozen=True, slots=True)
class Selection:
    """The only documents that may be found.

    Attributes:
        mask: bool[documents].
        numbers: int32[allowed documents], ascending; None if they are many.
    """

    mask: NDArray[np.bool_]
    numbers: NDArray[np.int32] | None

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> "Selection":
        """Make the selection of a mask."""
        numbers = np.flatnonzero(mask).astype(np.int32)
        return cls(mask, numbers if len(numbers) <= _MANY * len(mask) else None)


@dataclass(frozen=True, slots=True)
class Asked:
    """A query, as a segment is asked.

    Attributes:
        term_ids: Its terms, ascending.
        weights: Their weights.
        words: Its words; None asks for none.
    """

    term_ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    words: AskedWords | None = None


@dataclass(frozen=True)
class Segment:
    """Documents, some of which may be deleted.

    Attributes:
        postings: Their posting lists.
        documents: The documents.
        ids: Their numbers by id.
        metadata: Their numbers by what their metadata say.
        words: Their words; None in an index that has none.
        deleted: int32[deleted documents], their numbers, ascending.
        checks: Finds what was damaged on disk; None if this was made in memory.
    """

    postings: Postings
    documents: Documents
    ids: IdTable
    metadata: MetadataTable
    words: WordLists | None = None
    deleted: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    checks: Checks | None = None

    def __len__(self) -> int:
        """Return how many documents are not deleted."""
        return self.postings.documents - len(self.deleted)

    @lazy
    def live(self) -> NDArray[np.int64]:
        """The numbers of the documents that are not deleted, ascending: int64[len]."""
        is_live = np.ones(self.postings.documents, bool)
        is_live[self.deleted] = False
        return np.flatnonzero(is_live)

    def document(self, rank: int) -> Document:
        """Return a document by its rank among those that are not deleted."""
        return document_of(*self.sources([rank]))

    def sources(self, ranks: Sequence[int]) -> Sequence[Document | StoredLine]:
        """Return what some documents, by rank, can be read from."""
        return self.documents.sources(self.live[ranks].tolist() if self.deleted.size else ranks)

    def ranks(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the ranks of documents among those that are not deleted."""
        return np.searchsorted(self.live, numbers) if len(self.deleted) else numbers

    def search(
        self, asked: Asked, k: int, above: float, allowed: Selection | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], float]:
        """Find the k documents with the highest score.

        Args:
            asked: The query.
            k: Documents wanted.
            above: What a score must be above.
            allowed: The only documents that may be found, from `select`; None for all.

        Returns:
            Their numbers, their scores, and how far off a score may be.
        """
        places, weights = self.postings.find(asked.term_ids, asked.weights)
        if self.checks is not None:
            self.checks.lists(self.postings, places)
        error = float(weights.astype(np.float64) @ self.postings.errors[places])
        lists, words = self.words, asked.words
        numbers = None if allowed is None else allowed.numbers
        if numbers is not None and self._is_worth_looking_up(numbers, places, words):
            begun = None if not (lists and words) else score_words_among(lists, words, numbers)
            scores = score_among(self.postings, places, weights, numbers, begun)
        else:
            begun = None if not (lists and words) else score_words(lists, words)
            scores = score(self.postings, places, weights, begun)
            if numbers is not None:
                scores = scores[numbers]
            elif allowed is not None:
                np.multiply(scores, allowed.mask, out=scores)
            else:
                scores[self.deleted] = 0
        found = top_k(scores, k, above)
        best = found if numbers is None else numbers[found].astype(np.int64)
        return best, scores[found], error

    def find_words(self, words: Sequence[bytes]) -> list[int]:
        """Return the places of words in this segment's lists, -1 for each that it does not have.

        Raises:
            IndexFormatError: A list on disk is damaged.
        """
        if self.words is None:
            return [-1] * len(words)
        if self.checks is not None:
            self.checks.words(self.words, ())  # before they are trusted to find something
        places = self.words.find(words)
        if self.checks is not None:
            found = places if min(places, default=0) >= 0 else [p for p in places if p >= 0]
            self.checks.words(self.words, found)
        return places

    def having(self, place: int) -> int:
        """Return how many documents that are not deleted have a word, by its place."""
        if place < 0 or self.words is None:
            return 0
        start, end = self.words.span(place)
        if not len(self.deleted):
            return end - start
        return end - start - len(shared(self.deleted, self.words.numbers[start:end])[0])

    @lazy
    def total_length(self) -> int:
        """How many words the documents have that are not deleted."""
        if self.words is None:
            return 0
        if self.checks is not None:
            self.checks.words(self.words, ())
        lengths = self.words.lengths
        return int(lengths.sum(dtype=np.int64) - lengths[self.deleted].sum(dtype=np.int64))

    def select(self, wanted: Filter) -> Selection | None:
        """Return the documents that a filter allows, none deleted; None if there are none."""
        if self.checks is not None:
            self.checks.files(*METADATA_FILES)
        allowed = wanted.holds(self.metadata, self.postings.documents)
        if wanted.ids is not None:
            ids = list(wanted.ids)
            found = self.find(ids, hash_ids(ids)).values()
            named = np.zeros(self.postings.documents, bool)
            named[np.fromiter(found, np.int64, len(found))] = True
            allowed &= named
        allowed[self.deleted] = False
        return Selection.of(allowed) if allowed.any() else None

    def fields(self) -> list[str]:
        """Return the names of the fields that documents have, deleted ones too, ascending."""
        if self.checks is not None:
            self.checks.files(*METADATA_FILES)
        return list(self.metadata.fields())

    def find(self, ids: Sequence[str], hashes: NDArray[np.uint64]) -> dict[str, int]:
        """Return the numbers of those documents that are here and not deleted.

        Args:
            ids: Their ids.
            hashes: The ids' hashes, from `hash_ids`.
        """
        if self.checks is not None:
            self.checks.files(*ID_FILES)
        first = np.searchsorted(self.ids.hashes, hashes, "left")
        last = np.searchsorted(self.ids.hashes, hashes, "right")
        found: dict[str, int] = {}
        for asked in np.flatnonzero(last > first).tolist():
            numbers = self.ids.numbers[first[asked] : last[asked]].tolist()
            for number, source in zip(numbers, self.documents.sources(numbers), strict=True):
                if id_of(source) == ids[asked] and not self._is_deleted(number):
                    found[ids[asked]] = number
        return found

    def row(self, rank: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return a document's term ids, ascending, and their weights.

        Raises:
            IndexFormatError: One of its posting lists on disk is damaged.
        """
        stored = self.postings
        number = int(self.live[rank]) if len(self.deleted) else rank
        found = np.flatnonzero(stored.numbers == number)
        places = np.searchsorted(stored.offsets, found, "right") - 1
        if self.checks is not None:
            self.checks.lists(stored, places)
        return stored.terms[places], stored.impacts[found].astype(np.float32) * stored.scales[
            places
        ]

    def row_among(
        self, rank: int, term_ids: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return those of a document's terms that are among these, ascending, and their weights.

        They are looked up list by list, in a fraction of the time that `row` takes.

        Raises:
            IndexFormatError: One of these posting lists on disk is damaged.
        """
        stored = self.postings
        number = np.array([self.live[rank] if len(self.deleted) else rank], np.int32)
        places, _ = stored.find(term_ids, np.empty(len(term_ids), np.float32))
        if self.checks is not None:
            self.checks.lists(stored, places)
        weights = np.zeros(len(places), np.float32)
        bounds = zip(
            stored.offsets[places].tolist(), stored.offsets[places + 1].tolist(), strict=True
        )
        for i, (start, end) in enumerate(bounds):
            _, there = shared(number, stored.numbers[start:end])
            if len(there):
                weights[i] = stored.impacts[start + int(there[0])]
        weights *= stored.scales[places]
        has = weights > 0
        return stored.terms[places][has][::-1], weights[has][::-1]

    def rows(self) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """Return the vectors as a CSR matrix's offsets, term ids and weights; none of the deleted.

        Raises:
            IndexFormatError: A posting list on disk is damaged.
        """
        stored = self.postings
        if self.checks is not None:
            self.checks.all_lists(stored)
        lengths = np.diff(stored.offsets)
        term_ids = np.repeat(stored.terms, lengths)
        weights = stored.impacts.astype(np.float32) * np.repeat(stored.scales, lengths)
        order = stable_order(stored.numbers)
        if len(self.deleted):
            is_deleted = np.zeros(stored.documents, bool)
            is_deleted[self.deleted] = True
            order = order[~is_deleted[stored.numbers[order]]]
        counts = np.bincount(stored.numbers[order], minlength=stored.documents)[self.live]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return offsets, term_ids[order], weights[order]

    def _is_worth_looking_up(
        self,
        numbers: NDArray[np.int32],
        places: NDArray[np.int64],
        words: AskedWords | None,
    ) -> bool:
        each = _LOOK_UP + _LOOK_UP_EACH * len(numbers)
        lists, postings = len(places), self.postings.count(places)
        if words is not None and self.words is not None:
            lists, postings = lists + len(words.places), postings + words.postings(self.words)
        return lists * each < postings

    def _is_deleted(self, number: int) -> bool:
        place = int(np.searchsorted(self.deleted, number))
        return place < len(self.deleted) and int(self.deleted[place]) == number


def hash_ids(ids: Iterable[str]) -> NDArray[np.uint64]:
    """Return 64 bits of each id's BLAKE2b."""
    digests = [
        hashlib.blake2b(i.encode("utf-8", "surrogatepass"), digest_size=8).digest() for i in ids
    ]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)
