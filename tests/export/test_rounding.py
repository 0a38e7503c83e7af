"""Rounding: each weight to the nearest level, or each making up for those before it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spladelet_export.int8.rounding import round_columns, round_in_turn


@pytest.mark.parametrize("channels", [6, 64, 150])
def test_rounding_in_turn_loses_less_of_the_products(channels):
    rng = np.random.default_rng(channels)
    rows = rng.normal(size=(400, 4)) @ rng.normal(size=(4, channels))
    rows = (rows + 0.1 * rng.normal(size=rows.shape)).astype(np.float32)
    levels = rng.uniform(-127, 127, (channels, 30)).astype(np.float32)

    found = round_in_turn(levels, rows.T @ rows)

    lost = np.linalg.norm(rows @ (found - levels))
    plain = np.linalg.norm(rows @ (np.rint(levels) - levels))
    assert lost < 0.8 * plain
    assert np.abs(found).max() <= 127


def test_channels_that_have_nothing_in_common_are_rounded_one_by_one():
    levels = np.random.default_rng(0).uniform(-127, 127, (70, 3)).astype(np.float32)

    found = round_in_turn(levels, np.diag(np.arange(70, dtype=np.float32)))

    assert np.array_equal(found, np.rint(levels))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_columns_keep_to_half_a_step(rows, columns, seed):
    matrix = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    quantized, scales = round_columns(matrix)

    assert quantized.dtype == np.int8
    assert (np.abs(quantized * scales - matrix) <= scales / 2 * 1.001).all()
