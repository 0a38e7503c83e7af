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


def test_k_is_checked(open_engine):
    with pytest.raises(InputError, match="k is 0"):
        open_engine().search(vector({1: 1.0}), 0)


def test_a_document_the_engine_cannot_take_is_named_and_the_others_arrive(open_engine):
    engine = open_engine()
    rows = SparseVectors.from_rows([vector({1: 1.0})] * 3, 100, "m" * 64)
    long = "x" * 70_000
    report = push(
        engine, Index.build(rows, [Document("a", ""), Document(long, ""), Document("b", "")])
    )
    assert list(report.failed) == [long]
    assert "its id has 70000 bytes" in report.failed[long]
    assert engine.count() == 2


def test_single_batches_can_be_written_too(open_engine):
    engine = open_engine()
    engine.create(Facts(100, "m" * 64, "tiny", engine.names.keys, engine.names.dots))
    written = engine.write([Record(Document("a", "text"), vector({1: 1.0}))])
    assert (dict(written.failed), list(written.again)) == ({}, [])
    assert engine.count() == 1
