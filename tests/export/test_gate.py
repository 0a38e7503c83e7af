"""The gate: figures worked out by hand, and what it accepts."""

import math

import numpy as np
import pytest

from spladelet import Document
from spladelet_export import ExportError
from spladelet_export.gate import Agreement, Gate, Limits, built_in_set, ndcg, read_set


def agreement(overlap=1.0, high=1.0):
    return Agreement(40, overlap, 0.5, 0.5, 1.0, 0.99, high, 70.0, 71.0)


@pytest.mark.parametrize(
    ("found", "relevant", "expected"),
    [
        (["a"], {"a": 1}, 1.0),
        (["b", "a"], {"a": 1}, 1 / math.log2(3)),
        (["b"], {"a": 1}, 0.0),
        # gains 1 and 2 in the wrong order: (1 + 2 / log2 3) / (2 + 1 / log2 3)
        (["a", "b"], {"a": 1, "b": 2}, (1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3))),
        ([str(i) for i in range(10)] + ["a"], {"a": 1}, 0.0),
        (["a"], {"a": 0}, 0.0),
    ],
)
def test_ndcg(found, relevant, expected):
    assert ndcg(found, relevant) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("figures", "passes"),
    [
        (agreement(), True),
        (agreement(overlap=0.97), True),
        (agreement(overlap=0.969), False),
        (agreement(high=0.995), True),
        (agreement(high=0.994), False),
    ],
)
def test_limits_are_kept_or_not(figures, passes):
    assert figures.passes(Limits()) is passes


def test_a_model_agrees_with_itself(bundle):
    from spladelet import Encoder

    encoder = Encoder.load(bundle("bert"))
    figures = Gate(encoder, [built_in_set()]).measure(encoder)

    assert figures.queries == 40
    assert figures.top10_overlap == figures.ndcg_ratio == figures.ndcg_ratio_low == 1.0
    assert figures.active_dims == figures.active_dims_reference


def test_the_built_in_set_is_whole():
    asked = built_in_set()
    ids = {document.id for document in asked.documents}

    assert len(ids) == 200
    assert all(set(grades) <= ids for grades in asked.relevant.values())


def test_a_folder_in_beirs_layout_is_read(tmp_path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "title": "T", "text": "x"}\n')
    (tmp_path / "queries.jsonl").write_text(
        '{"_id": "1", "text": "what"}\n{"_id": "2", "text": "unasked"}\n'
    )
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\td\t2\n")

    asked = read_set(tmp_path)

    assert list(asked.documents) == [Document("d", "x", "T")]
    assert asked.queries == {"1": "what"}
    assert asked.relevant == {"1": {"d": 2}}


def test_a_folder_without_judgements_is_refused(tmp_path):
    with pytest.raises(ExportError, match="is no evaluation set"):
        read_set(tmp_path)


def test_the_interval_holds_the_ratio():
    from spladelet_export.gate import _bootstrap_ratio

    rng = np.random.default_rng(0)
    theirs = rng.random(200)
    low, high = _bootstrap_ratio(theirs * 0.9, theirs)
    assert (low, high) == pytest.approx((0.9, 0.9))

    low, high = _bootstrap_ratio(rng.permutation(theirs), theirs)
    assert low < 1 < high
