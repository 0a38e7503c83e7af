"""Scoring and top-k, as pure functions on arrays.

The postings are a terms x documents matrix, one posting list a term. A query's scores are the sum
of its terms' posting lists, each times the query's weight ("term at a time"); the time grows with
the length of those lists. Every score is exact: no list is cut and no document skipped.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

# Documents per chunk whose best score is looked at before any single one (see top_k).
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Postings:
    """Posting lists: a terms x documents matrix by rows.

    Attributes:
        term_offsets: int64[vocab_size + 1]; term t's list is `[term_offsets[t]:term_offsets[t+1]]`.
        numbers: int32[postings], document numbers, ascending within a list.
        weights: float32[postings].
        documents: How many documents there are; every number is below it.
    """

    term_offsets: NDArray[np.int64]
    numbers: NDArray[np.int32]
    weights: NDArray[np.float32]
    documents: int

    def span(self, term_id: int) -> slice:
        """Return where a term's posting list lies."""
        return slice(int(self.term_offsets[term_id]), int(self.term_offsets[term_id + 1]))


def score(
    postings: Postings, term_ids: NDArray[np.int32], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the score of every document: float32[documents].

    Scores are summed in the order of the term ids, in float32, so that they are the same at every
    call and on both ways through scipy.

    Args:
        postings: The documents.
        term_ids: The query's terms, ascending, int32[active_dims].
        weights: Their weights, float32[active_dims].
    """
    kernel = _compiled_kernel()
    if kernel is None:
        return score_by_public_scipy(postings, term_ids, weights)
    scores = np.zeros(postings.documents, np.float32)
    for term_id, weight in zip(term_ids.tolist(), weights, strict=True):
        span = postings.span(term_id)
        numbers = postings.numbers[span]
        one_column = np.array([0, len(numbers)], numbers.dtype)
        kernel(
            postings.documents, 1, one_column, numbers, postings.weights[span], weight[None], scores
        )
    return scores


def score_by_public_scipy(
    postings: Postings, term_ids: NDArray[np.int32], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Score by scipy's public interface, at the price of copying the posting lists."""
    from scipy.sparse import csc_array

    spans = [postings.span(term_id) for term_id in term_ids.tolist()]
    offsets = np.cumsum([0, *(span.stop - span.start for span in spans)])
    numbers = np.concatenate([np.empty(0, np.int32), *(postings.numbers[span] for span in spans)])
    values = np.concatenate([np.empty(0, np.float32), *(postings.weights[span] for span in spans)])
    shape = (postings.documents, len(spans))
    scores: NDArray[np.float32] = csc_array((values, numbers, offsets), shape=shape) @ weights
    return scores


def top_k(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the numbers of the k highest scores above zero, best first, ties by number.

    The k-th best of the chunks' maxima can be no higher than the k-th best score, so whatever is
    below it is out: one pass leaves a handful of candidates to sort.

    >>> top_k(np.array([0.0, 2.0, 3.0, 2.0], np.float32), k=2).tolist()
    [2, 1]
    """
    floor = np.float32(0)
    starts = np.arange(0, len(scores), _CHUNK)
    if len(starts) >= k:
        maxima = np.maximum.reduceat(scores, starts)
        floor = np.partition(maxima, len(maxima) - k)[len(maxima) - k]
    candidates = np.flatnonzero(scores >= floor) if floor > 0 else np.flatnonzero(scores > 0)
    if len(candidates) > k:
        found = scores[candidates]
        threshold = np.partition(found, len(found) - k)[len(found) - k]
        candidates = candidates[found >= threshold]
    best = np.argsort(-scores[candidates], kind="stable")[:k]
    return candidates[best]


@cache
def _compiled_kernel() -> Callable[..., None] | None:
    """Return scipy's y += A @ x for CSC, or None where its private module has changed.

    The kernel takes slices of our arrays as they are; the public interface copies them. It is
    tried on a small case first, since a private function may change its meaning.
    """
    try:
        from scipy.sparse import _sparsetools

        kernel: Callable[..., None] = _sparsetools.csc_matvec
        result = np.ones(3, np.float32)
        kernel(
            3,
            1,
            np.array([0, 2], np.int32),
            np.array([0, 2], np.int32),
            np.array([2, 3], np.float32),
            np.array([5], np.float32),
            result,
        )
    except (ImportError, AttributeError, TypeError, ValueError):
        return None
    return kernel if result.tolist() == [11, 1, 16] else None
