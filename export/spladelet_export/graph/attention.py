"""Attention in plain products, whose sums have one order on every processor and in every batch.

ONNX Runtime's softmax, alone or inside its MultiHeadAttention, adds up a row's exponentials in as
many parts as the processor's vectors are wide. So its last bits differ between AVX2 and AVX-512,
and the rounding to int8 that follows makes whole steps of them. Here that sum is a matrix product,
which adds in the order of the positions; the other operators of the default model agree to the bit
(tests/runtime/encoder/test_processors.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from spladelet_export.graph.graph_editor import GraphEditor
from spladelet_export.graph.tensor_names import ATTENTION

_FUSED = "MultiHeadAttention"
# The mask, as each use of it needs it; written once for all layers.
IS_TEXT = f"{ATTENTION}/is_text"  # bool[batch, length, 1]
_SHARE = f"{ATTENTION}/share"  # the same as 0.0 and 1.0
_COUNTED = f"{ATTENTION}/counted"  # float32[batch, 1, length, columns]
# A product with a single column has a kernel of its own, whose order depends on the padding.
_COLUMNS = 2


def spell_out_attention(graph: onnx.GraphProto) -> None:
    """Replace each MultiHeadAttention and each softmax over the last axis by what it is made of.

    Attention of another form than the optimizer gives it (`_is_plain`) stays as it is.

    Args:
        graph: A logits graph with `attention_mask`, int64[batch, length]; changed in place.
    """
    _AttentionWriter(GraphEditor(graph)).run()


@dataclass(slots=True)
class _AttentionWriter:
    """Writes attention, node by node, into an editor."""

    editor: GraphEditor
    producers: dict[str, onnx.NodeProto] = field(default_factory=dict)

    def run(self) -> None:
        graph = self.editor.graph
        self.producers = {name: node for node in graph.node for name in node.output}
        self._read_mask()
        for node in graph.node:
            if node.op_type == _FUSED and self._is_plain(node):
                self._attention(node, self.producers[node.input[0]])
            elif node.op_type == "Softmax" and _axis(node) == -1:
                self._softmax(node)
            else:
                self.editor.nodes.append(node)
        # The fused operator asked for the texts' lengths; nothing does any more.
        self.editor.drop_unread()
        self.editor.finish()

    def _is_plain(self, node: onnx.NodeProto) -> bool:
        """Say whether queries are a product by a constant for this alone, biased, masked by length.

        Everything else that the operator may do has an input or an attribute of its own.
        """
        settings = {attribute.name for attribute in node.attribute}
        projection = self.producers.get(node.input[0])
        return (
            len(node.input) == 5
            and node.input[3] in self.editor.constants
            and settings <= {"num_heads", "mask_filter_value"}
            and projection is not None
            and projection.op_type == "MatMul"
            and projection.input[1] in self.editor.constants
            # Its matrix is about to be scaled, which another reader would notice.
            and len(self.editor.readers(node.input[0])) == 1
        )

    def _read_mask(self) -> None:
        add = self.editor.add
        column = add("Unsqueeze", ["attention_mask", self._numbers(2)], f"{ATTENTION}/column")
        add("Cast", [column], IS_TEXT, {"to": TensorProto.BOOL})
        add("Cast", [column], _SHARE, {"to": TensorProto.FLOAT})
        own = add("Unsqueeze", [_SHARE, self._numbers(1)], f"{ATTENTION}/share_4d")
        add("Expand", [own, self._numbers(1, 1, 1, _COLUMNS)], _COUNTED)

    def _softmax(self, node: onnx.NodeProto) -> None:
        add, name = self.editor.add, node.output[0]
        shares = self._exponentials(node.input[0], name)
        # Padding is in these scores already, as very small numbers, so every position counts.
        shape = add("Shape", [shares], f"{name}/shape", {"start": -1})
        shape = add("Concat", [shape, self._numbers(_COLUMNS)], f"{name}/columns", {"axis": 0})
        one = numpy_helper.from_array(np.ones(1, np.float32))
        ones = add("ConstantOfShape", [shape], f"{name}/ones", {"value": one})
        totals = self._first(add("MatMul", [shares, ones], f"{name}/totals"), -1)
        add("Div", [shares, totals], name)

    def _attention(self, node: onnx.NodeProto, projection: onnx.NodeProto) -> None:
        """Padding has the first position's key, which no maximum minds, no value and no count."""
        add, name = self.editor.add, node.output[0]
        heads = next(a.i for a in node.attribute if a.name == "num_heads")
        queries, keys, values = self._projections(node, projection, heads)
        keys = add("Where", [IS_TEXT, keys, self._first(keys, 1)], f"{name}/k/padded")
        values = add("Mul", [values, _SHARE], f"{values}/padded")

        queries = self._split(queries, heads, [0, 2, 1, 3])
        keys = self._split(keys, heads, [0, 2, 3, 1])
        values = self._split(values, heads, [0, 2, 1, 3])
        shares = self._exponentials(add("MatMul", [queries, keys], f"{name}/scores"), name)
        # Divided after the values are added up: a head is narrower than a text is long.
        sums = add("MatMul", [shares, values], f"{name}/sums")
        totals = self._first(add("MatMul", [shares, _COUNTED], f"{name}/totals"), -1)
        means = add("Div", [sums, totals], f"{name}/means")
        joined = add("Transpose", [means], f"{name}/joined", {"perm": [0, 2, 1, 3]})
        add("Reshape", [joined, self._numbers(0, 0, -1)], name)

    def _projections(
        self, node: onnx.NodeProto, projection: onnx.NodeProto, heads: int
    ) -> tuple[str, str, str]:
        """Add what bias matters; queries are scaled where they are made, which costs nothing.

        The keys' bias adds one number to all scores of a row, which the softmax takes away again.
        Scaled is their matrix, which layers may share, so the scaled one is another constant.
        """
        queries, keys, values, bias = node.input[:4]
        by_query, _, by_value = np.split(self.editor.array(bias), 3)
        scale = np.float32(math.sqrt(heads / len(by_query)))
        matrix = projection.input[1]
        scaled = self.editor.array(matrix) * scale
        projection.input[1] = self._part(matrix, "scaled", scaled)
        add, name = self.editor.add, node.output[0]
        queries = add("Add", [queries, self._part(bias, "query", by_query * scale)], f"{name}/q")
        values = add("Add", [values, self._part(bias, "value", by_value)], f"{name}/v")
        return queries, keys, values

    def _exponentials(self, scores: str, name: str) -> str:
        """Subtract each row's maximum first, as softmax does: an exponential could overflow."""
        add = self.editor.add
        top = add("ReduceMax", [scores, self._numbers(-1)], f"{name}/top", {"keepdims": 1})
        return add("Exp", [add("Sub", [scores, top], f"{name}/below")], f"{name}/shares")

    def _split(self, name: str, heads: int, order: Sequence[int]) -> str:
        apart = self.editor.add("Reshape", [name, self._numbers(0, 0, heads, -1)], f"{name}/heads")
        return self.editor.add("Transpose", [apart], f"{name}/by_head", {"perm": order})

    def _first(self, name: str, axis: int) -> str:
        inputs = [name, self._numbers(0), self._numbers(1), self._numbers(axis)]
        return self.editor.add("Slice", inputs, f"{name}/first")

    def _part(self, name: str, part: str, value: NDArray[np.float32]) -> str:
        return self.editor.constant(f"{name}/{part}", value.astype(np.float32))

    def _numbers(self, *numbers: int) -> str:
        return self.editor.constant(f"{ATTENTION}/{numbers}", np.array(numbers, np.int64))


def _axis(node: onnx.NodeProto) -> int:
    return next((int(a.i) for a in node.attribute if a.name == "axis"), -1)
