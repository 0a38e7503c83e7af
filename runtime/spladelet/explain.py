"""Why a document matched: the score, term by term.

A score is a sum over terms that query and document share, so it can be read off exactly. Each term
stands in a text or was added to it by the model; pieces of one word are shown as that word.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spladelet.documents import Document
from spladelet.text import as_text
from spladelet.vector import SparseVector

if TYPE_CHECKING:
    from spladelet.encoder import Encoder

Words = Sequence[tuple[str, Sequence[int]]]


@dataclass(frozen=True, slots=True)
class TermScore:
    """What one term adds to the score.

    Attributes:
        term: The vocabulary's entry; for a merged word, the word as it stands in the text.
        term_ids: Its number; for a merged word, the numbers of its pieces that match.
        query_weight: Weight in the query; for a merged word, the sum over its pieces.
        document_weight: Weight in the document; likewise.
        score: What it adds: query weight times document weight, summed over pieces.
        in_query: Whether it stands in the query; if not, the model added it there.
        in_document: Whether it stands in the document; likewise.
    """

    term: str
    term_ids: tuple[int, ...]
    query_weight: float
    document_weight: float
    score: float
    in_query: bool
    in_document: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """A score taken apart.

    Attributes:
        score: The document's score for the query.
        terms: Every shared vocabulary entry, the largest share first; they sum to the score.
        words: The same with the pieces of a word merged, for people.
        added_share: How much of the score comes from terms that the model added on either side,
            from 0 to 1.
    """

    score: float
    terms: tuple[TermScore, ...]
    words: tuple[TermScore, ...]
    added_share: float


def explain(encoder: "Encoder", query: str, document: str | Document) -> Explanation:
    """Encode both texts and take their score apart; see `Encoder.explain`."""
    query = as_text(query, "the query")
    content = (
        document.content if isinstance(document, Document) else as_text(document, "the document")
    )
    query_words, document_words = encoder.query_words(query), encoder.document_words(content)
    shared = _shared_terms(
        encoder,
        encoder.encode_query(query),
        encoder.encode_document(content),
        in_query={i for _, ids in query_words for i in ids},
        in_document={i for _, ids in document_words for i in ids},
    )
    score = sum(term.score for term in shared)
    added = sum(term.score for term in shared if not (term.in_query and term.in_document))
    return Explanation(
        score,
        _largest_first(shared),
        _largest_first(_merge(shared, [*query_words, *document_words])),
        added / score if score else 0.0,
    )


def _shared_terms(
    encoder: "Encoder",
    query: SparseVector,
    document: SparseVector,
    *,
    in_query: set[int],
    in_document: set[int],
) -> list[TermScore]:
    query_weights, document_weights = query.to_dict(), document.to_dict()
    return [
        TermScore(
            encoder.term(i),
            (i,),
            weight,
            document_weights[i],
            weight * document_weights[i],
            i in in_query,
            i in in_document,
        )
        for i, weight in query_weights.items()
        if i in document_weights
    ]


def _merge(terms: Iterable[TermScore], words: Words) -> list[TermScore]:
    """Join the terms that are pieces of one word; a piece goes to the first word that has it."""
    left = {term.term_ids[0]: term for term in terms}
    merged = []
    for word, ids in words:
        pieces = [left[i] for i in dict.fromkeys(ids) if i in left]
        if len(ids) < 2 or not pieces:
            continue
        for piece in pieces:
            del left[piece.term_ids[0]]
        merged.append(
            TermScore(
                word,
                tuple(piece.term_ids[0] for piece in pieces),
                sum(piece.query_weight for piece in pieces),
                sum(piece.document_weight for piece in pieces),
                sum(piece.score for piece in pieces),
                all(piece.in_query for piece in pieces),
                all(piece.in_document for piece in pieces),
            )
        )
    return [*merged, *left.values()]


def _largest_first(terms: Iterable[TermScore]) -> tuple[TermScore, ...]:
    return tuple(sorted(terms, key=lambda term: (-term.score, term.term)))
