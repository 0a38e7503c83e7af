"""What an index is asked: terms with weights, words, and how much words count beside the terms."""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spladelet.errors import InputError
from spladelet.lexical.analyzer import analyzer_of
from spladelet.lexical.languages import stemmer_version
from spladelet.lexical.words import LEXICAL, Words
from spladelet.parameters import as_real
from spladelet.text import shown
from spladelet.vector import SparseVector
from spladelet.vector_arguments import as_query, as_vectors

Lexical: TypeAlias = float | Literal["only"] | None

_NO_WORDS = (
    "the index has no words, so that only lexical=0 can be asked. Count its words with `spladelet "
    "compact INDEX --language LANGUAGE`, or build it with words=Words(...)."
)
_NO_TERMS, _NO_WEIGHTS = np.empty(0, np.int32), np.empty(0, np.float32)
_HEAVIEST = 1e6  # that BM25 may be multiplied with: float32 has room for the sum


class StemmerWarning(UserWarning):
    """An index's words were stemmed by another release of Snowball, so some may not be found."""


@dataclass(frozen=True, slots=True)
class QueryWords:
    """The words of a query.

    Attributes:
        text: The query.
        counts: How often it has each word, falling by word: the order in which scores are summed.
        weight: What BM25 is multiplied with.
        settings: How the index weights words.
    """

    text: str
    counts: Mapping[str, int]
    weight: float
    settings: Words

    @classmethod
    def of(cls, text: str, weight: float, settings: Words) -> "QueryWords":
        """Take a text apart as the index's documents were."""
        return cls(text, count_query_words(text, settings), weight, settings)


@dataclass(frozen=True, slots=True)
class Query:
    """A query, as an index is asked.

    Attributes:
        term_ids: int32[terms], ascending.
        weights: float32[terms].
        words: Its words; None asks for none.
    """

    term_ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    words: QueryWords | None = None


@dataclass(frozen=True, slots=True)
class Families:
    """What an index has, and so can be asked.

    Attributes:
        terms: Whether there are terms of a model; an index of words alone has none.
        words: How its words are counted; None if it has none.
    """

    terms: bool
    words: Words | None

    def ask(self, query: object, lexical: Lexical) -> Query:
        """Return what a query asks; see `Index.search`.

        Raises:
            InputError: It is no query, or asks for what the index or itself does not have.
        """
        if isinstance(query, str) and self.words is None and lexical is not None and lexical != 0:
            raise InputError(_NO_WORDS)
        if isinstance(query, str) and self.words is not None:
            if lexical != "only" and self.terms:
                raise InputError(
                    f"got the text {shown(query)}, and the index has a model's terms beside words; "
                    f'encode it first: encoder.encode_query({shown(query)}), or give lexical="only"'
                )
            vector: SparseVector | None = None
            text: str | None = str(query)
        else:
            vector = as_query(query)
            text = vector.text
        weight = self._weight(text, lexical)
        words = self._words(text, weight) if weight else None
        if vector is None or lexical == "only" or not self.terms:
            return Query(_NO_TERMS, _NO_WEIGHTS, words)
        return Query(vector.term_ids, vector.weights, words)

    def _weight(self, text: str | None, lexical: Lexical) -> float:
        if lexical == 0 and not self.terms and self.words is not None:
            raise InputError("lexical is 0, but the index has words alone. Leave it out.")
        if lexical == "only":
            return 1.0
        if lexical is not None:
            return lexical
        if self.words is None:
            return 0.0
        if not self.terms:
            return 1.0
        return 0.0 if text is None else LEXICAL

    def _words(self, text: str | None, weight: float) -> QueryWords:
        if self.words is None:
            raise InputError(_NO_WORDS)
        if text is None:
            raise InputError(
                "the query has no text to take words from. Encode it with encoder.encode_query, "
                "give it to SparseVector(..., text=...), or ask with lexical=0."
            )
        return QueryWords.of(text, weight, self.words)


def count_query_words(text: str, settings: Words) -> dict[str, int]:
    """Return how often a query has each word, falling by word."""
    _check_stemmer(settings)
    counts = Counter(analyzer_of(settings.language).words(text))
    return dict(sorted(counts.items(), reverse=True))


def as_lexical(given: object) -> Lexical:
    """Return how much words count.

    Raises:
        InputError: It is no number from 0 to a million, nor "only" nor None.
    """
    expected = 'a number from 0 to 1000000, "only" or None'
    if given is None:
        return None
    if isinstance(given, str) and given == "only":
        return "only"
    weight = as_real(given, "lexical", expected)
    if not 0 <= weight <= _HEAVIEST:
        raise InputError(f"lexical is {shown(given)}; expected {expected}.")
    return weight


def as_one(query: object) -> object:
    """Return one query's vector or text; what is neither is refused when it is asked."""
    return query if isinstance(query, str) else as_query(query)


def as_several(queries: object) -> Iterable[object]:
    """Return what several queries are in; a matrix by rows.

    Raises:
        InputError: It is one query, or none at all.
    """
    if isinstance(queries, SparseVector):
        raise InputError("got one vector where several queries are expected; use search.")
    are_items = not isinstance(queries, (str, bytes, Mapping, np.ndarray))
    if isinstance(queries, Iterable) and are_items and not hasattr(queries, "tocsr"):
        return queries
    return as_vectors(queries)  # a matrix, or an error that names the right call


def as_least_score(value: object) -> float:
    """Return the score that a hit must have.

    Raises:
        InputError: It is negative, or no finite number.
    """
    expected = "a finite number, 0 or above"
    score = as_real(value, "min_score", expected)
    if not 0 <= score < np.inf:
        raise InputError(f"min_score is {shown(value)}; expected {expected}.")
    return score


@cache
def _check_stemmer(settings: Words) -> None:
    """Say once if words are stemmed by another release than the index's were."""
    here = stemmer_version(settings.language)
    if here != settings.stemmer:
        warnings.warn(
            f"the index has words as Snowball {settings.stemmer or '(none)'} stems them, and here "
            f"is {here}: words whose stems differ are not found. Install PyStemmer "
            f"{settings.stemmer}, or count its words anew with `spladelet compact INDEX --language "
            f"{settings.language}`.",
            StemmerWarning,
            stacklevel=2,
        )
