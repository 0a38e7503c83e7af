import math

import numpy as np
import pytest

from spladelet import Encoder
from spladelet_export import CheckpointError, FidelityError
from spladelet_export.checkpoint.checkpoint import read_checkpoint
from spladelet_export.checks.fidelity import Fidelity, check, check_active_dims, compare, measure
from spladelet_export.checks.reference import TorchReference
from spladelet_export.torch_export import load_model


def row(*weights):
    return np.array(weights, np.float32)


def fidelity(max_abs_difference):
    return Fidelity(1, max_abs_difference, 10.0, 0, 0, 1.0)


def test_equal_rows_do_not_differ():
    same = row(0, 1.5, 0, 2)

    assert compare([(same, same)], 1) == Fidelity(1, 0.0, 2.0, 0, 0, 1.0)


def test_figures_of_two_rows_worked_out_by_hand():
    pairs = [
        # differs by 0.25 in the first term; the last, 0.5, is missing from ours
        (row(1.25, 0, 2, 0), row(1, 0, 2, 0.5)),
        # ours has two terms more: one of weight 1, one below the tolerance
        (row(3, 1, 0.00005, 0), row(3, 0, 0, 0)),
    ]

    result = compare(pairs, 7)

    assert result.texts == 7
    assert result.max_abs_difference == 1.0  # the second row's extra term
    assert result.active_dims == 2.0  # (3 + 1) / 2 in the reference
    assert result.active_dims_difference == 2
    assert result.flipped_above_tolerance == 2  # 0.5 and 1, but not 0.00005
    assert result.top_overlap == pytest.approx((2 / 3 + 1) / 2)


def test_only_the_ten_heaviest_terms_count_for_the_overlap():
    theirs = np.arange(1, 13, dtype=np.float32)  # terms 2 to 11 are the heaviest ten
    ours = theirs.copy()
    ours[[0, 2]] = ours[[2, 0]]  # term 0 has risen over term 2; of 2 … 11, all but 2 are left

    assert compare([(ours, theirs)], 1).top_overlap == pytest.approx(0.9)


def test_the_difference_in_number_counts_both_ways():
    pairs = [(row(1, 1, 0), row(1, 0, 0)), (row(0, 0, 0), row(1, 1, 1))]  # one more, three fewer

    assert compare(pairs, 2).active_dims_difference == 3


def test_a_reference_without_terms_overlaps_by_nothing():
    result = compare([(row(1, 0), row(0, 0))], 1)

    assert (result.active_dims, result.flipped_above_tolerance, result.top_overlap) == (0, 1, 0)


def test_no_rows_give_figures_all_the_same():
    assert compare([], 3) == Fidelity(3, 0.0, 0.0, 0, 0, 1.0)


def test_figures_go_into_json_by_name():
    assert compare([(row(1, 0), row(1, 0))], 1).to_dict() == {
        "texts": 1,
        "max_abs_difference": 0.0,
        "active_dims": 1.0,
        "active_dims_difference": 0,
        "flipped_above_tolerance": 0,
        "top_overlap": 1.0,
    }


@pytest.mark.parametrize("difference", [0.0, 1e-6, 1e-4])
def test_rounding_passes(difference):
    measured = fidelity(difference)
    check(measured)
    assert measured == fidelity(difference)  # looked at, and left as it was


@pytest.mark.parametrize("difference", [1.1e-4, 3.0, math.inf, math.nan])
def test_more_than_rounding_is_an_error_that_says_how_much(difference):
    with pytest.raises(FidelityError, match=rf"by up to {difference:.2g}; .*Nothing was written"):
        check(fidelity(difference))


def test_not_a_number_in_the_first_row_is_an_error():
    with pytest.raises(FidelityError, match="nan"):
        check(compare([(row(math.nan), row(1)), (row(1), row(1))], 2))


def test_not_a_number_in_a_later_row_is_an_error():
    with pytest.raises(FidelityError, match="nan"):
        check(compare([(row(1), row(1)), (row(1), row(math.nan))], 2))


def rows_of(*active_dims, width=1000):
    return [(np.arange(width) < number).astype(np.float32) for number in active_dims]


@pytest.mark.parametrize("active_dims", [(1, 1), (0, 0, 1), (500, 500), (1000, 0), (6,)])
def test_a_model_that_can_search_has_some_terms_a_text(active_dims):
    rows = rows_of(*active_dims)

    check_active_dims(rows, 1000, "document")
    assert [int(row.sum()) for row in rows] == list(active_dims)


def test_of_a_tiny_vocabulary_a_text_may_have_all():
    width = 200
    rows = rows_of(width, width, width=width)

    check_active_dims(rows, width, "document")
    assert all(row.all() for row in rows)


@pytest.mark.parametrize(
    ("active_dims", "found", "cause"),
    [
        ((0, 0), "0.0 of 1000", "damaged"),
        ((), "0.0 of 1000", "damaged"),
        ((1000, 1000), "1000.0 of 1000", "a plain masked language model"),
        ((501, 500), "500.5 of 1000", "a plain masked language model"),
    ],
)
def test_none_or_most_of_the_vocabulary_is_refused(active_dims, found, cause):
    message = f"a query has {found} terms on average.*expected some, .*It is {cause}"

    with pytest.raises(CheckpointError, match=message):
        check_active_dims(rows_of(*active_dims), 1000, "query")


def test_measure_compares_each_side_with_its_own_prompt(bundle, checkpoint):
    source = read_checkpoint(checkpoint("distilbert-prompt"))
    asked = []

    class Reference(TorchReference):
        def encode(self, text, side):
            asked.append((side, text))
            return super().encode(text, side)

    reference = Reference(source, load_model(source.folder))
    result = measure(Encoder.load(bundle("distilbert-prompt")), reference, ["river", ""])

    # the empty text has no content on either side and is left out
    assert asked == [("document", "river"), ("query", "river")]
    assert result.max_abs_difference <= 1e-4


def test_measure_sees_a_bundle_of_other_weights(bundle, checkpoint):
    source = read_checkpoint(checkpoint("distilbert"))
    reference = TorchReference(source, load_model(source.folder))

    result = measure(Encoder.load(bundle("bert")), reference, ["river stone bread"])

    with pytest.raises(FidelityError):
        check(result)
