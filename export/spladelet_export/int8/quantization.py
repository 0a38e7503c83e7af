"""Rewriting a float32 graph in int8, product by product, as the plans say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from spladelet_export.errors import GraphError
from spladelet_export.graph import tensor_names
from spladelet_export.graph.graph_editor import GraphEditor
from spladelet_export.int8.activation_plans import TOP_LEVEL, Plan, plan_activations
from spladelet_export.int8.calibration import Calibration
from spladelet_export.int8.constant_products import constant_products, shared_matrices
from spladelet_export.int8.int8_recipes import Int8Recipe
from spladelet_export.int8.rounding import round_columns, round_in_turn

Matrix = NDArray[np.float32]

_DOMAIN = "com.microsoft"  # of the operators that are ONNX Runtime's own
_LARGE_TABLE = (256, 64)  # words' and positions' are larger; relative positions', rotations' not


def quantize(
    model: onnx.ModelProto, calibration: Calibration, recipe: Int8Recipe
) -> onnx.ModelProto:
    """Return the graph with its constant matrices in int8.

    Args:
        model: A fused float32 graph, not yet compacted.
        calibration: What `calibrate` saw of that graph.
        recipe: What to do.

    Raises:
        GraphError: The graph multiplies by no constant matrix.
    """
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)  # the next recipe begins with the same graph
    plans = plan_activations(quantized.graph, calibration, recipe)
    if not plans:
        raise GraphError("the graph multiplies by no constant matrix, so int8 has nothing to do.")
    _Quantizer(GraphEditor(quantized.graph), plans).run()
    if all(entry.domain != _DOMAIN for entry in quantized.opset_import):
        quantized.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    return quantized


@dataclass(frozen=True, slots=True)
class _Levels:
    """An activation in integers: the names of its levels and of what they mean.

    Attributes:
        values: uint8, as the activation.
        scale: Its constant scale; 1 where each row has its own.
        zero_point: What stands for 0.
        row_scales: float32[..., 1], one for each row; None if there are none.
    """

    values: str
    scale: str
    zero_point: str
    row_scales: str | None


@dataclass(slots=True)
class _Quantizer:
    """Replaces the planned products of a graph, node by node."""

    editor: GraphEditor
    plans: Mapping[str, Plan]
    products: Mapping[str, Sequence[onnx.NodeProto]] = field(init=False)
    shared: set[str] = field(init=False)
    levels: dict[str, _Levels] = field(default_factory=dict)
    cuts: int = 0

    def __post_init__(self) -> None:
        self.products = constant_products(self.editor.graph)
        self.shared = shared_matrices(self.products)

    def run(self) -> None:
        graph = self.editor.graph
        products = {node.output[0] for nodes in self.products.values() for node in nodes}
        blocks = self._integer_blocks()
        integers = {block.output[0] for block in blocks}
        for node in graph.node:
            plan = self.plans.get(node.input[0]) if node.output[0] in products else None
            if plan is not None and node.output[0] in integers:
                self._integer_product(node, self._quantized(node.input[0], plan))
            elif plan is not None:
                self._float_product(node, self._quantized(node.input[0], plan))
            elif blocks and node.output[0] == tensor_names.POOLED:
                self._scale_pooled(node, blocks)
            elif node.op_type == "Gather" and self._is_large_table(node):
                self._look_up(node)
            else:
                self.editor.nodes.append(node)
        self.editor.finish()

    def _integer_blocks(self) -> Sequence[onnx.NodeProto]:
        """Return the head's products, if nothing but a maximum is taken of them.

        A maximum of int32 is that of the numbers that they stand for, as long as all positions
        have one scale; so they are scaled back after it, a term at a time. A sum is pooled only
        after its activation, so its products are made float at once.
        """
        if tensor_names.HIDDEN not in self.plans:
            return ()
        blocks = self.products[tensor_names.HIDDEN]
        readers = [node for block in blocks for node in self.editor.readers(block.output[0])]
        return blocks if all(node.op_type == "ReduceMax" for node in readers) else ()

    def _quantized(self, name: str, plan: Plan) -> _Levels:
        """Quantize an activation, once for all products that it enters."""
        if name not in self.levels:
            self.levels[name] = self._quantize_activation(name, plan)
        return self.levels[name]

    def _quantize_activation(self, name: str, plan: Plan) -> _Levels:
        add, constant = self.editor.add, self.editor.constant
        source, row_scales = name, None
        if plan.smoothing is not None:
            # The reciprocals are taken here, once, instead of a division at every run.
            factor = constant(f"{name}/smoothing", (1 / plan.smoothing).astype(np.float32))
            source = add("Mul", [source, factor], f"{name}/smoothed")
        if plan.row_wise:
            row_scales = self._row_scales(name, source, plan)
            source = add("Div", [source, row_scales], f"{name}/rows")
        scale = constant(f"{name}/scale", np.float32(1.0 if plan.row_wise else plan.scale))
        zero_point = constant(f"{name}/zero_point", np.uint8(plan.zero_point))
        values = add("QuantizeLinear", [source, scale, zero_point], f"{name}/uint8")
        return _Levels(values, scale, zero_point, row_scales)

    def _row_scales(self, name: str, source: str, plan: Plan) -> str:
        """Write each row's scale, in the graph as `activation_plans` has it on the sample."""
        add, constant = self.editor.add, self.editor.constant
        extent = add("Abs", [source], f"{name}/magnitude") if plan.is_symmetric else source
        last = constant("row_axis", np.array([-1], np.int64))
        top = add("ReduceMax", [extent, last], f"{name}/row_max", {"keepdims": 1})
        share = constant(f"{name}/share", np.float32(1 / (TOP_LEVEL - plan.zero_point)))
        floor = constant(f"{name}/floor", np.float32(plan.scale))
        scales = add("Mul", [top, share], f"{name}/row_scales_raw")
        return add("Max", [scales, floor], f"{name}/row_scales")

    def _weights(self, node: onnx.NodeProto) -> tuple[NDArray[np.int8], Matrix]:
        smoothed, moments = self._smoothed(node), self.plans[node.input[0]].moments
        quantized, scales = round_columns(smoothed)
        # In turn, weights keep the scales that they have one by one; only their levels differ.
        if moments is not None:
            quantized = round_in_turn(smoothed / scales, moments)
        return quantized, scales

    def _smoothed(self, node: onnx.NodeProto) -> Matrix:
        """Return a product's matrix, multiplied by what its activation is divided by."""
        matrix = self.editor.array(node.input[1])
        smoothing = self.plans[node.input[0]].smoothing
        return matrix if smoothing is None else matrix * smoothing[:, None]

    def _float_product(self, node: onnx.NodeProto, levels: _Levels) -> None:
        quantized, scales = self._weights(node)
        matrix = self._matrix(node, quantized)
        column_scales = self.editor.constant(f"{node.input[1]}/scales", scales)
        inputs = [levels.values, matrix, levels.scale, column_scales, levels.zero_point]
        output = node.output[0]
        # The kernel takes one scale; where each row has its own, that is 1, and theirs come after.
        # A bias is left to the Add behind it: see `portable_rounding`.
        product = output if levels.row_scales is None else f"{output}/unscaled"
        inputs.append(self._zero(product))
        self.editor.add("MatMulIntegerToFloat", inputs, product, {"domain": _DOMAIN})
        if levels.row_scales is not None:
            self.editor.add("Mul", [product, levels.row_scales], output)

    def _matrix(self, node: onnx.NodeProto, quantized: NDArray[np.int8]) -> str:
        """Return the name of a product's matrix.

        One of several products is stored once and cut out whole for each of them when the graph is
        loaded: ONNX Runtime's way around saturation converts each product's matrix, and fails on
        one that it has converted before. Each cut has an end of its own, for equal ones would be
        merged into one again.
        """
        constant = self.editor.constant
        stored = constant(f"{node.input[1]}/int8", quantized)
        if node.input[1] not in self.shared:
            return stored
        self.cuts += 1
        start = constant("cut/start", np.array([0], np.int64))
        end = constant(f"cut/end/{self.cuts}", np.array([len(quantized) + self.cuts]))
        return self.editor.add("Slice", [stored, start, end], f"{node.output[0]}/int8")

    def _integer_product(self, node: onnx.NodeProto, levels: _Levels) -> None:
        matrix = self.editor.constant(f"{node.input[1]}/int8", self._weights(node)[0])
        inputs = [levels.values, matrix, levels.zero_point, self._zero(node.output[0])]
        self.editor.add("MatMulInteger", inputs, node.output[0])

    def _scale_pooled(self, concat: onnx.NodeProto, blocks: Sequence[onnx.NodeProto]) -> None:
        """Scale the maxima back, once for each term instead of once for each position."""
        name, add = tensor_names.POOLED, self.editor.add
        # All scales are above 0, so what was the maximum before is one after.
        scales = np.concatenate([round_columns(self._smoothed(block))[1] for block in blocks])
        scales = scales * np.float32(self.plans[tensor_names.HIDDEN].scale)
        integers = add("Concat", list(concat.input), f"{name}/int32", {"axis": 1})
        floats = add("Cast", [integers], f"{name}/float32", {"to": TensorProto.FLOAT})
        factor = self.editor.constant(f"{name}/scales", scales.astype(np.float32))
        add("Mul", [floats, factor], concat.output[0])

    def _look_up(self, gather: onnx.NodeProto) -> None:
        """Look embeddings up in int8, each row with its scale.

        By the same rounding as a tied decoder, whose columns are these rows: so the two are equal
        in int8 again, and `compaction` stores them once.
        """
        table, ids, output = gather.input[0], gather.input[1], gather.output[0]
        add, constant = self.editor.add, self.editor.constant
        quantized, scales = round_columns(self.editor.array(table).T)
        rows = constant(f"{table}/int8", np.ascontiguousarray(quantized.T))
        row_scales = constant(f"{table}/scales", scales[:, None])
        # Only the rows that were looked up are made float, never the table.
        found = add("Gather", [rows, ids], f"{output}/int8")
        found = add("Cast", [found], f"{output}/unscaled", {"to": TensorProto.FLOAT})
        scale = add("Gather", [row_scales, ids], f"{output}/scales")
        add("Mul", [found, scale], output)

    def _is_large_table(self, gather: onnx.NodeProto) -> bool:
        """Say whether rows of embeddings are looked up."""
        tensor = self.editor.constants.get(gather.input[0])
        by_row = all(a.i == 0 for a in gather.attribute if a.name == "axis")
        if tensor is None or tensor.data_type != TensorProto.FLOAT or not by_row:
            return False
        rows, columns = _LARGE_TABLE
        return len(tensor.dims) == 2 and tensor.dims[0] > rows and tensor.dims[1] > columns

    def _zero(self, product: str) -> str:
        """State that a product's matrix has 0 for 0, which the operators take for granted.

        On processors without VNNI, ONNX Runtime before 1.30 ends the process where it is not
        stated, or where several products share one constant for it.
        """
        return self.editor.constant(f"{product}/weight_zero_point", np.int8(0))
