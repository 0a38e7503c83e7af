"""BM25, as pure functions on arrays: what a word in a document weighs.

Lucene's variant: no factor k1 + 1, and a logarithm that is never below 0. A query's score is the
sum over its words of `rarity` times `Saturation.impacts`.

Source: Kamphuis et al. 2020, https://doi.org/10.1007/978-3-030-45442-5_4
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelet.lexical.words import Words


def rarity(documents: int, having: int) -> float:
    """Return a word's inverse document frequency.

    >>> round(rarity(documents=100, having=10), 4)
    2.2638

    Args:
        documents: How many documents there are.
        having: How many of them have the word.
    """
    return math.log1p((documents - having + 0.5) / (having + 0.5))


@dataclass(frozen=True, slots=True)
class Saturation:
    """How the counts of a word become impacts, from 0 to below 1.

    Attributes:
        least: What is added to a count whatever the document's length.
        by_length: What is added for each word that the document has.
    """

    least: np.float32
    by_length: np.float32

    @classmethod
    def of(cls, words: Words, mean_length: float) -> "Saturation":
        """Return the saturation in a collection whose documents have so many words on average."""
        by_length = words.k1 * words.b / mean_length if mean_length else 0.0
        return cls(np.float32(words.k1 * (1 - words.b)), np.float32(by_length))

    def impacts(
        self,
        counts: NDArray[np.float32],
        lengths: NDArray[Any],
        room: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Return the impacts of a word in documents, each rounded in the same steps, in float32.

        Args:
            counts: How often each document has the word, above 0; the impacts take their place.
            lengths: How many words each has, whole numbers.
            room: As many numbers, overwritten; None makes some.
        """
        held_back: NDArray[np.float32] = np.multiply(
            lengths, self.by_length, out=room, dtype=np.float32
        )
        held_back += self.least
        held_back += counts
        return np.divide(counts, held_back, out=counts)
