"""Scoring and top-k: exact, the same with scipy and without, ties by number."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csc_array

from spladelet.index import scoring
from spladelet.index.scoring import Postings, score, top_k

TERMS = 12
# Documents per chunk of top_k; the tests below want sizes around it.
CHUNK = 1024


@st.composite
def problems(draw):
    """Draw dense documents (some terms in none), and a query's terms with weights."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    documents = draw(st.integers(0, 60))
    shape = (documents, TERMS)
    filled = random.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    dense = np.where(filled, random.lognormal(size=shape), 0).astype(np.float32)
    terms = np.flatnonzero(random.random(TERMS) < 0.5).astype(np.int32)
    return dense, terms, random.lognormal(size=len(terms)).astype(np.float32)


def postings(dense, kind=np.float32, scale=1.0):
    by_term = csc_array(dense)
    terms = np.flatnonzero(np.diff(by_term.indptr)).astype(np.int32)
    return Postings(
        terms,
        np.append(by_term.indptr[terms], by_term.nnz).astype(np.int64),
        by_term.indices.astype(np.int32),
        by_term.data.astype(kind),
        np.full(len(terms), scale, np.float32),
        np.zeros(len(terms), np.float32),
        len(dense),
    )


def score_of(lists, terms, weights):
    return score(lists, *lists.find(terms, weights)).copy()


@pytest.fixture(params=["scipy", "numpy"])
def way(request, monkeypatch):
    """Score by scipy's kernel, or by numpy alone."""
    if request.param == "numpy":
        monkeypatch.setattr(scoring, "_compiled_kernels", lambda: None)
    return request.param


@given(problems())
def test_a_score_is_the_dense_dot_product(problem):
    dense, terms, weights = problem
    expected = dense[:, terms].astype(np.float64) @ weights.astype(np.float64)

    scores = score_of(postings(dense), terms, weights)

    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


@given(problems())
def test_scores_are_summed_in_float32_by_falling_term_id(problem):
    dense, terms, weights = problem
    expected = np.zeros(len(dense), np.float32)
    for term, weight in zip(terms[::-1], weights[::-1], strict=True):
        expected += dense[:, term] * weight

    np.testing.assert_array_equal(score_of(postings(dense), terms, weights), expected)


@given(problems(), st.sampled_from([np.float32, np.float16, np.uint8]))
def test_scores_are_the_same_with_scipy_and_without(problem, kind):
    dense, terms, weights = problem
    if kind == np.uint8:
        dense = np.minimum(np.ceil(dense), 255)
    lists = postings(dense, kind, scale=0.7)

    with pytest.MonkeyPatch.context() as patch:
        compiled = score_of(lists, terms, weights)
        patch.setattr(scoring, "_compiled_kernels", lambda: None)
        plain = score_of(lists, terms, weights)

    assert compiled.dtype == plain.dtype == np.float32
    assert compiled.tobytes() == plain.tobytes()


def test_posting_lists_beyond_32_bits_are_found():
    # Offsets as an index of three billion postings has them; two lists of one posting are read.
    far = 3 * 10**9

    class Lists:
        def __init__(self, dtype):
            self.dtype = dtype

        def __getitem__(self, span):
            assert span.stop - span.start == 1
            return np.ones(1, self.dtype)

    lists = Postings(
        np.arange(3, dtype=np.int32),
        np.array([0, 1, far, far + 1], np.int64),
        Lists(np.int32),
        Lists(np.float32),
        np.ones(3, np.float32),
        np.zeros(3, np.float32),
        2,
    )

    scores = score_of(lists, np.array([0, 2], np.int32), np.array([2.0, 3.0], np.float32))

    assert scores.tolist() == [0, 5]


def test_the_compiled_way_exists_in_this_scipy():
    # Else the comparison above compares numpy's way with itself.
    assert scoring._compiled_kernels() is not None


def test_read_only_posting_lists_are_scored(way):
    lists = postings(np.eye(TERMS, dtype=np.float32))
    for array in (lists.offsets, lists.numbers, lists.impacts):
        array.flags.writeable = False

    scores = score_of(lists, np.array([3], np.int32), np.array([2.0], np.float32))

    assert scores.tolist() == [2.0 if number == 3 else 0.0 for number in range(TERMS)]


def by_sorting(scores, k):
    found = [number for number in range(len(scores)) if scores[number] > 0]
    return sorted(found, key=lambda number: (-scores[number], number))[:k]


@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]) | st.floats(0, 9, width=32)), st.integers(1, 9)
)
def test_top_k_is_a_sort_by_score_and_number_without_zeros(values, k):
    scores = np.array(values, np.float32)

    assert top_k(scores, k).tolist() == by_sorting(scores.tolist(), k)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("extra", [-1, 0, 1, 100])
@pytest.mark.parametrize("levels", [2, 5, 10**6])
@pytest.mark.parametrize("filled", [0.001, 1.0])
def test_top_k_is_a_sort_around_the_size_of_its_chunks(k, extra, levels, filled):
    # From here on there are at least k chunks, and their maxima say what to look at.
    size = CHUNK * k + extra
    random = np.random.default_rng([k, extra + 1, levels])
    scores = random.integers(0, levels, size).astype(np.float32)
    scores[random.random(size) > filled] = 0

    assert top_k(scores, k).tolist() == by_sorting(scores.tolist(), k)


@pytest.mark.parametrize("place", [0, CHUNK - 1, CHUNK, 3 * CHUNK, 5 * CHUNK + 6])
def test_top_k_finds_a_single_best_anywhere(place):
    scores = np.zeros(5 * CHUNK + 7, np.float32)
    scores[place] = 1.0

    assert top_k(scores, 3).tolist() == [place]


def test_top_k_of_equal_scores_is_the_first_ones():
    scores = np.ones(20 * CHUNK, np.float32)

    assert top_k(scores, 12).tolist() == list(range(12))


def test_top_k_of_best_scores_all_in_one_chunk():
    scores = np.ones(20 * CHUNK, np.float32)
    scores[7 * CHUNK : 7 * CHUNK + 10] = np.arange(2, 12)

    assert top_k(scores, 10).tolist() == [7 * CHUNK + 9 - i for i in range(10)]


@pytest.mark.parametrize("size", [0, 1, 10])
def test_top_k_of_nothing_is_nothing(size):
    assert top_k(np.zeros(size, np.float32), 5).tolist() == []
