"""What a search found: documents with their scores, the best of several segments."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelet.documents import Document
from spladelet.index.stored_documents import StoredLine, document_of
from spladelet.lazy import lazy


@dataclass(frozen=True, repr=False)
class Hit:
    """A document that was found. What it says is read when first asked for.

    Hits are equal if id, score, number and margin are.

    Attributes:
        id: The document's id.
        score: The sum over shared terms of query weight times document weight, and what shared
            words add.
        number: Its place in the index, from 0.
        margin: How far the score may be from that of the weights as they were given; 0 is exact,
            which float32 weights always are.
        source: The document, or its line in the index.
        shares: Tells how much of its score comes from words; None if nothing does.
    """

    id: str
    score: float
    number: int
    margin: float
    source: Document | StoredLine = field(compare=False)
    shares: "WordShares | None" = field(default=None, compare=False)

    @lazy
    def document(self) -> Document:
        """The document.

        Raises:
            IndexFormatError: What the index says of it cannot be read.
        """
        return document_of(self.source)

    @property
    def lexical(self) -> float:
        """How much of the score comes from words; computed when first asked for."""
        return 0.0 if self.shares is None else self.shares[self.number]

    @property
    def text(self) -> str:
        """The document's text."""
        return self.document.text

    @property
    def title(self) -> str:
        """Its title; may be empty."""
        return self.document.title

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Its metadata."""
        return self.document.metadata

    def to_dict(self) -> dict[str, Any]:
        """Return the hit as values of JSON: what the command prints, and a server sends."""
        return {
            "id": self.id,
            "score": self.score,
            "margin": self.margin,
            "lexical": self.lexical,
            "title": self.title,
            "text": self.text,
            "metadata": dict(self.metadata),
        }

    def __repr__(self) -> str:
        return (
            f"Hit(id={self.id!r}, score={self.score!r}, text={self.text!r}, title={self.title!r}, "
            f"number={self.number}, margin={self.margin!r}, lexical={self.lexical!r}, "
            f"metadata={self.metadata!r})"
        )


class WordShares:
    """How much of the scores of one search's hits comes from words, by the document's number.

    Args:
        compute: Computes them all, once any is asked for.
    """

    def __init__(self, compute: Callable[[], dict[int, float]]) -> None:
        self._compute = compute

    @lazy
    def _known(self) -> dict[int, float]:
        return self._compute()

    def __getitem__(self, number: int) -> float:
        return self._known[number]

    def __getstate__(self) -> dict[str, Any]:
        return {"_known": self._known}  # an index is not sent along


class Best:
    """The k best of the scores seen so far.

    Attributes:
        floor: A later document must score more than this to be among them.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self._scores = np.empty(0, np.float32)
        self._numbers = np.empty(0, np.int64)
        self._margins = np.empty(0, np.float64)
        self.floor = 0.0

    def add(self, scores: NDArray[np.float32], numbers: NDArray[np.int64], margin: float) -> None:
        """Take at most k more scores, falling; their numbers are above all seen before."""
        margins = np.full(len(scores), margin)
        if not len(self._scores):  # as in an index of one segment
            self._scores, self._numbers, self._margins = scores, numbers, margins
        elif len(scores):
            joined = np.concatenate([self._scores, scores])
            order = np.argsort(-joined, kind="stable")[: self._k]
            self._scores = joined[order]
            self._numbers = np.concatenate([self._numbers, numbers])[order]
            self._margins = np.concatenate([self._margins, margins])[order]
        if len(self._scores) == self._k:
            self.floor = float(self._scores[-1])

    def sorted(self) -> tuple[list[int], list[float], list[float]]:
        """Return numbers, scores and margins, the best first, of equals the first."""
        return self._numbers.tolist(), self._scores.tolist(), self._margins.tolist()
