"""Words beside terms: BM25 over what an index has now, summed with the model's terms, exactly."""

import json
import math
import pickle
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.index.small_index import MODEL, VOCAB, the_manifest

from spladelet import (
    Document,
    Index,
    IndexWriter,
    SparseVector,
    SparseVectors,
    StemmerWarning,
    Words,
    read_documents,
)
from spladelet.errors import IndexFormatError, InputError
from spladelet.index import merging, queries, writer
from spladelet.index.segment_files import verify_index
from spladelet.lexical import languages
from spladelet.lexical.analyzer import Analyzer

PLAIN = Words("none")
VOCABULARY = "cat cats purr snow yeast dough the ERR_42 C++ foo.bar 10.1.2.3 黒猫 🎉 naïve".split()
TEXTS = st.lists(st.sampled_from(VOCABULARY), max_size=8).map(" ".join)
IDS = [f"d{number}" for number in range(8)]


def vectors_of(texts, model=MODEL):
    """Return vectors that depend on nothing but the texts."""
    rows = []
    for text in texts:
        counts = Counter(sum(map(ord, word)) % VOCAB for word in text.split())
        weights = {number: 0.3 * count + 0.1 for number, count in counts.items()}
        rows.append(SparseVector.from_dict(weights, VOCAB, model))
    return SparseVectors.from_rows(rows, VOCAB, model)


def query_of(text):
    vector = vectors_of([text])[0]
    return SparseVector(vector.term_ids, vector.weights, VOCAB, MODEL, text)


def documents_of(texts):
    return [Document(f"d{n}", text, metadata={"n": n}) for n, text in enumerate(texts)]


def build(texts, words=PLAIN, **options):
    return Index.build(vectors_of(texts), documents_of(texts), words=words, **options)


def bm25(texts, query, words=PLAIN):
    """Lucene's formula, word by word: text number to score."""
    analyze = Analyzer(words.language).words
    bags = [Counter(analyze(text)) for text in texts]
    mean = sum(bag.total() for bag in bags) / len(bags)
    scores = Counter()
    for word, asked in Counter(analyze(query)).items():
        having = sum(word in bag for bag in bags)
        idf = math.log(1 + (len(bags) - having + 0.5) / (having + 0.5))
        for number, bag in enumerate(bags):
            if bag[word]:
                norm = words.k1 * (1 - words.b + words.b * bag.total() / mean)
                scores[number] += asked * idf * bag[word] / (bag[word] + norm)
    return scores


@pytest.fixture(scope="module")
def demo():
    import spladelet

    return list(read_documents(Path(spladelet.__file__).parent / "data" / "demo.jsonl"))


@pytest.mark.parametrize(
    "words", [Words(), Words("none"), Words("german", 0.9, 0.4), Words(k1=0, b=0)]
)
def test_words_alone_are_bm25(demo, words):
    index = Index.build(None, demo, words=words)
    texts = [document.content for document in demo]
    for query in ("why do dogs pant in hot weather", "the bread, the bread and yeast", "", "☃"):
        expected = bm25(texts, query, words)
        hits = index.search(query, 200)
        assert {hit.number: hit.score for hit in hits} == pytest.approx(expected, rel=1e-5)
        assert [hit.score for hit in hits] == sorted((h.score for h in hits), reverse=True)
        assert all(hit.lexical == hit.score and hit.margin == 0 for hit in hits)


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.9, 0.4), (2.0, 1.0)])
def test_words_alone_are_what_bm25s_has(demo, k1, b):
    """An implementation that shares nothing but the analyzer, score by score."""
    bm25s = pytest.importorskip("bm25s", reason="needs the extra `peers`")
    analyze = Analyzer("english").words
    other = bm25s.BM25(method="lucene", k1=k1, b=b)
    other.index([analyze(document.content) for document in demo], show_progress=False)
    index = Index.build(None, demo, words=Words(k1=k1, b=b))
    for query in ("why do dogs pant in hot weather", "who decides if a person is guilty"):
        expected = other.get_scores(analyze(query))
        found = {hit.number: hit.score for hit in index.search(query, len(demo))}
        assert [found.get(n, 0.0) for n in range(len(demo))] == pytest.approx(expected, abs=1e-4)


