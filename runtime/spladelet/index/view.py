"""The segments of one generation, searched as one."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from spladelet.documents import Document
from spladelet.explain import WordScore
from spladelet.index.filters import Filter
from spladelet.index.hits import Best, Hit, WordShares
from spladelet.index.queries import Query, QueryWords
from spladelet.index.segment import Asked, Segment, Selection, hash_ids
from spladelet.index.stored_documents import StoredLine, id_of
from spladelet.index.word_scoring import AskedWords, score_each_word, score_words_among
from spladelet.lazy import lazy
from spladelet.lexical.analyzer import analyzer_of
from spladelet.lexical.bm25 import Saturation, rarity

# Filters of which it is remembered what they allow, at about a byte a document; and how many values
# one may have, for it is kept with them.
_KEPT_SELECTIONS = 8
_LARGEST_KEPT = 1024
# Words of which it is remembered where they are and how rare: queries have the same ones often.
_KEPT_WORDS = 4096


@dataclass(frozen=True, slots=True)
class Searched:
    """A segment that is to be searched.

    Attributes:
        place: Which of the view's it is.
        allowed: Which of its documents may be found; None for all.
    """

    place: int
    allowed: Selection | None


class View:
    """The segments of one generation; documents are numbered through them, without the deleted."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = tuple(segments)
        self.starts = list(accumulate((len(segment) for segment in segments), initial=0))
        self._selections: dict[Filter, list[Searched]] = {}
        self._words: dict[str, tuple[list[int], float]] = {}

    def search(
        self, query: Query, k: int, min_score: float, selection: Sequence[Searched]
    ) -> list[Hit]:
        """Search segment by segment; what cannot be among the k best any more is passed over."""
        best = Best(k)
        below = _largest_below(min_score)
        words = self._ask_words(query.words)
        for part in selection:
            segment = self.segments[part.place]
            asked = Asked(query.term_ids, query.weights, words[part.place])
            found, scores, error = segment.search(asked, k, max(best.floor, below), part.allowed)
            best.add(scores, self.starts[part.place] + segment.ranks(found), error)
        numbers, scores_of, margins = best.sorted()
        shares = None
        if query.words is not None:
            shares = WordShares(lambda: self._word_shares(words, numbers))
        found_in = zip(self._sources(numbers), scores_of, numbers, margins, strict=True)
        return [
            Hit(id_of(source), score, number, margin, source, shares)
            for source, score, number, margin in found_in
        ]

    def word_scores(self, query: QueryWords, number: int) -> tuple[WordScore, ...]:
        """Return what each shared word adds to a document's score, the most first."""
        segment, rank = self.place(number)
        asked = self._ask_words(query)[self._place(number)]
        if asked is None or segment.words is None:
            return ()
        spelled = analyzer_of(query.settings.language).spelled(query.text)
        found = score_each_word(segment.words, asked, int(segment.live[rank]))
        scores = [
            WordScore(
                word,
                spelled.get(word, word),
                in_query,
                in_document,
                rare,
                float(score),
            )
            for (word, in_query), (in_document, score), rare in zip(
                query.counts.items(), found, asked.rarities, strict=True
            )
            if score > 0
        ]
        return tuple(sorted(scores, key=lambda item: (-item.score, item.word)))

    @lazy
    def mean_length(self) -> float:
        """How many words a document has on average, of those that are not deleted."""
        total = sum(segment.total_length for segment in self.segments)
        return total / self.starts[-1] if self.starts[-1] else 0.0

    def _ask_words(self, query: QueryWords | None) -> list[AskedWords | None]:
        """Return what each segment is asked: words weigh what they do among all of them."""
        if query is None:
            return [None] * len(self.segments)
        known = [self._know_word(word) for word in query.counts]
        rarities = [rare for _, rare in known]
        counts = zip(query.counts.values(), rarities, strict=True)
        factors = np.array([query.weight * n * rare for n, rare in counts], np.float32)
        saturation = Saturation.of(query.settings, self.mean_length)
        if not known:
            return [AskedWords((), factors, (), saturation)] * len(self.segments)
        by_segment = zip(*(places for places, _ in known), strict=True)
        return [AskedWords(places, factors, rarities, saturation) for places in by_segment]

    def _know_word(self, word: str) -> tuple[list[int], float]:
        """Return a word's place in each segment, and how rare it is; of late ones it is known.

        That may be written by several threads at once: they all write the same.
        """
        found = self._words.get(word)
        if found is None:
            name = [word.encode()]
            places = [segment.find_words(name)[0] for segment in self.segments]
            having = sum(map(Segment.having, self.segments, places))
            found = places, rarity(self.starts[-1], having)
            if len(self._words) >= _KEPT_WORDS:
                self._words = {}
            self._words[word] = found
        return found

    def _word_shares(
        self, words: Sequence[AskedWords | None], numbers: Sequence[int]
    ) -> dict[int, float]:
        """Return how much of the scores of documents comes from words, by their numbers."""
        wanted, shares = np.sort(np.array(numbers, np.int64)), list[float]()
        places = np.searchsorted(wanted, self.starts)
        for place, (segment, asked) in enumerate(zip(self.segments, words, strict=True)):
            ranks = wanted[places[place] : places[place + 1]] - self.starts[place]
            if len(ranks) and segment.words is not None and asked is not None:
                documents = segment.live[ranks] if len(segment.deleted) else ranks
                found = score_words_among(segment.words, asked, documents.astype(np.int32))
                shares += found.tolist()
        return dict(zip(wanted.tolist(), shares, strict=True))

    def select(self, wanted: Filter | None) -> list[Searched]:
        """Return what of the segments is to be searched; of late filters it is known.

        The dictionary is never changed, only replaced: a lock could be held for ever in a process
        that is forked meanwhile.
        """
        if wanted is None:
            return [Searched(place, None) for place in range(len(self.segments))]
        known = self._selections
        if wanted in known:
            return known[wanted]
        found = [
            Searched(place, allowed)
            for place, segment in enumerate(self.segments)
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
