"""int8: a quarter of the size and more than twice the speed, the same vector in every batch.

Weights are int8 with a scale for each output; activations are uint8. A scale taken over a whole
batch, as dynamic quantization has it, makes a text's vector depend on its neighbours. Here a scale
is either a constant, from calibration texts, or one for each token, from that token alone:

- smoothing (SmoothQuant, Xiao et al. 2022, https://arxiv.org/abs/2211.10438): channels with large
  activations are scaled down and their weights up, by the power that leaves the least error;
- each weight is rounded so that it makes up for what rounding those before it did to the products
  (GPTQ, Frantar et al. 2023, https://arxiv.org/abs/2210.17323), which costs nothing at run time;
- row-wise scales, which cost a pass over the activations, where they cut the error enough
  (the output of GELU, whose few large values make one scale for all too coarse);
- in the pooled head the maximum over positions is taken on the int32 products, before they are
  scaled back; a decoder tied to the embeddings is stored once, in int8.

Clipping an activation's range was measured as well: beside smoothing it took mostly nothing, and
at most a tenth, off the error of a product, so it is not done.

Needs onnx, onnxruntime and numpy only.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from spladelet.encoder.onnx_runtime import load_onnx_runtime
from spladelet_export.errors import GraphError
from spladelet_export.graph import HIDDEN, POOLED, is_tied, used_names

Matrix = NDArray[np.float32]

_POWERS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
_ROWS_PER_TEXT = 24
_ROWS_COMPARED = 3000
_COLUMNS_COMPARED = 2048
_TINY = 1e-6
_DAMPING = 0.01  # of the moments' mean, GPTQ's choice
_ROWS_AT_ONCE = 64
_LARGE_TABLE = (256, 64)  # words' and positions' are larger; relative positions', rotations' not


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is done to each matrix product.

    Attributes:
        name: Recorded in the bundle.
        row_wise_gain: Scale activations row by row where that cuts the error by this share; None
            never does.
        float_share: The share of products, those with the largest error, that stay float32.
    """

    name: str
    row_wise_gain: float | None = None
    float_share: float = 0.0


# From the fastest to the most faithful; the first that passes the gate is taken.
RECIPES = (
    Recipe("static"),
    Recipe("row-wise where it pays", row_wise_gain=0.3),
    Recipe("row-wise where it helps", row_wise_gain=0.1),
    Recipe("row-wise where it helps, a tenth float32", row_wise_gain=0.1, float_share=0.1),
    Recipe("row-wise where it helps, a quarter float32", row_wise_gain=0.1, float_share=0.25),
)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was seen of the activations that enter constant matrices.

    Attributes:
        rows: Tensor name to a sample of its rows, float32[rows, channels].
        lowest: Tensor name to the least value of each channel over all texts.
        highest: Tensor name to the greatest.
        texts: How many texts were read.
    """

    rows: Mapping[str, Matrix]
    lowest: Mapping[str, Matrix]
    highest: Mapping[str, Matrix]
    texts: int


@dataclass(frozen=True, slots=True)
class _Plan:
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


def calibrate(model: onnx.ModelProto, texts: Iterable[Sequence[int]]) -> Calibration:
    """Run texts, one at a time, and look at what enters the constant matrices.

    Args:
        model: A fused float32 graph.
        texts: Token ids of each text.
    """
    onnxruntime = load_onnx_runtime()
    names = sorted(_users(model.graph))
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    for name in names:
        watched.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    rng = np.random.default_rng(0)
    rows: dict[str, list[Matrix]] = {name: [] for name in names}
    lows: dict[str, list[Matrix]] = {name: [] for name in names}
    highs: dict[str, list[Matrix]] = {name: [] for name in names}
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(watched, path, save_as_external_data=True, location="model.data")
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for ids in texts:
            count += 1
            batch = np.array([ids], np.int64)
            picked = rng.permutation(len(ids))[:_ROWS_PER_TEXT]
            feed = {"input_ids": batch, "attention_mask": np.ones_like(batch)}
            for name, values in zip(names, session.run(names, feed), strict=True):
                rows[name].append(values[0][picked])
                lows[name].append(values[0].min(0))
                highs[name].append(values[0].max(0))
    return Calibration(
        {name: np.concatenate(found) for name, found in rows.items()},
        {name: np.min(found, axis=0) for name, found in lows.items()},
        {name: np.max(found, axis=0) for name, found in highs.items()},
        count,
    )


def quantize(model: onnx.ModelProto, calibration: Calibration, recipe: Recipe) -> onnx.ModelProto:
    """Return the graph with its constant matrices in int8.

    Args:
        model: A fused float32 graph, not yet compacted.
        calibration: What `calibrate` saw of that graph.
        recipe: What to do.

    Raises:
        GraphError: The graph multiplies by no constant matrix.
    """
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    plans = _plan(quantized.graph, calibration, recipe)
    if not plans:
        raise GraphError("the graph multiplies by no constant matrix, so int8 has nothing to do.")
    _Rewriter(quantized.graph, plans).run()
    if all(entry.domain != "com.microsoft" for entry in quantized.opset_import):
        quantized.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return quantized


def _users(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Return activation name to the MatMuls that multiply it by a constant."""
    constants = {tensor.name for tensor in graph.initializer}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants:
            users.setdefault(node.input[0], []).append(node)
    return users