@given(st.lists(TEXTS, min_size=1, max_size=8), TEXTS, st.sampled_from([0.5, 0.8, 3.0]))
def test_the_score_is_the_sum(texts, text, weight):
    index, query = build(texts), query_of(text)
    alone = {hit.number: hit.score for hit in index.search(query, 8, lexical=0)}
    words = {hit.number: hit.score for hit in index.search(query, 8, lexical="only")}

    hits = index.search(query, 8, lexical=weight)

    assert {hit.number for hit in hits} == {*alone, *words}
    for hit in hits:
        lexical = weight * words.get(hit.number, 0.0)
        assert hit.lexical == pytest.approx(lexical, rel=1e-5)
        assert hit.score == pytest.approx(alone.get(hit.number, 0.0) + lexical, rel=1e-5)
    assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.number))


@given(st.lists(TEXTS, min_size=1, max_size=8), TEXTS)
def test_the_model_alone_has_the_bits_it_had(texts, text):
    query = query_of(text)

    with_words = build(texts).search(query, 8, lexical=0)

    assert with_words == build(texts, None).search(query, 8)
    assert [hit.lexical for hit in with_words] == [0.0] * len(with_words)


@given(
    st.lists(TEXTS, min_size=1, max_size=8), TEXTS, st.integers(1, 9), st.sets(st.integers(0, 7))
)
def test_filters_and_bounds_change_no_score(texts, text, k, allowed):
    index, query = build(texts), query_of(text)
    everything = index.search(query, 8)
    floor = everything[len(everything) // 2].score if everything else 1.0

    assert index.search(query, k) == everything[:k]
    assert index.search(query, 8, min_score=floor) == [h for h in everything if h.score >= floor]
    assert index.search(query, 8, where={"n": sorted(allowed)}) == [
        hit for hit in everything if hit.number in allowed
    ]
    assert index.search(query, 8, ids=[f"d{n}" for n in allowed]) == [
        hit for hit in everything if hit.number in allowed
    ]


CHANGES = st.lists(
    st.one_of(
        st.tuples(
            st.just("upsert"),
            st.lists(st.tuples(st.sampled_from(IDS), TEXTS), max_size=4, unique_by=lambda x: x[0]),
        ),
        st.tuples(st.just("delete"), st.lists(st.sampled_from(IDS), max_size=3)),
        st.tuples(st.sampled_from(["commit", "compact", "reopen"]), st.none()),
    ),
    max_size=8,
)


@settings(max_examples=80)
@given(CHANGES, st.lists(TEXTS, min_size=1, max_size=3), st.booleans())
def test_whatever_was_changed_the_ranking_is_that_of_a_fresh_build(changes, asked, has_terms):
    folder = Path(tempfile.mkdtemp()) / "index"
    texts: dict[str, str] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "MAX_DOCUMENTS", 3)
        patch.setattr(merging, "MAX_DOCUMENTS", 3)
        opened = IndexWriter(folder, words=PLAIN)
        for change, given_ in changes:
            if change == "upsert":
                documents = [Document(identity, text) for identity, text in given_]
                rows = vectors_of(d.text for d in documents) if has_terms else None
                opened.upsert(rows, documents)
                for document in documents:
                    texts.pop(document.id, None)
                    texts[document.id] = document.text
            elif change == "delete":
                opened.delete(given_)
                for identity in given_:
                    texts.pop(identity, None)
            elif change == "compact":
                opened.compact()
            else:
                opened.commit()
                if change == "reopen":
                    opened.close()
                    opened = IndexWriter(folder)
        opened.commit()
        opened.close()
    documents = [Document(identity, text) for identity, text in texts.items()]
    rows = vectors_of(texts.values()) if has_terms else None
    fresh, grown = Index.build(rows, documents, words=PLAIN), Index.open(folder)
    for text in asked:
        query = query_of(text) if has_terms else text
        for lexical in (None, "only"):
            found = [(h.id, h.score, h.lexical) for h in grown.search(query, 9, lexical=lexical)]
            assert found == [
                (h.id, h.score, h.lexical) for h in fresh.search(query, 9, lexical=lexical)
            ]
    verify_index(folder)
    shutil.rmtree(folder.parent)


@pytest.mark.parametrize("kind", ["float32", "float16", "uint8"])
def test_words_are_exact_whatever_weights_are_kept_in(kind):
    texts = ["cat purr", "cat cat snow", "yeast dough"]
    index = build(texts, weight_type=kind)

    assert index.search(query_of("cat snow"), lexical="only") == build(texts).search(
        query_of("cat snow"), lexical="only"
    )
    hits = index.search(query_of("cat snow"))
    exact = {hit.number: hit.score for hit in build(texts).search(query_of("cat snow"))}
    assert all(abs(hit.score - exact[hit.number]) <= hit.margin + 1e-6 for hit in hits)


