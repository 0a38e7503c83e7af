"""Sparse vectors: always clean, never changing, the same in every form."""

import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array, csr_array

from spladelet import SparseVector, SparseVectors
from spladelet.errors import InputError, ModelMismatchError, VectorError

VOCAB = 40
# Few different weights, so that ties are common, beside any that float32 can hold.
WEIGHTS = st.sampled_from([0.5, 1.0, 2.0]) | st.floats(2**-20, 2**20, width=32)
MAPPINGS = st.dictionaries(st.integers(0, VOCAB - 1), WEIGHTS)
MATRICES = st.lists(MAPPINGS, max_size=6)


def _with_texts(*texts):
    rows = [SparseVector([1], [1.0], 10, text=text) for text in texts]
    return SparseVectors.from_rows(rows, 10)


def test_texts_stay_with_their_vectors():
    vectors = _with_texts("a", "b", "c")

    assert vectors.texts == ("a", "b", "c")
    assert vectors.take(np.array([0, 2])).texts == ("a", "c")
    assert vectors.take(np.arange(3)).texts == ("a", "b", "c")
    assert SparseVectors.stack([vectors, _with_texts("d")], 10).texts == ("a", "b", "c", "d")
    assert SparseVectors.stack([vectors], 10).texts == ("a", "b", "c")
    assert [vector.text for vector in pickle.loads(pickle.dumps(vectors))] == ["a", "b", "c"]
    assert _with_texts("a", None).texts is None
    assert SparseVectors.stack([vectors, _with_texts(None)], 10).texts is None
    assert vectors[0] == SparseVector([1], [1.0], 10)


def vector(mapping, model=None):
    return SparseVector.from_dict(mapping, VOCAB, model)


def matrix(mappings):
    return SparseVectors.from_rows([vector(mapping) for mapping in mappings], VOCAB)


def dense(mapping):
    row = np.zeros(VOCAB, np.float32)
    row[list(mapping)] = list(mapping.values())
    return row


@given(MAPPINGS)
def test_a_mapping_comes_back_from_a_vector(mapping):
    assert vector(mapping).to_dict() == mapping


@given(MAPPINGS)
def test_a_mapping_comes_back_heaviest_first_and_ties_by_term_id(mapping):
    expected = sorted(mapping.items(), key=lambda item: (-item[1], item[0]))

    assert list(vector(mapping).to_dict().items()) == expected


@given(MAPPINGS, st.randoms())
def test_the_order_of_terms_given_does_not_matter(mapping, random):
    items = list(mapping.items())
    random.shuffle(items)

    shuffled = SparseVector([i for i, _ in items], [w for _, w in items], VOCAB)

    assert shuffled == vector(mapping)
    assert shuffled.term_ids.tolist() == sorted(mapping)


@given(MAPPINGS)
def test_zero_weights_are_no_terms(mapping):
    padded = {i: mapping.get(i, 0.0) for i in range(VOCAB)}

    assert vector(padded) == vector(mapping)
    assert vector(padded).active_dims == len(mapping)


def test_weights_too_small_for_float32_are_no_terms():
    assert SparseVector([1, 2], [1e-300, 1.0], VOCAB).to_dict() == {2: 1.0}


def test_arrays_are_int32_and_float32_whatever_is_given():
    made = SparseVector(np.array([3], np.int64), np.array([1], np.float64), VOCAB)

    assert (made.term_ids.dtype, made.weights.dtype) == (np.int32, np.float32)