def _shared_matrices(users: Mapping[str, Sequence[onnx.NodeProto]]) -> set[str]:
    """Return the matrices by which several activations are multiplied."""
    counts = Counter(matrix for nodes in users.values() for matrix in {n.input[1] for n in nodes})
    return {matrix for matrix, count in counts.items() if count > 1}


def _plan(graph: onnx.GraphProto, calibration: Calibration, recipe: Recipe) -> dict[str, _Plan]:
    matrices = {tensor.name: tensor for tensor in graph.initializer}
    users = _users(graph)
    tied, shared = is_tied(graph), _shared_matrices(users)
    plans = {}
    for name, nodes in users.items():
        weights = np.concatenate(
            [numpy_helper.to_array(matrices[node.input[1]]) for node in nodes], axis=1
        )
        # A matrix that is used elsewhere, too (a tied decoder, ALBERT's layers), is stored once in
        # int8, so it cannot be smoothed.
        is_shared = (name == HIDDEN and tied) or any(node.input[1] in shared for node in nodes)
        powers = (0.0,) if is_shared else _POWERS
        plan = _best_plan(name, calibration, weights, powers, recipe)
        if not is_shared:
            rows = calibration.rows[name]
            rows = rows if plan.smoothing is None else rows / plan.smoothing
            plan = replace(plan, moments=rows.T @ rows)
        plans[name] = plan
    keep = sorted(plans, key=lambda name: -plans[name].error)
    for name in keep[: round(recipe.float_share * len(keep))]:
        del plans[name]
    return plans


def _best_plan(
    name: str, calibration: Calibration, weights: Matrix, powers: Sequence[float], recipe: Recipe
) -> _Plan:
    static = min(
        (_candidate(name, calibration, weights, power, row_wise=False) for power in powers),
        key=lambda plan: plan.error,
    )
    if recipe.row_wise_gain is None or name == HIDDEN:
        return static
    row_wise = min(
        (_candidate(name, calibration, weights, power, row_wise=True) for power in powers),
        key=lambda plan: plan.error,
    )
    return row_wise if row_wise.error < (1 - recipe.row_wise_gain) * static.error else static


def _candidate(
    name: str, calibration: Calibration, weights: Matrix, power: float, *, row_wise: bool
) -> _Plan:
    """Quantize the sample one way and measure the error of its products."""
    low, high = calibration.lowest[name], calibration.highest[name]
    rows, columns = calibration.rows[name][:_ROWS_COMPARED], weights[:, :_COLUMNS_COMPARED]
    exact = rows @ columns
    smoothing = _smoothing(low, high, weights, power)
    if smoothing is not None:
        rows, low, high = rows / smoothing, low / smoothing, high / smoothing
        columns = columns * smoothing[:, None]
    bottom = float(np.minimum(low.min(), 0))
    top = float(np.maximum(high.max(), 0))
    if row_wise:
        typical = float(np.median(rows.max(axis=1)))
        zero_point = int(np.clip(round(255 * -bottom / max(typical - bottom, _TINY)), 1, 128))
        scale = max(-bottom / zero_point, _TINY) if zero_point < 128 else _TINY
        scales = _row_scales(rows, zero_point, scale)
    else:
        scale = (top - bottom + _TINY) / 255
        zero_point = round(-bottom / scale)
        scales = np.full((1, 1), scale, np.float32)
    found = np.clip(np.rint(rows / scales) + zero_point, 0, 255) - zero_point
    quantized, column_scales = _int8(columns)
    products = (found * scales) @ (quantized * column_scales)
    error = float(np.linalg.norm(products - exact)) / max(float(np.linalg.norm(exact)), _TINY)
    return _Plan(smoothing, scale, zero_point, row_wise, error)


