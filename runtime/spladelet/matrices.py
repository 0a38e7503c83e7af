"""scipy's sparse matrices as others made them, checked before any compiled code reads them.

scipy trusts its matrices: offsets that go back or numbers beyond the shape make its conversions
read and write outside of their arrays. Its own check looks at neither where the last offset is 0.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spladelet import extras
from spladelet.errors import VectorError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_MAX_TERMS = 2**31 - 1  # term ids are int32


def sound_csr(matrix: object) -> "csr_array":
    """Return a matrix of texts x terms as CSR in float32, which shares no memory with it.

    Columns ascend in each row, each comes once, and no zero is stored.

    Args:
        matrix: A sparse matrix or array of scipy, or a dense array; one dimension is one row.

    Raises:
        VectorError: It is something else, or damaged.
    """
    sparse = extras.required("scipy.sparse", "scipy", "reading a matrix")

    is_sparse = sparse.issparse(matrix)
    try:
        given: Any = matrix if is_sparse else np.asarray(matrix)
    except ValueError as error:
        raise VectorError(f"that is no matrix: {error}.") from error
    if given.dtype.kind not in "biuf":
        raise VectorError(f"weights are of type {given.dtype}; expected real numbers.")
    if given.ndim not in (1, 2) or given.shape[-1] > _MAX_TERMS:
        raise VectorError(f"a matrix of shape {given.shape} is not texts x terms.")
    if is_sparse:
        _check_structure(given)
    with np.errstate(over="ignore"):  # too large for float32: infinite, and refused as that
        given = given.astype(np.float32)
    if is_sparse and given.format == "dia":
        given = _of_diagonals(given)
    clean = sparse.csr_array(given.reshape((1, -1)) if given.ndim == 1 else given, copy=True)
    _check_numbers(clean.indices, clean.shape[1], "that matrix")  # of lists, only now
    clean.sum_duplicates()
    clean.eliminate_zeros()
    return clean


def check_offsets(
    offsets: NDArray[Any], numbers: NDArray[Any], *, lists: int, below: int, what: str
) -> None:
    """Check that lists of numbers, one after the other, are what they say.

    Args:
        offsets: Where each list begins and the last one ends, [lists + 1].
        numbers: The numbers of all lists.
        lists: How many there are.
        below: What every number is below.
        what: What has them, for messages.

    Raises:
        VectorError: They are not.
    """
    for name, array in (("offsets", offsets), ("numbers", numbers)):
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise VectorError(
                f"the {name} of {what} are {array.dtype} in {array.ndim} dimensions; expected "
                "whole numbers in one."
            )
    if len(offsets) != lists + 1 or offsets[0] != 0 or offsets[-1] != len(numbers):
        ends = f"{offsets[0]} to {offsets[-1]}" if len(offsets) else "none"
        raise VectorError(
            f"{what} has {len(offsets)} offsets, {ends}; expected {lists + 1}, from 0 to "
            f"{len(numbers)}. It is damaged."
        )
    if (offsets[1:] < offsets[:-1]).any():
        raise VectorError(f"the offsets of {what} do not ascend. It is damaged.")
    _check_numbers(numbers, below, what)


def check_diagonals(offsets: NDArray[Any], shape: NDArray[Any], what: str) -> None:
    """Raise VectorError unless diagonals lie within a shape, [rows, columns]."""
    rows, columns = shape.tolist()
    for offset in offsets.ravel().tolist():
        if not -rows < offset < columns:
            raise VectorError(f"{what} has a diagonal {offset} off the main one. It is damaged.")


def _check_numbers(numbers: NDArray[Any], below: int, what: str) -> None:
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < below:
        raise VectorError(
            f"{what} has numbers from {numbers.min()} to {numbers.max()}; expected 0 to "
            f"{below - 1}. It is damaged."
        )


def _check_structure(matrix: Any) -> None:  # noqa: ANN401
    """Raise VectorError unless a matrix stays within its shape; of one dimension, as one row."""
    what = f"a {matrix.format} matrix of shape {matrix.shape}"
    rows, columns = matrix.shape if matrix.ndim == 2 else (1, *matrix.shape)
    if matrix.format in ("csr", "csc", "bsr"):
        high, wide = matrix.blocksize if matrix.format == "bsr" else (1, 1)
        lists, below = rows // high, columns // wide
        if matrix.format == "csc":
            lists, below = columns, rows
        if len(matrix.data) < len(matrix.indices) or matrix.data.ndim != (
            3 if matrix.format == "bsr" else 1
        ):
            raise VectorError(f"{what} has fewer weights than numbers. It is damaged.")
        # scipy leaves room behind the last offset in a matrix that it goes on filling.
        used = matrix.indices[: int(matrix.indptr[-1])] if len(matrix.indptr) else matrix.indices
        check_offsets(matrix.indptr, used, lists=lists, below=below, what=what)
    elif matrix.format == "coo":
        # Nothing here is an offset, so each number is checked against its own dimension.
        for numbers, below in zip(_coordinates(matrix), matrix.shape, strict=True):
            if numbers.shape != matrix.data.shape:
                raise VectorError(f"{what} has other numbers than weights. It is damaged.")
            _check_numbers(numbers, below, what)
    elif matrix.format == "dia":
        check_diagonals(matrix.offsets, np.array([rows, columns]), what)
    elif matrix.format == "lil":
        lengths = [(len(ids), len(weights)) for ids, weights in zip(*_lists(matrix), strict=True)]
        if len(lengths) != rows or any(ids != weights for ids, weights in lengths):
            raise VectorError(f"{what} has other numbers than weights. It is damaged.")


def _of_diagonals(matrix: Any) -> Any:  # noqa: ANN401
    """Return a matrix of diagonals as one of coordinates; scipy's own way trusts the offsets."""
    sparse = extras.required("scipy.sparse", "scipy", "reading a matrix")

    columns = np.arange(matrix.data.shape[1])
    rows = columns - matrix.offsets[:, None].astype(np.int64)
    inside = (rows >= 0) & (rows < matrix.shape[0]) & (columns < matrix.shape[1])
    _, column = np.nonzero(inside)
    return sparse.coo_array((matrix.data[inside], (rows[inside], column)), shape=matrix.shape)


def _coordinates(matrix: Any) -> tuple[NDArray[Any], ...]:  # noqa: ANN401
    """Return each weight's row and column, which scipy before 1.13 calls otherwise."""
    return getattr(matrix, "coords", None) or (matrix.row, matrix.col)


def _lists(matrix: Any) -> tuple[NDArray[Any], NDArray[Any]]:  # noqa: ANN401
    return matrix.rows.ravel(), matrix.data.ravel()