@pytest.mark.parametrize(
    "text", ["ERR_42", "42", "C++", "foo.bar", "10.1.2.3", "黒猫", "猫", "🎉", "NAÏVE", "naive"]
)
def test_identifiers_and_other_scripts_are_found(tmp_path, text):
    texts = [*VOCABULARY, "nothing of the kind"]
    build(texts).save(tmp_path / "index")

    first = Index.open(tmp_path / "index").search(text, 1, lexical="only")[0]

    assert text.casefold().replace("ï", "i") in first.text.casefold().replace("ï", "i")


def test_a_count_beyond_a_byte_is_kept(tmp_path):
    texts = ["cat " * 70_000, "cat " * 255, "cat " * 254, "cat " * 256 + "snow", "snow"]
    Index.build(None, documents_of(texts), words=PLAIN).save(tmp_path / "index")
    with IndexWriter(tmp_path / "index") as opened:
        opened.upsert(None, [Document("d9", "cat " * 300)])
        opened.delete(["d1"])
        opened.compact()
    index = Index.open(tmp_path / "index")
    left = [texts[0], *texts[2:], "cat " * 300]

    found = {hit.id: hit.score for hit in index.search("cat", 9)}

    expected = bm25(left, "cat")
    ids = ["d0", "d2", "d3", "d4", "d9"]
    assert found == pytest.approx({ids[n]: score for n, score in expected.items()}, rel=1e-5)
    number = index.find("d0")
    (word,) = index.word_scores("cat", number)
    assert (word.in_document, word.score) == (70_000, pytest.approx(found["d0"]))


def test_ten_megabytes_of_one_word_and_no_text_at_all(tmp_path):
    texts = ["x" * 10_000_000, "", "cat"]
    build(texts).save(tmp_path / "index")
    index = Index.open(tmp_path / "index")

    assert [hit.number for hit in index.search("cat", lexical="only")] == [2]
    assert [hit.number for hit in index.search("x" * 10_000_000, lexical="only")] == [0]
    assert index.search("", lexical="only") == []


def test_readers_have_the_statistics_of_their_generation(tmp_path):
    build(["cat purr", "snow"]).save(tmp_path / "index")
    old = Index.open(tmp_path / "index")
    before = old.search("cat", lexical="only")
    with IndexWriter(tmp_path / "index") as opened:
        more = ["cat cat", "cat snow"]
        opened.add(vectors_of(more), [Document(f"n{n}", text) for n, text in enumerate(more)])

    assert old.search("cat", lexical="only") == before
    assert old.refresh()
    texts = ["cat purr", "snow", *more]
    assert {hit.number: hit.score for hit in old.search("cat", lexical="only")} == pytest.approx(
        bm25(texts, "cat"), rel=1e-5
    )


def test_word_scores_sum_to_the_lexical_part(tmp_path):
    texts = ["The cats purr, cats!", "a cat", "snow"]
    build(texts, Words()).save(tmp_path / "index")
    index, query = Index.open(tmp_path / "index"), query_of("Cats purring cats")

    (first, *_) = index.search(query)
    words = index.word_scores(query, first.number)

    assert sum(word.score for word in words) == pytest.approx(first.lexical, rel=1e-5)
    by_name = {word.word: word for word in words}
    assert (by_name["cat"].spelled, by_name["cat"].in_query, by_name["cat"].in_document) == (
        "cats",
        2,
        2,
    )
    assert by_name["cat"].rarity == pytest.approx(math.log(1 + 1.5 / 2.5), rel=1e-6)
    assert index.word_scores(query, first.number, lexical=0) == ()
    assert index.word_scores(query, 2) == ()


def test_hits_say_what_came_from_words_in_other_processes_too():
    hits = build(["cat purr", "cat snow"]).search(query_of("cat snow"))
    again = pickle.loads(pickle.dumps(hits))

    assert again == hits
    assert [hit.lexical for hit in again] == [hit.lexical for hit in hits]
    assert hits[0].lexical > 0
    assert hits[0].to_dict()["lexical"] == hits[0].lexical


