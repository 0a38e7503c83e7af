"""Numbers that callers give."""

from fractions import Fraction

import numpy as np
import pytest

from spladelet.errors import InputError
from spladelet.parameters import as_count, as_real, as_whole
from spladelet.text import shown


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.intp(3)])
def test_whole_numbers_are_taken(value):
    assert as_whole(value, "k", range(1, 4), "1 to 3") == 3
    assert type(as_whole(value, "k", range(1, 4), "1 to 3")) is int


@pytest.mark.parametrize(
    "value",
    [0, 4, 10**30, 3.0, np.float64(3), True, np.True_, "3", None, [3], 10**5000],
    ids=shown,
)
def test_other_numbers_are_refused_by_name(value):
    with pytest.raises(InputError, match=r"^k is .*; expected 1 to 3\.$"):
        as_whole(value, "k", range(1, 4), "1 to 3")


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.float64(0.5), Fraction(1, 2)])
def test_real_numbers_are_taken(value):
    assert as_real(value, "least", "a number") == 0.5
    assert type(as_real(value, "least", "a number")) is float


@pytest.mark.parametrize(
    "value", ["0.5", None, True, np.True_, 10**400, 10**5000, 1j, [0.5]], ids=shown
)
def test_what_is_no_real_number_is_refused_by_name(value):
    with pytest.raises(InputError, match=r"^least is .*; expected a number\.$"):
        as_real(value, "least", "a number")


@pytest.mark.parametrize("given", [2, np.int32(2), np.uint64(2)])
def test_a_count_is_a_whole_number(given):
    assert type(as_count(given, "k")) is int
    assert as_count(given, "k") == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (2.0, r"k is 2\.0 \(float\); expected a whole number: give 2\."),
        (np.float32(2), r"k is .* give 2\."),
        (2.5, "expected a whole number"),
        (float("inf"), "expected a whole number"),
        ("2", "expected a whole number"),
        (None, "expected a whole number"),
        (True, "expected a whole number"),
        (np.True_, "expected a whole number"),
        (Fraction(10**400, 3), "expected a whole number"),
        (-(10**5000), "expected at least 1"),
        (0, "k is 0; expected at least 1"),
        (np.int64(-3), "expected at least 1"),
    ],
    ids=shown,
)
def test_what_is_no_count_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        as_count(given, "k")
