"""Vectors as callers give them."""

import numpy as np
import pytest
from scipy.sparse import coo_array

from spladelet import SparseVector, SparseVectors
from spladelet.errors import InputError
from spladelet.vector_arguments import as_query, as_vectors

ROWS = [SparseVector([i], [i + 1.0], 5, "m") for i in range(3)]


@pytest.mark.parametrize(
    "given",
    [
        SparseVectors.from_rows(ROWS, 5),
        ROWS,
        tuple(ROWS),
        (row for row in ROWS),
        SparseVectors.from_rows(ROWS, 5).to_csr(),
        SparseVectors.from_rows(ROWS, 5).to_csr().tolil(),
    ],
)
def test_what_can_only_be_many_vectors_is_taken(given):
    assert list(as_vectors(given)) == ROWS


def test_one_vector_and_none_are_many_too():
    assert list(as_vectors(ROWS[0])) == ROWS[:1]
    assert as_vectors(ROWS).model == "m"
    assert (len(as_vectors([], 5)), as_vectors([], 5).vocab_size) == (0, 5)
    with pytest.raises(InputError, match="from_rows"):
        as_vectors([])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("cat", r"got the text 'cat' where vectors are expected; .*encode_query\('cat'\)"),
        (["cat"], r"item 0 of the vectors: got the text 'cat' where a vector is expected"),
        (
            [SparseVectors.from_rows(ROWS, 5)],
            "item 0 .* got SparseVectors .*give the SparseVectors",
        ),
        ({3: 1.0}, r"SparseVector\.from_dict"),
        (np.eye(3), r"SparseVectors\.from_csr"),
        (7, "got int"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_vectors_is_told_the_right_call(given, message):
    with pytest.raises(InputError, match=message):
        as_vectors(given)


@pytest.mark.parametrize(
    "given",
    [
        ROWS[1],
        SparseVectors.from_rows(ROWS[1:2], 5),
        SparseVectors.from_rows(ROWS[1:2], 5).to_csr(),
        SparseVectors.from_rows(ROWS[1:2], 5).to_csr().tocoo(),
        coo_array(np.array([0, 2.0, 0, 0, 0])),
    ],
)
def test_what_can_only_be_one_vector_is_taken(given):
    assert as_query(given) == ROWS[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (SparseVectors.from_rows(ROWS[:2], 5), "got 2 vectors where one is .*use search_many"),
        (SparseVectors.from_rows([], 5), "got 0 vectors"),
        (SparseVectors.from_rows(ROWS, 5).to_csr(), "got 3 vectors .*use search_many"),
        (ROWS, "got 3 vectors .*use search_many"),
        ("cat", r"encode it first: encoder\.encode_query\('cat'\)"),
        ({3: 1.0}, r"SparseVector\.from_dict"),
        (([3], [1.0]), "term ids and weights"),
        (np.eye(3)[0], r"SparseVectors\.from_csr"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_query_is_told_the_right_call(given, message):
    with pytest.raises(InputError, match=message):
        as_query(given)
