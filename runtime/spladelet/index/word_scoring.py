"""What words add to scores: BM25 over the documents that an index has now.

Scores are summed word after word, in the order in which they are asked, in float32: the same bits
however the documents are spread over segments.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from spladelet.index import scoring
from spladelet.index.word_lists import WordLists
from spladelet.lexical.bm25 import Saturation

# Where a word's list begins and ends, and its factor.
_Span: TypeAlias = tuple[int, int, np.float32]

_AT_ONCE = 1 << 20  # postings that are summed together
_ROOMS = {
    "words' numbers": np.int32,
    "words' counts": np.float32,
    "words' sums": np.float32,
}


@dataclass(frozen=True, slots=True)
class AskedWords:
    """The words of a query, as a segment is asked for them.

    Attributes:
        places: Each word's place in the segment's lists, -1 where it has none.
        factors: What each counts times its impact: float32[words].
        rarities: Each one's inverse document frequency.
        saturation: What makes impacts of counts.
    """

    places: Sequence[int]
    factors: NDArray[np.float32]
    rarities: Sequence[float]
    saturation: Saturation

    def postings(self, lists: WordLists) -> int:
        """Return how many postings the words have in a segment."""
        return sum(end - start for start, end, _ in self.spans(lists))

    def spans(self, lists: WordLists) -> Iterator[_Span]:
        """Yield where the list of each word that a segment has begins and ends, and its factor."""
        for place, factor in zip(self.places, self.factors, strict=True):
            if place >= 0:
                yield *lists.span(place), factor


def score_words(lists: WordLists, asked: AskedWords) -> NDArray[np.float32]:
    """Return what words add to the score of every document; see `scoring.score` for the array."""
    scores = None
    for spans in _batches(asked.spans(lists)):
        impacts = _weigh(lists, asked.saturation, spans)
        # Not before: what has been read for the impacts would put it out of the processor's cache.
        scores = scoring.no_scores(len(lists.lengths)) if scores is None else scores
        scoring.add_lists(scores, *impacts)
    return scoring.no_scores(len(lists.lengths)) if scores is None else scores


def _batches(spans: Iterable[_Span]) -> Iterator[list[_Span]]:
    """Yield some of the lists at a time: a query may be of any length."""
    batch: list[_Span] = []
    postings = 0
    for span in spans:
        batch.append(span)
        postings += span[1] - span[0]
        if postings > _AT_ONCE:
            yield batch
            batch, postings = [], 0
    if batch:
        yield batch


def _weigh(
    lists: WordLists, saturation: Saturation, spans: Sequence[_Span]
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    """Return what `scoring.add_lists` takes: the lists one after another, computed at once."""
    ends = [0, *accumulate(end - start for start, end, _ in spans)]
    numbers, counts, room = (scoring.room(name, ends[-1], kind) for name, kind in _ROOMS.items())
    lengths = scoring.room(lists.lengths.dtype.name, ends[-1], lists.lengths.dtype)
    np.concatenate([lists.numbers[start:end] for start, end, _ in spans], out=numbers)
    np.concatenate([lists.counts[start:end] for start, end, _ in spans], out=counts)
    if len(lists.many):
        for (start, end, _), first in zip(spans, ends, strict=False):
            lists.mend(counts[first : first + end - start], start, end)
    np.take(lists.lengths, numbers, out=lengths, mode="clip")  # which is the fast one
    impacts = saturation.impacts(counts, lengths, room)
    factors = np.array([factor for _, _, factor in spans])
    return numbers, impacts, np.array(ends, np.int32), factors


def score_words_among(
    lists: WordLists, asked: AskedWords, documents: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Return what words add to the scores of a few documents, with the same bits, in their order.

    Args:
        lists: The words of all documents.
        asked: The query's.
        documents: The numbers of those that matter, ascending.
    """
    scores = np.zeros(len(documents), np.float32)
    for start, end, factor in asked.spans(lists):
        here, there = scoring.shared(documents, lists.numbers[start:end])
        counts = lists.counts_of(start, end)[there]
        impacts = asked.saturation.impacts(counts, lists.lengths[documents[here]])
        scores[here] += impacts * factor
    return scores


def score_each_word(
    lists: WordLists, asked: AskedWords, document: int
) -> list[tuple[int, np.float32]]:
    """Return how often a document has each word of a query, and what that adds to its score."""
    number = np.array([document], np.int32)
    found = []
    for place, factor in zip(asked.places, asked.factors, strict=True):
        count, score = 0, np.float32(0)
        if place >= 0:
            one = AskedWords([place], np.array([factor]), (), asked.saturation)
            (score,) = score_words_among(lists, one, number)
            start, end = lists.span(place)
            _, there = scoring.shared(number, lists.numbers[start:end])
            count = int(lists.counts_of(start, end)[there].sum())
        found.append((count, score))
    return found