def _row_scales(rows: Matrix, zero_point: int, floor: float) -> Matrix:
    extent = rows if zero_point < 128 else np.abs(rows)
    scales: Matrix = np.maximum(extent.max(axis=1, keepdims=True) / (255 - zero_point), floor)
    return scales


def _smoothing(low: Matrix, high: Matrix, weights: Matrix, power: float) -> Matrix | None:
    if power == 0.0:
        return None
    activation = np.maximum(np.abs(low), np.abs(high)) + 1e-6
    weight = np.abs(weights).max(axis=1) + 1e-6
    smoothing = activation**power / weight ** (1 - power)
    normed: Matrix = (smoothing / np.exp(np.log(smoothing).mean())).astype(np.float32)
    return normed


def _int8(matrix: Matrix) -> tuple[NDArray[np.int8], Matrix]:
    """Quantize each column: int8[rows, columns] and scales float32[columns]."""
    scales = np.maximum(np.abs(matrix).max(axis=0) / 127, _TINY).astype(np.float32)
    return np.clip(np.rint(matrix / scales), -127, 127).astype(np.int8), scales


def _round_in_turn(levels: Matrix, moments: Matrix) -> NDArray[np.int8]:
    """Round row by row, the rows after it taking on what is lost, as GPTQ does.

    Args:
        levels: Weights over their scales, float32[channels, outputs].
        moments: Sums of products of two channels' activations, float32[channels, channels].
    """
    size = len(levels)
    damped = moments.astype(np.float64)
    damped[np.diag_indices(size)] += _DAMPING * np.trace(damped) / size + _TINY
    shares = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
    shares /= np.diag(shares)[:, None]
    rest, rounded = levels.copy(), np.empty(levels.shape, np.int8)
    for start in range(0, size, _ROWS_AT_ONCE):
        block = slice(start, min(start + _ROWS_AT_ONCE, size))
        lost = np.empty_like(rest[block])
        for row in range(block.start, block.stop):
            rounded[row] = np.clip(np.rint(rest[row]), -127, 127)
            lost[row - start] = rest[row] - rounded[row]
            rest[row + 1 : block.stop] -= np.outer(
                shares[row, row + 1 : block.stop], lost[row - start]
            )
        rest[block.stop :] -= shares[block, block.stop :].T @ lost
    return rounded


