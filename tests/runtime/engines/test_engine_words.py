"""Words in engines: one field and one query, and the ranking that the index has."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.engines.test_contract import LOSS, vector

from spladelet import Document, Index, SparseVector, SparseVectors, Words
from spladelet.engines import (
    Facts,
    Record,
    TermNames,
    connect,
    convert,
    preview,
    push,
    write_topics,
)
from spladelet.engines.payload import (
    IDS,
    Weights,
    all_named,
    all_numbered,
    sharing_ids,
    word_id,
)
from spladelet.errors import EngineMismatchError, InputError

PLAIN = Words("none")
VOCABULARY = "cat purr snow yeast dough ERR_42 foo.bar C++ 黒猫 naïve".split()


def asking(weights, text, model="m" * 64):
    found = vector(weights, model)
    return SparseVector(found.term_ids, found.weights, 100, model, text)


@pytest.fixture
def index():
    rng = np.random.default_rng(0)
    rows = [
        dict(zip(rng.choice(100, 6, False).tolist(), rng.gamma(2, 0.5, 6), strict=True))
        for _ in range(60)
    ]
    vectors = SparseVectors.from_rows([vector(row) for row in rows], 100, "m" * 64)
    texts = [" ".join(rng.choice(VOCABULARY, 5)) for _ in rows]
    documents = [
        Document(f"d{n}", t, metadata={"n": n, "tags": ["a", "b"]}) for n, t in enumerate(texts)
    ]
    return Index.build(vectors, documents, words=PLAIN)


@pytest.fixture
def queries():
    rng = np.random.default_rng(1)
    return [
        asking(
            {int(t): 1.5 for t in rng.choice(100, 5, False)}, " ".join(rng.choice(VOCABULARY, 3))
        )
        for _ in range(8)
    ]


@pytest.mark.parametrize("lexical", [None, 0, 2.0, "only"])
def test_the_sum_is_ranked_as_the_index_ranks_it(open_engine, index, queries, lexical):
    engine = open_engine()
    report = push(engine, index)
    assert (report.sent, report.words, report.words_sharing) == (60, 17, 0)
    for query in queries:
        exact = {hit.id: hit.score for hit in index.search(query, 60, lexical=lexical)}
        found = engine.search(query, 10, lexical=lexical)
        assert len(found) == min(10, len(exact))
        for hit, score in zip(found, sorted(exact.values(), reverse=True), strict=False):
            assert hit.score == pytest.approx(exact[hit.id], rel=LOSS[engine.name])
            assert hit.score == pytest.approx(score, rel=2 * LOSS[engine.name])


def test_words_alone_need_no_vectors(open_engine):
    texts = ["cat purr", "snow foo.bar", "cat cat snow"]
    index = Index.build(None, texts, words=PLAIN)
    engine = open_engine()
    push(engine, index)
    for text in ("cat", "foo.bar snow"):
        found = engine.search(text, 3)
        assert [hit.id for hit in found] == [hit.id for hit in index.search(text, 3)]
        scores = [hit.score for hit in index.search(text, 3)]
        assert [hit.score for hit in found] == pytest.approx(scores, rel=LOSS[engine.name])


def test_metadata_come_along_and_back(open_engine, index):
    engine = open_engine()
    push(engine, index)
    (hit,) = engine.search("ERR_42 黒猫", 1, lexical="only")
    assert hit.metadata == {"n": int(hit.id[1:]), "tags": ["a", "b"]}
    push(engine, index, texts=False)
    (hit,) = engine.search("ERR_42 黒猫", 1, lexical="only")
    assert (hit.text, hit.metadata["tags"]) == ("", ["a", "b"])


def test_a_collection_knows_how_its_words_were_counted(open_engine, index):
    engine = open_engine()
    push(engine, index)
    assert open_engine().facts().words == PLAIN.to_dict()
    without = Index.build(index.vectors(), [index.document(n) for n in range(60)], words=None)
    with pytest.raises(EngineMismatchError, match=r"words \{'language': 'none'"):
        push(open_engine(), without)
    query = asking({1: 1.0}, None)
    with pytest.raises(InputError, match="the query has no text"):
        open_engine().search(query, lexical=1.0)


def test_a_collection_without_words_cannot_be_asked_for_any(open_engine):
    push(open_engine(), Index.build(SparseVectors.from_rows([vector({1: 1.0})], 100, "m" * 64)))
    with pytest.raises(InputError, match="the index has no words"):
        open_engine().search(asking({1: 1.0}, "cat"), lexical=1.0)
    assert len(open_engine().search(asking({1: 1.0}, "cat"))) == 1


@given(st.text(min_size=1, max_size=20), st.integers(0, 2**20))
def test_a_words_number_follows_from_it_alone_and_lies_behind_the_vocabulary(word, size):
    word = word.encode("utf-8", "replace").decode()
    assert size <= word_id(word, size) < IDS
    assert word_id(word, size) == word_id(word, size)


def test_a_words_number_by_hand():
    digest = hashlib.blake2b(b"purr", digest_size=8).digest()
    assert word_id("purr", 30522) == 30522 + int.from_bytes(digest, "little") % (10**9 - 30522)


def test_words_that_share_a_number_count_for_each_other(monkeypatch):
    monkeypatch.setattr("spladelet.engines.payload.IDS", 104)
    words = {f"word{n}": 1.0 for n in range(20)}
    ids, values = all_numbered(Weights(vector({1: 2.0}), words))
    assert ids == sorted(set(ids))
    assert sum(values) == 22.0
    assert sharing_ids(words, 100) >= 17


def test_names_of_words_are_told_apart_from_terms_and_each_other():
    names = TermNames({1: "cat", 2: "word:purr"}.__getitem__)
    assert all_named(Weights(vector({1: 1.0}), {"cat": 2.0, "a.b": 1.0, "a%2Eb": 1.0}), names) == {
        "cat": 1.0,
        "word:cat": 2.0,
        "word:a%2Eb": 1.0,
        "word:a%252Eb": 1.0,
    }
    with pytest.raises(InputError, match="a term is named 'word:purr', as a word is"):
        all_named(Weights(vector({2: 1.0}), {"purr": 2.0}), names)


def test_a_preview_has_words_too(index, queries):
    asked = SparseVectors.from_rows(queries, 100, "m" * 64)
    exact = preview("qdrant", index, asked)
    assert (exact.same_order, exact.overlap, exact.change) == (1.0, 1.0, 0.0)
    assert preview("opensearch-seismic", index, asked).queries == 8
    pytest.importorskip("ir_measures", reason="needs the extra `evaluate`")
    qrels = {str(n): {index.search(q, 1)[0].id: 1} for n, q in enumerate(queries)}
    assert preview("milvus", index, asked, qrels=qrels).ndcg == 1.0


@pytest.mark.parametrize("name", ["vespa", "anserini"])
def test_files_by_name_have_the_words(index, queries, tmp_path, name):
    convert(index, name, tmp_path / "out", TermNames())
    lines = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    stored = [
        line["put"] and line["fields"]["splade_impacts"] if name == "vespa" else line["vector"]
        for line in lines
    ]
    for query in queries:
        asked = {str(i): w for i, w in query.to_dict().items()}
        asked |= {f"word:{w}": 0.8 for w in index_words(query.text)}
        found = [sum(w * row.get(n, 0) / 100 for n, w in asked.items()) for row in stored]
        exact = {hit.number: hit.score for hit in index.search(query, 60)}
        assert found == pytest.approx([exact.get(n, 0.0) for n in range(60)], abs=0.1)


def index_words(text):
    from spladelet.lexical.analyzer import Analyzer

    names = TermNames()
    return {names.word_name(word).removeprefix("word:") for word in Analyzer("none").words(text)}


def test_pgvector_has_the_words_behind_the_vocabulary(index, tmp_path):
    convert(index, "pgvector", tmp_path / "out")
    row = (tmp_path / "out").read_text().splitlines()[0].split("\t")[3]
    assert row.endswith(f"}}/{IDS}")
    cells = dict(cell.split(":") for cell in row[1 : row.index("}")].split(","))
    expected = all_numbered(Weights(index.vector(0), index.word_impacts().of_document(0)))
    assert [int(i) - 1 for i in cells] == expected[0]
    assert [float(w) for w in cells.values()] == pytest.approx(expected[1])


def test_topics_ask_for_words(index, tmp_path):
    query = asking({1: 0.5}, "cat cat")
    write_topics(tmp_path / "with", [("q", query)], words=index.words)
    write_topics(tmp_path / "without", [("q", query)])
    assert (tmp_path / "with").read_text().count("word:cat") == 160
    assert "word" not in (tmp_path / "without").read_text()


def test_word_impacts_are_the_scores(index, queries):
    impacts = index.word_impacts()
    assert impacts.words == sorted(impacts.words)
    for query in queries:
        counts = {word: query.text.split().count(word) for word in query.text.split()}
        for hit in index.search(query, 60, lexical="only"):
            row = impacts.of_document(hit.number)
            words = index.word_scores(query, hit.number, lexical="only")
            assert hit.score == pytest.approx(
                sum(row[w.word] * w.in_query for w in words), rel=1e-5
            )
        assert counts
    assert Index.build(index.vectors()).word_impacts() is None


def test_words_are_named_as_the_collection_names_them(request):
    """Whoever opens it with other names still finds words with dots."""
    server = request.getfixturevalue("elasticsearch_server")
    texts = ["foo.bar", "foo", "snow"]
    index = Index.build(None, texts, words=PLAIN)
    for pushed, opened in (("id", "keep"), ("keep", "id")):
        engine = connect("elasticsearch", "t", names=TermNames(str, pushed), url=server.url)
        engine.delete()
        push(engine, index)
        other = connect("elasticsearch", "t", names=TermNames(str, opened), url=server.url)
        scores = [hit.score for hit in other.search("foo.bar", 3)]
        assert scores == pytest.approx([h.score for h in index.search("foo.bar", 3)], rel=2**-8)


def test_records_with_words_are_refused(open_engine):
    record = Record(Document("d", "cat"), vector({1: 1.0}), {"cat": 1.0})
    with pytest.raises(InputError, match="nothing says how they were counted"):
        push(open_engine(), [record])


@pytest.mark.parametrize("words", [{}, {"language": "klingon", "k1": 1, "b": 1, "stemmer": ""}])
def test_words_of_another_version_are_said_to_be(open_engine, index, words):
    engine = open_engine()
    push(engine, index)
    engine._known = replace(engine.facts(), words=words)
    with pytest.raises(EngineMismatchError, match="which this version does not know"):
        engine.search("cat", lexical="only")


@pytest.mark.parametrize("words", ["x", 5, []])
def test_facts_that_are_none_are_none(words):
    assert Facts.from_dict({"spladelet": {"vocab_size": 5, "words": words}}) is None


def test_a_vocabulary_that_leaves_no_room_for_words_is_refused():
    with pytest.raises(InputError, match="leaves no numbers below"):
        word_id("cat", IDS)


def test_milvus_forgets_what_an_older_collection_lacked(milvus_path, index):
    engine = connect("milvus", "old", url=milvus_path)
    engine.__dict__["_has_metadata"] = False  # as of a collection that was made before
    engine.delete()
    assert push(engine, index).failed == {}
    (hit,) = engine.search("ERR_42 \u9ed2\u732b", 1, lexical="only")
    assert hit.metadata["tags"] == ["a", "b"]


def test_a_preview_of_words_alone():
    index = Index.build(None, ["cat purr", "snow"], words=PLAIN)
    asked = SparseVectors.from_rows([asking({1: 1.0}, "cat")], 100)
    found = preview("elasticsearch", index, asked)
    assert (found.same_order, found.overlap) == (1.0, 1.0)


@pytest.mark.parametrize("name", ["npz", "splade-index", "opensearch-seismic"])
def test_formats_of_terms_take_no_words_alone(tmp_path, name):
    index = Index.build(None, ["cat"], words=PLAIN)
    with pytest.raises(InputError, match="words alone"):
        convert(index, name, tmp_path / "out")
    convert(index, "jsonl", tmp_path / "out.jsonl")
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {"id": "0", "text": "cat"}
