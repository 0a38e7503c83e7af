"""The two shapes in which engines take sparse vectors, and what engines call terms and words.

Term-keyed ({name: weight}; Elasticsearch, OpenSearch) and id-keyed (indices and values; Qdrant,
Milvus). Words stand beside the terms in the same vector, so that one query asks for both: by name
with "word:" before it, by id behind the vocabulary, at a place that follows from the word alone.
Pure functions: nothing here knows an engine.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from spladelet.errors import InputError
from spladelet.vector import SparseVector

Dots = Literal["keep", "id", "drop", "error"]
DOTS: tuple[Dots, ...] = ("keep", "id", "drop", "error")

_WORD = "word:"
IDS = 1_000_000_000  # pgvector's dimensions; Qdrant and Milvus have room for more
_ESCAPES = str.maketrans({"%": "%25", ".": "%2E"})

# Lucene takes positive normal floats only; what is lighter adds nothing to a score.
_LEAST = np.finfo(np.float32).tiny


@dataclass(frozen=True, slots=True)
class Weights:
    """What a document or a query weighs: terms of a model, and words.

    Attributes:
        vector: The terms.
        words: The words, each with its weight.
    """

    vector: SparseVector
    words: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.vector.active_dims or self.words)


@dataclass(frozen=True, slots=True)
class TermNames:
    """What a term-keyed engine calls terms.

    >>> TermNames({4: "cat", 7: "u.s"}.__getitem__, dots="id").name(7)
    '[7]'

    Attributes:
        term: Term id to the vocabulary's entry, such as `Encoder.term`; None uses the ids
            themselves as names.
        dots: What becomes of an entry with a dot in it, which OpenSearch's `rank_features` and old
            Elasticsearch refuse: "keep" it, use its "id" in brackets, "drop" the term, or "error".
        word_dots: Whether words with dots in them are written as such: "keep", or escaped; None is
            as `dots` says.
    """

    term: Callable[[int], str] | None = None
    dots: Dots = "id"
    word_dots: Dots | None = None

    def __post_init__(self) -> None:
        if self.dots not in DOTS:
            raise InputError(f"dots is {self.dots!r}; expected one of {', '.join(DOTS)}.")

    @property
    def keys(self) -> str:
        """What the names are: "terms" or "ids"."""
        return "ids" if self.term is None else "terms"

    def name(self, term_id: int) -> str | None:
        """Return the name of a term; None leaves it out.

        Raises:
            InputError: The entry has a dot in it, and `dots` is "error".
        """
        if self.term is None:
            return str(term_id)
        name = self.term(term_id)
        if "." not in name or self.dots == "keep":
            return name
        if self.dots == "error":
            raise InputError(
                f"term {term_id} is {name!r}, and this engine takes no dots in names. Choose "
                "dots='id' or 'drop'."
            )
        return f"[{term_id}]" if self.dots == "id" else None

    def word_name(self, word: str) -> str:
        """Return the name of a word; a dot in it is escaped, unless dots are kept.

        >>> TermNames(dots="id").word_name("foo.bar")
        'word:foo%2Ebar'
        """
        is_plain = (self.word_dots or self.dots) == "keep"
        return _WORD + (word if is_plain else word.translate(_ESCAPES))


def word_id(word: str, vocab_size: int) -> int:
    """Return the number of a word behind the vocabulary, below a thousand millions.

    It follows from the word alone, so that a query needs no list of words. Of a million words some
    five hundred pairs share a number, and count for each other.

    Raises:
        InputError: The vocabulary leaves no room.
    """
    if vocab_size >= IDS:
        raise InputError(
            f"the vocabulary has {vocab_size} terms, which leaves no numbers below {IDS} to words. "
            "Leave the words out."
        )
    digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
    return vocab_size + int.from_bytes(digest, "little") % (IDS - vocab_size)


def sharing_ids(words: Iterable[str], vocab_size: int) -> int:
    """Return how many words have the number of another."""
    numbers = np.array([word_id(word, vocab_size) for word in words], np.int64)
    _, counts = np.unique(numbers, return_counts=True)
    return int(counts[counts > 1].sum())


def all_named(weights: Weights, names: TermNames) -> dict[str, float]:
    """Return `{name: weight}` of terms, the heaviest first, and words; see `term_keyed`."""
    named = term_keyed(weights.vector, names)
    for word, weight in weights.words.items():
        name = names.word_name(word)
        if name in named:
            raise InputError(f"a term is named {name!r}, as a word is. Call terms by id.")
        if weight >= _LEAST:
            named[name] = weight
    return named


def all_numbered(weights: Weights) -> tuple[list[int], list[float]]:
    """Return ids, ascending, of terms and then words, and their weights; see `id_keyed`."""
    ids, values = id_keyed(weights.vector)
    numbered: dict[int, float] = {}
    for word, weight in weights.words.items():
        number = word_id(word, weights.vector.vocab_size)
        numbered[number] = numbered.get(number, 0.0) + weight
    return [*ids, *sorted(numbered)], [*values, *(numbered[i] for i in sorted(numbered))]


def term_keyed(vector: SparseVector, names: TermNames) -> dict[str, float]:
    """Return `{name: weight}`, the heaviest first.

    >>> vector = SparseVector([4, 7], [0.5, 2.0], vocab_size=10)
    >>> term_keyed(vector, TermNames({4: "cat", 7: "purr"}.__getitem__))
    {'purr': 2.0, 'cat': 0.5}

    Raises:
        InputError: Two terms have one name; or one has a dot in it, and `names.dots` is "error".
    """
    named: dict[str, float] = {}
    for term_id, weight in vector.to_dict().items():
        name = names.name(term_id) if weight >= _LEAST else None
        if name is not None:
            # An id in brackets may be a term of its own; one weight would overwrite the other.
            if name in named:
                raise InputError(
                    f"two terms are named {name!r}, one of them number {term_id}. Call terms by id."
                )
            named[name] = weight
    return named


def id_keyed(vector: SparseVector) -> tuple[list[int], list[float]]:
    """Return term ids, ascending, and their weights.

    >>> id_keyed(SparseVector([7, 4], [2.0, 0.5], vocab_size=10))
    ([4, 7], [0.5, 2.0])
    """
    return vector.term_ids.tolist(), vector.weights.tolist()
