"""Where weights come from: the position of each term's maximum, as a second output of the graph.

Max pooling takes each term's weight from one position of the text. A second graph, over the same
stored tensors, says which:

    logits block ┬─ ReduceMax over L ─ … ─► weights
                 └─ ArgMax over L ───────► positions

Of positions that are equal, it is the first; padding, which repeats the first position, is never
one. Of a sum, it is the position that gives the most. What makes the weights is left as it is, so
they are the same to the bit.
"""

import onnx
from onnx import TensorProto, helper

from spladelet_export.errors import GraphError
from spladelet_export.graph import tensor_names


def trace_positions(graph: onnx.GraphProto) -> None:
    """Add the output `positions`, int64[batch, vocab_size], to a pooled graph, in place.

    Raises:
        GraphError: It has no pooling by blocks, as `fuse_pooling` writes it.
    """
    maxima = [node.input[0] for node in graph.node if _pools(node, "ReduceMax", "max")]
    sums = [node.input[1] for node in graph.node if _pools(node, "MatMul", "sum_3d")]
    if not maxima and not sums:
        raise GraphError(
            "the graph has no pooling that could be traced: it is no bundle's, or an older "
            "exporter's. Export the checkpoint again."
        )
    blocks = maxima or _without_padding(graph, sums)
    positions = [f"{tensor_names.POSITIONS}/{number}" for number in range(len(blocks))]
    graph.node.extend(
        helper.make_node("ArgMax", [block], [position], position, axis=1, keepdims=0)
        for block, position in zip(blocks, positions, strict=True)
    )
    name = tensor_names.TRACED
    graph.node.append(helper.make_node("Concat", positions, [name], name, axis=1))
    shape = graph.output[0].type.tensor_type.shape.dim
    declared = ["batch", shape[1].dim_value]
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.INT64, declared))


def _pools(node: onnx.NodeProto, operator: str, name: str) -> bool:
    stem = f"{tensor_names.PREFIX}{name}/"
    return bool(node.op_type == operator and node.output[0].startswith(stem))


def _without_padding(graph: onnx.GraphProto, blocks: list[str]) -> list[str]:
    """Return the blocks with nothing at positions of padding, which a sum counts as nothing."""
    row = next(node.input[0] for node in graph.node if _pools(node, "MatMul", "sum_3d"))
    column = f"{row}/column"
    graph.node.append(helper.make_node("Transpose", [row], [column], column, perm=[0, 2, 1]))
    kept = [f"{block}/kept" for block in blocks]
    graph.node.extend(
        helper.make_node("Mul", [block, column], [name], name)
        for block, name in zip(blocks, kept, strict=True)
    )
    return kept
