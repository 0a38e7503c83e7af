"""How each activation is quantized: smoothed or not, by one scale or one for each row.

Every way is tried on the calibration's sample, and the error of its products decides.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from spladelet_export.graph import tensor_names
from spladelet_export.graph.compaction import is_tied
from spladelet_export.int8.calibration import Calibration
from spladelet_export.int8.constant_products import constant_products, shared_matrices
from spladelet_export.int8.int8_recipes import Int8Recipe
from spladelet_export.int8.rounding import TINY, round_columns

Matrix = NDArray[np.float32]

_UNSMOOTHED = (0.0,)
_POWERS = (*_UNSMOOTHED, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
# Enough to tell the ways apart; all rows by all columns would take minutes.
_ROWS_COMPARED = 3000
_COLUMNS_COMPARED = 2048
TOP_LEVEL = 255  # of an activation, in uint8
_SYMMETRIC = 128  # the zero point in the middle of the levels


@dataclass(frozen=True, slots=True)
class Plan:
    """How one activation is quantized.

    Attributes:
        smoothing: Divides the channels; None leaves them.
        scale: The constant scale; for row-wise ones, their floor.
        zero_point: What stands for 0.
        row_wise: Whether each row has its own scale.
        error: Relative error of its products on the sample.
        moments: Sums of products of two channels over the sample, float32[channels, channels]; None
            if its matrices are used elsewhere, too.
    """

    smoothing: Matrix | None
    scale: float
    zero_point: int
    row_wise: bool
    error: float
    moments: Matrix | None = None

    @property
    def is_symmetric(self) -> bool:
        """Whether there are as many levels below 0 as above it."""
        return self.zero_point == _SYMMETRIC


@dataclass(frozen=True, slots=True)
class _Sample:
    """Rows of an activation, its channels' extremes, and the matrices that it enters.

    Attributes:
        rows: float32[rows, channels].
        lowest: float32[channels], over all texts.
        highest: The same.
        weights: float32[channels, outputs], the matrices side by side.
    """

    rows: Matrix
    lowest: Matrix
    highest: Matrix
    weights: Matrix


@dataclass(frozen=True, slots=True)
class _Levels:
    """What the levels of an activation mean.

    Attributes:
        scale: As in `Plan`.
        zero_point: As in `Plan`.
        scales: The scale of each row of the sample, float32[rows, 1], or one for all, [1, 1].
    """

    scale: float
    zero_point: int
    scales: Matrix


_Scaling = Callable[[Matrix, float, float], _Levels]


def plan_activations(
    graph: onnx.GraphProto, calibration: Calibration, recipe: Int8Recipe
) -> dict[str, Plan]:
    """Return activation name to plan, for those whose products become int8.

    Args:
        graph: A fused float32 graph.
        calibration: What was seen of that graph.
        recipe: Which ways are tried, and how many products stay float32.
    """
    matrices = {tensor.name: tensor for tensor in graph.initializer}
    products = constant_products(graph)
    tied, shared = is_tied(graph), shared_matrices(products)
    plans = {}
    for name, nodes in products.items():
        weights = np.concatenate(
            [numpy_helper.to_array(matrices[node.input[1]]) for node in nodes], axis=1
        )
        # A matrix that is used elsewhere, too (a tied decoder, ALBERT's layers), is stored once in
        # int8. So it can be neither smoothed nor rounded for one activation's sake.
        is_shared = (name == tensor_names.HIDDEN and tied) or any(
            node.input[1] in shared for node in nodes
        )
        rows = calibration.rows[name]
        sample = _Sample(rows, calibration.lowest[name], calibration.highest[name], weights)
        # The head's maximum over positions is taken on integers, so they must have one scale.
        gain = None if name == tensor_names.HIDDEN else recipe.row_wise_gain
        plan = _best_plan(sample, _UNSMOOTHED if is_shared else _POWERS, gain)
        if not is_shared:
            rows = rows if plan.smoothing is None else rows / plan.smoothing
            plan = replace(plan, moments=rows.T @ rows)
        plans[name] = plan
    worst = sorted(plans, key=lambda name: -plans[name].error)
    for name in worst[: round(recipe.float_share * len(worst))]:
        del plans[name]
    return plans


def _best_plan(sample: _Sample, powers: Sequence[float], gain: float | None) -> Plan:
    static = _least_error(sample, powers, _one_scale)
    if gain is None:
        return static
    row_wise = replace(_least_error(sample, powers, _row_scales), row_wise=True)
    # Row-wise scales cost a pass over the activations, so they must be worth it.
    return row_wise if row_wise.error < (1 - gain) * static.error else static


def _least_error(sample: _Sample, powers: Sequence[float], scaling: _Scaling) -> Plan:
    plans = (_try(sample, power, scaling) for power in powers)
    return min(plans, key=lambda plan: plan.error)


def _try(sample: _Sample, power: float, scaling: _Scaling) -> Plan:
    """Quantize the sample one way and measure the error of its products."""
    low, high = sample.lowest, sample.highest
    rows, columns = sample.rows[:_ROWS_COMPARED], sample.weights[:, :_COLUMNS_COMPARED]
    exact = rows @ columns
    smoothing = _smoothing(low, high, sample.weights, power)
    if smoothing is not None:
        rows, low, high = rows / smoothing, low / smoothing, high / smoothing
        columns = columns * smoothing[:, None]
    # 0 is always among the levels: it must be exact, for padding and for what ReLU cuts off.
    bottom, top = float(np.minimum(low.min(), 0)), float(np.maximum(high.max(), 0))
    levels = scaling(rows, bottom, top)
    zero = levels.zero_point
    found = np.clip(np.rint(rows / levels.scales) + zero, 0, TOP_LEVEL) - zero
    quantized, column_scales = round_columns(columns)
    products = (found * levels.scales) @ (quantized * column_scales)
    error = float(np.linalg.norm(products - exact)) / max(float(np.linalg.norm(exact)), TINY)
    return Plan(smoothing, levels.scale, levels.zero_point, row_wise=False, error=error)


def _smoothing(low: Matrix, high: Matrix, weights: Matrix, power: float) -> Matrix | None:
    """Return what divides each channel: SmoothQuant's balance of activations and weights.

    Dividing a channel of the activations and multiplying its row of the weights changes no product,
    but moves what is hard to quantize from one to the other: all of it with power 1.
    """
    if power == 0.0:
        return None
    activation = np.maximum(np.abs(low), np.abs(high)) + 1e-6
    weight = np.abs(weights).max(axis=1) + 1e-6
    smoothing = activation**power / weight ** (1 - power)
    # Only the channels' proportions matter; a geometric mean of 1 keeps the numbers in range.
    normed: Matrix = (smoothing / np.exp(np.log(smoothing).mean())).astype(np.float32)
    return normed


def _one_scale(rows: Matrix, bottom: float, top: float) -> _Levels:
    """Spread the levels evenly over everything that was seen."""
    del rows
    scale = (top - bottom + TINY) / TOP_LEVEL
    return _Levels(scale, round(-bottom / scale), np.full((1, 1), scale, np.float32))


def _row_scales(rows: Matrix, bottom: float, top: float) -> _Levels:
    """Give each row the scale that its own largest value needs.

    The zero point is a constant all the same, because the kernel takes only one. It leaves as many
    levels below 0 as the lowest value of all needs beside a typical row's highest, which for GELU
    are few; if that is half of them or more, levels are symmetric.
    """
    del top
    typical = float(np.median(rows.max(axis=1)))
    share = TOP_LEVEL * -bottom / max(typical - bottom, TINY)
    zero_point = int(np.clip(round(share), 1, _SYMMETRIC))
    if zero_point == _SYMMETRIC:
        floor, extent = TINY, np.abs(rows)
    else:
        # No scale may be so small that the lowest value would fall below level 0.
        floor, extent = max(-bottom / zero_point, TINY), rows
    highest = extent.max(axis=1, keepdims=True)
    scales: Matrix = np.maximum(highest / (TOP_LEVEL - zero_point), floor)
    return _Levels(floor, zero_point, scales)