@pytest.mark.parametrize(
    ("term_ids", "weights", "message"),
    [
        ([1, 2], [1.0, float("nan")], "weight nan at position 1"),
        ([1], [float("inf")], "weight inf at position 0"),
        ([1], [float("-inf")], "weight -inf at position 0"),
        ([1], [-0.5], "weight -0.5 at position 0"),
        ([1], [1e300], "weight inf at position 0"),
        ([1], np.array([1e300]), "weight inf at position 0"),
        ([1], [10**400], "not numbers"),
        ([1], [None], "weight nan"),
        ([7, 3, 7], [1.0, 1.0, 1.0], "term id 7 is given twice"),
        ([3, 3], [0.0, 0.0], "term id 3 is given twice"),
        ([VOCAB], [1.0], f"term id {VOCAB} is outside the vocabulary of {VOCAB} terms"),
        ([-1, 2], [1.0, 1.0], "term id -1 is outside"),
        ([2**70], [1.0], "not numbers"),
        ([1, 2], [1.0], "one length"),
        ([], [1.0], "one length"),
        ([[1]], [[1.0]], "flat arrays"),
        (1, 1.0, "flat arrays"),
        (["cat"], [1.0], "not numbers"),
        ([1], ["heavy"], "not numbers"),
        ([None], [1.0], "not numbers"),
        ([1], [1j], "not numbers"),
        ([[1], [1, 2]], [1.0, 2.0], "not numbers"),
    ],
)
def test_what_is_no_sparse_vector_is_refused(term_ids, weights, message):
    with pytest.raises(VectorError, match=message):
        SparseVector(term_ids, weights, VOCAB)


@pytest.mark.parametrize(
    "ids", [[1.7], np.array([np.nan]), np.array([1e30]), ["1"], np.array([1j])]
)
def test_term_ids_that_are_no_whole_numbers_are_refused(ids):
    with pytest.raises(VectorError):
        SparseVector(ids, [1.0], 10)


def test_a_term_id_beyond_int32_does_not_wrap():
    with pytest.raises(VectorError):
        SparseVector([2**31 + 5], [1.0], 2**40)


def test_complex_weights_are_refused():
    with pytest.raises(VectorError):
        SparseVector([1], np.array([1 + 2j]), 10)


def test_a_vector_and_its_arrays_cannot_be_changed():
    made = vector({1: 1.0, 2: 2.0})

    for array in (made.term_ids, made.weights):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 9
    with pytest.raises(FrozenInstanceError):
        made.weights = np.ones(2, np.float32)


def test_many_vectors_and_their_arrays_cannot_be_changed():
    made = matrix([{1: 1.0}, {2: 2.0}])

    for array in (made.row_offsets, made.term_ids, made.weights, made[0].weights):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 9
    with pytest.raises(FrozenInstanceError):
        made.vocab_size = 3


def test_pickled_vectors_cannot_be_changed_either():
    for made in (vector({1: 1.0}), matrix([{1: 1.0}])):
        assert not pickle.loads(pickle.dumps(made)).weights.flags.writeable


def test_a_vector_does_not_follow_the_arrays_it_was_made_of():
    ids, weights = np.array([1, 2], np.int32), np.array([1.0, 2.0], np.float32)
    made = SparseVector(ids, weights, VOCAB)

    ids[0], weights[0] = 5, 9.0

    assert made.to_dict() == {2: 2.0, 1: 1.0}


@given(MAPPINGS, MAPPINGS)
def test_vectors_are_equal_when_their_terms_are(left, right):
    assert (vector(left) == vector(right)) == (left == right)


def test_a_vector_is_equal_to_no_other_kind_and_has_no_hash():
    assert vector({1: 1.0}) != {1: 1.0}
    with pytest.raises(TypeError, match="unhashable"):
        hash(vector({1: 1.0}))


def test_a_vector_shows_its_heaviest_terms():
    shown = repr(vector({1: 0.5, 2: 4.0, 3: 3.0, 4: 2.0, 5: 1.0}))

    assert shown == "SparseVector({2: 4, 3: 3, 4: 2, 5: 1, …}, active_dims=5)"


@given(MAPPINGS, MAPPINGS)
def test_dot_is_the_dense_dot_product(left, right):
    expected = float(dense(left).astype(np.float64) @ dense(right).astype(np.float64))

    assert vector(left).dot(vector(right)) == pytest.approx(expected, rel=1e-5)


def test_products_too_large_for_float32_do_not_warn():
    heavy = SparseVector([1], [3e38], 10)

    assert heavy.dot(heavy) > 1e38
    assert heavy.prune(min_weight=1e300).active_dims == 0


def test_vectors_of_two_models_are_not_multiplied():
    one = vector({1: 1.0}, model="a" * 64)

    with pytest.raises(ModelMismatchError, match="aaaaaaaaaaaa and of model bbbbbbbbbbbb"):
        one.dot(vector({1: 1.0}, model="b" * 64))
    with pytest.raises(ModelMismatchError, match=f"{VOCAB} and 3 terms"):
        one.dot(SparseVector([1], [1.0], 3))
    assert one.dot(vector({1: 3.0})) == 3.0


