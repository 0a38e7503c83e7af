"""Fuse what ONNX Runtime has one operator for, before anything is quantized.

Its optimizer recognises attention only while the graph still looks like the exporter's, so this
comes before the pooling is fused in.
"""

import logging
import tempfile
from pathlib import Path

import onnx

from spladelet.encoder.onnx_runtime import load_onnx_runtime
from spladelet_export.graph.attention import spell_out_attention
from spladelet_export.graph.graph_editor import GraphEditor


def fuse_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with Gelu and LayerNormalization whole, and attention as `attention` has it.

    Texts must be padded at the end.
    """
    load_onnx_runtime()
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions("bert")
    # Attention without its projections: those are constant matrices, which int8 is for.
    options.use_multi_head_attention = True
    # It would hide the look-up of words, by which a tied decoder is found and which int8 shrinks.
    options.enable_embed_layer_norm = False
    # Both would draw in the bias that the int8 product adds by itself.
    options.enable_bias_gelu = False
    options.enable_bias_skip_layer_norm = False
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            copy = onnx.ModelProto()  # saving moves the weights out of what it saves
            copy.CopyFrom(model)
            onnx.save(copy, path, save_as_external_data=True, location="model.data")
            fused = optimizer.optimize_model(
                str(path), "bert", optimization_options=options, opt_level=0
            ).model
            onnx.load_external_data_for_model(fused, folder)
    finally:
        logging.disable(before)
    _tidy(fused.graph)
    spell_out_attention(fused.graph)
    return fused


def _tidy(graph: onnx.GraphProto) -> None:
    """Make constants of Constant nodes, and split what the optimizer fuses to no use."""
    editor = GraphEditor(graph)
    for node in graph.node:
        if node.op_type == "Constant":
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
            editor.constants[tensor.name] = tensor
        elif node.op_type == "SkipLayerNormalization":
            _split_layer_norm(editor, node)
        else:
            editor.nodes.append(node)
    editor.finish()


def _split_layer_norm(editor: GraphEditor, node: onnx.NodeProto) -> None:
    """Write SkipLayerNormalization as Add and LayerNormalization, which together are faster."""
    left, right, *norm = node.input[:4]
    # Where the norm comes before the layer, the sum goes on beside it, as a fourth output.
    total = (list(node.output[3:4]) or [f"{node.output[0]}/sum"])[0]
    epsilon = next(a.f for a in node.attribute if a.name == "epsilon")
    editor.add("Add", [left, right], total)
    editor.add("LayerNormalization", [total, *norm], node.output[0], {"epsilon": epsilon})
