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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, version_converter

from spladelet.bundle.description import Semantics
from spladelet_export.errors import GraphError

OPSET = 18  # of the operators that are written here
MAX_BYTES = (1 << 31) - 1  # of one protobuf message
INPUTS = ("input_ids", "attention_mask")
# Other names for the same inputs: TensorFlow's, which some exported checkpoints keep.
ALIASES = {"input_mask": "attention_mask", "segment_ids": "token_type_ids"}
OUTPUT = "weights"
HIDDEN = "splade/hidden"  # what the decoder multiplies, padding replaced
POOLED = "splade/max"  # the maxima over positions, before the bias
_DECODER = "decoder"
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
    graph = model.graph
    _check_inputs(graph)
    tail = _find_tail(graph)
    _remove(graph, tail.nodes, tail.constants)
    _fold_token_types(graph)
    head = _Builder()
    blocks = [
        (span, head.constant(f"{_DECODER}/{i}", tail.decoder[:, span]))
        for i, span in enumerate(_spans(tail.decoder.shape[1], block))
    ]
    pool = _max_pooling if semantics.pooling == "max" else _sum_pooling
    weights = pool(head, tail, blocks, semantics.activation)
    head.nodes.append(helper.make_node("Identity", [weights], [OUTPUT], name="splade/weights"))
    graph.node.extend(head.nodes)
    graph.initializer.extend(head.constants.values())
    vocab_size = len(tail.bias)
    _set_interface(model, vocab_size)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    return vocab_size


def compact(model: onnx.ModelProto) -> None:
    """Store nothing twice and nothing wider than it is, in place; the numbers stay the same.

    A decoder that equals the embeddings is cut from them when the graph is loaded, and float32
    tensors that float16 holds exactly are stored as float16.
    """
    _share_decoder(model.graph)
    _store_half_precision(model.graph)


def rename_inputs(model: onnx.ModelProto) -> None:
    """Give inputs their usual names, in place; see `ALIASES`."""
    for entry in model.graph.input:
        entry.name = ALIASES.get(entry.name, entry.name)
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = ALIASES.get(name, name)


