"""Attention in plain products: the same numbers, whatever a batch is padded to."""

import numpy as np
import onnxruntime
import pytest

from spladelet_export.optimize import fuse_operators
from spladelet_export.trunk import export_trunk, load_model

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
    logits = export_trunk(load_model(checkpoint(kind)))
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
