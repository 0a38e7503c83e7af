"""One contract for all engines: what is pushed is found, ranked and scored as we do it.

Elasticsearch and OpenSearch are stand-ins that compute Lucene's arithmetic (9 significant bits);
Qdrant's and Milvus's engines are the real ones.
"""

import numpy as np
import pytest

from spladelet import Document, Index, SparseVector, SparseVectors
from spladelet.engines import EngineHit, Facts, Record, push
from spladelet.errors import EngineError, EngineMismatchError, InputError, ModelMismatchError

LOSS = {"elasticsearch": 2**-8, "opensearch": 2**-8, "qdrant": 1e-6, "milvus": 1e-6}


def vector(weights, model="m" * 64):
    return SparseVector.from_dict(weights, 100, model)


def small_index(rows, model="m" * 64, prefix="d"):
    vectors = SparseVectors.from_rows([vector(row, model) for row in rows], 100, model)
    documents = [Document(f"{prefix}{i}", f"text {i}", f"title {i}") for i in range(len(rows))]
    return Index.build(vectors, documents, model_name="tiny")


def random_index(count, seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        {int(t): float(w) for t, w in zip(rng.choice(100, 12, False), rng.gamma(2, 0.5, 12))}  # noqa: B905
        for _ in range(count)
    ]
    return small_index(rows)


def test_the_example_of_elastics_documentation(open_engine):
    engine = open_engine()
    push(engine, small_index([{0: 0.12, 1: 1.2, 2: 3.0}, {5: 1.0}]))
    (hit,) = engine.search(vector({0: 2.5, 2: 0.2}), k=5)
    assert (hit.id, hit.title, hit.text) == ("d0", "title 0", "text 0")
    assert hit.score == pytest.approx(0.9, rel=LOSS[engine.name])


def test_ranking_is_that_of_the_exact_index_within_the_engines_precision(open_engine):
    engine, index = open_engine(), random_index(200)
    report = push(engine, index, batch_size=64)
    assert (report.documents, report.sent, report.failed) == (200, 200, {})
    assert engine.count() == 200
    rng = np.random.default_rng(1)
    for _ in range(10):
        query = vector({int(t): float(rng.gamma(2, 0.5)) for t in rng.choice(100, 8, False)})
        exact = {hit.id: hit.score for hit in index.search(query, 200)}
        found = engine.search(query, 10)
        assert len(found) == 10
        best = sorted(exact.values(), reverse=True)[:10]
        for hit, score in zip(found, best, strict=True):
            assert hit.score == pytest.approx(exact[hit.id], rel=LOSS[engine.name])
            assert hit.score == pytest.approx(score, rel=2 * LOSS[engine.name])


def test_pushing_again_changes_nothing(open_engine):
    engine, index = open_engine(), random_index(20)
    push(engine, index)
    before = engine.search(vector({3: 1.0, 4: 1.0}), 20)
    push(engine, index)
    assert engine.count() == 20
    assert sorted(engine.search(vector({3: 1.0, 4: 1.0}), 20), key=_id) == sorted(before, key=_id)


def _id(hit: EngineHit) -> str:
    return hit.id


def test_a_changed_document_replaces_the_old_one(open_engine):
    engine = open_engine()
    push(engine, small_index([{1: 1.0}]))
    push(engine, small_index([{2: 1.0}]))
    assert engine.search(vector({1: 1.0})) == []
    assert [hit.id for hit in engine.search(vector({2: 1.0}))] == ["d0"]


def test_a_document_without_terms_is_there_and_never_found(open_engine):
    engine = open_engine()
    report = push(engine, small_index([{1: 1.0}, {}]))
    assert report.without_terms == 1
    assert engine.count() == 2
    assert [hit.id for hit in engine.search(vector({1: 1.0}), 5)] == ["d0"]


def test_an_empty_index_makes_an_empty_collection(open_engine):
    engine = open_engine()
    assert push(engine, small_index([])).documents == 0
    assert engine.count() == 0
    assert engine.search(vector({1: 1.0})) == []


def test_an_empty_query_finds_nothing(open_engine):
    engine = open_engine()
    push(engine, small_index([{1: 1.0}]))
    assert engine.search(vector({})) == []


@pytest.mark.parametrize("identity", ["ü/ö?&=#", "a b", "😀", '"quoted"', "x" * 512])
def test_any_id_comes_back_as_it_was(open_engine, identity):
    engine = open_engine()
    vectors = SparseVectors.from_rows([vector({1: 1.0})], 100, "m" * 64)
    push(engine, Index.build(vectors, [Document(identity, "text")]))
    assert [hit.id for hit in engine.search(vector({1: 1.0}))] == [identity]


def test_without_texts_only_ids_are_sent(open_engine):
    engine = open_engine()
    push(engine, small_index([{1: 1.0}]), texts=False)
    assert engine.search(vector({1: 1.0})) == [EngineHit("d0", pytest.approx(1.0), "", "")]


def test_facts_are_kept_by_the_engine(open_engine):
    push(open_engine(), small_index([{1: 1.0}]))
    facts = open_engine().facts()
    assert isinstance(facts, Facts)
    assert (facts.vocab_size, facts.model, facts.model_name) == (100, "m" * 64, "tiny")


