"""Texts and ids as callers give them."""

import enum
from decimal import Decimal

import numpy as np
import pytest

from spladelet.errors import InputError
from spladelet.text import as_id, as_text, check_portable_id, shown


class Kind(enum.StrEnum):
    CAT = "cat"


def test_what_pandas_has_for_an_empty_cell_is_an_empty_text():
    pandas = pytest.importorskip("pandas", reason="needs pandas")

    column = pandas.Series(["cats", None, pandas.NA, pandas.NaT, float("nan")], dtype=object)
    assert [as_text(cell, "text") for cell in column] == ["cats", "", "", "", ""]
    for dtype in ("string", "str"):
        column = pandas.Series(["cats", None], dtype=dtype)
        assert [as_text(cell, "text") for cell in column] == ["cats", ""]
    with pytest.raises(InputError, match="expected a str or a whole number"):
        as_id(pandas.NA, "id")


@pytest.mark.parametrize("given", ["cat", np.str_("cat"), Kind.CAT])
def test_a_text_of_any_kind_is_a_plain_one(given):
    for taken in (as_text(given, "text"), as_id(given, "id")):
        assert (taken, type(taken)) == ("cat", str)


@pytest.mark.parametrize("given", [0, 1.5, True, b"cat", ["cat"], object(), Decimal(1)])
def test_what_is_no_text_is_shown(given):
    with pytest.raises(InputError, match=r"^the title is .* \(\w+\); expected a str\.$"):
        as_text(given, "the title")


def test_what_is_shown_is_short():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for value in ("x" * 10**6, ["x" * 10**6] * 10**4, deep, 10**5000):
        assert len(shown(value)) < 500


@pytest.mark.parametrize("identity", ["a\0", "\0", "\ud800", "a\udc00b"])
def test_ids_that_others_would_change_are_refused(identity):
    assert check_portable_id("☃ 1") == "☃ 1"
    with pytest.raises(InputError, match="Rename it"):
        check_portable_id(identity)
