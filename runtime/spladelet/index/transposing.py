"""From documents to posting lists: matrices by rows turned into matrices by columns."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelet.errors import VectorError
from spladelet.forks import unforked
from spladelet.index.scoring import FEW


def transpose(
    columns: NDArray[np.int32],
    row_ends: NDArray[np.int64],
    width: int,
    values: NDArray[Any],
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32], NDArray[Any]]:
    """Transpose a sparse matrix; what stands twice in one place stays so, side by side.

    Args:
        columns: int32[values], row after row.
        row_ends: int64[rows + 1], where each row begins.
        width: How many columns there are.
        values: What stands there.

    Returns:
        Which columns are not empty, ascending; where each of them begins, and the last one ends,
        int64[columns + 1]; the rows, column after column, ascending in each, int32[values]; and the
        values in that order.
    """
    count = len(row_ends) - 1
    if len(columns) and int(columns.max()) >= width:  # compiled code would write beyond the end
        raise VectorError(f"there is a term {int(columns.max())} among {width} terms.")
    csr_array = None if count < FEW else _scipys()
    if csr_array is None:
        return _by_sorting(columns, row_ends, values)
    by_column = csr_array((values, columns, row_ends), shape=(count, width)).tocsc()
    occurring = np.flatnonzero(np.diff(by_column.indptr)).astype(np.int32)
    offsets = np.append(by_column.indptr[occurring], by_column.nnz).astype(np.int64)
    return occurring, offsets, by_column.indices.astype(np.int32, copy=False), by_column.data


def _by_sorting(
    columns: NDArray[np.int32], row_ends: NDArray[np.int64], values: NDArray[Any]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32], NDArray[Any]]:
    """Transpose with numpy alone; to the bit what scipy makes of it."""
    order = stable_order(columns)
    occurring, starts = np.unique(columns[order], return_index=True)
    offsets = np.append(starts, len(order)).astype(np.int64)
    rows = np.repeat(np.arange(len(row_ends) - 1, dtype=np.int32), np.diff(row_ends))
    return occurring.astype(np.int32), offsets, rows[order], values[order]


def _scipys() -> Callable[..., Any] | None:
    """Return scipy's CSR matrix, or None in an installation without scipy."""
    try:
        with unforked():
            from scipy.sparse import csr_array
    except ImportError:
        return None
    found: Callable[..., Any] = csr_array
    return found


def stable_order(keys: NDArray[np.int32]) -> NDArray[np.int64]:
    """Order by key, stably: by counting 16 bits at a time, for so numpy sorts these."""
    order = np.argsort((keys & 0xFFFF).astype(np.uint16), kind="stable")
    if len(keys) and int(keys.max()) > 0xFFFF:
        order = order[np.argsort((keys[order] >> 16).astype(np.uint16), kind="stable")]
    return order