def opset(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators that a graph uses."""
    standard = ("", "ai.onnx")
    return max(int(entry.version) for entry in model.opset_import if entry.domain in standard)


def upgrade(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph as a recent exporter would write it.

    Older operators are converted to `OPSET`, and no constant is an input as well.

    Raises:
        GraphError: It cannot be converted.
    """
    found = opset(model)
    if found >= OPSET:
        return _with_constants_apart(model)
    if model.ByteSize() > MAX_BYTES:
        raise GraphError(
            f"the graph uses operator set {found}, and with over 2 GB it is too large to be "
            f"converted. Export it again with opset {OPSET}."
        )
    try:
        return _with_constants_apart(version_converter.convert_version(model, OPSET))
    except Exception as error:  # of many kinds, from the converter's C++
        raise GraphError(
            f"the graph uses operator set {found}, and converting it to {OPSET} failed: {error}. "
            f"Export it again with opset {OPSET}."
        ) from error


def _with_constants_apart(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the inputs that only name constants, as the oldest graphs have them."""
    constants = {tensor.name for tensor in model.graph.initializer}
    for entry in [entry for entry in model.graph.input if entry.name in constants]:
        model.graph.input.remove(entry)
    return model


def _check_inputs(graph: onnx.GraphProto) -> None:
    """Refuse inputs that the runtime would not fill."""
    found = {entry.name for entry in graph.input}
    if not set(INPUTS) <= found <= {*INPUTS, "token_type_ids"}:
        raise GraphError(
            f"the graph has inputs {', '.join(sorted(found))}; expected input_ids, attention_mask "
            "and perhaps token_type_ids. Export the checkpoint with task fill-mask."
        )


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


def _spans(total: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, total)) for start in range(0, total, step))


def _share_decoder(graph: onnx.GraphProto) -> None:
    """Cut the decoder's blocks from the embeddings, if they are the transpose of each other.

    Cut all at once: slicing block by block would copy the whole matrix each time.
    """
    blocks = _blocks(graph)
    embedding = _transpose_of(graph, blocks)
    if embedding is None:
        return
    for tensor in blocks:
        graph.initializer.remove(tensor)
    sizes, transposed = "splade/block_sizes", f"splade/{_DECODER}"
    widths = np.array([tensor.dims[1] for tensor in blocks], np.int64)
    graph.initializer.append(numpy_helper.from_array(widths, sizes))
    names = [tensor.name for tensor in blocks]
    _prepend(
        graph,
        [
            helper.make_node("Transpose", [embedding], [transposed], name=transposed, perm=[1, 0]),
            helper.make_node("Split", [transposed, sizes], names, name=sizes, axis=1),
        ],
    )


def _transpose_of(graph: onnx.GraphProto, blocks: Sequence[onnx.TensorProto]) -> str | None:
    """Find the look-up table that the blocks, side by side, are the transpose of."""
    if not blocks:
        return None
    constants = {tensor.name: tensor for tensor in graph.initializer}
    decoder = np.concatenate([numpy_helper.to_array(tensor) for tensor in blocks], axis=1)
    for node in graph.node:
        table = constants.get(node.input[0]) if node.op_type == "Gather" else None
        if table is not None and tuple(table.dims) == decoder.shape[::-1]:
            if np.array_equal(numpy_helper.to_array(table).T, decoder):
                return str(table.name)
    return None


def is_tied(graph: onnx.GraphProto) -> bool:
    """Say whether the decoder of a fused graph is the transpose of its embeddings."""
    return _transpose_of(graph, _blocks(graph)) is not None


def _blocks(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    prefix = f"splade/{_DECODER}/"
    return [t for t in graph.initializer if t.name.startswith(prefix) and len(t.dims) == 2]


def _max_pooling(
    head: _Builder, tail: _Tail, blocks: list[tuple[slice, str]], activation: str
) -> str:
    """Max over positions of the raw logits; the bias is the same everywhere, so it comes after.

    Padding is not masked block by block: its hidden states are replaced by those of the first
    position, and a maximum does not mind seeing a value twice.
    """
    zero, one = head.constant("zero", np.array([0])), head.constant("one", np.array([1]))
    first = head.node("Slice", [tail.hidden, zero, one, one], "first_position")
    real = head.node("Cast", ["attention_mask"], "is_real", to=TensorProto.BOOL)
    real = head.node("Unsqueeze", [real, head.constant("two", np.array([2]))], "is_real_3d")
    hidden = head.node("Where", [real, tail.hidden, first], "hidden")
    maxima = [
        head.node(
            "ReduceMax",
            [head.node("MatMul", [hidden, weights], f"logits/{i}"), one],
            f"max/{i}",
            keepdims=0,
        )
        for i, (_, weights) in enumerate(blocks)
    ]
    joined = head.node("Concat", maxima, "max", axis=1)
    pooled = head.node("Add", [joined, head.constant("bias", tail.bias)], "pooled")
    return _activate_few(head, pooled, activation)


def _sum_pooling(
    head: _Builder, tail: _Tail, blocks: list[tuple[slice, str]], activation: str
) -> str:
    """Sum over positions of the activated logits: the activation comes first, still per block.

    Masking and summing is one product, [batch, 1, length] x [batch, length, block].
    """
    one = head.constant("one", np.array([1]))
    real = head.node("Cast", ["attention_mask"], "is_real", to=TensorProto.FLOAT)
    real = head.node("Unsqueeze", [real, one], "is_real_3d")
    pooled = []
    for i, (terms, weights) in enumerate(blocks):
        logits = head.node("MatMul", [tail.hidden, weights], f"product/{i}")
        bias = head.constant(f"bias/{i}", tail.bias[terms])
        shifted = head.node("Add", [logits, bias], f"logits/{i}")
        activated = _activate(head, shifted, activation, f"/{i}")
        summed = head.node("MatMul", [real, activated], f"sum_3d/{i}")
        pooled.append(head.node("Squeeze", [summed, one], f"sum/{i}"))
    return head.node("Concat", pooled, "pooled", axis=1)


def _activate_few(head: _Builder, tensor: str, activation: str) -> str:
    """Take the logarithm of the few terms that are above zero, one by one.

    Over a whole tensor ONNX Runtime's Log takes several numbers at once, but for those at the ends
    of a thread's share, whose last bit may then be another: it would depend on the batch.
    """
    one, axis = head.constant("one_float", np.float32(1)), head.constant("one", np.array([1]))
    positive = head.node("Relu", [tensor], "relu")
    places = head.node("NonZero", [positive], "nonzero")
    places = head.node("Transpose", [places], "places", perm=[1, 0])
    few = head.node("GatherND", [positive, places], "few")
    for number in range(2 if activation == "log1p_log1p" else 1):
        few = head.node("Add", [few, one], f"plus_one/{number}")
        column = head.node("Unsqueeze", [few, axis], f"column/{number}")
        few = head.node("ReduceLogSum", [column, axis], f"log/{number}", keepdims=0)
    return head.node("ScatterND", [positive, places, few], "activated")


def _activate(head: _Builder, tensor: str, activation: str, suffix: str = "") -> str:
    one = head.constant("one_float", np.float32(1))
    positive = head.node("Relu", [tensor], f"relu{suffix}")
    weights = _log1p(head, positive, one, suffix)
    return _log1p(head, weights, one, f"{suffix}_again") if activation == "log1p_log1p" else weights


def _log1p(head: _Builder, tensor: str, one: str, suffix: str) -> str:
    return head.node("Log", [head.node("Add", [tensor, one], f"plus_one{suffix}")], f"log{suffix}")


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


def _prepend(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])


def used_names(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Return the names of the tensors that nodes read, those in the branches of an If included."""
    names = set()
    for node in nodes:
        names.update(node.input)
        for attribute in node.attribute:
            for branch in (attribute.g, *attribute.graphs):
                names |= used_names(branch.node)
                names.update(entry.name for entry in branch.output)
    return names


def _remove(
    graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto], constants: Sequence[str]
) -> None:
    for node in nodes:
        graph.node.remove(node)
    still_used = used_names(graph.node)
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