def test_another_models_vectors_are_refused(open_engine):
    push(open_engine(), small_index([{1: 1.0}]))
    with pytest.raises(EngineMismatchError, match="holds vectors of model tiny"):
        push(open_engine(), small_index([{1: 1.0}], model="n" * 64))
    with pytest.raises(ModelMismatchError, match="Encode queries with the same model"):
        open_engine().search(vector({1: 1.0}, model="n" * 64))


def test_a_collection_can_be_deleted_and_made_anew(open_engine):
    engine = open_engine()
    engine.delete()
    push(engine, small_index([{1: 1.0}, {1: 2.0}]))
    engine.delete()
    push(engine, small_index([{1: 3.0}]))
    assert engine.count() == 1


def test_a_collection_that_is_not_there_is_an_error(open_engine):
    with pytest.raises(EngineError, match="refuses"):
        open_engine("nowhere").search(vector({1: 1.0}))


def test_documents_of_earlier_pushes_are_counted(open_engine):
    engine = open_engine()
    push(engine, random_index(10))
    assert push(engine, random_index(4)).others == 6


def test_records_need_no_index(open_engine):
    engine = open_engine()
    records = (Record(Document(f"r{i}", "text"), vector({i: 1.0})) for i in range(7))
    report = push(engine, records, batch_size=3)
    assert (report.documents, report.sent) == (7, 7)
    assert [hit.id for hit in engine.search(vector({3: 1.0}))] == ["r3"]
    assert push(engine, iter(())).documents == 0


def test_an_id_or_a_text_that_is_no_text_is_named(open_engine):
    records = [
        Record(Document("bad", "half \ud83d"), vector({1: 1.0})),
        Record(Document("good", "whole"), vector({1: 1.0})),
    ]
    report = push(open_engine(), records)
    assert list(report.failed) == ["bad"]
    assert "half of a surrogate pair" in report.failed["bad"]


class Killed(BaseException):
    """Ends a push as a signal would, past every `except Exception`."""


def test_a_push_killed_at_any_call_and_repeated_ends_as_a_clean_one(open_engine):
    index, query = random_index(12), vector({i: 1.0 for i in range(100)})
    clean = open_engine("clean")
    calls = _watch(clean)
    push(clean, index, batch_size=5)
    moments = calls[0]
    assert moments >= 5
    expected = sorted(clean.search(query, 12), key=_id)
    for moment in range(moments):
        engine = open_engine(f"killed{moment}")
        _watch(engine, kill_at=moment)
        with pytest.raises(Killed):
            push(engine, index, batch_size=5)
        engine = open_engine(f"killed{moment}")
        assert push(engine, index, batch_size=5).failed == {}
        assert engine.count() == 12
        found = sorted(engine.search(query, 12), key=_id)
        assert [hit.id for hit in found] == [hit.id for hit in expected]
        scores = [hit.score for hit in expected]  # summed in another order, maybe
        assert [hit.score for hit in found] == pytest.approx(scores, rel=1e-6)


def _watch(engine, kill_at=None):
    """Count what is asked of the client, and end it all at one call, done or not done by turns."""
    calls = [0]

    class Watched:
        def __init__(self, inner):
            self._inner = inner

        def __getattr__(self, name):
            found = getattr(self._inner, name)
            if name == "indices":
                return Watched(found)
            if not callable(found):
                return found

            def call(*args, **kwargs):
                calls[0] += 1
                if calls[0] - 1 == kill_at:
                    if kill_at % 2:
                        found(*args, **kwargs)
                    raise Killed
                return found(*args, **kwargs)

            return call

    engine.client = Watched(engine.client)
    return calls


def test_k_is_checked(open_engine):
    with pytest.raises(InputError, match="k is 0"):
        open_engine().search(vector({1: 1.0}), 0)


def test_a_document_the_engine_cannot_take_is_named_and_the_others_arrive(open_engine):
    engine = open_engine()
    long = "x" * 70_000  # longer than an index takes, but records need none
    ids = ["a", long, "b", "b\0", "b\ud800"]
    report = push(engine, [Record(Document(i, ""), vector({1: 1.0})) for i in ids])
    assert list(report.failed) == [long, "b\0", "b\ud800"]
    assert "its id has 70000 bytes" in report.failed[long]
    assert "its id has a NUL in it" in report.failed["b\0"]
    assert "its id has half of a surrogate pair" in report.failed["b\ud800"]
    assert engine.count() == 2


def test_a_query_is_one_vector(open_engine):
    engine = open_engine()
    push(engine, small_index([{1: 1.0}]))
    asked = SparseVectors.from_rows([vector({1: 1.0})], 100)
    assert engine.search(asked) == engine.search(asked[0])
    for query in ("cat", SparseVectors.from_rows([], 100), {1: 1.0}):
        with pytest.raises(InputError, match=r"got .* expected"):
            engine.search(query)


def test_single_batches_can_be_written_too(open_engine):
    engine = open_engine()
    engine.create(Facts(100, "m" * 64, "tiny", engine.names.keys, engine.names.dots))
    written = engine.write([Record(Document("a", "text"), vector({1: 1.0}))])
    assert (dict(written.failed), list(written.again)) == ({}, [])
    assert engine.count() == 1
