"""What engines do to weights, worked by hand."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.engines.test_contract import random_index, small_index, vector

from spladelet import SparseVectors
from spladelet.engines import preview, simulations
from spladelet.errors import InputError


def matrix(*rows, vocab_size=100_000):
    from spladelet import SparseVector

    return SparseVectors.from_rows(
        [SparseVector.from_dict(row, vocab_size) for row in rows], vocab_size
    )


def stored(name, row, of=None):
    documents = matrix(row)
    return simulations(of or documents)[name].documents(documents)[0].to_dict()


def asked(name, row, documents):
    return simulations(documents)[name].queries(matrix(row))[0].to_dict()


def test_lucene_keeps_nine_significant_bits_and_never_rounds_up():
    # 1.99999 is 1.1111… in binary: the first 9 bits are 1.11111111 = 2 - 2**-8
    assert stored("elasticsearch", {1: 1.99999}) == {1: 2 - 2**-8}
    assert stored("opensearch", {1: 0.75}) == {1: 0.75}


@given(weight=st.floats(2**-100, 2**100, width=32))
def test_lucenes_loss_is_below_one_part_in_256(weight):
    ((_, kept),) = stored("elasticsearch", {1: weight}).items()
    assert weight * (1 - 2**-8) < kept <= weight
    (bits,) = struct.unpack("<I", struct.pack("<f", kept))
    assert bits % 2**15 == 0


def test_seismics_default_ceiling_clips_splade_weights():
    # 3 / 255 a step: 1.0 is step 85 exactly; 4.0 is cut to 3.0; 0.005 rounds to nothing
    found = stored("opensearch-seismic", {1: 1.0, 2: 4.0, 3: 0.005})
    assert found == pytest.approx({1: 1.0, 2: 3.0})
    fitted = stored("opensearch-seismic-fitted", {1: 1.0, 2: 4.0})
    assert fitted == pytest.approx({1: 64 * 4 / 255, 2: 4.0})


def test_seismics_terms_that_meet_keep_the_heavier():
    assert stored("opensearch-seismic", {7: 1.0, 7 + 32_768: 2.0}) == pytest.approx({7: 2.0})


def test_elasticsearchs_pruning_needs_both_frequent_and_light():
    # term 0 is in all of 40 documents, the others in one each: the average is 80 / 41
    documents = matrix(*({0: 1.0, i + 1: 1.0} for i in range(40)))
    assert asked("elasticsearch-pruned", {0: 0.3, 5: 0.3, 6: 1.0}, documents) == pytest.approx(
        {5: 0.3, 6: 1.0}
    )
    assert asked("elasticsearch-pruned", {0: 0.5, 6: 1.0}, documents) == {0: 0.5, 6: 1.0}
    assert asked("elasticsearch", {0: 0.3, 6: 1.0}, documents) == pytest.approx({0: 0.3, 6: 1.0})


@pytest.mark.parametrize(
    ("name", "weight", "expected"),
    [
        ("qdrant", 1.23456789, np.float32(1.23456789)),
        ("milvus", 1e-30, np.float32(1e-30)),
        ("qdrant-float16", 1.0004, 1.0),
        ("vespa", 1.00390625, 1.0),  # half way between two bfloat16: to the even one
        ("vespa", 1.005, 1.0078125),
        ("anserini", 1.236, 1.24),
    ],
)
def test_others_worked_by_hand(name, weight, expected):
    assert stored(name, {1: weight}) == pytest.approx({1: expected})


def test_hundredths_and_impacts_lose_the_lightest():
    assert stored("anserini", {1: 1.0, 2: 0.004}) == {1: 1.0}
    assert stored("ciff", {1: 2.0, 2: 0.003}) == {1: 2.0}


def test_pgvectors_index_holds_a_thousand_terms():
    found = stored("pgvector", {i: 1.0 + i for i in range(1500)})
    assert sorted(found) == list(range(500, 1500))


def test_what_is_exact_changes_nothing():
    index = random_index(50)
    queries = SparseVectors.from_rows([vector({1: 1.0, 5: 2.0}), vector({})], 100)
    found = preview("qdrant", index, queries)
    assert (found.overlap, found.same_order, found.clipped, found.lost) == (1.0, 1.0, 0.0, 0.0)
    assert found.change < 1e-6
    assert found.ndcg is None


def test_a_ranking_that_clipping_turns_round_is_seen():
    pytest.importorskip("ir_measures", reason="needs the extra `evaluate`")
    index = small_index([{1: 8.0, 2: 0.1}, {1: 3.5, 2: 2.9}])
    queries = SparseVectors.from_rows([vector({1: 1.0, 2: 1.0})], 100)
    qrels = {"q": {"d0": 1}}
    found = preview("opensearch-seismic", index, queries, qrels=qrels)
    assert found.same_order == 0.0
    assert found.overlap == 1.0
    assert found.clipped == 2 / 4  # 8.0 and 3.5
    assert found.change == pytest.approx((5 + 0.5) / (8 + 0.1 + 3.5 + 2.9), abs=0.01)
    assert found.ndcg_exact == 1.0
    assert found.ndcg == pytest.approx(0.6309, abs=1e-4)


def test_every_simulation_runs_on_nothing():
    index = small_index([])
    empty = SparseVectors.from_rows([], 100)
    for name in simulations(empty):
        found = preview(name, index, empty)
        assert (found.queries, found.overlap, found.change) == (0, 1.0, 0.0)


def test_wrong_arguments():
    index, queries = small_index([{1: 1.0}]), SparseVectors.from_rows([], 100)
    with pytest.raises(InputError, match="expected one of anserini"):
        preview("solr", index, queries)
    with pytest.raises(InputError, match="judgements of 1"):
        preview("qdrant", index, queries, qrels={"q": {"d0": 1}})


def test_what_is_a_little_above_the_ceiling_is_clipped_too():
    index = small_index([{1: 3.02, 2: 1.0}] * 10)
    found = preview("opensearch-seismic", index, SparseVectors.from_rows([vector({1: 1.0})], 100))
    assert found.clipped == 0.5


def test_seismic_asks_for_a_querys_ten_heaviest_terms():
    documents = matrix({i: 1.0 for i in range(30)})
    found = asked("opensearch-seismic", {i: 1.0 + i / 10 for i in range(30)}, documents)
    assert sorted(found) == list(range(20, 30))


def test_elasticsearchs_pruning_at_its_boundaries():
    # 9 terms in one document each and one in all 9: the average is 18 / 10, 5 times that is 9
    documents = matrix(*({0: 1.0, i + 1: 1.0} for i in range(9)))
    assert asked("elasticsearch-pruned", {0: 0.4, 1: 1.0}, documents) == {1: 1.0}
    assert asked("elasticsearch-pruned", {0: 0.5, 1: 1.0}, documents) == {0: 0.5, 1: 1.0}


def test_float16_has_a_largest_number():
    assert stored("qdrant-float16", {1: 1e6}) == {1: 65_504.0}
