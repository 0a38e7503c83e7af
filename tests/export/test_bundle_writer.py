"""From graph to bundle: int8 recipes are tried until one passes, and all are recorded."""

from dataclasses import replace

import pytest

from spladelet import Encoder
from spladelet.bundle.folder import Bundle
from spladelet_export import FidelityError, Limits, export_checkpoint
from spladelet_export.int8.int8_recipes import INT8_RECIPES


def test_the_description_says_what_was_done(int8_bundle, any_int8):
    description = Bundle.open(int8_bundle("bert")).description

    assert description.is_int8
    assert (
        description.quantization["recipe"] == INT8_RECIPES[0].name
    )  # the first one passes no limit
    assert description.quantization["calibration_texts"] == len(any_int8.calibration)
    attempt = description.quantization["attempts"][0]
    assert attempt["queries"] == 40
    assert attempt["ndcg_ratio_low"] <= attempt["ndcg_ratio"] <= attempt["ndcg_ratio_high"]
    assert description.fidelity["max_abs_difference"] <= 1e-4  # of the float32 graph it comes from


def test_a_model_that_misses_the_limits_is_not_written(checkpoint, any_int8, tmp_path):
    impossible = replace(any_int8, limits=Limits(overlap=1.01))

    with pytest.raises(FidelityError, match=r"no int8 recipe reaches .* static: overlap 0\.\d+"):
        export_checkpoint(checkpoint("bert"), tmp_path / "out", int8=impossible)

    assert list(tmp_path.iterdir()) == []


def test_force_writes_it_all_the_same_with_every_attempt(checkpoint, any_int8, tmp_path):
    impossible = replace(any_int8, limits=Limits(overlap=1.01), force=True)

    description = export_checkpoint(checkpoint("bert"), tmp_path / "out", int8=impossible)

    tried = [attempt["recipe"] for attempt in description.quantization["attempts"]]
    assert tried == [recipe.name for recipe in INT8_RECIPES]
    assert Encoder.load(tmp_path / "out").encode_query("river stone").active_dims
