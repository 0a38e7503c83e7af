"""The segments of one generation, searched as one."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeAlias

import numpy as np

from spladelet.documents import Document
from spladelet.index.filters import Filter
from spladelet.index.hits import Best, Hit
from spladelet.index.segment import Segment, Selection, hash_ids
from spladelet.index.stored_documents import StoredLine, id_of
from spladelet.vector import SparseVector

# Filters of which it is remembered what they allow, at about a byte a document; and how many values
# one may have, for it is kept with them.
_KEPT_SELECTIONS = 8
_LARGEST_KEPT = 1024

# A segment, the number of its first document, and which of its documents may be found.
_Searched: TypeAlias = tuple[Segment, int, Selection | None]


class View:
    """The segments of one generation; documents are numbered through them, without the deleted."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = tuple(segments)
        self.starts = list(accumulate((len(segment) for segment in segments), initial=0))
        self._selections: dict[Filter, list[_Searched]] = {}

    def search(
        self, query: SparseVector, k: int, min_score: float, selection: Sequence[_Searched]
    ) -> list[Hit]:
        """Search segment by segment; what cannot be among the k best any more is passed over."""
        best = Best(k)
        below = _largest_below(min_score)
        for segment, start, allowed in selection:
            above = max(best.floor, below)
            found, scores, error = segment.search(query.term_ids, query.weights, k, above, allowed)
            best.add(scores, start + segment.ranks(found), error)
        numbers, scores_of, margins = best.sorted()
        sources = self._sources(numbers)
        return [
            Hit(id_of(source), score, number, margin, source)
            for source, score, number, margin in zip(
                sources, scores_of, numbers, margins, strict=True
            )
        ]

    def select(self, wanted: Filter | None) -> list[_Searched]:
        """Return what of the segments is to be searched; of late filters it is known.

        The dictionary is never changed, only replaced: a lock could be held for ever in a process
        that is forked meanwhile.
        """
        parts = list(zip(self.segments, self.starts, strict=False))
        if wanted is None:
            return [(segment, start, None) for segment, start in parts]
        known = self._selections
        if wanted in known:
            return known[wanted]
        found: list[_Searched] = [
            (segment, start, allowed)
            for segment, start in parts
            if (allowed := segment.select(wanted)) is not None
        ]
        if wanted.size <= _LARGEST_KEPT:
            late = list(known.items())[1 - _KEPT_SELECTIONS :]
            self._selections = {**dict(late), wanted: found}
        return found

    def document(self, number: int) -> Document:
        """Return a document by its number."""
        segment, rank = self.place(number)
        return segment.document(rank)

    def place(self, number: int) -> tuple[Segment, int]:
        """Return the segment of a document, and its rank there among those not deleted."""
        place = self._place(number)
        return self.segments[place], number - self.starts[place]

    def find(self, identity: str) -> int | None:
        """Return the number of the document with an id; None if there is none."""
        hashes = hash_ids([identity])
        for segment, start in zip(self.segments, self.starts, strict=False):
            for number in segment.find([identity], hashes).values():
                return start + int(segment.ranks(np.array([number]))[0])
        return None

    def _sources(self, numbers: Sequence[int]) -> Sequence[Document | StoredLine]:
        if len(self.segments) == 1:
            return self.segments[0].sources(numbers)
        return [self._source(number) for number in numbers]

    def _source(self, number: int) -> Document | StoredLine:
        place = self._place(number)
        return self.segments[place].sources([number - self.starts[place]])[0]

    def _place(self, number: int) -> int:
        return bisect_right(self.starts, number) - 1


def _largest_below(min_score: float) -> float:
    """Return the largest float32 that is too low; 0 if any score above it will do."""
    if min_score == 0:
        return 0.0
    largest = float(np.finfo(np.float32).max)
    rounded = np.float32(min(min_score, largest))
    if float(rounded) >= min_score:
        rounded = np.nextafter(rounded, np.float32(-1))
    return max(0.0, float(rounded))
