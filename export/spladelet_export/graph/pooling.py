"""Graph surgery: from a masked language model's logits to pooled term weights.

A masked language model ends in [batch, length, vocab_size] logits, gigabytes of them.
log1p(relu(x)) is monotone, so for max pooling the maximum over positions can be taken first, on
raw logits, and in blocks of the vocabulary: the large tensor never exists.

    before   hidden ── MatMul decoder ── Add bias ── logits [B, L, V]
    after    hidden ┬─ MatMul block 1 ── ReduceMax over L ─┐
                    ├─ MatMul block 2 ── ReduceMax over L ─┤
                    └─ …                                   └─ Concat ── Add bias ── log1p ── [B, V]
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from spladelet.bundle.description import Semantics
from spladelet_export.errors import GraphError
from spladelet_export.graph import tensor_names
from spladelet_export.graph.graph_editor import GraphEditor, spans
from spladelet_export.graph.logits_graph import TOKEN_TYPES, takes_texts

# Terms per block: 1024 to 4096 run alike (benchmarks/README.md); the smaller, the less memory.
BLOCK = 1024


@dataclass(frozen=True, slots=True)
class _Tail:
    """The end of a masked language model.

    Attributes:
        hidden: Name of the [batch, length, hidden] tensor that the decoder multiplies.
        decoder: float32[hidden, vocab_size].
        bias: float32[vocab_size].
        outputs: What its nodes make; they are replaced.
    """

    hidden: str
    decoder: NDArray[np.float32]
    bias: NDArray[np.float32]
    outputs: frozenset[str]


def fuse_pooling(
    model: onnx.ModelProto, semantics: Semantics, metadata: Mapping[str, str], block: int = BLOCK
) -> int:
    """Replace the logits of a masked language model by pooled term weights, in place.

    The result takes int64 input_ids and attention_mask [batch, length] and returns float32 weights
    [batch, vocab_size]. Token types are folded away.

    Args:
        model: A graph whose first output is the logits.
        semantics: Pooling and activation.
        metadata: Written into the model's metadata.
        block: Terms per block of the vocabulary.

    Returns:
        The vocabulary's size.

    Raises:
        GraphError: The graph does not end as a masked language model does.
    """
    _check_inputs(model.graph)
    tail = _find_tail(model.graph)
    _replace_tail(model.graph, tail, semantics, block)
    vocab_size = len(tail.bias)
    _set_interface(model.graph, vocab_size)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    return vocab_size


def _replace_tail(graph: onnx.GraphProto, tail: _Tail, semantics: Semantics, block: int) -> None:
    editor = GraphEditor(graph)
    editor.nodes += [node for node in graph.node if node.output[0] not in tail.outputs]
    _fold_token_types(editor)
    _Head(editor, tail, semantics).write(block)
    editor.finish()


def _check_inputs(graph: onnx.GraphProto) -> None:
    """Refuse inputs that the runtime would not fill."""
    found = {entry.name for entry in graph.input}
    if not takes_texts(found):
        raise GraphError(
            f"the graph has inputs {', '.join(sorted(found))}; expected input_ids, attention_mask "
            "and perhaps token_type_ids. Export the checkpoint with task fill-mask."
        )


def _find_tail(graph: onnx.GraphProto) -> _Tail:
    """Walk back from the logits: an Add of the bias, before it a MatMul by the decoder."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    logits = graph.output[0].name
    add = producers.get(logits)
    # Exporters write both "product + bias" and "bias + product".
    bias_name = next((name for name in add.input if name in constants), None) if add else None
    if add is None or add.op_type != "Add" or bias_name is None:
        raise GraphError(_unexpected(logits, add, "Add of a constant bias"))
    product = next(name for name in add.input if name != bias_name)
    matmul = producers.get(product)
    if matmul is None or matmul.op_type != "MatMul" or matmul.input[1] not in constants:
        raise GraphError(_unexpected(product, matmul, "MatMul with a constant decoder"))
    decoder = numpy_helper.to_array(constants[matmul.input[1]])
    bias = numpy_helper.to_array(constants[bias_name])
    if decoder.ndim != 2 or bias.shape != decoder.shape[1:]:
        raise GraphError(
            f"the decoder has shape {decoder.shape} and its bias {bias.shape}; expected "
            "[hidden, vocab_size] and [vocab_size]."
        )
    return _Tail(matmul.input[0], decoder, bias, frozenset((product, logits)))


def _unexpected(name: str, node: onnx.NodeProto | None, expected: str) -> str:
    found = node.op_type if node else "no node"
    return (
        f"tensor {name!r} comes from {found}; expected {expected}, as at the end of a masked "
        "language model. Export the checkpoint with task fill-mask."
    )


def _fold_token_types(editor: GraphEditor) -> None:
    """Replace the look-up of token types by the embedding of type 0, which all texts have."""
    kept = []
    for node in editor.nodes:
        if node.op_type == "Gather" and node.input[1] == TOKEN_TYPES:
            # Under the look-up's own name and with its rank, so that the Add after it stays.
            editor.constant(node.output[0], editor.array(node.input[0])[0][None, None])
        else:
            kept.append(node)
    editor.nodes = kept


