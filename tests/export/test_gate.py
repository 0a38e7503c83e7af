"""The gate: figures worked out by hand, and what it accepts."""

import numpy as np
import pytest

from spladelet.evaluation import VectorCache, demo_collection
from spladelet_export.checks.gate import Agreement, Gate, Limits, _bootstrap_ratio


def agreement(overlap=1.0, high=1.0):
    return Agreement(40, overlap, 0.5, 0.5, 1.0, 0.99, high, 70.0, 71.0)


@pytest.mark.parametrize(
    ("figures", "passes"),
    [
        (agreement(), True),
        (agreement(overlap=0.97), True),
        (agreement(overlap=0.969), False),
        (agreement(high=0.995), True),
        (agreement(high=0.994), False),
    ],
)
def test_limits_are_kept_or_not(figures, passes):
    assert figures.passes(Limits()) is passes


def test_a_model_agrees_with_itself(bundle):
    from spladelet import Encoder

    vectors = VectorCache(Encoder.load(bundle("bert")))
    figures = Gate(vectors, [demo_collection()]).measure(vectors)

    assert figures.queries == 40
    assert figures.top10_overlap == figures.ndcg_ratio == figures.ndcg_ratio_low == 1.0
    assert figures.active_dims == figures.active_dims_reference


def test_the_interval_holds_the_ratio():
    rng = np.random.default_rng(0)
    theirs = rng.random(200)
    low, high = _bootstrap_ratio(theirs * 0.9, theirs)
    assert (low, high) == pytest.approx((0.9, 0.9))

    low, high = _bootstrap_ratio(rng.permutation(theirs), theirs)
    assert low < 1 < high


def test_one_query_has_no_interval_but_its_ratio():
    assert _bootstrap_ratio(np.array([0.5]), np.array([1.0])) == pytest.approx((0.5, 0.5))
    assert _bootstrap_ratio(np.array([0.0]), np.array([0.0])) == (1.0, 1.0)
    assert _bootstrap_ratio(np.array([]), np.array([])) == (1.0, 1.0)


def test_the_interval_is_that_of_the_draws():
    rng = np.random.default_rng(5)
    ours, theirs = rng.random(40), rng.random(40)
    picks = np.random.default_rng(0).integers(40, size=(2000, 40))
    ratios = ours[picks].sum(1) / theirs[picks].sum(1)

    expected = np.quantile(ratios, [0.025, 0.975])
    assert _bootstrap_ratio(ours, theirs) == pytest.approx(tuple(expected), rel=1e-8)
