"""How results look to people: bars for weights, one line a hit.

What others wrote goes into a line through `plain`, cut to what can be looked at.
"""

import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from spladelet.explain import Explanation, TermScore, WordScore
from spladelet.printable import clean, field, snippet, to_json

_BAR_WIDTH = 20
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_WIDEST_COLUMN = 40  # what is longer moves its own row only


class Found(Protocol):
    """A hit of an index, or of an engine."""

    @property
    def id(self) -> str:
        """The document's id."""

    @property
    def score(self) -> float:
        """Its score."""

    @property
    def title(self) -> str:
        """Its title; may be empty."""

    @property
    def text(self) -> str:
        """Its text."""


def bars(weights: Mapping[str, float], notes: Mapping[str, str], top: int) -> str:
    """Draw the heaviest terms, one a line, with a note behind some."""
    if not weights:
        return "no terms: the text is empty to the model"
    shown = list(weights.items())[:top]
    names = [field(term) for term, _ in shown]
    width = _width(names)
    heaviest = shown[0][1]
    lines = [
        f"{name:<{width}}  {bar(weight / heaviest)}  {weight:5.2f}  {notes.get(term, '')}".rstrip()
        for name, (term, weight) in zip(names, shown, strict=True)
    ]
    if len(weights) > top:
        lines.append(f"… and {len(weights) - top} lighter terms (--top shows more)")
    return "\n".join(lines)


def bar(share: float) -> str:
    """Draw a share from 0 to 1, in eighths of a character where the terminal has them."""
    if not can_print(_EIGHTHS):
        return ("#" * max(1, round(share * _BAR_WIDTH))).ljust(_BAR_WIDTH)
    eighths = max(1, round(share * _BAR_WIDTH * 8))
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(_BAR_WIDTH)


def hits(found: Sequence[Found], which: str = "") -> str:
    """Draw hits, one a line, cut to the terminal's width; `which` documents were looked at."""
    if not found:
        return f"no document {which}shares a term with the query"
    width = _width([field(hit.id) for hit in found])
    return "\n".join(_hit(hit, width) for hit in found)


def explanation(result: Explanation, top: int) -> str:
    """Draw what each term and word adds to a score."""
    parts = result.parts
    if not parts:
        return "score 0: the texts share no term"
    shown = parts[:top]
    width = _width([field(part.called) for part in shown])
    count = f"{len(result.terms)} shared terms"
    if result.lexical:
        words = "1 word" if len(result.lexical) == 1 else f"{len(result.lexical)} words"
        count += f" and {words}, {result.lexical_share:.0%} of it by words"
    lines = [
        f"score {result.score:.2f} from {count}, "
        f"{result.added_share:.0%} of it by terms that the model added",
        *(_part(part, width, shown[0].score) for part in shown),
    ]
    if len(parts) > top:
        lines.append(f"… and {len(parts) - top} smaller ones (--top shows more)")
    return "\n".join(lines)


def origin(word: TermScore) -> str:
    """Say on which side the model added a term."""
    if word.in_query and word.in_document:
        return "in both texts"
    if word.in_query:
        return "in the query, added to the document"
    if word.in_document:
        return "in the document, added to the query"
    return "added to both"


def matched(result: Explanation, top: int) -> str:
    """Name what makes most of a score, and whose it is, on one line."""
    return ", ".join(
        f"{field(part.called)} {part.score:.2f} ({_owner(part)})" for part in result.parts[:top]
    )


def table(rows: Iterable[tuple[str, object]]) -> str:
    """Draw names and values in two columns; values that are None are left out."""
    kept = [(name, value) for name, value in rows if value is not None]
    width = max(len(name) for name, _ in kept)
    return "\n".join(f"{name:<{width}}  {clean(str(value))}" for name, value in kept)


def as_json(value: object) -> str:
    """Return a value as JSON, in letters that standard output can print."""
    text = to_json(value)
    return text if can_print(text) else json.dumps(value)


def terminal_width() -> int:
    """Return the terminal's width; 100 where there is none."""
    return shutil.get_terminal_size((100, 24)).columns


def _width(names: Iterable[str]) -> int:
    return min(max(map(len, names)), _WIDEST_COLUMN)


def _hit(hit: Found, width: int) -> str:
    head = f"{hit.score:6.2f}  {field(hit.id):<{width}}  "
    return head + snippet(hit.title, hit.text, terminal_width() - len(head))


def _part(part: TermScore | WordScore, width: int, largest: float) -> str:
    if isinstance(part, TermScore):
        product, origin_ = f"{part.query_weight:.2f} x {part.document_weight:.2f}", origin(part)
    else:
        product, origin_ = f"rarity {part.rarity:.2f}", f"word, {_times(part.in_document)}"
    share = part.score / largest if largest else 0
    return (
        f"{field(part.called):<{width}}  {bar(share)}  {part.score:5.2f}  {product:<13} {origin_}"
    )


def _times(count: int) -> str:
    return "once in the document" if count == 1 else f"{count} times in the document"


def _owner(part: TermScore | WordScore) -> str:
    if isinstance(part, WordScore):
        return "word"
    if part.in_query and part.in_document:
        return "both"
    if part.in_query or part.in_document:
        return "question" if part.in_query else "answer"
    return "neither"


def can_print(text: str) -> bool:
    """Say whether standard output has these characters."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