@given(MAPPINGS, st.integers(1, VOCAB), st.sampled_from([0.0, 0.5, 1.0, 7.0]))
def test_prune_keeps_the_heaviest_and_of_equals_the_lower_id(mapping, limit, least):
    ranked = sorted(mapping.items(), key=lambda item: (-item[1], item[0]))
    expected = [(i, w) for i, w in ranked if w >= least][:limit]

    pruned = vector(mapping, "m").prune(max_active_dims=limit, min_weight=least)

    assert list(pruned.to_dict().items()) == expected
    assert pruned.model == "m"


@given(MAPPINGS)
def test_prune_without_limits_keeps_all(mapping):
    assert vector(mapping).prune() == vector(mapping)


@pytest.mark.parametrize(
    "limits",
    [
        {"max_active_dims": 0},
        {"max_active_dims": -3},
        {"min_weight": -0.1},
        {"min_weight": float("nan")},
        {"min_weight": float("inf")},
    ],
)
def test_prune_refuses_limits_that_make_no_sense(limits):
    with pytest.raises(InputError, match=next(iter(limits))):
        vector({1: 1.0}).prune(**limits)


@given(MATRICES)
def test_rows_come_back_from_a_matrix(mappings):
    made = matrix(mappings)

    assert [row.to_dict() for row in made] == mappings
    assert made.active_dims.tolist() == [len(mapping) for mapping in mappings]


@given(MATRICES)
def test_a_matrix_comes_back_from_csr(mappings):
    made = matrix(mappings)

    back = SparseVectors.from_csr(made.to_csr())

    assert list(back) == list(made)
    assert back.vocab_size == VOCAB


@given(MATRICES)
def test_csr_holds_the_same_numbers(mappings):
    expected = np.array([dense(mapping) for mapping in mappings]).reshape(-1, VOCAB)

    csr = matrix(mappings).to_csr()

    assert csr.dtype == np.float32
    np.testing.assert_array_equal(csr.toarray(), expected)


def test_csr_shares_the_weights():
    made = matrix([{1: 1.0}])

    assert np.shares_memory(made.to_csr().data, made.weights)


def test_from_csr_cleans_what_it_takes_and_leaves_the_original_alone():
    data, columns = np.array([1.0, 2.0, 0.0, 4.0], np.float32), np.array([3, 1, 2, 3])
    given_matrix = csr_array((data, columns, [0, 4]), shape=(1, 5))

    made = SparseVectors.from_csr(given_matrix)

    assert made[0].to_dict() == {3: 5.0, 1: 2.0}
    assert given_matrix.indices.tolist() == [3, 1, 2, 3]
    assert given_matrix.data.flags.writeable


def test_from_csr_takes_other_formats():
    assert SparseVectors.from_csr(coo_array(np.eye(3)))[1].to_dict() == {1: 1.0}
    assert SparseVectors.from_csr(np.eye(3))[2].to_dict() == {2: 1.0}


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_from_csr_refuses_weights_that_are_none(weight):
    with pytest.raises(VectorError, match="expected finite numbers, 0 or above"):
        SparseVectors.from_csr(csr_array(np.array([[1.0, weight]], np.float32)))


def test_from_csr_refuses_what_float32_cannot_hold_without_a_warning():
    with pytest.raises(VectorError):
        SparseVectors.from_csr(csr_array(np.array([[1e300]])))


def test_from_csr_does_not_wrap_wide_matrices():
    wide = csr_array((np.array([1.0]), np.array([2**33]), np.array([0, 1])), shape=(1, 2**34))

    with pytest.raises(VectorError):
        SparseVectors.from_csr(wide)


def test_from_rows_refuses_a_row_of_another_model_or_vocabulary():
    row = vector({1: 1.0}, model="a")

    with pytest.raises(ModelMismatchError, match="row 1"):
        SparseVectors.from_rows([row, SparseVector([1], [1.0], 3)], VOCAB)
    with pytest.raises(ModelMismatchError, match="row 0"):
        SparseVectors.from_rows([row], VOCAB, model="b")
    assert SparseVectors.from_rows([row], VOCAB, model="a")[0].model == "a"


