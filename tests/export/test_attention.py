"""Attention in plain products: the same numbers, whatever a batch is padded to."""

import numpy as np
import onnx
import onnxruntime
import pytest

from spladelet_export.graph.attention import spell_out_attention
from spladelet_export.graph.operator_fusion import fuse_operators
from spladelet_export.torch_export import export_logits_graph, load_model

# transformers imports some families by what torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")


def run(model, ids, lengths):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    mask = (np.arange(ids.shape[1]) < np.array(lengths)[:, None]).astype(np.int64)
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    names = {entry.name for entry in session.get_inputs()}
    return session.run(None, {name: feed[name] for name in names})[0]


@pytest.mark.parametrize("kind", ["bert", "roberta", "albert", "mpnet", "modernbert"])
def test_the_numbers_are_those_of_the_exported_graph(kind, checkpoint):
    logits = export_logits_graph(load_model(checkpoint(kind)))
    rng = np.random.default_rng(0)
    ids, lengths = rng.integers(5, 60, (3, 21)), [21, 1, 8]

    theirs = run(logits, ids, lengths)
    written = fuse_operators(logits)
    ours = run(written, ids, lengths)
    longer = np.concatenate([ids, rng.integers(5, 60, (3, 14))], axis=1)
    padded = run(written, longer, lengths)

    assert not {"Softmax", "MultiHeadAttention"} & {node.op_type for node in written.graph.node}
    for row, length in enumerate(lengths):
        assert np.abs(ours[row, :length] - theirs[row, :length]).max() < 1e-5
        assert np.array_equal(padded[row, :length], ours[row, :length])


def attention(bias=True, direct=True, **attributes):
    """Return a graph with fused attention, its queries a product or something else."""
    make, rng = onnx.helper.make_node, np.random.default_rng(0)
    constants = {name: rng.normal(size=(8, 8)).astype(np.float32) for name in ("wq", "wk", "wv")}
    constants["bias"] = rng.normal(size=24).astype(np.float32)
    nodes = [make("MatMul", ["x", f"w{side}"], [side]) for side in "qkv"]
    nodes += [] if direct else [make("Relu", ["q"], ["q_relu"])]
    inputs = ["q" if direct else "q_relu", "k", "v", "bias" if bias else "", "lengths"]
    attributes |= {"num_heads": 2, "domain": "com.microsoft"}
    nodes.append(make("MultiHeadAttention", inputs, ["y"], **attributes))
    graph = onnx.helper.make_graph(
        nodes,
        "graph",
        [],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    spell_out_attention(graph)
    return {node.op_type for node in graph.node}


def test_attention_that_means_something_else_is_left_alone():
    assert "MultiHeadAttention" not in attention()
    for other in ({"scale": 0.5}, {"unidirectional": 1}, {"bias": False}, {"direct": False}):
        assert "MultiHeadAttention" in attention(**other), other
