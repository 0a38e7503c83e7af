"""Arithmetic that rounds alike in every release of ONNX Runtime and on every processor.

A last bit that differs before a rounding to int8 makes a whole step, and that up to 0.13 of a
weight. Two operators of the default model have such bits: LayerNormalization, whose sums were
reordered in releases 1.27 and 1.30, and MatMulIntegerToFloat, which on ARM multiplies and adds its
bias in one rounding. What is written here has nothing to choose: sums are taken in float64, whose
order shows in float32 once in a thousand million rows, and all else is one operation a node, which
IEEE 754 rounds in one way. The sum of attention's shares is in `attention`.

WebAssembly has no fused multiply-add and a mathematical library of its own, so there attention's
products, Exp and Gelu differ as well. In float64 they do not, which takes half as much time again;
so it is a form that has to be asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import onnx
from onnx import TensorProto, helper

from spladelet_export.graph import tensor_names
from spladelet_export.graph.attention import IS_TEXT
from spladelet_export.graph.graph_editor import GraphEditor

PROCESSORS = ("x86_64", "aarch64")
WEB = "wasm"

_PREFIX = f"{tensor_names.PREFIX}rounding/"
# Of these, each number that comes out is rounded once, or is an integer, or is only moved; or their
# order is that of positions everywhere (float32 MatMul), as tests on every processor have it.
_ALIKE = frozenset(
    "Abs Add ArgMax Cast Concat ConstantOfShape Div Equal Exp Expand Gather GatherND Gelu Identity "
    "MatMul MatMulInteger MatMulIntegerToFloat Max Mul Neg NonZero QuantizeLinear ReduceLogSum "
    "ReduceMax ReduceMean ReduceSumSquare Relu Reshape ScatterND Shape Slice Split Sqrt Squeeze "
    "Sub Transpose Unsqueeze Where".split()
)
# Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: erfc within 1.5e-7; halved.
_ERFC = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
_ERFC_SHARE = 0.3275911


def spell_out_rounding(graph: onnx.GraphProto, *, web: bool = False) -> None:
    """Replace, in place, what rounds differently from one machine to the next.

    An operator of another form than the optimizer gives it stays as it is, and `alike_on` says so.

    Args:
        graph: An int8 graph, compacted or not.
        web: Write what WebAssembly would round differently in float64, too.
    """
    _Speller(GraphEditor(graph), web).run()


def alike_on(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Say on which machines a graph gives the same bits, with every release that is admitted.

    Returns:
        Names as `platform.machine()` has them on Linux, and "wasm"; none where the graph has an
        operator of which it is not known.
    """
    if not all(_is_alike(node) for node in graph.node):
        return ()
    wide = {n.output[0] for n in graph.node if n.op_type == "Cast" and _to(n) == TensorProto.DOUBLE}
    narrow = [
        node
        for node in graph.node
        if node.op_type == "Gelu"
        or (node.op_type in ("MatMul", "Exp") and not wide.issuperset(node.input))
    ]
    constants = _constants(graph)
    # Products by float32 matrices have kernels of their own, which no test has compared.
    if any(node.op_type == "MatMul" and constants & {*node.input} for node in narrow):
        return ()
    return PROCESSORS if narrow else (*PROCESSORS, WEB)


def _constants(graph: onnx.GraphProto) -> set[str]:
    """Return the tensors that depend on no text: what is stored, and what is made of that alone."""
    found = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if found.issuperset(node.input):
            found.update(node.output)
    return found


def _is_alike(node: onnx.NodeProto) -> bool:
    has_bias = node.op_type == "MatMulIntegerToFloat" and len(node.input) > 6
    return node.op_type in _ALIKE and not has_bias


def _to(node: onnx.NodeProto) -> int:
    return next(int(a.i) for a in node.attribute if a.name == "to")