def test_from_rows_takes_the_model_of_its_rows_and_no_second_one():
    row, unknown, other = (vector({1: 1.0}, model) for model in ("a", None, "b"))

    assert SparseVectors.from_rows([unknown, row], VOCAB).model == "a"
    with pytest.raises(ModelMismatchError, match="row 2"):
        SparseVectors.from_rows([row, unknown, other], VOCAB)


@given(MATRICES, st.integers(-9, 9))
def test_rows_are_read_as_from_a_list(mappings, number):
    made = matrix(mappings)

    if -len(mappings) <= number < len(mappings):
        assert made[number].to_dict() == mappings[number]
    else:
        with pytest.raises(IndexError, match=f"row {number} of {len(mappings)}"):
            made[number]


@given(MATRICES, st.slices(8))
def test_slices_are_read_as_from_a_list(mappings, span):
    assert [row.to_dict() for row in matrix(mappings)[span]] == mappings[span]


def test_no_rows_make_an_empty_matrix():
    made = matrix([])

    assert (len(made), list(made), made.to_csr().shape) == (0, [], (0, VOCAB))
    assert repr(made) == "SparseVectors(0 texts, active_dims=0.0 on average)"


def test_matrices_are_stacked_and_rows_taken_in_their_order():
    rows = [SparseVector([i], [i + 1.0], 5) for i in range(5)]
    parts = [SparseVectors.from_rows(some, 5, "m") for some in (rows[:2], [], rows[2:])]

    stacked = SparseVectors.stack(parts, 5, "m")

    assert (list(stacked), stacked.model) == (rows, "m")
    assert SparseVectors.stack(parts[:1], 5, "m").row_offsets is parts[0].row_offsets
    assert list(stacked.take(np.array([3, 0]))) == [rows[0], rows[3]]
    assert list(stacked.take(np.arange(5))) == rows
    assert len(SparseVectors.stack([], 5)) == len(stacked.take(np.array([], int))) == 0


def test_stacked_matrices_keep_the_numbers_of_what_was_truncated():
    rows = [(np.array([i], np.int32), np.array([1], np.float32)) for i in range(3)]
    first = SparseVectors.from_arrays(rows, 5, "m", (0, 2))
    second = SparseVectors.from_arrays(rows[:2], 5, "m", (1,))

    assert SparseVectors.stack([first, second, first], 5, "m").truncated == (0, 2, 4, 5, 7)
    assert SparseVectors.stack([first], 5, "m").truncated == (0, 2)
    assert SparseVectors.from_arrays([], 5).truncated == ()


def test_numbers_of_numpy_are_numbers():
    made = SparseVector([1, 2], [1.0, 2.0], np.int64(VOCAB))

    assert type(made.vocab_size) is int
    assert type(SparseVectors.from_rows([made], np.int32(VOCAB)).vocab_size) is int
    assert made.prune(max_active_dims=np.int64(1), min_weight=np.float32(0.5)).to_dict() == {2: 2.0}


@pytest.mark.parametrize("size", [2.0, "9", None, True, -1])
def test_a_vocabulary_has_a_whole_number_of_terms(size):
    for make in (lambda: SparseVector([1], [1.0], size), lambda: SparseVectors.from_rows([], size)):
        with pytest.raises(VectorError, match="vocab_size is"):
            make()


@pytest.mark.parametrize(
    "limits",
    [
        {"max_active_dims": 2.0},
        {"max_active_dims": True},
        {"min_weight": "1"},
        {"min_weight": None},
    ],
)
def test_limits_are_numbers(limits):
    with pytest.raises(InputError, match=f"{next(iter(limits))} is"):
        vector({1: 1.0}).prune(**limits)


@pytest.mark.parametrize("rows", [["x"], None, 7, [SparseVectors.from_rows([], 2)]])
def test_rows_that_are_no_vectors_are_refused(rows):
    with pytest.raises(VectorError, match="expected several SparseVector"):
        SparseVectors.from_rows(rows, 2)


def test_a_fraction_among_objects_is_no_term_id():
    with pytest.raises(VectorError, match="with fractions"):
        SparseVector(np.array([1.7], object), [1.0], 5)
