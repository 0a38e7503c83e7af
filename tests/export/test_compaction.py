"""What is stored of a fused graph: nothing twice, nothing wider than it is."""

import math

import numpy as np
import pytest
from export.tiny_graphs import (
    HIDDEN,
    VOCAB,
    batch,
    constants,
    fuse,
    masked_lm,
    pooled,
    run,
    weights,
)
from onnx import TensorProto

from spladelet.bundle.description import Semantics
from spladelet_export.graph import compaction
from spladelet_export.graph.compaction import compact
from spladelet_export.graph.pooling import fuse_pooling


def test_a_tied_decoder_is_stored_once():
    embeddings, _, bias = weights(vocab=400)
    model = masked_lm(embeddings, embeddings.T.copy(), bias)

    fuse(model, Semantics(), 64)

    matrices = [v for v in constants(model).values() if v.size >= 64 * HIDDEN]
    assert [matrix.shape for matrix in matrices] == [(400, HIDDEN)]
    assert len(model.SerializeToString()) < 1.2 * embeddings.nbytes


def test_an_untied_decoder_is_stored_in_blocks_beside_the_embeddings():
    embeddings, decoder, bias = weights(vocab=400)
    model = masked_lm(embeddings, decoder, bias)

    fuse(model, Semantics(), 64)

    stored = constants(model)
    assert np.array_equal(stored["embeddings"], embeddings)
    parts = [stored[f"splade/decoder/{i}"] for i in range(7)]
    assert np.array_equal(np.concatenate(parts, axis=1), decoder)


def test_a_decoder_one_number_off_the_embeddings_is_not_taken_for_tied():
    embeddings, _, bias = weights()
    decoder = embeddings.T.copy()
    decoder[3, 7] += 0.5
    ids, mask = batch([6, 4])
    model = masked_lm(embeddings, decoder, bias)

    fuse(model, Semantics(), 16)

    expected = pooled(embeddings[ids] @ decoder + bias, mask, Semantics())
    np.testing.assert_allclose(run(model, ids, mask), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_weights_that_half_precision_holds_are_stored_so_and_mean_the_same(tied, monkeypatch):
    embeddings, decoder, bias = weights()
    embeddings, decoder = (x.astype(np.float16).astype(np.float32) for x in (embeddings, decoder))
    decoder = embeddings.T.copy() if tied else decoder
    ids, mask = batch([6, 4])
    half, full = (masked_lm(embeddings, decoder, bias) for _ in range(2))

    fuse(half, Semantics(), 64)
    monkeypatch.setattr(compaction, "_HALF_PRECISION_FROM", math.inf)
    fuse(full, Semantics(), 64)

    large = [value for value in constants(half).values() if value.size >= VOCAB * HIDDEN]
    assert len(large) == (1 if tied else 2)
    assert {value.dtype for value in large} == {np.dtype(np.float16)}
    assert np.array_equal(run(half, ids, mask), run(full, ids, mask))


def test_weights_that_half_precision_does_not_hold_are_left_alone():
    exact, decoder, bias = weights()
    exact = exact.astype(np.float16).astype(np.float32)
    too_fine, too_large = exact.copy(), exact.copy()
    too_fine[0, 0] = 1 + 2**-20
    too_large[0, 0] = 70_000  # a whole number, but over float16's largest
    for embeddings in (too_fine, too_large):
        model = masked_lm(embeddings, decoder, bias)

        fuse(model, Semantics(), 16)

        assert constants(model)["embeddings"].dtype == np.float32
        assert np.array_equal(constants(model)["embeddings"], embeddings)


def test_to_compact_changes_no_number():
    embeddings, _, bias = weights()
    embeddings = embeddings.astype(np.float16).astype(np.float32)
    ids, mask = batch([6, 4])
    model = masked_lm(embeddings, embeddings.T.copy(), bias)
    fuse_pooling(model, Semantics(), {}, 16)
    before, size = run(model, ids, mask), model.ByteSize()

    compact(model)

    assert model.ByteSize() < size / 2
    assert np.array_equal(run(model, ids, mask), before)


def test_small_tensors_and_whole_numbers_are_left_alone():
    embeddings, decoder, bias = weights()
    model = masked_lm(embeddings, decoder, np.round(bias))

    fuse(model, Semantics(), 16)

    assert constants(model)["splade/bias"].dtype == np.float32
    assert TensorProto.FLOAT16 not in {tensor.data_type for tensor in model.graph.initializer}