@dataclass(slots=True)
class _Rewriter:
    """Replaces the planned products of a graph, node by node."""

    graph: onnx.GraphProto
    plans: Mapping[str, _Plan]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    matrices: dict[str, onnx.TensorProto] = field(default_factory=dict)
    biases: dict[str, onnx.NodeProto] = field(default_factory=dict)
    shared: set[str] = field(default_factory=set)
    cuts: int = 0

    def run(self) -> None:
        self.matrices = {tensor.name: tensor for tensor in self.graph.initializer}
        self.biases = self._bias_adds()
        self.shared = _shared_matrices(_users(self.graph))
        absorbed = {add.output[0] for add in self.biases.values()}
        products = {n.output[0] for nodes in _users(self.graph).values() for n in nodes}
        blocks = [n for n in self.graph.node if n.op_type == "MatMul" and n.input[0] == HIDDEN]
        pooled_as_integers = HIDDEN in self.plans and all(
            node.op_type == "ReduceMax" for block in blocks for node in self._readers(block)
        )
        quantized: set[str] = set()
        for node in self.graph.node:
            plan = self.plans.get(node.input[0]) if node.output[0] in products else None
            if plan is not None:
                if node.input[0] not in quantized:
                    self._quantize_activation(node.input[0], plan)
                    quantized.add(node.input[0])
                if node.input[0] == HIDDEN and pooled_as_integers:
                    self._integer_product(node)
                else:
                    self._float_product(node, plan)
            elif pooled_as_integers and node.op_type == "Concat" and node.output[0] == POOLED:
                self._scale_pooled(node, blocks)
            elif node.op_type == "Gather" and self._is_large_table(node):
                self._look_up(node)
            elif node.output[0] not in absorbed:
                self.nodes.append(node)
        self._finish()

    def _readers(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        return [other for other in self.graph.node if node.output[0] in other.input]

    def _bias_adds(self) -> dict[str, onnx.NodeProto]:
        """Find the Adds of a bias to a product that nothing else reads: the kernel does them."""
        found = {}
        for name in self.plans:
            if self.plans[name].row_wise or name == HIDDEN:
                continue
            for node in _users(self.graph)[name]:
                readers = self._readers(node)
                if len(readers) == 1 and readers[0].op_type == "Add":
                    if self._bias(readers[0]) is not None:
                        found[node.output[0]] = readers[0]
        return found

    def _bias(self, add: onnx.NodeProto) -> str | None:
        vectors = [x for x in add.input if x in self.matrices and len(self.matrices[x].dims) == 1]
        return vectors[0] if vectors else None

    def _quantize_activation(self, name: str, plan: _Plan) -> None:
        source = name
        if plan.smoothing is not None:
            factor = self._constant(f"{name}/smoothing", (1 / plan.smoothing).astype(np.float32))
            source = self._node("Mul", [source, factor], f"{name}/smoothed")
        if plan.row_wise:
            source = self._divide_by_row_scales(name, source, plan)
        scale = 1.0 if plan.row_wise else plan.scale
        self._node(
            "QuantizeLinear",
            [
                source,
                self._constant(f"{name}/scale", np.float32(scale)),
                self._constant(f"{name}/zero_point", np.uint8(plan.zero_point)),
            ],
            f"{name}/uint8",
        )

    def _divide_by_row_scales(self, name: str, source: str, plan: _Plan) -> str:
        extent = source
        if plan.zero_point == 128:
            extent = self._node("Abs", [source], f"{name}/magnitude")
        last = self._constant("row_axis", np.array([-1], np.int64))
        top = self._node("ReduceMax", [extent, last], f"{name}/row_max", keepdims=1)
        share = self._constant(f"{name}/share", np.float32(1 / (255 - plan.zero_point)))
        floor = self._constant(f"{name}/floor", np.float32(plan.scale))
        scales = self._node("Mul", [top, share], f"{name}/row_scales_raw")
        scales = self._node("Max", [scales, floor], f"{name}/row_scales")
        return self._node("Div", [source, scales], f"{name}/rows")

    def _weights(self, node: onnx.NodeProto) -> tuple[NDArray[np.int8], Matrix]:
        smoothed, moments = self._smoothed(node), self.plans[node.input[0]].moments
        quantized, scales = _int8(smoothed)
        if moments is not None:
            quantized = _round_in_turn(smoothed / scales, moments)
        return quantized, scales

    def _smoothed(self, node: onnx.NodeProto) -> Matrix:
        matrix = numpy_helper.to_array(self.matrices[node.input[1]])
        smoothing = self.plans[node.input[0]].smoothing
        smoothed: Matrix = matrix if smoothing is None else matrix * smoothing[:, None]
        return smoothed

    def _float_product(self, node: onnx.NodeProto, plan: _Plan) -> None:
        name, weights = node.input[0], node.input[1]
        quantized, scales = self._weights(node)
        inputs = [
            f"{name}/uint8",
            self._matrix(node, quantized),
            f"{name}/scale",
            self._constant(f"{weights}/scales", scales),
            f"{name}/zero_point",
        ]
        output = node.output[0]
        if plan.row_wise:
            product = f"{output}/unscaled"
            self._product_to_float(inputs, product)
            self.nodes.append(helper.make_node("Mul", [product, f"{name}/row_scales"], [output]))
        elif output in self.biases:
            add = self.biases[output]
            self._product_to_float(inputs, add.output[0], self._bias(add))
        else:
            self._product_to_float(inputs, output)

    def _matrix(self, node: onnx.NodeProto, quantized: NDArray[np.int8]) -> str:
        """Return the name of a product's matrix.

        One of several products is stored once and cut out whole for each of them when the graph is
        loaded: ONNX Runtime's way around saturation converts each product's matrix, and fails at
        one that it has converted before. Each cut has an end of its own, for equal ones would be
        made one again.
        """
        stored = self._constant(f"{node.input[1]}/int8", quantized)
        if node.input[1] not in self.shared:
            return stored
        self.cuts += 1
        start = self._constant("cut/start", np.array([0], np.int64))
        end = self._constant(f"cut/end/{self.cuts}", np.array([len(quantized) + self.cuts]))
        return self._node("Slice", [stored, start, end], f"{node.output[0]}/int8")

    def _integer_product(self, node: onnx.NodeProto) -> None:
        name, weights = node.input[0], node.input[1]
        self._constant(f"{weights}/int8", self._weights(node)[0])
        output = node.output[0]
        inputs = [f"{name}/uint8", f"{weights}/int8", f"{name}/zero_point", self._zero(output)]
        self._node("MatMulInteger", inputs, output)

    def _scale_pooled(self, concat: onnx.NodeProto, blocks: Sequence[onnx.NodeProto]) -> None:
        """Scale the maxima back, once for each term instead of once for each position."""
        scales = np.concatenate([_int8(self._smoothed(block))[1] for block in blocks])
        scales = scales * np.float32(self.plans[HIDDEN].scale)
        integers = self._node("Concat", list(concat.input), f"{POOLED}/int32", axis=1)
        floats = self._node("Cast", [integers], f"{POOLED}/float32", to=TensorProto.FLOAT)
        factor = self._constant(f"{POOLED}/scales", scales.astype(np.float32))
        self.nodes.append(helper.make_node("Mul", [floats, factor], [concat.output[0]]))

    def _look_up(self, gather: onnx.NodeProto) -> None:
        """Look embeddings up in int8, each row with its scale."""
        table, ids = gather.input[0], gather.input[1]
        quantized, scales = _int8(numpy_helper.to_array(self.matrices[table]).T)
        rows = self._constant(f"{table}/int8", np.ascontiguousarray(quantized.T))
        row_scales = self._constant(f"{table}/scales", scales[:, None])
        found = self._node("Gather", [rows, ids], f"{gather.output[0]}/int8")
        found = self._node("Cast", [found], f"{gather.output[0]}/unscaled", to=TensorProto.FLOAT)
        scale = self._node("Gather", [row_scales, ids], f"{gather.output[0]}/scales")
        self.nodes.append(helper.make_node("Mul", [found, scale], [gather.output[0]]))

    def _is_large_table(self, gather: onnx.NodeProto) -> bool:
        """Say whether rows of embeddings are looked up."""
        tensor = self.matrices.get(gather.input[0])
        by_row = all(a.i == 0 for a in gather.attribute if a.name == "axis")
        if tensor is None or tensor.data_type != TensorProto.FLOAT or not by_row:
            return False
        rows, columns = _LARGE_TABLE
        return len(tensor.dims) == 2 and tensor.dims[0] > rows and tensor.dims[1] > columns

    def _finish(self) -> None:
        used = used_names(self.nodes)
        kept = [tensor for name, tensor in self.matrices.items() if name in used]
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend([*kept, *self.constants.values()])

    def _node(self, operator: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def _product_to_float(
        self, inputs: Sequence[str], output: str, bias: str | None = None
    ) -> None:
        inputs = [*inputs, self._zero(output), *([] if bias is None else [bias])]
        self._node("MatMulIntegerToFloat", inputs, output, domain="com.microsoft")

    def _zero(self, product: str) -> str:
        """State that a product's matrix has 0 for 0, which the operators take for granted.

        On processors without VNNI, ONNX Runtime before 1.30 ends the process where it is not
        stated, or is by one constant for several products.
        """
        return self._constant(f"{product}/weight_zero_point", np.int8(0))

    def _constant(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name
