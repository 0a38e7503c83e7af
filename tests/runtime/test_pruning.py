"""Limits on the terms of a vector; `test_vector.py` has what becomes of whole vectors."""

import numpy as np
import pytest

from spladelet.errors import InputError
from spladelet.pruning import Pruning
from spladelet.text import shown

ROW = np.array([2, 5, 7], np.int32), np.array([1, 3, 2], np.float32)


def test_limits_of_numpy_become_plain_numbers():
    pruning = Pruning(np.int64(2), np.float32(0.5))

    assert (type(pruning.max_active_dims), type(pruning.min_weight)) == (int, float)
    assert pruning == Pruning(2, 0.5)


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ((), [2, 5, 7]),
        ((2,), [5, 7]),
        ((None, 2.0), [5, 7]),
        ((1, 2.0), [5]),
        ((None, 1e39), []),  # which no float32 holds
    ],
)
def test_ids_and_weights_are_kept_together_in_their_order(limits, kept):
    ids, weights = Pruning(*limits).apply(ROW)

    assert ids.tolist() == kept
    assert dict(zip(*ROW, strict=True)).items() >= dict(zip(ids, weights, strict=True)).items()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ((0,), "max_active_dims is 0; expected a whole number, at least 1, or None for no limit"),
        ((2.0,), r"max_active_dims is 2\.0"),
        ((True,), "max_active_dims is True"),
        ((None, -1), "min_weight is -1; expected a finite number, 0 or above"),
        ((None, float("nan")), "min_weight is nan"),
        ((None, "1"), "min_weight is '1'"),
        ((None, 10**5000), "min_weight is <int>"),
    ],
    ids=shown,
)
def test_limits_that_make_no_sense_are_refused(limits, message):
    with pytest.raises(InputError, match=message):
        Pruning(*limits)
