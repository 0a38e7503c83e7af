"""What `info` says of an index's memory and time, now and when it has grown."""

import re
import sys

import numpy as np
import pytest

from spladelet import Index, SparseVectors
from spladelet.cli.main import main
from spladelet.index import capacity
from spladelet.index.capacity import GROWTH, SLOW_MS, advice, measure_speed, resident_bytes


def index_of(documents, terms=6):
    """Build an index in which every document has every term."""
    offsets = np.arange(documents + 1, dtype=np.int64) * terms
    ids = np.tile(np.arange(terms, dtype=np.int32), documents)
    return Index.build(SparseVectors(offsets, ids, np.ones(len(ids), np.float32), 50))


class Clock:
    """Stands still but for searches: 1 ms for each, and a little for each posting of its terms."""

    def __init__(self):
        self.now = 0.0
        self.seconds_per_posting = 1e-7
        self.searches = 0

    def perf_counter(self):
        return self.now

    def pass_by(self, postings):
        self.searches += 1
        disturbed = self.searches % 3 == 1  # the first of three rounds, by other work
        self.now += 1e-3 + self.seconds_per_posting * postings + 0.5 * disturbed


@pytest.fixture
def clock(monkeypatch):
    """Let no time pass but what a search takes by its postings."""
    clock, search = Clock(), Index.search

    def timed(index, query, *arguments, **options):
        clock.pass_by(int(index.list_lengths()[query.term_ids].sum()))
        return search(index, query, *arguments, **options)

    monkeypatch.setattr(capacity, "time", clock)
    monkeypatch.setattr(Index, "search", timed)
    return clock


@pytest.mark.parametrize("documents", [20_000, 40_000])
def test_the_time_of_a_search_grows_with_its_postings_and_nothing_else(clock, documents):
    speed = measure_speed(index_of(documents))

    growing = 1e-4 * 6 * (documents - 1)  # ms; one document's stand for what is always there
    assert speed.now_ms == pytest.approx(1 + 1e-4 * 6 * documents)
    assert speed.grown_ms == pytest.approx(speed.now_ms + (GROWTH - 1) * growing)
    assert speed.limit == pytest.approx(documents * (SLOW_MS - 1) / growing, rel=1e-3)


def test_an_index_that_is_slow_already_has_reached_its_limit(clock):
    clock.seconds_per_posting = 1e-6

    slow = measure_speed(index_of(20_000))

    assert slow.now_ms == pytest.approx(121)
    assert slow.limit == pytest.approx(20_000 * 99 / 120, rel=1e-3)


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


def test_info_tells_it(tmp_path, capsys, clock):
    index_of(20_000).save(tmp_path / "index")
    assert main(["info", str(tmp_path / "index")]) == 0

    printed = capsys.readouterr().out
    assert re.search(r"^at 10 times +documents 200000, disk \S+ MB, posting lists", printed, re.M)
    assert re.search(r"^search +13(\.0+)? ms$", printed, re.M)
    assert re.search(
        r"^advice +a query takes 100 ms at about 200,000 documents; before", printed, re.M
    )
