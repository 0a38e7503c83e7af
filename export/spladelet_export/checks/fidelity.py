"""How far a bundle's vectors are from those of its reference.

Texts without content are left out: the runtime gives them no terms, on purpose.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from spladelet import Encoder, SparseVectors
from spladelet_export.checks.reference import Reference, Side
from spladelet_export.errors import CheckpointError, FidelityError

# What float32 arithmetic in another order may differ by. A sum over 512 positions is itself rounded
# to nearly 1e-4.
TOLERANCES = {"max": 1e-4, "sum": 1e-3}
TOLERANCE = TOLERANCES["max"]
_TOP = 10
# The terms that a text has in checkpoints that people use; and the share of the vocabulary beyond
# which, if that is more, a model is none of them.
_USUAL, _MOST = (6, 200), 0.5


@dataclass(frozen=True, slots=True)
class Fidelity:
    """A comparison of vectors.

    Attributes:
        texts: How many texts were compared, as query and as document.
        max_abs_difference: The largest difference of one weight.
        active_dims: Mean number of terms a vector has in the reference.
        active_dims_difference: The largest difference in their number.
        flipped_above_tolerance: Terms that only one side has, with a weight above the tolerance.
        top_overlap: Mean share of the reference's ten heaviest terms that are among the bundle's.
    """

    texts: int
    max_abs_difference: float
    active_dims: float
    active_dims_difference: int
    flipped_above_tolerance: int
    top_overlap: float

    def to_dict(self) -> dict[str, float]:
        """Return the figures by name."""
        return asdict(self)


def measure(encoder: Encoder, reference: Reference, texts: Sequence[str]) -> Fidelity:
    """Compare a bundle with its reference on texts, as queries and as documents.

    Raises:
        CheckpointError: The reference gives no terms, or most of the vocabulary, for queries or for
            documents: there is nothing to compare, and nothing to search by.
    """
    description = encoder.description
    documents = encoder.encode_documents(texts, progress=False)
    sides: list[tuple[Side, SparseVectors, Callable[[str], Sequence[object]]]] = [
        ("document", documents, encoder.document_words)
    ]
    if description.query_mode != "same" or description.query != description.document:
        sides.append(("query", encoder.encode_queries(texts), encoder.query_words))
    pairs = []
    for side, vectors, words in sides:
        found = [
            (row, reference.encode(text, side))
            for row, text in zip(_dense_rows(vectors), texts, strict=True)
            if words(text)
        ]
        check_active_dims([theirs for _, theirs in found], description.vocab_size, side)
        pairs += found
    return compare(pairs, len(texts))


def check_active_dims(rows: Sequence[NDArray[np.float32]], vocab_size: int, side: Side) -> None:
    """Raise CheckpointError unless texts have terms at all, and not most of the vocabulary.

    Args:
        rows: What a reference gives for the texts of a side, float32[vocab_size] each.
        vocab_size: How many terms there are.
        side: Whose texts they are.
    """
    mean = float(np.mean([(row > 0).sum() for row in rows])) if rows else 0.0
    most = int(max(_USUAL[1], _MOST * vocab_size))
    if 0 < mean <= most:
        return
    cause = "a plain masked language model, which was not trained to be sparse"
    if not mean:
        cause = "damaged, or its head or its table of query weights was never trained"
    raise CheckpointError(
        f"a {side} has {mean:.1f} of {vocab_size} terms on average, over {len(rows)} texts; "
        f"expected some, and at most {most}: checkpoints that people use have {_USUAL[0]} to "
        f"{_USUAL[1]}. It is {cause}. Export one that was trained for sparse retrieval."
    )


def compare(
    pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]], texts: int
) -> Fidelity:
    """Compare dense rows: (ours, reference) float32[vocab_size] each."""
    differences = [np.abs(ours - theirs).max() for ours, theirs in pairs]
    counts = [int((ours > 0).sum()) - int((theirs > 0).sum()) for ours, theirs in pairs]
    flipped = [
        ((ours > 0) != (theirs > 0)) & (np.maximum(ours, theirs) > TOLERANCE)
        for ours, theirs in pairs
    ]
    overlaps = [
        len(_top(ours) & _top(theirs)) / max(1, len(_top(theirs))) for ours, theirs in pairs
    ]
    return Fidelity(
        texts,
        float(np.max(differences, initial=0.0)),
        float(np.mean([(theirs > 0).sum() for _, theirs in pairs])) if pairs else 0.0,
        max(map(abs, counts), default=0),
        int(sum(mask.sum() for mask in flipped)),
        float(np.mean(overlaps)) if overlaps else 1.0,
    )


def check(fidelity: Fidelity, pooling: str = "max", reference: str = "torch") -> None:
    """Raise FidelityError if float32 weights differ from the reference by more than rounding."""
    tolerance = TOLERANCES[pooling]
    if not fidelity.max_abs_difference <= tolerance:
        raise FidelityError(
            f"the bundle's weights differ from {reference} by up to "
            f"{fidelity.max_abs_difference:.2g}; float32 may differ by {tolerance:.0e}. Nothing "
            "was written. Please report the checkpoint: its graph is misunderstood."
        )


def _top(weights: NDArray[np.float32]) -> set[int]:
    best = np.argsort(-weights, kind="stable")[:_TOP]
    return {int(i) for i in best if weights[i] > 0}


def _dense_rows(vectors: SparseVectors) -> list[NDArray[np.float32]]:
    rows = []
    for vector in vectors:
        row = np.zeros(vectors.vocab_size, np.float32)
        row[vector.term_ids] = vector.weights
        rows.append(row)
    return rows
