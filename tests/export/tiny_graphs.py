"""The smallest graphs that end as masked language models do, and what their weights should be."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from spladelet_export.graph.compaction import compact
from spladelet_export.graph.pooling import fuse_pooling

HIDDEN, VOCAB = 32, 50


def weights(seed=0, scale=1.0, vocab=VOCAB):
    """Return embeddings [vocab, hidden], an untied decoder [hidden, vocab], and the bias."""
    random = np.random.default_rng(seed)
    return (
        (random.normal(size=(vocab, HIDDEN)) * scale).astype(np.float32),
        (random.normal(size=(HIDDEN, vocab)) * scale).astype(np.float32),
        random.normal(size=vocab).astype(np.float32) * 5,
    )


def masked_lm(embeddings, decoder, bias, token_types=None):
    """Build the smallest graph that ends as a masked language model does."""
    constants = {"embeddings": embeddings, "decoder": decoder, "bias": bias}
    nodes = [helper.make_node("Gather", ["embeddings", "input_ids"], ["words"])]
    inputs = ["input_ids", "attention_mask"]
    if token_types is not None:
        constants["token_types"] = token_types
        inputs.append("token_type_ids")
        nodes.append(helper.make_node("Gather", ["token_types", "token_type_ids"], ["types"]))
        nodes.append(helper.make_node("Add", ["words", "types"], ["hidden"]))
    else:
        nodes.append(helper.make_node("Identity", ["words"], ["hidden"]))
    nodes.append(helper.make_node("MatMul", ["hidden", "decoder"], ["product"]))
    nodes.append(helper.make_node("Add", ["product", "bias"], ["logits"]))
    return model_of(nodes, constants, inputs)


def model_of(nodes, constants, inputs=("input_ids", "attention_mask"), output="logits"):
    return helper.make_model(
        helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info(i, TensorProto.INT64, ["b", "l"]) for i in inputs],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )


def batch(lengths, seed=0, vocab=VOCAB):
    """Return random ids and the mask of texts of these lengths; padding holds random ids too."""
    shape = (len(lengths), max(lengths))
    ids = np.random.default_rng(seed).integers(0, vocab, shape)
    mask = (np.arange(shape[1]) < np.array(lengths)[:, None]).astype(np.int64)
    return ids, mask


def run(model, ids, mask):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


def pooled(logits, mask, semantics):
    """Pool as sentence-transformers does: activation at every position, then max or sum."""
    active = np.log1p(np.maximum(logits.astype(np.float64), 0))
    if semantics.activation == "log1p_log1p":
        active = np.log1p(active)
    active = active * mask[..., None]
    return active.max(axis=1) if semantics.pooling == "max" else active.sum(axis=1)


def fuse(model, semantics, block):
    """Operate as the float32 export does: pooling first, then nothing is stored twice."""
    fuse_pooling(model, semantics, {}, block)
    compact(model)


def constants(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
