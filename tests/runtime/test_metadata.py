"""Metadata as it is kept: plain values, whatever a table calls them."""

import json
import math

import numpy as np
import pytest

from spladelet import Document, Index, SparseVector, SparseVectors
from spladelet.errors import InputError
from spladelet.metadata import plain_metadata


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.array(3), 3),
        (np.array([3, 4]), [3, 4]),
        (math.nan, None),
        (np.float32("nan"), None),
        (np.datetime64("NaT"), None),
        ([1.0, math.nan], [1.0, None]),
        (np.str_("a"), "a"),
    ],
)
def test_what_numpy_has_is_kept_as_plain_values(given, kept):
    plain = plain_metadata({"field": given}, "id")

    assert plain == {"field": kept}
    assert json.loads(json.dumps(plain)) == plain


def test_what_is_plain_is_not_made_anew():
    metadata = {"year": 2020, "score": 0.5, "lang": "en", "draft": False, "none": None}

    assert plain_metadata(metadata, "id") is metadata


@pytest.mark.parametrize("value", [math.inf, 2**130 + 2**70, -(2**130) - 2**70, object(), {1, 2}])
def test_what_cannot_be_kept_is_refused(value):
    with pytest.raises(InputError, match="metadata of document 'id' cannot be kept"):
        plain_metadata({"field": value}, "id")


def test_a_condition_may_be_an_array():
    rows = SparseVectors.from_rows([SparseVector([1], [1.0], 2)] * 3, 2)
    documents = [Document(str(n), "", metadata={"n": n}) for n in range(3)]
    index = Index.build(rows, documents)

    found = index.search(rows[0], where={"n": np.array([0, 2])})
    assert [hit.id for hit in found] == ["0", "2"]
    assert [hit.id for hit in index.search(rows[0], where={"n": np.array(1)})] == ["1"]