@dataclass(slots=True)
class _Head:
    """Writes what follows the hidden states: products by blocks, pooling and activation."""

    editor: GraphEditor
    tail: _Tail
    semantics: Semantics

    def write(self, block: int) -> None:
        """Write the head, its decoder cut into blocks of so many terms."""
        blocks = [
            (span, self.editor.constant(tensor_names.decoder_block(i), self.tail.decoder[:, span]))
            for i, span in enumerate(spans(self.tail.decoder.shape[1], block))
        ]
        pool = self._max_pooling if self.semantics.pooling == "max" else self._sum_pooling
        name = f"{tensor_names.PREFIX}weights"
        self.editor.add("Identity", [pool(blocks)], tensor_names.OUTPUT, {"name": name})

    def _max_pooling(self, blocks: list[tuple[slice, str]]) -> str:
        """Max over positions of the raw logits; the bias is the same everywhere, so it comes after.

        Padding is not masked block by block: its hidden states are replaced by those of the first
        position, and a maximum does not mind seeing a value twice.
        """
        zero, one = self._constant("zero", np.array([0])), self._constant("one", np.array([1]))
        first = self._node("Slice", [self.tail.hidden, zero, one, one], "first_position")
        real = self._node("Cast", ["attention_mask"], "is_real", to=TensorProto.BOOL)
        real = self._node("Unsqueeze", [real, self._constant("two", np.array([2]))], "is_real_3d")
        hidden = self._add("Where", [real, self.tail.hidden, first], tensor_names.HIDDEN)
        maxima = []
        for i, (_, weights) in enumerate(blocks):
            logits = self._node("MatMul", [hidden, weights], f"logits/{i}")
            maxima.append(self._node("ReduceMax", [logits, one], f"max/{i}", keepdims=0))
        joined = self._add("Concat", maxima, tensor_names.POOLED, axis=1)
        pooled = self._node("Add", [joined, self._constant("bias", self.tail.bias)], "pooled")
        return self._activate_few(pooled)

    def _sum_pooling(self, blocks: list[tuple[slice, str]]) -> str:
        """Sum over positions of the activated logits: the activation comes first, still per block.

        Masking and summing is one product, [batch, 1, length] x [batch, length, block].
        """
        one = self._constant("one", np.array([1]))
        real = self._node("Cast", ["attention_mask"], "is_real", to=TensorProto.FLOAT)
        real = self._node("Unsqueeze", [real, one], "is_real_3d")
        pooled = []
        for i, (terms, weights) in enumerate(blocks):
            logits = self._node("MatMul", [self.tail.hidden, weights], f"product/{i}")
            # No maximum: the bias counts at every position, so it cannot wait until the end.
            bias = self._constant(f"bias/{i}", self.tail.bias[terms])
            shifted = self._node("Add", [logits, bias], f"logits/{i}")
            activated = self._activate(shifted, f"/{i}")
            summed = self._node("MatMul", [real, activated], f"sum_3d/{i}")
            pooled.append(self._node("Squeeze", [summed, one], f"sum/{i}"))
        return self._node("Concat", pooled, "pooled", axis=1)

    def _activate_few(self, tensor: str) -> str:
        """Take the logarithm of the few terms that are above zero, one by one.

        Over a whole tensor, ONNX Runtime's Log takes several numbers at once, except those at the
        ends of a thread's share, whose last bit may then differ: it would depend on the batch.
        """
        one, axis = self._one_float(), self._constant("one", np.array([1]))
        positive = self._node("Relu", [tensor], "relu")
        places = self._node("NonZero", [positive], "nonzero")
        # NonZero gives a row for each axis; GatherND and ScatterND want one for each place.
        places = self._node("Transpose", [places], "places", perm=[1, 0])
        few = self._node("GatherND", [positive, places], "few")
        for number in range(2 if self.semantics.activation == "log1p_log1p" else 1):
            few = self._node("Add", [few, one], f"plus_one/{number}")
            # ReduceLogSum over one number is its logarithm, by an operator that goes row by row.
            column = self._node("Unsqueeze", [few, axis], f"column/{number}")
            few = self._node("ReduceLogSum", [column, axis], f"log/{number}", keepdims=0)
        return self._node("ScatterND", [positive, places, few], "activated")

    def _activate(self, tensor: str, suffix: str) -> str:
        """Take the logarithm of all terms; a sum is rounded as its length is padded anyway."""
        one = self._one_float()
        positive = self._node("Relu", [tensor], f"relu{suffix}")
        weights = self._log1p(positive, one, suffix)
        if self.semantics.activation == "log1p_log1p":
            weights = self._log1p(weights, one, f"{suffix}_again")
        return weights

    def _log1p(self, tensor: str, one: str, suffix: str) -> str:
        return self._node(
            "Log", [self._node("Add", [tensor, one], f"plus_one{suffix}")], f"log{suffix}"
        )

    def _one_float(self) -> str:
        return self._constant("one_float", np.float32(1))

    def _node(self, operator: str, inputs: list[str], name: str, **attributes: object) -> str:
        return self._add(operator, inputs, f"{tensor_names.PREFIX}{name}", **attributes)

    def _add(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        # Named as their outputs, so that a profile of a run can be read.
        return self.editor.add(operator, inputs, output, {"name": output, **attributes})

    def _constant(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        return self.editor.constant(f"{tensor_names.PREFIX}{name}", value)


def _set_interface(graph: onnx.GraphProto, vocab_size: int) -> None:
    """Declare the inputs and the output, with no fixed batch or length."""
    # The shapes noted inside are those of the exporter's example, and some tensors are gone.
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in tensor_names.INPUTS
    )
    graph.output.append(
        helper.make_tensor_value_info(tensor_names.OUTPUT, TensorProto.FLOAT, ["batch", vocab_size])
    )
