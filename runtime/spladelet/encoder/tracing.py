"""Where a text's weights come from: of each term, the word at which the model gives it most.

Max pooling takes each term's weight from one position of the text, so this is no approximation: the
word at that position is why the term is there. A special token speaks for the text as a whole.
"""

from collections.abc import Sequence
from operator import itemgetter

from spladelet.encoder.sides import Side
from spladelet.encoder.tokenizer import PlacedText
from spladelet.explain import Source
from spladelet.text import valid_unicode


def sources(
    side: Side, texts: Sequence[str], overlap: int | None
) -> list[dict[int, tuple[float, Source]]]:
    """Return of each text its terms' weights and where they come from; see `Encoder.sources`."""
    valid = [valid_unicode(text) for text in texts]
    parts = [
        (number, part)
        for number, text in enumerate(valid)
        for part in side.tokenizer.placed(text, overlap)
        if part.tokens.content
    ]
    traced = sorted(side.trace([part.tokens for _, part in parts]), key=itemgetter(0))
    found: list[dict[int, tuple[float, Source]]] = [{} for _ in texts]
    for (number, part), (_, (ids, weights), positions) in zip(parts, traced, strict=True):
        terms = found[number]
        for term, weight, position in zip(
            ids.tolist(), weights.tolist(), positions.tolist(), strict=True
        ):
            if term not in terms or weight > terms[term][0]:  # of equal windows, the first
                terms[term] = weight, _source(side, part, valid[number], position)
    return found


def _source(side: Side, part: PlacedText, text: str, position: int) -> Source:
    span = part.words[position]
    if span is None:
        return Source(side.tokenizer.term(part.tokens.ids[position]), 0, 0, special=True)
    return Source(text[slice(*span)], *span)
