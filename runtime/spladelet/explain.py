"""Why a document matched: the score, term by term, and word by word.

A score is a sum over terms that query and document share, and over words, so it can be read off
exactly. Each term stands in a text or was added to it by the model; pieces of one word are shown as
that word. What a word adds by BM25 depends on all documents: the index says it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from spladelet.vector import SparseVector, check_same_model

Words = Sequence[tuple[str, Sequence[int]]]


@dataclass(frozen=True, slots=True)
class Source:
    """Where in a text a term's weight comes from.

    Attributes:
        word: The word, as it stands in the text; for a special token, what it is called.
        start: Where it begins, in characters of the text.
        end: Where it ends.
        special: Whether it is a token that the model puts around a text, or one of its prompt: it
            speaks for the text as a whole, and has no place in it.
    """

    word: str
    start: int
    end: int
    special: bool = False


Sources = Mapping[int, Source]  # by the numbers of terms


@dataclass(frozen=True, slots=True)
class WeightedTerm:
    """A term of a text's vector.

    Attributes:
        term: The vocabulary's entry.
        term_id: Its number.
        weight: Its weight.
        in_text: Whether it stands in the text; if not, the model added it.
        source: Where its weight comes from; None if that was not asked.
    """

    term: str
    term_id: int
    weight: float
    in_text: bool
    source: Source | None = None


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
        query_source: Where its weight in the query comes from, for a merged word that of its piece
            with the largest share; None if that was not asked.
        document_source: The same in the document.
    """

    term: str
    term_ids: tuple[int, ...]
    query_weight: float
    document_weight: float
    score: float
    in_query: bool
    in_document: bool
    query_source: Source | None = None
    document_source: Source | None = None

    @property
    def called(self) -> str:
        """What people call it."""
        return self.term


@dataclass(frozen=True, slots=True)
class WordScore:
    """What one word adds to the score of a document.

    Attributes:
        word: The word, as it is counted: in lower case, as its stem.
        spelled: As the query has it.
        in_query: How often the query has it.
        in_document: How often the document has it.
        rarity: Its inverse document frequency.
        score: What it adds.
    """

    word: str
    spelled: str
    in_query: int
    in_document: int
    rarity: float
    score: float

    @property
    def called(self) -> str:
        """What people call it."""
        return self.spelled


@dataclass(frozen=True, slots=True)
class Explanation:
    """A score taken apart.

    Attributes:
        score: The document's score for the query.
        terms: Every shared vocabulary entry, the largest share first; with `lexical` they sum to
            the score.
        words: The same with the pieces of a word merged, for people.
        added_share: How much of the score comes from terms that the model added on either side,
            from 0 to 1.
        lexical: What shared words add by BM25, the largest share first.
        lexical_share: How much of the score that is, from 0 to 1.
    """

    score: float
    terms: tuple[TermScore, ...]
    words: tuple[TermScore, ...]
    added_share: float
    lexical: tuple[WordScore, ...] = ()
    lexical_share: float = 0.0

    @property
    def parts(self) -> list[TermScore | WordScore]:
        """Terms, pieces merged, and words together, the largest share first."""
        return sorted([*self.words, *self.lexical], key=lambda part: -part.score)

    def with_sources(self, query: Sources, document: Sources) -> "Explanation":
        """Return the same, with where the weights come from; see `Encoder.sources`.

        Args:
            query: The query's.
            document: The document's.
        """
        share = {term.term_ids[0]: term.score for term in self.terms}

        def sourced(terms: Sequence[TermScore]) -> tuple[TermScore, ...]:
            return tuple(
                replace(term, query_source=query.get(chief), document_source=document.get(chief))
                for term in terms
                for chief in [max(term.term_ids, key=lambda piece: share[piece])]
            )

        return replace(self, terms=sourced(self.terms), words=sourced(self.words))


@dataclass(frozen=True, slots=True)
class ReadText:
    """A text as a model has it.

    Attributes:
        vector: Its weighted terms.
        words: Its own words, each with the numbers of its terms.
    """

    vector: SparseVector
    words: Words

    @property
    def own(self) -> set[int]:
        """The numbers of the terms that stand in the text."""
        return {i for _, ids in self.words for i in ids}


def explain(
    query: ReadText,
    document: ReadText,
    term: Callable[[int], str],
    lexical: Sequence[WordScore] = (),
) -> Explanation:
    """Take the score of a document for a query apart.

    Args:
        query: The query.
        document: The document.
        term: Gives the vocabulary's entry for a term's number.
        lexical: What shared words add.

    Raises:
        ModelMismatchError: The two vectors are of different models.
    """
    check_same_model(query.vector, document.vector)
    shared = _shared_terms(query, document, term)
    from_words = sum(item.score for item in lexical)
    score = sum(item.score for item in shared) + from_words
    added = sum(item.score for item in shared if not (item.in_query and item.in_document))
    return Explanation(
        score,
        _largest_first(shared),
        _largest_first(_merge(shared, [*query.words, *document.words])),
        added / score if score else 0.0,
        tuple(lexical),
        from_words / score if score else 0.0,
    )


def of_words_alone(lexical: Sequence[WordScore]) -> Explanation:
    """Explain a score that comes from words alone."""
    score = sum(word.score for word in lexical)
    return Explanation(score, (), (), 0.0, tuple(lexical), 1.0 if score else 0.0)


def _shared_terms(
    query: ReadText, document: ReadText, term: Callable[[int], str]
) -> list[TermScore]:
    weights, own_of_query, own = document.vector.to_dict(), query.own, document.own
    return [
        TermScore(
            term(i), (i,), weight, weights[i], weight * weights[i], i in own_of_query, i in own
        )
        for i, weight in query.vector.to_dict().items()
        if i in weights
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