class TestWhatHasNoWords:
    def test_vectors_of_an_unknown_language_bring_none(self):
        assert build(["cat"], "auto").words is None

    def test_vectors_of_a_known_one_do(self, encoder):
        vectors = encoder.encode_documents(["The cats purr."])

        assert Index.build(vectors, ["The cats purr."]).words == Words("english")
        assert Index.build(vectors).words is None
        assert Index.build(vectors, ["The cats purr."], words=None).words is None

    def test_the_first_documents_decide_for_a_writer(self, encoder, tmp_path):
        with IndexWriter(tmp_path / "index") as opened:
            assert opened.words is None
            opened.add(encoder.encode_documents(["cats"]), ["cats"])
            assert opened.words == Words()
        with IndexWriter(tmp_path / "index", words=Words()) as opened:
            opened.add(encoder.encode_documents(["snow"]), ["snow"])
        assert [
            hit.text for hit in Index.open(tmp_path / "index").search("snow", lexical="only")
        ] == ["snow"]
        with pytest.raises(InputError, match=r"words is Words\('german'.*`recount`|words is Words"):
            IndexWriter(tmp_path / "index", words=Words("german"))

    def test_it_stays_as_it_was_on_disk(self, tmp_path):
        build(["cat"], None).save(tmp_path / "without")
        build(["cat"]).save(tmp_path / "with")

        raw = [
            json.loads(the_manifest(tmp_path / name).read_text()) for name in ("without", "with")
        ]
        assert [one["format_version"] for one in raw] == [2, 3]
        assert "words" not in raw[0]
        assert not list((tmp_path / "without").glob("segment-*/word*"))
        assert raw[1]["words"] == PLAIN.to_dict()

    def test_a_query_without_text_asks_for_terms_alone(self):
        index, text = build(["cat", "snow"]), query_of("cat")
        bare = SparseVector(text.term_ids, text.weights, VOCAB, MODEL)

        assert index.search(bare) == index.search(text, lexical=0)
        with pytest.raises(InputError, match="the query has no text"):
            index.search(bare, lexical=0.8)

    def test_it_cannot_be_asked_for_any(self):
        with pytest.raises(InputError, match="the index has no words"):
            build(["cat"], None).search(query_of("cat"), lexical=0.8)
        with pytest.raises(InputError, match="encode it first"):
            build(["cat"], None).search("cat")

    def test_counting_them_later_is_as_if_they_had_been_there(self, tmp_path, monkeypatch):
        monkeypatch.setattr(writer, "MAX_DOCUMENTS", 2)
        monkeypatch.setattr(merging, "MAX_DOCUMENTS", 2)
        texts = ["cat purr", "cat", "snow", "yeast", "dough"]
        build(texts, None).save(tmp_path / "index")
        with IndexWriter(tmp_path / "index") as opened:
            opened.delete(["d3"])
            opened.recount(PLAIN)
        left = [text for text in texts if text != "yeast"]
        index = Index.open(tmp_path / "index")
        assert index.words == PLAIN
        assert {hit.text: hit.score for hit in index.search(query_of("cat snow"))} == {
            hit.text: hit.score for hit in build(left).search(query_of("cat snow"))
        }
        with IndexWriter(tmp_path / "index") as opened:
            opened.recount(None)
        assert Index.open(tmp_path / "index").words is None
        verify_index(tmp_path / "index")


class TestWordsAlone:
    @pytest.fixture
    def folder(self, tmp_path):
        Index.build(None, documents_of(["cat purr", "snow"]), words=PLAIN).save(tmp_path / "index")
        return tmp_path / "index"

    def test_no_vectors_come_in(self, folder):
        with IndexWriter(folder) as opened:
            with pytest.raises(InputError, match="words alone"):
                opened.add(vectors_of(["cat"]), [Document("n", "cat")])
            opened.add(None, [Document("n", "cat cat")])
        assert [hit.id for hit in Index.open(folder).search("cat")] == ["n", "d0"]

    def test_vectors_may_be_asked_by_their_text(self, folder):
        assert Index.open(folder).search(query_of("cat")) == Index.open(folder).search("cat")
        with pytest.raises(InputError, match="no text"):
            Index.open(folder).search(SparseVector([1], [1.0], VOCAB))

    def test_the_model_alone_finds_nothing_there(self, folder):
        with pytest.raises(InputError, match="lexical is 0, but the index has words alone"):
            Index.open(folder).search("cat", lexical=0)

    def test_other_indexes_take_no_documents_without_vectors(self, tmp_path):
        build(["cat"]).save(tmp_path / "both")
        with (
            IndexWriter(tmp_path / "both") as opened,
            pytest.raises(InputError, match="vectors is None"),
        ):
            opened.add(None, [Document("n", "cat")])
        with IndexWriter(tmp_path / "only", words=PLAIN) as opened:
            opened.add(None, [Document("n", "cat")])
            with pytest.raises(InputError, match="without them nothing would be found"):
                opened.recount(None)

    def test_facts(self, folder):
        facts = Index.open(folder).facts()
        assert (facts["vocab_size"], facts["postings"], facts["word_postings"]) == (0, 0, 3)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, 1e7, "all", [], True, "0.8"])
