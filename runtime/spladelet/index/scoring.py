"""Scoring and top-k, as pure functions on arrays.

The postings are a terms x documents matrix, one posting list a term. A query's scores are the sum
of its terms' posting lists, each times the query's weight ("term at a time"); the time grows with
the length of those lists. No list is cut and no document skipped.
"""

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelet.forks import unforked

# Documents per chunk whose best score is looked at before any single one (see top_k).
_CHUNK = 1024
# If more than this share of them is to be looked into, all are.
_MANY_CHUNKS = 0.25
# With fewer documents than these, loading scipy (a quarter of a second) does not pay.
FEW = 8192
# The compiled loops count in int32.
_LARGEST = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class Postings:
    """Posting lists: a terms x documents matrix by rows, of the terms that occur.

    Attributes:
        terms: int32[occurring terms], ascending term ids.
        offsets: int64[occurring terms + 1]; the i-th term's list is `[offsets[i]:offsets[i + 1]]`.
        numbers: int32[postings], document numbers, ascending within a list.
        impacts: float32, float16 or uint8[postings]; times its term's scale, the weight.
        scales: float32[occurring terms].
        errors: float32[occurring terms]; no weight of the term is further from what was given.
        documents: How many documents there are; every number is below it.
    """

    terms: NDArray[np.int32]
    offsets: NDArray[np.int64]
    numbers: NDArray[np.int32]
    impacts: NDArray[Any]
    scales: NDArray[np.float32]
    errors: NDArray[np.float32]
    documents: int

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        arrays = (self.terms, self.offsets, self.numbers, self.impacts, self.scales, self.errors)
        return sum(array.nbytes for array in arrays)

    def find(
        self, term_ids: NDArray[np.int32], weights: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the places of those terms that occur here, falling, and their weights.

        Args:
            term_ids: A query's terms, ascending.
            weights: Their weights.
        """
        if not len(self.terms):
            return np.empty(0, np.int64), weights[:0]
        # Without the last term, so that a place is always one in the table: a query's term that is
        # missing, or beyond all of them, then fails the comparison.
        places = np.searchsorted(self.terms[:-1], term_ids[::-1])
        inside = self.terms[places] == term_ids[::-1]
        return places[inside], weights[::-1][inside]

    def count(self, places: NDArray[np.int64]) -> int:
        """Return how many postings the lists at these places have."""
        return int((self.offsets[places + 1] - self.offsets[places]).sum())


class _Workspace(threading.local):
    """Memory that a thread uses for one query after another.

    Fresh memory is mapped page by page at its first use, which costs more than many a sum.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def array(self, name: str, size: int, dtype: "np.typing.DTypeLike") -> NDArray[Any]:
        """Return an array with whatever the last query left in it."""
        found = self._arrays.get(name)
        if found is None or len(found) < size:  # with room, or slowly growing sizes never settle
            found = self._arrays[name] = np.empty(size + size // 2, dtype)
        return found[:size]

    def zeros(self, size: int) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self.array("scores", size, np.float32)
        scores.fill(0)
        return scores


_workspace = _Workspace()


def no_scores(documents: int) -> NDArray[np.float32]:
    """Return zeros, float32[documents], in an array that the thread's next call overwrites."""
    return _workspace.zeros(documents)


def score(
    postings: Postings,
    places: NDArray[np.int64],
    weights: NDArray[np.float32],
    onto: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return the score of every document: float32[documents].

    Scores are summed in the order of the places, in float32, so that they are the same at every
    call, with scipy's kernel and without.

    Args:
        postings: The documents.
        places: Places of the query's terms, falling: see `Postings.find`.
        weights: The query's weights of them, float32.
        onto: What they have already, which is added to; None is nothing.

    Returns:
        The scores, in an array that the thread's next call overwrites.
    """
    scores = no_scores(postings.documents) if onto is None else onto
    # One factor a list: every way of summing then rounds the same two products in the same order.
    factors = weights * postings.scales[places]
    starts, ends = postings.offsets[places], postings.offsets[places + 1]
    # Where something else has loaded scipy, it costs nothing more.
    few = postings.documents < FEW and "scipy.sparse" not in sys.modules
    kernels = None if few or postings.offsets[-1] > _LARGEST else _compiled_kernels()
    if kernels is not None:
        kernels.add(postings, (starts, ends), factors, scores)
        return scores
    spans = zip(starts.tolist(), ends.tolist(), factors, strict=True)
    for start, end, factor in spans:  # about three times slower
        impacts = postings.impacts[start:end].astype(np.float32, copy=False)
        # A list has each document once; of repeated numbers numpy would add the last one only.
        scores[postings.numbers[start:end]] += impacts * factor
    return scores


def room(name: str, size: int, dtype: "np.typing.DTypeLike") -> NDArray[Any]:
    """Return an array of the thread's, with whatever its last use left in it."""
    return _workspace.array(name, size, dtype)


def add_lists(
    scores: NDArray[np.float32],
    numbers: NDArray[np.int32],
    impacts: NDArray[np.float32],
    ends: NDArray[np.int32],
    factors: NDArray[np.float32],
) -> None:
    """Add lists' impacts, times a factor each, to scores, list after list.

    Args:
        scores: float32[documents].
        numbers: int32[postings], document numbers, each at most once in a list.
        impacts: float32[postings].
        ends: int32[lists + 1], where each begins.
        factors: float32[lists].
    """
    few = len(scores) < FEW and "scipy.sparse" not in sys.modules
    kernels = None if few else _compiled_kernels()
    if kernels is not None:
        kernels.multiply(len(scores), len(factors), ends, numbers, impacts, factors, scores)
        return
    for factor, (start, end) in zip(factors, pairwise(ends.tolist()), strict=True):
        scores[numbers[start:end]] += impacts[start:end] * factor


def score_among(
    postings: Postings,
    places: NDArray[np.int64],
    weights: NDArray[np.float32],
    documents: NDArray[np.int32],
    onto: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return the scores of a few documents, looked up list by list: float32[len(documents)].

    They have the same bits as those of `score`; the time grows with how many documents there are,
    not with the length of the lists.

    Args:
        postings: All documents.
        places: Places of the query's terms, falling.
        weights: The query's weights of them, float32.
        documents: The numbers of those that matter, ascending.
        onto: What they have already, which is added to; None is nothing.
    """
    scores = np.zeros(len(documents), np.float32) if onto is None else onto
    factors = weights * postings.scales[places]
    starts, ends = postings.offsets[places].tolist(), postings.offsets[places + 1].tolist()
    for start, end, factor in zip(starts, ends, factors, strict=True):
        here, there = shared(documents, postings.numbers[start:end])
        scores[here] += postings.impacts[start:end][there].astype(np.float32) * factor
    return scores


def shared(
    documents: NDArray[np.int32], numbers: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the documents stand that two ascending lists share: in one, and in the other."""
    # The shorter of the two is looked up in the longer; what lies beyond its end is compared with
    # its last number, and is another.
    if len(documents) > len(numbers):
        there, here = shared(numbers, documents)
        return here, there
    if not len(numbers):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    near = np.searchsorted(numbers, documents)
    np.minimum(near, len(numbers) - 1, out=near)
    here = np.flatnonzero(numbers[near] == documents)
    return here, near[here]


def top_k(scores: NDArray[np.float32], k: int, above: float = 0.0) -> NDArray[np.int64]:
    """Return the numbers of the k highest scores above a floor, best first, ties by number.

    The k-th best of the chunks' maxima can be no higher than the k-th best score, so whatever is
    below it is out: after one pass for the maxima, only the chunks that reach it are looked into.

    >>> top_k(np.array([0.0, 2.0, 3.0, 2.0], np.float32), k=2).tolist()
    [2, 1]
    """
    # "Above 0" is "at least the smallest": one comparison, and one threshold that only rises.
    least = _next(above) if above else _SMALLEST
    whole = len(scores) // _CHUNK
    chunks = scores[: whole * _CHUNK].reshape(whole, _CHUNK)
    maxima = chunks.max(axis=1)
    if whole >= k:
        least = max(least, float(np.sort(maxima)[whole - k]))
    reaching = np.flatnonzero(maxima >= least)
    if len(reaching) > _MANY_CHUNKS * whole:
        candidates = np.flatnonzero(scores >= least)  # one pass costs less than many copies
    else:
        inside = np.flatnonzero(chunks[reaching].ravel() >= least)
        inside = reaching[inside // _CHUNK] * _CHUNK + inside % _CHUNK
        behind = np.flatnonzero(scores[whole * _CHUNK :] >= least) + whole * _CHUNK
        candidates = np.concatenate([inside, behind])
    if len(candidates) > k:
        # Sorting is for few; all that equal the k-th stay, so that ties go by number below.
        found = scores[candidates]
        threshold = np.partition(found, len(found) - k)[len(found) - k]
        candidates = candidates[found >= threshold]
    best = np.argsort(-scores[candidates], kind="stable")[:k]
    return candidates[best]


_SMALLEST = float(np.finfo(np.float32).smallest_subnormal)


def _next(number: float) -> float:
    """Return the next larger float32."""
    with np.errstate(over="ignore"):  # above the largest is infinity, which no score reaches
        return float(np.nextafter(np.float32(number), np.float32(np.inf)))


@dataclass(frozen=True, slots=True)
class _Kernels:
    """scipy's compiled loops, private to scipy, that sum posting lists in one call or two.

    Attributes:
        gather: Copies some rows of a CSR matrix, here posting lists, one after another.
        multiply: y += A @ x for CSC, here scores += lists times factors, list by list.
    """

    gather: Callable[..., None]
    multiply: Callable[..., None]

    def add(
        self,
        postings: Postings,
        spans: tuple[NDArray[np.int64], NDArray[np.int64]],
        factors: NDArray[np.float32],
        scores: NDArray[np.float32],
    ) -> None:
        """Add lists times factors to scores, in the lists' order.

        Args:
            postings: Where the lists are.
            spans: Where each begins and ends, falling, int64[lists] both.
            factors: float32[lists].
            scores: float32[documents].
        """
        if not len(factors):
            return
        # Starts and ends in turn are the offsets of a matrix, without copying a list: every other
        # column is a list, and the columns between are what lies between two lists. As the places
        # fall, each of those ends before it begins, and the loops take it for an empty one.
        offsets = np.stack(spans, axis=1).astype(np.int32).ravel()
        numbers, weights = postings.numbers, postings.impacts
        if weights.dtype == np.float32:
            factors = np.repeat(factors, 2)  # one for the columns between, too
        else:  # the loops take float32 only: these lists are widened, not all postings
            numbers, weights = self._gather(postings, offsets)
            offsets = np.zeros(len(factors) + 1, np.int32)
            np.cumsum(spans[1] - spans[0], out=offsets[1:])
        self.multiply(len(scores), len(offsets) - 1, offsets, numbers, weights, factors, scores)

    def _gather(
        self, postings: Postings, offsets: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Copy lists one after another, their weights in float32."""
        rows = np.arange(0, len(offsets), 2, dtype=np.int32)
        total = int((offsets[1::2] - offsets[::2]).sum())
        impacts = postings.impacts
        if impacts.dtype == np.float16:  # unknown to scipy, but a copy of bits is one
            impacts = impacts.view(np.uint16)
        numbers = _workspace.array("numbers", total, np.int32)
        gathered = _workspace.array(impacts.dtype.name, total, impacts.dtype)
        self.gather(len(rows), rows, offsets, postings.numbers, impacts, numbers, gathered)
        weights: NDArray[np.float32] = _workspace.array("weights", total, np.float32)
        np.copyto(weights, gathered.view(postings.impacts.dtype))
        return numbers, weights


@cache
def _compiled_kernels() -> _Kernels | None:
    """Return scipy's loops, or None where there are none or they have changed.

    A small case is tried first. It also refuses loops that multiply and add with one rounding
    instead of two, because their scores would differ from numpy's.
    """
    # The product needs one bit more than float32 has: rounded, it and its negative add up to 0; in
    # one rounding 2**-24 is left. float16 holds the first number, too.
    weight, factor = np.float32(1 + 2.0**-10), np.float32(1 + 2.0**-14)
    impacts = np.array([weight, 5, 3, 2], np.float32)
    spans = (np.array([3, 0]), np.array([4, 1]))  # the last list and the first
    tried = []
    try:
        with unforked():
            from scipy.sparse import _sparsetools

        found = _Kernels(_sparsetools.csr_row_index, _sparsetools.csc_matvec)
        for kind in (np.float32, np.float16, np.uint8):
            lists = Postings(
                np.arange(3, dtype=np.int32),
                np.array([0, 1, 3, 4]),
                np.array([2, 0, 1, 0], np.int32),
                impacts.astype(kind),
                np.ones(3, np.float32),
                np.zeros(3, np.float32),
                3,
            )
            product = lists.impacts[0].astype(np.float32) * factor
            scores = np.array([1, 1, -product], np.float32)
            found.add(lists, spans, np.array([2, factor], np.float32), scores)
            tried.append(scores.tolist())
    except (ImportError, AttributeError, TypeError, ValueError):
        return None
    return found if tried == 3 * [[5, 1, 0]] else None
