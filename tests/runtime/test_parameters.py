"""Numbers that callers give."""

from fractions import Fraction

import numpy as np
import pytest

from spladelet.errors import InputError
from spladelet.parameters import as_real, as_whole


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.intp(3)])
def test_whole_numbers_are_taken(value):
    assert as_whole(value, "k", range(1, 4), "1 to 3") == 3
    assert type(as_whole(value, "k", range(1, 4), "1 to 3")) is int


@pytest.mark.parametrize(
    "value", [0, 4, 10**30, 3.0, np.float64(3), True, np.True_, "3", None, [3]]
)
def test_other_numbers_are_refused_by_name(value):
    with pytest.raises(InputError, match=r"^k is .*; expected 1 to 3\.$"):
        as_whole(value, "k", range(1, 4), "1 to 3")


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.float64(0.5), Fraction(1, 2)])
def test_real_numbers_are_taken(value):
    assert as_real(value, "least", "a number") == 0.5
    assert type(as_real(value, "least", "a number")) is float


@pytest.mark.parametrize("value", ["0.5", None, True, np.True_, 10**400, 1j, [0.5]])
def test_what_is_no_real_number_is_refused_by_name(value):
    with pytest.raises(InputError, match=r"^least is .*; expected a number\.$"):
        as_real(value, "least", "a number")
