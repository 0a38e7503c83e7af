"""An index that is changed by chance: the same as a dictionary that is told the same."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from runtime.index.small_index import MODEL, VOCAB, documents_of, ids_in, vectors_of

from spladelet import Index, IndexWriter, SparseVector
from spladelet.errors import DuplicateIdError
from spladelet.index import writer

IDS = [f"d{number}" for number in range(12)]
TOLERANCE = {"float32": 0.0, "float16": 1e-3, "uint8": 2e-2}


class Store(RuleBasedStateMachine):
    """An index beside a dictionary that is told the same."""

    @initialize(kind=st.sampled_from(list(TOLERANCE)), full=st.sampled_from([2, 5, 262144]))
    def start(self, kind, full):
        self.kind = kind
        self.full = writer.MAX_DOCUMENTS
        writer.MAX_DOCUMENTS = full
        self.home = Path(tempfile.mkdtemp())
        self.folder = self.home / "index"
        self.writer = IndexWriter(self.folder, weight_type=kind)
        self.known, self.committed, self.reader = {}, {}, None

    def teardown(self):
        if hasattr(self, "writer"):
            self.writer.close()
            writer.MAX_DOCUMENTS = self.full
            shutil.rmtree(self.home)

    rows = st.dictionaries(st.integers(0, VOCAB - 1), st.floats(0.125, 3, width=32), max_size=4)

    @rule(given=st.dictionaries(st.sampled_from(IDS), rows, max_size=5))
    def upsert(self, given):
        self.writer.upsert(vectors_of(given.values()), documents_of(given))
        for identity, row in given.items():
            self.known.pop(identity, None)
            self.known[identity] = row

    @rule(given=st.dictionaries(st.sampled_from(IDS), rows, max_size=5))
    def add(self, given):
        if self.known.keys() & given:
            with pytest.raises(DuplicateIdError):
                self.writer.add(vectors_of(given.values()), documents_of(given))
        else:
            self.writer.add(vectors_of(given.values()), documents_of(given))
            self.known |= given

    @rule(ids=st.lists(st.sampled_from(IDS), max_size=4))
    def delete(self, ids):
        assert self.writer.delete(ids) == len(self.known.keys() & ids)
        self.known = {i: row for i, row in self.known.items() if i not in ids}

    @rule()
    def commit(self):
        self.writer.commit()
        self.committed = dict(self.known)

    @rule()
    def compact(self):
        self.writer.compact()
        self.committed = dict(self.known)

    @rule()
    def drop(self):
        self.writer.close()
        self.writer = IndexWriter(self.folder, weight_type=self.kind)
        self.known = dict(self.committed)

    @precondition(lambda self: list(self.home.glob("index/generation-*")))
    @rule()
    def read(self):
        if self.reader is None:
            self.reader = Index.open(self.folder)
        self.reader.refresh()
        self.seen = dict(self.committed)

    @rule(terms=st.dictionaries(st.integers(0, VOCAB - 1), st.floats(0.125, 3, width=32)))
    def search(self, terms):
        if self.reader is None:
            return
        query = SparseVector.from_dict(terms, VOCAB, MODEL)
        scores = {
            i: sum(row.get(term, 0) * weight for term, weight in terms.items())
            for i, row in self.seen.items()
        }
        hits = self.reader.search(query, 5)
        assert len(hits) == min(5, sum(score > 0 for score in scores.values()))
        for hit in hits:
            assert abs(hit.score - scores[hit.id]) <= hit.margin + 1e-5 * (1 + hit.score)
            assert (hit.margin == 0) or self.kind != "float32"
            assert hit.text == f"text of {hit.id}"
        best = sorted(scores.values(), reverse=True)[: len(hits)]
        for hit, score in zip(hits, best, strict=True):
            assert abs(hit.score - score) <= hit.margin + 1e-5 * (1 + score)

    @invariant()
    def the_reader_stays_on_its_generation(self):
        if getattr(self, "reader", None) is not None:
            assert ids_in(self.reader) == list(self.seen)

    @invariant()
    def the_writer_counts_what_there_will_be(self):
        if hasattr(self, "writer"):
            assert len(self.writer) == len(self.known)


TestStore = Store.TestCase
TestStore.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
