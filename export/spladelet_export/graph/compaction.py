"""Storing a fused graph: nothing twice, nothing wider than it is."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from spladelet_export.graph import tensor_names
from spladelet_export.graph.graph_editor import GraphEditor

# Smaller tensors are not worth a Cast at load.
_HALF_PRECISION_FROM = 1024


def compact(model: onnx.ModelProto) -> None:
    """Store nothing twice and nothing wider than it is, in place; the numbers stay the same.

    A decoder that equals the embeddings is cut from them when the graph is loaded, and float32
    tensors that float16 holds exactly are stored as float16.
    """
    _share_decoder(model.graph)
    _store_half_precision(model.graph)


def is_tied(graph: onnx.GraphProto) -> bool:
    """Say whether the decoder of a fused graph is the transpose of its embeddings."""
    return _transpose_of(graph, _blocks(graph)) is not None


def _share_decoder(graph: onnx.GraphProto) -> None:
    """Cut the decoder's blocks from the embeddings, if they are the transpose of each other.

    Cut all at once: slicing block by block would copy the whole matrix each time.
    """
    blocks = _blocks(graph)
    embedding = _transpose_of(graph, blocks)
    if embedding is None:
        return
    editor = GraphEditor(graph)
    for tensor in blocks:
        del editor.constants[tensor.name]
    widths = np.array([tensor.dims[1] for tensor in blocks], np.int64)
    sizes = editor.constant(f"{tensor_names.PREFIX}block_sizes", widths)
    name = tensor_names.DECODER
    decoder = editor.add("Transpose", [embedding], name, {"name": name, "perm": [1, 0]})
    # Under the names that the constants had, so that the products need not know.
    names = [tensor.name for tensor in blocks]
    split = helper.make_node("Split", [decoder, sizes], names, name=sizes, axis=1)
    editor.nodes += [split, *graph.node]
    editor.finish()


def _transpose_of(graph: onnx.GraphProto, blocks: Sequence[onnx.TensorProto]) -> str | None:
    """Find the look-up table that the blocks, side by side, are the transpose of."""
    if not blocks:
        return None
    constants = {tensor.name: tensor for tensor in graph.initializer}
    decoder = np.concatenate([numpy_helper.to_array(tensor) for tensor in blocks], axis=1)
    for node in graph.node:
        table = constants.get(node.input[0]) if node.op_type == "Gather" else None
        # By value, not by name: exporters store tied weights twice, and call them what they like.
        if table is not None and tuple(table.dims) == decoder.shape[::-1]:
            if np.array_equal(numpy_helper.to_array(table).T, decoder):
                return str(table.name)
    return None


def _blocks(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Return the decoder's blocks; int8 has put scales, which are vectors, beside some."""
    return [
        tensor
        for tensor in graph.initializer
        if tensor_names.is_decoder_block(tensor.name) and len(tensor.dims) == 2
    ]


def _store_half_precision(graph: onnx.GraphProto) -> None:
    """Store what float16 holds exactly as float16: half the file, the same numbers.

    Checkpoints that were saved in half precision are like that; the Cast is folded when the graph
    is loaded.
    """
    editor = GraphEditor(graph)
    for name, tensor in list(editor.constants.items()):
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < _HALF_PRECISION_FROM:
            continue
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        # All or nothing: a tensor of which one number would change stays float32.
        if np.array_equal(half.astype(np.float32), values):
            del editor.constants[name]
            stored = editor.constant(f"{name}/float16", half)
            editor.add("Cast", [stored], name, {"name": stored, "to": TensorProto.FLOAT})
    editor.nodes += graph.node
    editor.finish()
