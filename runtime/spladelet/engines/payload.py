"""The two shapes in which engines take sparse vectors, and what engines call terms.

Term-keyed ({name: weight}; Elasticsearch, OpenSearch) and id-keyed (indices and values; Qdrant,
Milvus). Pure functions: nothing here knows an engine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from spladelet.errors import InputError
from spladelet.vector import SparseVector

Dots = Literal["keep", "id", "drop", "error"]
DOTS: tuple[Dots, ...] = ("keep", "id", "drop", "error")

# Lucene takes positive normal floats only; what is lighter adds nothing to a score.
_LEAST = np.finfo(np.float32).tiny


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
    """

    term: Callable[[int], str] | None = None
    dots: Dots = "id"

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
