"""Vectors as callers give them: what can only mean one thing is taken, the rest is refused.

A refusal names the call that makes vectors of what was given, for most mistakes are a text that
was not encoded, or one query where several are expected.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from spladelet.errors import InputError
from spladelet.forks import unforked
from spladelet.text import shown
from spladelet.vector import SparseVector, SparseVectors

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def as_vectors(given: object, vocab_size: int | None = None) -> SparseVectors:
    """Return the vectors of many texts.

    Args:
        given: `SparseVectors`, one or several `SparseVector`, or a sparse matrix of scipy.
        vocab_size: How many terms no vectors are of, should there be none.

    Raises:
        InputError: It is something else; the message names the call that makes vectors of it.
        ModelMismatchError: The vectors are of different models.
        VectorError: The matrix is damaged, or has weights that none can have.
    """
    if isinstance(given, SparseVectors):
        return given
    if isinstance(given, SparseVector):
        given = [given]
    if _is_scipys(given):
        return SparseVectors.from_csr(given)
    if isinstance(given, (str, bytes, Mapping, np.ndarray)) or not isinstance(given, Iterable):
        raise InputError(_no_vectors(given, "vectors are"))
    rows = list(given)
    for number, row in enumerate(rows):
        if not isinstance(row, SparseVector):
            raise InputError(f"item {number} of the vectors: {_no_vectors(row, 'a vector is')}")
    size = rows[0].vocab_size if rows else vocab_size
    if size is None:
        raise InputError(
            "there are no vectors, so nothing says how many terms they are of; use "
            "SparseVectors.from_rows([], vocab_size)."
        )
    return SparseVectors.from_rows(rows, size)


def no_vectors(count: int) -> SparseVectors:
    """Return what stands for the vectors of so many documents that have none."""
    return SparseVectors(
        np.zeros(count + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32), 0
    )


def as_query(given: object) -> SparseVector:
    """Return the vector of one query.

    Args:
        given: A `SparseVector`; or `SparseVectors`, or a sparse matrix of scipy, of one row.

    Raises:
        InputError: It is something else; the message names the call that is right for it.
        VectorError: The matrix is damaged, or has weights that none can have.
    """
    if isinstance(given, SparseVector):
        return given
    if _is_scipys(given):
        given = SparseVectors.from_csr(given)
    if not isinstance(given, SparseVectors):
        raise InputError(_no_vectors(given, "a vector is"))
    if len(given) != 1:
        raise InputError(f"got {len(given)} vectors where one is expected; use search_many.")
    return given[0]


def _is_scipys(given: object) -> TypeGuard["csr_array"]:
    """Say whether it is a sparse matrix, without loading scipy for what is none."""
    if type(given).__module__.partition(".")[0] != "scipy":
        return False
    with unforked():
        from scipy.sparse import issparse

    return bool(issparse(given))


def _no_vectors(given: object, expected: str) -> str:
    """Say what was given in place of vectors, and which call makes them of it."""
    what, remedy = type(given).__name__, "encode texts with Encoder"
    if isinstance(given, str):
        what, remedy = f"the text {shown(given)}", f"encoder.encode_query({shown(given)})"
        remedy = f"encode it first: {remedy}"
    elif isinstance(given, (SparseVector, SparseVectors)):
        remedy = "give the SparseVectors themselves; for queries, use search_many"
    elif isinstance(given, Mapping):
        remedy = "make one of {term id: weight} with SparseVector.from_dict"
    elif isinstance(given, np.ndarray):
        remedy = "make them of a dense matrix, texts x terms, with SparseVectors.from_csr"
    elif isinstance(given, (list, tuple)):
        if given and all(isinstance(item, SparseVector) for item in given):
            call = "give the vector itself" if len(given) == 1 else "use search_many"
            return f"got {len(given)} vectors where one is expected; {call}."
        remedy = "make one of term ids and weights with SparseVector"
    return f"got {what} where {expected} expected; {remedy}."
