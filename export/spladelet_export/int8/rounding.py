"""Rounding weights to int8: to the nearest level, or so that one error makes up for another."""

import numpy as np
from numpy.typing import NDArray

from spladelet_export.graph.graph_editor import spans

Matrix = NDArray[np.float32]

TINY = 1e-6  # keeps divisors from 0
_LEVELS = 127  # on each side of 0, which is exact without a zero point; -128 is not used
_DAMPING = 0.01  # of the moments' mean, GPTQ's choice
_ROWS_AT_ONCE = 64


def round_columns(matrix: Matrix) -> tuple[NDArray[np.int8], Matrix]:
    """Round each weight to the nearest level: int8[rows, columns] and scales float32[columns]."""
    scales = np.maximum(np.abs(matrix).max(axis=0) / _LEVELS, TINY).astype(np.float32)
    return np.clip(np.rint(matrix / scales), -_LEVELS, _LEVELS).astype(np.int8), scales


def round_in_turn(levels: Matrix, moments: Matrix) -> NDArray[np.int8]:
    """Round row by row, the rows after it taking on what is lost, as GPTQ does.

    What counts is not each weight, but the products: channels that rise and fall together can
    stand in for each other, and the moments say which do.

    Args:
        levels: Weights over their scales, float32[channels, outputs].
        moments: Sums of products of two channels' activations, float32[channels, channels].
    """
    size = len(levels)
    damped = moments.astype(np.float64)
    # A sample with fewer rows than channels leaves directions that nothing was seen of; without
    # damping they would take on any error as if it were free, and there would be no inverse.
    damped[np.diag_indices(size)] += _DAMPING * np.trace(damped) / size + TINY
    # Row i of the inverse's upper factor says how those after i best make up for i, once those
    # before it are fixed. GPTQ's insight: one factorisation gives that for every step, where
    # each step would need an inverse of its own.
    shares = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
    shares /= np.diag(shares)[:, None]
    rest, rounded = levels.copy(), np.empty(levels.shape, np.int8)
    # By blocks, because a row's share of all rows after it would move the whole matrix each time:
    # within a block it is passed on at once, beyond it all together, as one product.
    for block in spans(size, _ROWS_AT_ONCE):
        lost = np.empty_like(rest[block])
        for row in range(block.start, block.stop):
            rounded[row] = np.clip(np.rint(rest[row]), -_LEVELS, _LEVELS)
            # What clipping lost is passed on as well.
            lost[row - block.start] = rest[row] - rounded[row]
            rest[row + 1 : block.stop] -= np.outer(
                shares[row, row + 1 : block.stop], lost[row - block.start]
            )
        rest[block.stop :] -= shares[block, block.stop :].T @ lost
    return rounded