@dataclass(slots=True)
class _Speller:
    """Writes a graph anew, node by node, into an editor."""

    editor: GraphEditor
    web: bool
    wide: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        for node in self.editor.graph.node:
            if node.op_type == "LayerNormalization" and self._is_plain(node):
                self._layer_norm(node)
            elif node.op_type == "MatMulIntegerToFloat" and len(node.input) > 6:
                self._biased_product(node)
            elif self.web and node.op_type == "Gelu":
                self._gelu(node)
            elif self.web and node.op_type in ("MatMul", "Exp"):
                self._in_float64(node)
            else:
                self.editor.nodes.append(node)
        self.editor.finish()

    def _is_plain(self, node: onnx.NodeProto) -> bool:
        """Say whether it is over the last axis, of known size, and nothing else of it is read."""
        scale = self.editor.constants.get(node.input[1])
        axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
        return scale is not None and len(scale.dims) == 1 and axis == -1 and len(node.output) == 1

    def _layer_norm(self, node: onnx.NodeProto) -> None:
        """Mean and deviation in float64, one number of each a row; the row itself in float32."""
        add, rows, name = self._add, node.input[0], node.output[0]
        size = self.editor.constants[node.input[1]].dims[0]
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        last = self._constant("last_axis", np.array([-1], np.int64))
        wide = self._float64(rows)
        mean = add("ReduceMean", [wide, last], f"{name}/norm/mean", {"keepdims": 1})
        apart = add("Sub", [wide, mean], f"{name}/norm/apart")
        squares = add("ReduceSumSquare", [apart, last], f"{name}/norm/squares", {"keepdims": 1})
        # 1 / sqrt(squares / size + epsilon), the division by size taken out of the root.
        floor = self._constant(f"floor/{size}/{epsilon}", np.float64(epsilon * size))
        floored = add("Add", [squares, floor], f"{name}/norm/floored")
        extent = self._constant(f"extent/{size}", np.sqrt(np.float64(size)))
        root = add("Sqrt", [floored], f"{name}/norm/root")
        factor = self._float32(add("Div", [extent, root], f"{name}/norm/factor"))

        centred = add("Sub", [rows, self._float32(mean)], f"{name}/norm/centred")
        unit = add("Mul", [centred, factor], f"{name}/norm/unit")
        has_shift = len(node.input) > 2
        scaled = add("Mul", [unit, node.input[1]], f"{name}/norm/scaled" if has_shift else name)
        if has_shift:
            add("Add", [scaled, node.input[2]], name)

    def _biased_product(self, node: onnx.NodeProto) -> None:
        name, bias = node.output[0], node.input[6]
        is_key = self._is_key(name)
        product = name if is_key else f"{name}/unbiased"
        domain = node.domain
        self.editor.nodes.append(
            helper.make_node(node.op_type, node.input[:6], [product], domain=domain)
        )
        if not is_key:
            self._add("Add", [product, bias], name)

    def _is_key(self, name: str) -> bool:
        """Say whether nothing but attention's padding of keys reads a tensor; see `attention`."""
        readers = self.editor.readers(name)
        padding = [node for node in readers if IS_TEXT in node.input]
        return bool(padding) and {node.op_type for node in readers} == {"Where", "Slice"}

    def _in_float64(self, node: onnx.NodeProto) -> None:
        inputs = [self._float64(name) for name in node.input]
        result = self._add(node.op_type, inputs, f"{node.output[0]}/wide")
        self._add("Cast", [result], node.output[0], {"to": TensorProto.FLOAT})

    def _gelu(self, node: onnx.NodeProto) -> None:
        """Write gelu(x) as max(x, 0) - |x| erfc(|x| / sqrt(2)) / 2; only Exp needs float64."""
        add, x, name = self._add, node.input[0], node.output[0]
        size = add("Abs", [x], f"{name}/gelu/size")
        inner = add(
            "Mul", [size, self._float("erfc_share", _ERFC_SHARE / 2**0.5)], f"{name}/gelu/inner"
        )
        one = self._float("one", 1.0)
        share = add(
            "Div", [one, add("Add", [inner, one], f"{name}/gelu/outer")], f"{name}/gelu/share"
        )
        tail = self._float("erfc/0", _ERFC[0] / 2)
        for number, coefficient in enumerate(_ERFC[1:], 1):
            product = add("Mul", [tail, share], f"{name}/gelu/product/{number}")
            constant = self._float(f"erfc/{number}", coefficient / 2)
            tail = add("Add", [product, constant], f"{name}/gelu/sum/{number}")
        tail = add("Mul", [tail, share], f"{name}/gelu/polynomial")
        square = add("Mul", [size, size], f"{name}/gelu/square")
        exponent = add("Mul", [square, self._float("minus_half", -0.5)], f"{name}/gelu/exponent")
        power = self._float32(add("Exp", [self._float64(exponent)], f"{name}/gelu/power"))
        tail = add(
            "Mul", [add("Mul", [tail, power], f"{name}/gelu/tail"), size], f"{name}/gelu/loss"
        )
        add("Sub", [add("Relu", [x], f"{name}/gelu/positive"), tail], name)

    def _float64(self, name: str) -> str:
        """Widen a tensor, once for all that read it."""
        if name not in self.wide:
            self.wide[name] = self._add(
                "Cast", [name], f"{name}/float64", {"to": TensorProto.DOUBLE}
            )
        return self.wide[name]

    def _float32(self, name: str) -> str:
        return self._add("Cast", [name], f"{name}/float32", {"to": TensorProto.FLOAT})

    def _add(
        self,
        operator: str,
        inputs: list[str],
        output: str,
        attributes: Mapping[str, object] = MappingProxyType({}),
    ) -> str:
        return self.editor.add(operator, inputs, output, attributes)

    def _float(self, name: str, value: float) -> str:
        return self._constant(name, np.float32(value))

    def _constant(self, name: str, value: "np.ndarray | np.generic") -> str:
        return self.editor.constant(f"{_PREFIX}{name}", value)
