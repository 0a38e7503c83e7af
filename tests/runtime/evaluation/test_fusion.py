import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spladelet.errors import InputError
from spladelet.evaluation import reciprocal_rank_fusion, weighted_fusion

scores = st.floats(-1e308, 1e308, allow_nan=False)
runs = st.dictionaries(
    st.sampled_from("qrs"), st.dictionaries(st.sampled_from("abcdef"), scores), max_size=3
)


def test_reciprocal_ranks_by_hand():
    fused = reciprocal_rank_fusion([{"q": {"a": 3.0, "b": 2.0}}, {"q": {"b": 8.0, "c": 1.0}}])
    assert fused["q"] == pytest.approx({"a": 1 / 61, "b": 1 / 62 + 1 / 61, "c": 1 / 62})


def test_weighted_scores_by_hand():
    first, second = {"q": {"a": 10.0, "b": 5.0, "c": 0.0}}, {"q": {"c": 2.0, "d": 1.0}}
    fused = weighted_fusion([first, second], weights=[0.7, 0.3])
    assert fused["q"] == pytest.approx({"a": 0.7, "b": 0.35, "c": 0.3, "d": 0.0})


def test_a_query_that_only_one_run_has_is_kept():
    fused = reciprocal_rank_fusion([{"q": {"a": 1.0}}, {"r": {"b": 1.0}}])
    assert set(fused) == {"q", "r"}


@pytest.mark.parametrize("fuse", [reciprocal_rank_fusion, weighted_fusion])
@given(run=runs)
def test_a_run_fused_with_itself_keeps_its_order(fuse, run):
    fused = fuse([run, run])
    for query, found in run.items():
        for better in found:
            for worse in found:
                if found[better] > found[worse]:
                    assert fused[query][better] >= fused[query][worse]


@pytest.mark.parametrize("fuse", [reciprocal_rank_fusion, weighted_fusion])
@given(one=runs, other=runs)
def test_all_that_any_run_found_is_found(fuse, one, other):
    fused = fuse([one, other])
    for query in {*one, *other}:
        assert set(fused[query]) == {*one.get(query, {}), *other.get(query, {})}
        assert all(math.isfinite(score) for score in fused[query].values())


@pytest.mark.parametrize("fuse", [reciprocal_rank_fusion, weighted_fusion])
@pytest.mark.parametrize(
    ("count", "weights"),
    [
        (0, None),
        (2, [1.0]),
        (2, [0.0, 0.0]),
        (2, [1.0, -1.0]),
        (1, [math.nan]),
        (1, [math.inf]),
        (1, [1e308]),
    ],
)
def test_numbers_that_make_no_sense(fuse, count, weights):
    with pytest.raises(InputError, match="weights"):
        fuse([{"q": {"a": 1.0}}] * count, weights=weights)


@pytest.mark.parametrize("constant", [0.0, -1.0, math.nan])
def test_the_constant_is_above_zero(constant):
    with pytest.raises(InputError, match="constant is"):
        reciprocal_rank_fusion([{"q": {"a": 1.0}}], constant=constant)
