"""Graph surgery: from a masked language model's logits to pooled term weights.

A masked language model ends in [batch, length, vocab_size] logits, gigabytes of them.
log1p(relu(x)) is monotone, so for max pooling the maximum over positions can be taken first, on
raw logits, and in blocks of the vocabulary: the large tensor never exists.

    before   hidden ── MatMul decoder ── Add bias ── logits [B, L, V]
    after    hidden ┬─ MatMul block 1 ── ReduceMax over L ─┐
                    ├─ MatMul block 2 ── ReduceMax over L ─┤
                    └─ …                                   └─ Concat ── Add bias ── log1p ── [B, V]

Needs onnx and numpy only; knows nothing of torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from spladelet.bundle import Semantics
from spladelet_export.errors import GraphError

INPUTS = ("input_ids", "attention_mask")
OUTPUT = "weights"
# Terms per block: 1024 to 4096 run alike (benchmarks/README.md); the smaller, the less memory.
BLOCK = 1024
# Smaller tensors are not worth a Cast at load.
_HALF_PRECISION_FROM = 1024


@dataclass(slots=True)
class _Builder:
    """Nodes and constants to put into a graph, under one prefix."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def node(self, operator: str, inputs: Sequence[str], name: str, **attributes: object) -> str:
        output = f"splade/{name}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        full = f"splade/{name}"
        self.constants[full] = numpy_helper.from_array(np.asarray(value), full)
        return full


@dataclass(frozen=True, slots=True)
class _Tail:
    """The end of a masked language model.

    Attributes:
        hidden: Name of the [batch, length, hidden] tensor that the decoder multiplies.
        decoder: float32[hidden, vocab_size].
        bias: float32[vocab_size].
        nodes: The nodes to replace.
        constants: Names of their constants.
    """

    hidden: str
    decoder: NDArray[np.float32]
    bias: NDArray[np.float32]
    nodes: list[onnx.NodeProto]
    constants: list[str]


def fuse_pooling(
    model: onnx.ModelProto, semantics: Semantics, metadata: Mapping[str, str], block: int = BLOCK
) -> int:
    """Replace the logits of a masked language model by pooled term weights, in place.

    The result takes int64 input_ids and attention_mask [batch, length] and returns float32 weights
    [batch, vocab_size]. Token types are folded away; a decoder that equals the word embeddings is
    stored once; tensors that half precision holds exactly are stored so.

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
    graph = model.graph
    tail = _find_tail(graph)
    _remove(graph, tail.nodes, tail.constants)
    _fold_token_types(graph)
    head = _Builder()
    blocks = _decoder_blocks(graph, head, tail.decoder, block)
    pool = _max_pooling if semantics.pooling == "max" else _sum_pooling
    _activate(head, pool(head, tail, blocks), semantics)
    _insert(graph, head)
    _store_half_precision(graph)
    vocab_size = len(tail.bias)
    _set_interface(model, vocab_size)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    return vocab_size


def opset(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators that a graph uses."""
    standard = ("", "ai.onnx")
    return max(int(entry.version) for entry in model.opset_import if entry.domain in standard)


def _find_tail(graph: onnx.GraphProto) -> _Tail:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    logits = graph.output[0].name
    add = producers.get(logits)
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
    return _Tail(matmul.input[0], decoder, bias, [matmul, add], [matmul.input[1], bias_name])


def _unexpected(name: str, node: onnx.NodeProto | None, expected: str) -> str:
    found = node.op_type if node else "no node"
    return (
        f"tensor {name!r} comes from {found}; expected {expected}, as at the end of a masked "
        "language model. Export the checkpoint with task fill-mask."
    )


