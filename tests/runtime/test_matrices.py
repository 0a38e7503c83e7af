"""Matrices of scipy that would make its compiled code read outside of its arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spladelet import SparseVectors, read_vectors
from spladelet.errors import InputError, VectorError
from spladelet.matrices import sound_csr

sparse = pytest.importorskip("scipy.sparse")

FORMATS = ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"]
DENSE = np.array([[0, 1.5, 0, 2], [0, 0, 0, 0], [3, 0, 0, 0.5]], np.float32)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, np.int8, np.uint64, bool])
def test_every_format_is_taken(name, dtype):
    dense = DENSE.astype(dtype)

    made = sound_csr(sparse.coo_array(dense).asformat(name))

    assert made.dtype == np.float32
    np.testing.assert_array_equal(made.toarray(), dense.astype(np.float32))


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0, 2.5]), min_size=4, max_size=4), min_size=1))
def test_diagonals_are_where_scipy_has_them(rows):
    dense = np.array(rows)

    np.testing.assert_array_equal(sound_csr(sparse.dia_array(dense)).toarray(), dense)


def test_room_behind_the_last_offset_is_not_read():
    matrix = sparse.csr_array(DENSE)
    matrix.indices = np.append(matrix.indices, 99).astype(np.int32)
    matrix.data = np.append(matrix.data, np.float32(np.nan))

    np.testing.assert_array_equal(sound_csr(matrix).toarray(), DENSE)


def damaged(name, attribute, value):
    matrix = sparse.csr_array(DENSE).asformat(name)
    setattr(matrix, attribute, np.array(value))
    return matrix


@pytest.mark.parametrize("name", ["csr", "csc", "bsr"])
@pytest.mark.parametrize(
    "offsets",
    [
        [0, 5000, 0, 0, 0],  # scipy checks nothing where the last one is 0
        [0, 5000, 0, 0],
        [0, -1, 4, 4],
        [0, 3, 2, 4],
        [1, 2, 3, 4],
        [0, 2, 4],
        [0, 2, 2, 99],
        [0, 2, 2, -1],
        [],
        [0.0, 2.0, 2.0, 4.0],
    ],
)
def test_offsets_that_lead_outside_are_refused(name, offsets):
    with pytest.raises(VectorError):
        SparseVectors.from_csr(damaged(name, "indptr", offsets))


@pytest.mark.parametrize("name", ["csr", "csc", "bsr"])
@pytest.mark.parametrize("numbers", [[0, 1, 2, 4], [0, 1, -1, 2], [0, 1], [0.0, 1.0, 2.0, 3.0]])
def test_numbers_beyond_the_shape_are_refused(name, numbers):
    with pytest.raises(VectorError):
        SparseVectors.from_csr(damaged(name, "indices", numbers))


def test_coordinates_and_lists_beyond_the_shape_are_refused():
    for axis in (0, 1):
        matrix = sparse.coo_array(DENSE)
        (matrix.row, matrix.col)[axis][0] = 7
        with pytest.raises(VectorError, match="It is damaged"):
            sound_csr(matrix)
    for lists in ([[0, 9]], [[0, -1]], [[0]]):
        matrix = sparse.lil_array(DENSE[:1])
        matrix.rows[:] = [None]
        matrix.rows[0] = lists[0]
        with pytest.raises(VectorError, match="It is damaged"):
            sound_csr(matrix)


@pytest.mark.parametrize(
    "given",
    [
        sparse.csr_array(np.array([[1j]])),
        np.array([["a"]]),
        np.array([[object()]]),
        np.ones((1, 1, 1)),
        [[1.0], [1.0, 2.0]],
        np.float64(1),
        "text",
        None,
    ],
)
def test_what_is_no_matrix_is_refused(given):
    with pytest.raises(VectorError):
        sound_csr(given)


@pytest.mark.parametrize("offset", [2**40, -(2**63), 2**32 + 1, 3, -2])
def test_a_diagonal_outside_of_the_shape_is_damage(tmp_path, offset):
    file = tmp_path / "m.npz"
    parts = {"format": b"dia", "shape": [2, 3], "data": np.ones((1, 3)), "offsets": [offset]}
    np.savez(file, **{name: np.array(value) for name, value in parts.items()})

    with pytest.raises(InputError, match="off the main one"):
        list(read_vectors(file, 3))
