"""Snippets: the passage of a document that its score comes from, and what in it matters.

Each part of a score has places in the document: a word where it stands, a term where the model says
that its weight comes from. The passage is the one whose places have the largest part of the score;
each part counts once, however often a passage has it. It begins where a sentence or a word does.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from spladelet.documents import Document
from spladelet.explain import Explanation
from spladelet.lexical.analyzer import Analyzer
from spladelet.text import valid_unicode

WIDTH = 240  # characters of a snippet, unless asked otherwise
_READ = 1 << 18  # characters of a document in which words are looked for
_MOST_PLACES = 10_000  # of words; a passage among so many is as good as any
_LEAST = 0.01  # of a score: what matters less is not marked
_LEAST_KNOWN = 0.1  # of a score, or a passage would be found by what hardly matters
_SENTENCE = re.compile(r"""[.!?]['")\]\u201d\u2019]*\s+|[\u3002\uff01\uff1f]|\n+""")  # CJK's, too


@dataclass(frozen=True, slots=True)
class Mark:
    """A span of a text that matters.

    Attributes:
        start: Where it begins, in characters of the snippet's text, or of the title.
        end: Where it ends.
        terms: What of the query it answers, the largest share first.
        added: Whether it only stands behind terms that the model added to the document; if not, it
            is such a term or word itself.
        score: How much of the document's score comes from it.
    """

    start: int
    end: int
    terms: tuple[str, ...]
    added: bool
    score: float


@dataclass(frozen=True, slots=True)
class Snippet:
    """A passage of a document.

    Attributes:
        text: The passage.
        start: Where in the document's text it begins, in characters.
        marks: What in it matters, in order; no two overlap.
        title_marks: The same of the title.
        cut_before: Whether there is text before it.
        cut_after: Whether there is text behind it.
    """

    text: str
    start: int
    marks: tuple[Mark, ...]
    title_marks: tuple[Mark, ...]
    cut_before: bool
    cut_after: bool


def pieces(text: str, marks: Sequence[Mark]) -> Iterator[tuple[str, Mark | None]]:
    """Cut a text at its marks: yield each part, with its mark if it has one."""
    end = 0
    for mark in marks:
        if mark.start > end:
            yield text[end : mark.start], None
        yield text[mark.start : mark.end], mark
        end = mark.end
    if end < len(text):
        yield text[end:], None


class _Place(NamedTuple):
    """Where a part of a score comes from."""

    start: int
    end: int
    term: str
    added: bool
    score: float

    def moved(self, by: int) -> "_Place":
        """Return the same place where the text begins elsewhere."""
        return self._replace(start=self.start + by, end=self.end + by)

    @property
    def part(self) -> tuple[str, float]:
        """What it is a place of: a term and a word may be spelled alike."""
        return self.term, self.score


def snippet(
    document: Document, why: Explanation, analyzer: Analyzer | None, width: int = WIDTH
) -> Snippet:
    """Return the passage that a document's score comes from.

    Args:
        document: The document.
        why: Its score, with sources if they are known.
        analyzer: Of the index's words; None if it has none.
        width: How many characters the passage has at most.
    """
    title, text = valid_unicode(document.title), valid_unicode(document.text)
    least = _LEAST * why.score
    in_content = [place for place in _terms(why) if place.score >= least]
    if sum(place.score for place in in_content) < _LEAST_KNOWN * why.score and not why.lexical:
        in_content = []  # what its score comes from lies elsewhere
    # Title and text are encoded as one; see `Document.content`.
    front = f"{title} {text}"
    lead = len(front) - len(front.lstrip())
    in_title = [place.moved(lead) for place in in_content]
    in_text = [place.moved(-len(title) - 1) for place in in_title]
    words = {word.word: (word.spelled, word.score) for word in why.lexical if word.score >= least}
    in_text = [p for p in in_text if _is_word(text, p)]
    in_title = [p for p in in_title if _is_word(title, p)]
    if analyzer is not None and words:
        in_text += _words(text[:_READ], analyzer, words)
        in_title += _words(title[:_READ], analyzer, words)
    begin, end = _passage(text, sorted(in_text), width)
    return Snippet(
        text[begin:end],
        begin,
        _marks(p.moved(-begin) for p in in_text if begin <= p.start and p.end <= end),
        _marks(in_title),
        begin > 0,
        end < len(text.rstrip()),
    )


def _is_word(text: str, place: _Place) -> bool:
    """Say whether a place lies in a text and is more than a sign, such as a full stop."""
    inside = 0 <= place.start < place.end <= len(text)
    return inside and any(map(str.isalnum, text[place.start : place.end]))


def _terms(why: Explanation) -> Iterator[_Place]:
    for term in why.words:
        source = term.document_source
        if source is not None and not source.special:
            yield _Place(source.start, source.end, term.term, not term.in_document, term.score)


def _words(
    text: str, analyzer: Analyzer, words: Mapping[str, tuple[str, float]]
) -> Iterator[_Place]:
    found = 0
    for start, end, word in analyzer.places(text, words):
        spelled, score = words[word]
        yield _Place(start, end, spelled, added=False, score=score)
        found += 1
        if found == _MOST_PLACES:
            return


def _passage(text: str, places: Sequence[_Place], width: int) -> tuple[int, int]:
    """Return where the passage begins and ends that has the largest part of the score."""
    first, last = _best(places, width)
    if not places:
        return 0, _end(text, 0, width)
    begin = max(0, first - max(0, width - (last - first)) // 2)
    begin = _beginning(text, begin, first)
    return begin, max(_end(text, begin, width), min(last, begin + width))


def _best(places: Sequence[_Place], width: int) -> tuple[int, int]:
    """Return the span of places, at most so wide, that scores highest; of equals the first."""
    best, span = 0.0, (0, 0)
    inside: Counter[tuple[str, float]] = Counter()
    total, left = 0.0, 0
    for right, place in enumerate(places):
        total += 0.0 if inside[place.part] else place.score
        inside[place.part] += 1
        while places[right].end - places[left].start > width and left < right:
            gone = places[left]
            inside[gone.part] -= 1
            total -= 0.0 if inside[gone.part] else gone.score
            left += 1
        if total > best * (1 + 1e-6):
            best, span = total, (places[left].start, place.end)
    return span


def _beginning(text: str, begin: int, first: int) -> int:
    """Return where a sentence begins, at or behind a place and before the first mark; or a word."""
    if begin == 0:
        return 0
    starts = [match.end() for match in _SENTENCE.finditer(text, begin, first + 1)]
    if starts:
        return min(starts[0], first)
    space = re.compile(r"\s+").search(text, begin, first)
    return space.end() if space else begin


def _end(text: str, begin: int, width: int) -> int:
    """Return where a passage ends: with a word, if one ends in its second half."""
    end = begin + width
    if end >= len(text):
        return len(text.rstrip())
    for place in range(end, begin + width // 2, -1):
        if text[place].isspace():
            return begin + len(text[begin:place].rstrip())
    return end


def _marks(places: Iterable[_Place]) -> tuple[Mark, ...]:
    """Join places that overlap."""
    marks: list[Mark] = []
    joined: dict[tuple[str, float], float] = {}
    is_added = True
    for place in sorted(places):
        if not marks or place.start >= marks[-1].end:
            joined, is_added = {}, True
            marks.append(Mark(place.start, place.end, (), added=True, score=0.0))
        joined[place.part] = place.score
        is_added &= place.added
        terms = dict.fromkeys(term for term, _ in sorted(joined, key=lambda p: (-p[1], p[0])))
        start, end = marks[-1].start, max(marks[-1].end, place.end)
        marks[-1] = Mark(start, end, tuple(terms), is_added, sum(joined.values()))
    return tuple(marks)
