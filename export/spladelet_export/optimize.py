"""Fuse what ONNX Runtime has one operator for, before anything is quantized.

Its optimizer recognises attention only while the graph still looks like the exporter's, so this
comes before the pooling is fused in. Its projections are left alone: those are what int8 is for.
"""

import logging
import tempfile
from pathlib import Path

import onnx
from onnx import helper

from spladelet.encoder.onnx_runtime import load_onnx_runtime
from spladelet_export.attention import spell_out_attention


def fuse_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with Gelu and LayerNormalization whole, and attention as `attention` has it.

    Texts must be padded at the end.
    """
    load_onnx_runtime()
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions("bert")
    options.use_multi_head_attention = True
    options.enable_embed_layer_norm = False
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
    _constants_to_initializers(fused.graph)
    _split_layer_norms(fused.graph)
    spell_out_attention(fused.graph)
    return fused


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        tensor = node.attribute[0].t
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        graph.node.remove(node)


def _split_layer_norms(graph: onnx.GraphProto) -> None:
    """Write SkipLayerNormalization as Add and LayerNormalization, which together are faster."""
    nodes = []
    for node in graph.node:
        if node.op_type != "SkipLayerNormalization":
            nodes.append(node)
            continue
        left, right, *norm = node.input[:4]
        # Where the norm comes before the layer, the sum goes on beside it, as a fourth output.
        total = (list(node.output[3:4]) or [f"{node.output[0]}/sum"])[0]
        epsilon = next(a.f for a in node.attribute if a.name == "epsilon")
        nodes.append(helper.make_node("Add", [left, right], [total]))
        nodes.append(
            helper.make_node("LayerNormalization", [total, *norm], node.output[:1], epsilon=epsilon)
        )
    del graph.node[:]
    graph.node.extend(nodes)
