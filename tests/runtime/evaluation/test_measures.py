"""Measures against formulas written out here, which share no code with the package."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spladelet.errors import InputError
from spladelet.evaluation import compare, measure

pytest.importorskip("ir_measures", reason="needs the extra `evaluate`")

DOCUMENTS = [f"d{i}" for i in range(12)]
# trec_eval keeps scores as float32, so they differ by more than that rounds away.
scores = st.lists(st.integers(-99, 99).map(lambda n: n / 8), min_size=12, max_size=12)
grades = st.lists(st.integers(0, 3), min_size=12, max_size=12)


def ranked(found):
    return sorted(found, key=lambda document: (found[document], document), reverse=True)


def ndcg_at_10(found, judged):
    def dcg(gains):
        return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains[:10]))

    ideal = dcg(sorted(judged.values(), reverse=True))
    return dcg([judged.get(d, 0) for d in ranked(found)]) / ideal if ideal else 0.0


def reciprocal_rank(found, judged):
    ranks = [r for r, d in enumerate(ranked(found)[:10], start=1) if judged.get(d, 0) > 0]
    return 1 / ranks[0] if ranks else 0.0


def average_precision(found, judged):
    relevant = [d for d, grade in judged.items() if grade > 0]
    places = [r for r, d in enumerate(ranked(found), start=1) if d in relevant]
    precisions = [i / r for i, r in enumerate(places, start=1)]
    return sum(precisions) / len(relevant) if relevant else 0.0


@given(scores=scores, grades=grades, cut=st.integers(0, 12))
def test_values_are_those_of_the_formulas(scores, grades, cut):
    found = dict(zip(DOCUMENTS[:cut], scores, strict=False))
    judged = dict(zip(DOCUMENTS, grades, strict=True))
    values = measure({"q": found}, {"q": judged}, ["nDCG@10", "RR@10", "AP", "R@100"])
    relevant = [d for d, grade in judged.items() if grade > 0]
    recall = len(set(relevant) & set(found)) / len(relevant) if relevant else 0.0
    assert values["nDCG@10"]["q"] == pytest.approx(ndcg_at_10(found, judged), abs=1e-6)
    assert values["RR@10"]["q"] == pytest.approx(reciprocal_rank(found, judged), abs=1e-6)
    assert values["AP"]["q"] == pytest.approx(average_precision(found, judged), abs=1e-6)
    assert values["R@100"]["q"] == pytest.approx(recall, abs=1e-6)


def test_a_query_without_anything_found_counts_as_zero():
    values = measure({}, {"q": {"d": 1}, "r": {"d": 1}}, ["nDCG@10"])
    assert values["nDCG@10"] == {"q": 0.0, "r": 0.0}


@pytest.mark.parametrize("name", ["nGCD@10", "nDCG@", "import os", "", "nDCG@10)(", "nDCG@0"])
def test_an_unknown_measure_is_named(name):
    with pytest.raises(InputError, match="is unknown; expected one such as"):
        measure({"q": {"d": 1.0}}, {"q": {"d": 1}}, [name])


def test_comparison_by_hand():
    ours, theirs = (
        {"a": 1.0, "b": 0.5, "c": 0.4, "d": 0.2},
        {"a": 0.5, "b": 0.5, "c": 0.1, "d": 0.4},
    )
    found = compare(ours, theirs)
    gaps = [0.5, 0.0, 0.3, -0.2]
    mean = sum(gaps) / 4
    error = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / 3 / 4)
    assert (found.wins, found.losses, found.ties) == (2, 1, 1)
    assert found.difference == pytest.approx(mean)
    assert found.low == pytest.approx(mean - 3.182446 * error, rel=1e-5)  # t, 3 degrees, 97.5 %
    assert found.high == pytest.approx(mean + 3.182446 * error, rel=1e-5)
    assert 0.05 < found.p_value < 1


@pytest.mark.parametrize("values", [{"a": 0.5}, {"a": 0.5, "b": 0.1}, {}])
def test_no_difference_is_no_evidence(values):
    found = compare(values, dict(values))
    assert (found.difference, found.p_value, found.ties) == (0.0, 1.0, len(values))


def test_comparing_different_queries_is_an_error():
    with pytest.raises(InputError, match="not the same ones"):
        compare({"a": 1.0}, {"b": 1.0})


@pytest.mark.parametrize("name", ["alpha_nDCG@10", "RBP(p=0.5)", "INST", "NERR9@5", "SDCG@3"])
def test_a_measure_that_needs_what_is_not_here_is_an_error(name):
    with pytest.raises(InputError, match=r"cannot be computed here|is unknown"):
        measure({"q": {"d": 1.0}}, {"q": {"d": 1}}, [name])


def test_two_names_of_one_measure_are_refused():
    with pytest.raises(InputError, match=r"measures RR@10 and MRR@10 are the same"):
        measure({"q": {"d": 1.0}}, {"q": {"d": 1}}, ["RR@10", "MRR@10"])


def test_a_negative_grade_is_no_answer():
    run = {"q": {"spam": 2.0, "answer": 1.0}}
    values = measure(run, {"q": {"spam": -2, "answer": 1}}, ["nDCG@10", "R@100", "AP"])
    assert values["nDCG@10"]["q"] == pytest.approx(1 / math.log2(3), abs=1e-6)
    assert values["R@100"]["q"] == 1.0
    assert measure(run, {"q": {"spam": -2}}, ["nDCG@10"])["nDCG@10"]["q"] == 0.0


@pytest.mark.parametrize("grade", [1001, 2**31, 10**20])
def test_a_grade_too_large_to_be_one_is_refused(grade):
    with pytest.raises(InputError, match="expected at most 1000"):
        measure({"q": {"d": 1.0}}, {"q": {"d": grade}}, ["nDCG@10"])


def test_one_query_says_nothing_of_others():
    found = compare({"a": 1.0}, {"a": 0.0})
    assert (found.difference, found.low, found.high, found.p_value) == (1.0, -1.0, 1.0, 1.0)


def test_equal_differences_warn_nobody():
    found = compare({"a": 0.5, "b": 0.75}, {"a": 0.25, "b": 0.5})
    assert found.difference == found.low == found.high == 0.25


@pytest.mark.parametrize("name", [f"nDCG@{10**20}", f"P(rel={10**14})@5", "nDCG(" * 2000, 5])
def test_measures_that_the_code_underneath_cannot_have_are_refused(name):
    with pytest.raises(InputError, match="measure"):
        measure({"1": {"a": 1.0}}, {"1": {"a": 1}}, [name])
