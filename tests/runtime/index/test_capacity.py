"""What `info` says of an index's memory and time, now and when it has grown."""

import re
import sys

import numpy as np
import pytest

from spladelet import Index, SparseVectors
from spladelet.index.capacity import GROWTH, SLOW_MS, advice, measure_speed, resident_bytes


def index_of(documents, terms=6):
    """Build an index in which every document has every term."""
    offsets = np.arange(documents + 1, dtype=np.int64) * terms
    ids = np.tile(np.arange(terms, dtype=np.int32), documents)
    return Index.build(SparseVectors(offsets, ids, np.ones(len(ids), np.float32), 50))


def test_a_larger_index_is_expected_to_take_longer_and_to_fill_up_sooner():
    large, larger = (measure_speed(index_of(count)) for count in (20_000, 320_000))

    assert 0 < large.now_ms < larger.now_ms
    assert large.now_ms < large.grown_ms < larger.grown_ms
    assert larger.grown_ms <= GROWTH * larger.now_ms * 1.001
    assert larger.limit > 320_000  # six terms take nowhere near 100 ms


def test_a_small_index_and_one_without_postings_are_not_measured():
    assert measure_speed(index_of(100)) is None
    assert measure_speed(index_of(20_000, terms=0)) is None


def test_the_advice_is_to_hand_over_where_growth_would_be_slow():
    assert advice(1000, 5_432_100) == (
        f"stay: a query takes {SLOW_MS:.0f} ms at about 5,000,000 documents"
    )
    assert advice(1000, 1234).endswith(
        "1,000 documents; before that, hand over to an engine: spladelet push"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is resident")
def test_what_is_resident_grows_with_what_was_read(tmp_path):
    index_of(100_000).save(tmp_path / "index")
    index_of(100_000).save(tmp_path / "index-of-another-name")
    index = Index.open(tmp_path / "index")
    before = resident_bytes(tmp_path / "index")
    total = index.vectors().weights.nbytes

    assert before + total <= resident_bytes(tmp_path / "index")
    assert resident_bytes(tmp_path) >= resident_bytes(tmp_path / "index")
    assert resident_bytes(tmp_path / "none") == 0


def test_where_nothing_tells_it_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr("spladelet.index.capacity._MAPS", tmp_path / "none")

    assert resident_bytes(tmp_path) is None


def test_info_tells_it(tmp_path, capsys):
    from spladelet.cli.main import main

    index_of(20_000).save(tmp_path / "index")
    assert main(["info", str(tmp_path / "index")]) == 0

    printed = capsys.readouterr().out
    assert re.search(r"^at 10 times +documents 200000, disk \S+ MB, posting lists", printed, re.M)
    assert re.search(r"^search +\S+ ms$", printed, re.M)
    assert re.search(r"^advice +stay: a query takes 100 ms at about", printed, re.M)
