"""How results look to people: bars for weights, one line a hit.

What others wrote goes into a line through `plain`, cut to what can be looked at.
"""

import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from spladelet.cli.console import has_styles
from spladelet.explain import Explanation, Source, TermScore, WeightedTerm, WordScore
from spladelet.explaining.snippets import Mark, Snippet
from spladelet.printable import BOLD, PLAIN, UNDERLINED, clean, field, snippet, to_json

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


def hits(found: Sequence[Found], which: str = "", snippets: Sequence[Snippet] | None = None) -> str:
    """Draw hits, one a line, cut to the terminal's width; `which` documents were looked at.

    With snippets, each has below it the passage that its score comes from.
    """
    if not found:
        return f"no document {which}shares a term with the query"
    width = _width([field(hit.id) for hit in found])
    if snippets is None:
        return "\n".join(_hit(hit, width) for hit in found)
    pairs = zip(found, snippets, strict=True)
    return "\n".join(_hit_with_snippet(hit, part, width) for hit, part in pairs)


def passage(part: Snippet, indent: int) -> str:
    """Draw the passage of a snippet, in lines of the terminal's width."""
    width = max(terminal_width() - indent, 20)
    ends = ["… " if part.cut_before else "", " …" if part.cut_after else ""]
    pieces = [*_words_of(part.text, part.marks)]
    lines, line = list[str](), ends[0]
    length = len(line)
    for shown, size in [*pieces, (ends[1].strip(), len(ends[1].strip()))]:
        if length and length + 1 + size > width:
            lines.append(line)
            line, length = "", 0
        space = " " if line and not line.endswith(" ") and size else ""
        line, length = line + space + shown, length + len(space) + size
    lines.append(line)
    return "\n".join(" " * indent + line.rstrip() for line in lines)


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
    """Say on which side the model added a term, and for which of the text's words."""
    of_query, of_document = source(word.query_source), source(word.document_source)
    if word.in_query and word.in_document:
        return "in both texts"
    if word.in_query:
        return f"in the query, added to the document{of_document}"
    if word.in_document:
        return f"in the document, added to the query{of_query}"
    known = dict.fromkeys(filter(None, (of_query, of_document)))
    return "added to both" + ("," if len(known) > 1 else "") + " and".join(known)


def note(term: WeightedTerm) -> str:
    """Say of a term that the model added it, and why; or that another word raised it."""
    if not term.in_text:
        return f"added{source(term.source) or ' by the model'}"
    made = term.source
    is_itself = made is None or _plain(term.term) in _plain(made.word)
    return "" if is_itself else f"raised{source(made)}"


def _plain(text: str) -> str:
    """Return letters and digits alone, without accents: vocabularies mark pieces in many ways."""
    parted = unicodedata.normalize("NFKD", text.lstrip("Ġ▁").casefold())
    return "".join(filter(str.isalnum, parted))


def source(found: Source | None) -> str:
    """Say what made the model add a term; nothing if that is not known."""
    if found is None:
        return ""
    return " by the text as a whole" if found.special else f' by "{field(found.word, 40)}"'


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
    if part.in_query:
        return f"question{_because(part.document_source)}"
    if part.in_document:
        return f"answer{_because(part.query_source)}"
    return "neither"


def _because(found: Source | None) -> str:
    return f",{source(found)}" if found else ""


def _hit_with_snippet(hit: Found, part: Snippet, width: int) -> str:
    head = f"{hit.score:6.2f}  {field(hit.id):<{width}}  "
    title = snippet("", hit.title, terminal_width() - len(head)) if hit.title else ""
    return f"{head}{title}".rstrip() + f"\n{passage(part, 8)}"


def _words_of(text: str, marks: Sequence[Mark]) -> Iterator[tuple[str, int]]:
    """Yield a text's words, with what makes marks stand out in them, and how wide each is shown."""
    for match in re.finditer(r"\S+", text):
        begin, end = match.span()
        shown, place = "", begin
        for mark in marks:
            first, last = max(mark.start, begin), min(mark.end, end)
            if first < last:
                shown += clean(text[place:first]) + _emphasised(clean(text[first:last]), mark)
                place = last
        yield shown + clean(text[place:end]), len(clean(match[0]))


def _emphasised(text: str, mark: Mark) -> str:
    """Show what matched in bold, and what only stands behind an added term underlined."""
    return f"{UNDERLINED if mark.added else BOLD}{text}{PLAIN}" if has_styles() else text


def can_print(text: str) -> bool:
    """Say whether standard output has these characters."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
