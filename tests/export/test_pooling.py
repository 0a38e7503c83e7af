"""Weights are the pooled logits, by a graph in which the logits never exist."""

import math
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from export.tiny_graphs import (
    HIDDEN,
    VOCAB,
    batch,
    constants,
    fuse,
    masked_lm,
    model_of,
    pooled,
    run,
    weights,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from spladelet.bundle.description import Semantics
from spladelet_export import GraphError
from spladelet_export.graph.compaction import compact
from spladelet_export.graph.logits_graph import opset
from spladelet_export.graph.pooling import fuse_pooling

BLOCKS = (1, 7, 16, VOCAB - 1, VOCAB, VOCAB + 1, 4096)  # 7 and 16 do not divide the vocabulary
SEMANTICS = {
    "max": Semantics(),
    "sum": Semantics(pooling="sum"),
    "max-twice": Semantics(activation="log1p_log1p"),
    "sum-twice": Semantics(pooling="sum", activation="log1p_log1p"),
}
any_semantics = pytest.mark.parametrize("semantics", list(SEMANTICS.values()), ids=list(SEMANTICS))


def shapes_inside(model, ids, mask):
    """Run a graph with every tensor as an output; return the shape of each."""
    open_model = onnx.ModelProto()
    open_model.CopyFrom(model)
    names = [name for node in model.graph.node for name in node.output]
    del open_model.graph.output[:]
    open_model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(open_model.SerializeToString())
    feed = {"input_ids": ids, "attention_mask": mask}
    feed |= {i.name: ids * 0 for i in session.get_inputs() if i.name not in feed}
    return {name: out.shape for name, out in zip(names, session.run(names, feed), strict=True)}


@any_semantics
@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    seed=st.integers(0, 2**16),
    block=st.sampled_from(BLOCKS),
    tied=st.booleans(),
)
def test_weights_are_the_pooled_logits(semantics, lengths, seed, block, tied):
    embeddings, decoder, bias = weights(seed)
    decoder = embeddings.T.copy() if tied else decoder
    ids, mask = batch(lengths, seed)
    model = masked_lm(embeddings, decoder, bias)

    fuse(model, semantics, block)

    expected = pooled(embeddings[ids] @ decoder + bias, mask, semantics)
    np.testing.assert_allclose(run(model, ids, mask), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("semantics", [SEMANTICS["max"], SEMANTICS["sum"]], ids=["max", "sum"])
def test_padding_changes_nothing(semantics):
    embeddings, decoder, bias = weights()
    model = masked_lm(embeddings * 10, decoder, bias)
    fuse(model, semantics, 16)
    ids, mask = batch([3, 8])

    alone = run(model, ids[:1, :3], mask[:1, :3])

    np.testing.assert_allclose(run(model, ids, mask)[:1], alone, rtol=1e-5)


@pytest.mark.parametrize("kind", ["max", "max-twice"])
def test_logarithms_are_the_same_wherever_a_text_stands_in_a_batch(kind):
    many = 5003  # not a whole number of what a processor takes at once
    embeddings, decoder, bias = weights(vocab=many)
    model = masked_lm(embeddings, decoder, bias + 20)  # all terms above zero
    fuse(model, SEMANTICS[kind], 1024)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    ids, mask = batch([4] * 7, vocab=many)

    for rows in (2, 5, 7):
        together = session.run(None, {"input_ids": ids[:rows], "attention_mask": mask[:rows]})[0]
        for row in range(rows):
            feed = {"input_ids": ids[row : row + 1], "attention_mask": mask[row : row + 1]}
            assert np.array_equal(together[row], session.run(None, feed)[0][0])


def test_a_text_without_positive_logits_has_no_weights():
    embeddings, decoder, bias = weights()
    for semantics in (SEMANTICS["max"], SEMANTICS["sum"]):
        model = masked_lm(embeddings, decoder, bias - 1e6)
        fuse(model, semantics, 16)

        assert not run(model, *batch([2, 5])).any()


@pytest.mark.parametrize("block", BLOCKS)
def test_the_block_size_changes_no_number(block):
    embeddings, decoder, bias = weights()
    ids, mask = batch([4, 9, 1])
    whole, in_blocks = (masked_lm(embeddings, decoder, bias) for _ in range(2))

    fuse(whole, Semantics(), VOCAB)
    fuse(in_blocks, Semantics(), block)

    np.testing.assert_allclose(run(in_blocks, ids, mask), run(whole, ids, mask), rtol=1e-6)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_there_are_as_many_blocks_as_needed(block, tied):
    embeddings, decoder, bias = weights()
    model = masked_lm(embeddings, embeddings.T.copy() if tied else decoder, bias)

    fuse(model, Semantics(), block)

    operators = Counter(node.op_type for node in model.graph.node)
    assert operators["MatMul"] == operators["ReduceMax"] == math.ceil(VOCAB / block)


@any_semantics
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_no_tensor_holds_every_term_at_every_position(semantics, tied):
    embeddings, decoder, bias = weights()
    model = masked_lm(embeddings, embeddings.T.copy() if tied else decoder, bias)
    ids, mask = batch([5, 2])
    before = shapes_inside(model, ids, mask)
    assert before["logits"] == (2, 5, VOCAB)  # what must not exist is seen where it does

    fuse(model, semantics, 16)

    after = shapes_inside(model, ids, mask)
    assert not [name for name, shape in after.items() if len(shape) > 2 and shape[-1] == VOCAB]
    assert max(math.prod(shape) for shape in after.values() if len(shape) > 2) <= 2 * 5 * HIDDEN


def test_token_types_are_folded_away():
    embeddings, decoder, bias = weights()
    types = np.random.default_rng(3).normal(size=(2, HIDDEN)).astype(np.float32)
    ids, mask = batch([6, 4])
    model = masked_lm(embeddings, decoder, bias, types)

    fuse(model, Semantics(), 16)

    assert [i.name for i in model.graph.input] == ["input_ids", "attention_mask"]
    assert "token_types" not in constants(model)
    expected = pooled((embeddings[ids] + types[0]) @ decoder + bias, mask, Semantics())
    np.testing.assert_allclose(run(model, ids, mask), expected, rtol=1e-5, atol=1e-5)


@any_semantics
def test_the_interface_is_the_bundles(semantics):
    model = masked_lm(*weights(), np.zeros((2, HIDDEN), np.float32))

    vocab_size = fuse_pooling(model, semantics, {"spladelet.source": "here", "more": "there"}, 16)
    compact(model)

    session = onnxruntime.InferenceSession(model.SerializeToString())
    inputs = [(i.name, i.type, i.shape) for i in session.get_inputs()]
    outputs = [(o.name, o.type, o.shape) for o in session.get_outputs()]
    assert vocab_size == VOCAB
    assert inputs == [
        ("input_ids", "tensor(int64)", ["batch", "length"]),
        ("attention_mask", "tensor(int64)", ["batch", "length"]),
    ]
    assert outputs == [("weights", "tensor(float)", ["batch", VOCAB])]
    assert session.get_modelmeta().custom_metadata_map == {
        "spladelet.source": "here",
        "more": "there",
    }
    assert opset(model) == 18
    onnx.checker.check_model(model, full_check=True)


def bad_graphs():
    embeddings, decoder, bias = weights()
    look_up = helper.make_node("Gather", ["embeddings", "input_ids"], ["hidden"])
    matmul = helper.make_node("MatMul", ["hidden", "decoder"], ["product"])
    add = helper.make_node("Add", ["product", "bias"], ["logits"])
    rename = helper.make_node("Identity", ["other"], ["logits"])
    known = {"embeddings": embeddings, "decoder": decoder, "bias": bias}

    def case(name, expected, nodes, changed=None, output="logits"):
        model = model_of(nodes, known | (changed or {}), output=output)
        return pytest.param(model, expected, id=name)

    two_adds = [
        helper.make_node("MatMul", ["hidden", "decoder"], ["one"]),
        helper.make_node("Neg", ["one"], ["two"]),
        helper.make_node("Add", ["one", "two"], ["logits"]),
    ]
    gemm = helper.make_node("Gemm", ["hidden", "decoder"], ["product"])
    transpose = helper.make_node("Transpose", ["embeddings"], ["turned"])
    computed = helper.make_node("MatMul", ["hidden", "turned"], ["product"])
    yield case(
        "pooled-already",
        r"tensor 'logits' comes from Identity; expected Add of a constant bias",
        [look_up, matmul, helper.make_node("Add", ["product", "bias"], ["other"]), rename],
    )
    yield case(
        "no-bias",
        r"comes from MatMul; expected Add of a constant bias",
        [look_up, helper.make_node("MatMul", ["hidden", "decoder"], ["logits"])],
    )
    yield case(
        "bias-not-constant", r"comes from Add; expected Add of a constant", [look_up, *two_adds]
    )
    yield case("output-is-input", r"'input_ids' comes from no node", [look_up], output="input_ids")
    yield case(
        "gemm", r"'product' comes from Gemm; expected MatMul with a constant", [look_up, gemm, add]
    )
    yield case(
        "decoder-not-constant",
        r"'product' comes from MatMul; expected MatMul with a constant decoder",
        [look_up, transpose, computed, add],
    )
    yield case(
        "dense-encoder",
        r"'hidden' comes from Gather; expected MatMul",
        [look_up, helper.make_node("Add", ["hidden", "bias"], ["logits"])],
    )
    yield case(
        "scalar-bias",
        rf"decoder has shape \({HIDDEN}, {VOCAB}\) and its bias \(1,\); expected",
        [look_up, matmul, add],
        {"bias": bias[:1]},
    )
    yield case(
        "decoder-with-three-dimensions",
        rf"decoder has shape \(1, {HIDDEN}, {VOCAB}\)",
        [look_up, matmul, add],
        {"decoder": decoder[None]},
    )


@pytest.mark.parametrize(("model", "expected"), list(bad_graphs()))
def test_a_graph_that_does_not_end_as_expected_is_refused_with_what_was_found(model, expected):
    with pytest.raises(GraphError, match=expected):
        fuse_pooling(model, Semantics(), {})


def test_a_graph_with_another_input_is_refused():
    embeddings, decoder, bias = weights()
    nodes = [
        helper.make_node("Gather", ["embeddings", "input_ids"], ["words"]),
        helper.make_node("Gather", ["embeddings", "position_ids"], ["positions"]),
        helper.make_node("Add", ["words", "positions"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "decoder"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
    ]
    known = {"embeddings": embeddings, "decoder": decoder, "bias": bias}
    model = model_of(nodes, known, ("input_ids", "attention_mask", "position_ids"))

    with pytest.raises(GraphError, match="position_ids"):
        fuse_pooling(model, Semantics(), {})
