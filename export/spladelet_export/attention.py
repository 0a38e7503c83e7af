"""Attention in plain products, whose sums have one order on every processor and in every batch.

ONNX Runtime's softmax, alone or inside its MultiHeadAttention, adds a row's exponentials up in as
many parts as the processor's vectors are wide. So its last bits differ between AVX2 and AVX-512,
and the rounding to int8 that follows makes whole steps of them. Here that sum is a matrix product,
which adds in the order of the positions; the other operators of the default model agree to the bit
(tests/runtime/test_processors.py).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from spladelet_export.graph import used_names

_FUSED = "MultiHeadAttention"
_PREFIX = "splade/attention"
# A product with a single column has a kernel of its own, whose order depends on the padding.
_COLUMNS = 2


def spell_out_attention(graph: onnx.GraphProto) -> None:
    """Replace each MultiHeadAttention and each softmax over the last axis by what it is made of.

    Attention of another form than the optimizer gives it (`_is_plain`) stays as it is.

    Args:
        graph: A trunk with `attention_mask`, int64[batch, length]; changed in place.
    """
    _Writer(graph).run()


@dataclass(slots=True)
class _Writer:
    """Writes a graph's nodes anew."""

    graph: onnx.GraphProto
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def run(self) -> None:
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        producers = {name: node for node in self.graph.node for name in node.output}
        self._read_mask()
        for node in self.graph.node:
            if node.op_type == _FUSED and self._is_plain(node, producers):
                self._attention(node, producers[node.input[0]])
            elif node.op_type == "Softmax" and _axis(node) == -1:
                self._softmax(node)
            else:
                self.nodes.append(node)
        needed, kept = {output.name for output in self.graph.output}, []
        for node in reversed(self.nodes):  # nothing asks for the texts' lengths any more
            if needed.intersection(node.output):
                kept.append(node)
                needed |= used_names([node])
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(reversed(kept))
        self.graph.initializer.extend(t for name, t in self.constants.items() if name in needed)

    def _is_plain(self, node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto]) -> bool:
        """Say whether queries are a product by a constant for this alone, biased, masked by length.

        Everything else that the operator may do has an input or an attribute of its own.
        """
        settings = {attribute.name for attribute in node.attribute}
        projection = producers.get(node.input[0])
        readers = [other for other in self.graph.node if node.input[0] in other.input]
        return (
            len(node.input) == 5
            and node.input[3] in self.constants
            and settings <= {"num_heads", "mask_filter_value"}
            and projection is not None
            and projection.op_type == "MatMul"
            and projection.input[1] in self.constants
            and len(readers) == 1
        )

    def _read_mask(self) -> None:
        """Write the mask as what each use of it needs, once for all layers."""
        column = self._add("Unsqueeze", ["attention_mask", self._numbers(2)], f"{_PREFIX}/column")
        self._add("Cast", [column], f"{_PREFIX}/is_text", to=TensorProto.BOOL)
        self._add("Cast", [column], f"{_PREFIX}/share", to=TensorProto.FLOAT)
        own = self._add("Unsqueeze", [f"{_PREFIX}/share", self._numbers(1)], f"{_PREFIX}/share_4d")
        columns = self._numbers(1, 1, 1, _COLUMNS)
        self._add("Expand", [own, columns], f"{_PREFIX}/counted")  # [batch, 1, length, columns]

    def _softmax(self, node: onnx.NodeProto) -> None:
        name = node.output[0]
        shares = self._exponentials(node.input[0], name)
        shape = self._add("Shape", [shares], f"{name}/shape", start=-1)
        shape = self._add("Concat", [shape, self._numbers(_COLUMNS)], f"{name}/columns", axis=0)
        one = numpy_helper.from_array(np.ones(1, np.float32))
        ones = self._add("ConstantOfShape", [shape], f"{name}/ones", value=one)
        totals = self._first(self._add("MatMul", [shares, ones], f"{name}/totals"), -1)
        self._add("Div", [shares, totals], name)

    def _attention(self, node: onnx.NodeProto, projection: onnx.NodeProto) -> None:
        """Padding has the first position's key, which no maximum minds, no value and no count."""
        queries, keys, values, bias = node.input[:4]
        heads = next(a.i for a in node.attribute if a.name == "num_heads")
        by_query, by_key, by_value = np.split(self._array(bias), 3)
        scale = np.float32(math.sqrt(heads / len(by_query)))
        self._scale(projection, scale)
        name = node.output[0]
        queries = self._add(
            "Add", [queries, self._own(bias, "query", by_query * scale)], f"{name}/q"
        )
        keys = self._add("Add", [keys, self._own(bias, "key", by_key)], f"{name}/k")
        values = self._add("Add", [values, self._own(bias, "value", by_value)], f"{name}/v")
        first = self._first(keys, 1)
        keys = self._add("Where", [f"{_PREFIX}/is_text", keys, first], f"{keys}/padded")
        values = self._add("Mul", [values, f"{_PREFIX}/share"], f"{values}/padded")

        queries = self._split(queries, heads, [0, 2, 1, 3])
        keys = self._split(keys, heads, [0, 2, 3, 1])
        values = self._split(values, heads, [0, 2, 1, 3])
        shares = self._exponentials(self._add("MatMul", [queries, keys], f"{name}/scores"), name)
        sums = self._add("MatMul", [shares, values], f"{name}/sums")
        totals = self._first(
            self._add("MatMul", [shares, f"{_PREFIX}/counted"], f"{name}/totals"), -1
        )
        means = self._add("Div", [sums, totals], f"{name}/means")
        joined = self._add("Transpose", [means], f"{name}/joined", perm=[0, 2, 1, 3])
        self._add("Reshape", [joined, self._numbers(0, 0, -1)], name)

    def _exponentials(self, scores: str, name: str) -> str:
        top = self._add("ReduceMax", [scores, self._numbers(-1)], f"{name}/top", keepdims=1)
        return self._add(
            "Exp", [self._add("Sub", [scores, top], f"{name}/below")], f"{name}/shares"
        )

    def _scale(self, projection: onnx.NodeProto, scale: np.float32) -> None:
        """Scale queries where they are made: in their matrix, which layers may share."""
        matrix = projection.input[1]
        projection.input[1] = self._own(matrix, "scaled", self._array(matrix) * scale)

    def _split(self, name: str, heads: int, order: Sequence[int]) -> str:
        apart = self._add("Reshape", [name, self._numbers(0, 0, heads, -1)], f"{name}/heads")
        return self._add("Transpose", [apart], f"{name}/by_head", perm=order)

    def _first(self, name: str, axis: int) -> str:
        inputs = [name, self._numbers(0), self._numbers(1), self._numbers(axis)]
        return self._add("Slice", inputs, f"{name}/first")

    def _array(self, name: str) -> NDArray[np.float32]:
        array: NDArray[np.float32] = numpy_helper.to_array(self.constants[name])
        return array

    def _own(self, name: str, part: str, value: NDArray[np.float32]) -> str:
        made = f"{name}/{part}"
        if made not in self.constants:
            self.constants[made] = numpy_helper.from_array(value.astype(np.float32), made)
        return made

    def _numbers(self, *numbers: int) -> str:
        name = f"{_PREFIX}/{numbers}"
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.array(numbers, np.int64), name)
        return name

    def _add(self, operator: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output


def _axis(node: onnx.NodeProto) -> int:
    return next((int(a.i) for a in node.attribute if a.name == "axis"), -1)