def test_what_is_no_weight_is_refused(value):
    with pytest.raises(InputError, match=r"lexical is .*expected a number from 0 to 1000000"):
        build(["cat"]).search(query_of("cat"), lexical=value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"language": "klingon"}, "language is 'klingon'; expected one of arabic"),
        ({"language": None}, "language is None"),
        ({"k1": -1}, "k1 is -1; expected a number from 0 to 1000"),
        ({"k1": math.nan}, "k1 is nan"),
        ({"b": 1.5}, "b is 1.5; expected a number from 0 to 1"),
        ({"b": "x"}, "b is 'x'"),
        ({"stemmer": 3}, "stemmer is 3"),
    ],
)
def test_what_words_cannot_be(arguments, message):
    with pytest.raises(InputError, match=message):
        Words(**arguments)


@pytest.mark.parametrize("words", ["english", True, 1.2, Words])
def test_what_is_no_setting_is_refused(words):
    with pytest.raises(InputError, match=r"words is .*expected Words"):
        build(["cat"], words)


class TestAnotherStemmer:
    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        build(["cats", "snow"], Words()).save(tmp_path / "index")
        queries._check_stemmer.cache_clear()
        monkeypatch.setattr(languages, "stemmer_version", lambda language: "9.9.9")
        monkeypatch.setattr("spladelet.lexical.words.stemmer_version", lambda language: "9.9.9")
        monkeypatch.setattr("spladelet.index.queries.stemmer_version", lambda language: "9.9.9")
        yield tmp_path / "index"
        queries._check_stemmer.cache_clear()

    def test_a_reader_says_so_once(self, folder, recwarn):
        index = Index.open(folder)
        with pytest.warns(
            StemmerWarning, match=r"here is 9\.9\.9.*compact INDEX --language english"
        ):
            index.search(query_of("cats"))
        recwarn.clear()
        assert index.search(query_of("cats"))[0].text == "cats"
        assert not recwarn

    def test_a_writer_mixes_nothing(self, folder):
        with IndexWriter(folder) as opened:
            with pytest.raises(InputError, match=r"Install PyStemmer .*or count its words anew"):
                opened.add(vectors_of(["cat"]), [Document("n", "cat")])
            opened.recount(Words("english"))
            opened.add(vectors_of(["cat"]), [Document("n", "cat")])
        assert Index.open(folder).words.stemmer == "9.9.9"


def test_a_manifest_of_words_that_are_not_known_is_refused(tmp_path):
    from runtime.index.small_index import sign

    build(["cat"]).save(tmp_path / "index")
    raw = json.loads(the_manifest(tmp_path / "index").read_text())
    for words in ({**raw["words"], "language": "klingon"}, {"k1": 1}, None, "english"):
        the_manifest(tmp_path / "index").write_text(json.dumps(sign(raw | {"words": words})))
        with pytest.raises(IndexFormatError, match="not a well-formed manifest"):
            Index.open(tmp_path / "index")


def test_large_and_small_indexes_sum_alike(monkeypatch):
    """With scipy's kernel, numpy's way, and document by document: the same bits."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(VOCABULARY, 12)) for _ in range(300)]
    index, query = build(texts), query_of("cat snow naïve 10.1.2.3")
    hits = index.search(query, 300)
    monkeypatch.setattr("spladelet.index.scoring._compiled_kernels", lambda: None)

    assert index.search(query, 300) == hits
    for hit in hits[:20]:
        assert index.search(query, 300, ids=[hit.id]) == [hit]


def test_a_query_of_any_length_is_summed_a_part_at_a_time(monkeypatch):
    texts = [" ".join(f"w{n % m}" for n in range(60)) for m in range(2, 60)]
    query = " ".join(f"w{n}" for n in range(60))
    index = Index.build(None, texts, words=PLAIN)
    hits = index.search(query, 60)

    monkeypatch.setattr("spladelet.index.word_scoring._AT_ONCE", 50)

    assert index.search(query, 60) == hits