def _fold_token_types(graph: onnx.GraphProto) -> None:
    """Replace the look-up of token types by the embedding of type 0, which all texts have."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    lookups = [n for n in graph.node if n.op_type == "Gather" and n.input[1] == "token_type_ids"]
    for lookup in lookups:
        first = numpy_helper.to_array(constants[lookup.input[0]])[0]
        graph.initializer.append(numpy_helper.from_array(first[None, None], lookup.output[0]))
        _remove(graph, [lookup], [lookup.input[0]])


def _decoder_blocks(
    graph: onnx.GraphProto, head: _Builder, decoder: NDArray[np.float32], block: int
) -> list[tuple[slice, str]]:
    """Return the decoder's blocks of columns: the terms of each, and its tensor's name."""
    terms = list(_spans(decoder.shape[1], block))
    tied = _tied_embedding(graph, decoder)
    if tied is None:
        return [
            (span, head.constant(f"decoder/{i}", decoder[:, span])) for i, span in enumerate(terms)
        ]
    # Folded once, when the graph is loaded; slicing block by block would copy the whole each time.
    sizes = np.array([span.stop - span.start for span in terms], np.int64)
    transposed = head.node("Transpose", [tied], "decoder", perm=[1, 0])
    outputs = [f"splade/decoder/{i}" for i in range(len(terms))]
    inputs = [transposed, head.constant("decoder_sizes", sizes)]
    head.nodes.append(helper.make_node("Split", inputs, outputs, name="splade/split", axis=1))
    return list(zip(terms, outputs, strict=True))


def _spans(total: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, total)) for start in range(0, total, step))


def _tied_embedding(graph: onnx.GraphProto, decoder: NDArray[np.float32]) -> str | None:
    """Find the embedding matrix that the decoder is the transpose of."""
    looked_up = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    for tensor in graph.initializer:
        if tensor.name in looked_up and tuple(tensor.dims) == decoder.shape[::-1]:
            if np.array_equal(numpy_helper.to_array(tensor).T, decoder):
                return str(tensor.name)
    return None


def _max_pooling(head: _Builder, tail: _Tail, blocks: list[tuple[slice, str]]) -> str:
    """Max over positions of the raw logits; the bias is the same everywhere, so it comes after.

    Padding is not masked block by block: its hidden states are replaced by those of the first
    position, and a maximum does not mind seeing a value twice.
    """
    zero, one = head.constant("zero", np.array([0])), head.constant("one", np.array([1]))
    first = head.node("Slice", [tail.hidden, zero, one, one], "first_position")
    real = head.node("Cast", ["attention_mask"], "is_real", to=TensorProto.BOOL)
    real = head.node("Unsqueeze", [real, head.constant("two", np.array([2]))], "is_real_3d")
    hidden = head.node("Where", [real, tail.hidden, first], "hidden")
    pooled = [
        head.node(
            "ReduceMax",
            [head.node("MatMul", [hidden, weights], f"logits/{i}"), one],
            f"max/{i}",
            keepdims=0,
        )
        for i, (_, weights) in enumerate(blocks)
    ]
    joined = head.node("Concat", pooled, "max", axis=1)
    return head.node("Add", [joined, head.constant("bias", tail.bias)], "pooled")


def _sum_pooling(head: _Builder, tail: _Tail, blocks: list[tuple[slice, str]]) -> str:
    """Sum over positions of log1p(relu(logits)): the activation comes first, still per block.

    Masking and summing is one product, [batch, 1, length] x [batch, length, block].
    """
    one = head.constant("one", np.array([1]))
    real = head.node("Cast", ["attention_mask"], "is_real", to=TensorProto.FLOAT)
    real = head.node("Unsqueeze", [real, one], "is_real_3d")
    pooled = []
    for i, (terms, weights) in enumerate(blocks):
        logits = head.node("MatMul", [tail.hidden, weights], f"product/{i}")
        bias = head.constant(f"bias/{i}", tail.bias[terms])
        activated = _log1p_relu(head, head.node("Add", [logits, bias], f"logits/{i}"), f"/{i}")
        summed = head.node("MatMul", [real, activated], f"sum_3d/{i}")
        pooled.append(head.node("Squeeze", [summed, one], f"sum/{i}"))
    return head.node("Concat", pooled, "pooled", axis=1)


def _activate(head: _Builder, pooled: str, semantics: Semantics) -> None:
    """Name the end of the head `weights`, after the activations that are left to do."""
    if semantics.pooling == "max":
        pooled = _log1p_relu(head, pooled, "")
    if semantics.activation == "log1p_log1p":
        one = head.constant("one_float", np.float32(1))
        pooled = head.node("Log", [head.node("Add", [pooled, one], "plus_one_again")], "log_again")
    head.nodes.append(helper.make_node("Identity", [pooled], [OUTPUT], name="splade/weights"))


def _log1p_relu(head: _Builder, tensor: str, suffix: str) -> str:
    one = head.constant("one_float", np.float32(1))
    positive = head.node("Relu", [tensor], f"relu{suffix}")
    return head.node(
        "Log", [head.node("Add", [positive, one], f"plus_one{suffix}")], f"log{suffix}"
    )


def _store_half_precision(graph: onnx.GraphProto) -> None:
    """Store what float16 holds exactly as float16: half the file, the same numbers.

    Checkpoints saved in half precision are such; the Cast is folded when the graph is loaded.
    """
    casts = []
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < _HALF_PRECISION_FROM:
            continue
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if np.array_equal(half.astype(np.float32), values):
            name = f"{tensor.name}/float16"
            graph.initializer.remove(tensor)
            graph.initializer.append(numpy_helper.from_array(half, name))
            casts.append(
                helper.make_node("Cast", [name], [tensor.name], name=name, to=TensorProto.FLOAT)
            )
    _prepend(graph, casts)


def _insert(graph: onnx.GraphProto, head: _Builder) -> None:
    graph.node.extend(head.nodes)
    graph.initializer.extend(head.constants.values())


def _prepend(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])


def _remove(
    graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto], constants: Sequence[str]
) -> None:
    for node in nodes:
        graph.node.remove(node)
    still_used = {name for node in graph.node for name in node.input}
    for tensor in [t for t in graph.initializer if t.name in constants]:
        if tensor.name not in still_used:
            graph.initializer.remove(tensor)


def _set_interface(model: onnx.ModelProto, vocab_size: int) -> None:
    graph = model.graph
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in INPUTS
    )
    graph.output.append(
        helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", vocab_size])
    )
