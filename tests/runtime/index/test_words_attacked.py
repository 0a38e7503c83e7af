"""What a stranger's attack on words beside terms found: each once, and mended as a kind."""

import pickle

import numpy as np
import pytest
from runtime.index.small_index import MODEL, VOCAB
from runtime.index.test_word_search import PLAIN, build, documents_of, query_of, vectors_of

from spladelet import Document, Index, IndexWriter, SparseVector, SparseVectors, Words
from spladelet.errors import InputError, VectorError
from spladelet.index import scoring
from spladelet.index.transposing import transpose
from spladelet.lexical.analyzer import Analyzer


@pytest.mark.parametrize("before", [[], ["gone"]])
@pytest.mark.parametrize("count", [3, scoring.FEW])
def test_words_alone_that_are_gone_leave_room_for_vectors(tmp_path, before, count):
    texts = ["cat snow"] * count
    with IndexWriter(tmp_path / "index", words=PLAIN) as opened:
        opened.add(None, [Document("gone", text) for text in before])
        opened.delete(["gone"])
        opened.add(vectors_of(texts), documents_of(texts))
    index = Index.open(tmp_path / "index")

    assert (len(index), index.vocab_size, index.model) == (count, VOCAB, MODEL)
    assert len(index.search(query_of("cat"), count)) == count


@pytest.mark.parametrize("count", [3, scoring.FEW])
def test_a_term_beyond_the_vocabulary_reaches_no_compiled_code(count):
    columns, ends = np.full(count, 7, np.int32), np.arange(count + 1)

    with pytest.raises(VectorError, match="there is a term 7 among 7 terms"):
        transpose(columns, ends, 7, np.ones(count, np.float32))


def test_a_pile_of_marks_takes_time_by_its_length():
    piled = "a" + "\u0300\u0327" * 2_000_000 + " b"

    assert Analyzer("none").words(piled)[-1] == "b"
    assert Analyzer("none").words("a" + "\u0301" * 40) == ["a"]


def test_an_index_that_is_empty_still_waits_for_its_first_documents(encoder, tmp_path):
    vectors = encoder.encode_documents(["cats purr"])
    IndexWriter.anew(tmp_path / "index", model_name="default").close()
    with IndexWriter(tmp_path / "index"):
        pass
    with IndexWriter(tmp_path / "index") as opened:
        opened.add(SparseVectors.from_rows([], vectors.vocab_size), [])
        opened.add(vectors, ["cats purr"])

    assert Index.open(tmp_path / "index").words == Words()


def test_an_empty_index_of_a_model_is_none_of_words_alone(tmp_path):
    with IndexWriter.anew(tmp_path / "index", model_name="default", words=Words()):
        pass
    assert not Index.open(tmp_path / "index").has_words_alone
    with IndexWriter.anew(tmp_path / "words", words=Words()):
        pass
    assert Index.open(tmp_path / "words").has_words_alone


@pytest.mark.parametrize("words", ["auto", 5, np.array([1, 2])])
def test_recount_takes_words_or_none(tmp_path, words):
    Index.build(None, documents_of(["cat"]), words=PLAIN).save(tmp_path / "index")
    with IndexWriter(tmp_path / "index") as opened:
        opened.add(None, [Document("n", "cat")])
        with pytest.raises(InputError, match="words is"):
            opened.recount(words)
    assert len(Index.open(tmp_path / "index").search("cat")) == 2


def test_nothing_to_search_by_is_refused():
    with pytest.raises(InputError, match="neither vectors nor words"):
        Index.build(None, ["cat"], words=None)


@pytest.mark.parametrize("text", [123, b"cat", ["cat"], object()])
def test_a_query_of_another_type_is_refused_when_it_is_made(text):
    with pytest.raises(InputError, match="text is"):
        SparseVector([1], [1.0], VOCAB, text=text)


def test_a_missing_text_is_an_empty_one():
    assert SparseVector([1], [1.0], VOCAB, text=float("nan")).text == ""


def test_words_that_add_nothing_explain_nothing():
    index, query = build(["cat", "snow"]), query_of("cat")

    assert index.word_scores(query, 0, lexical=1e-60) == ()
    (word,) = index.word_scores(query, 0, lexical=1e-3)
    assert word.rarity == pytest.approx(np.log(1 + 1.5 / 1.5))


@pytest.mark.parametrize("value", [np.array([1.0, 2.0]), np.array("only"), object(), {}])
def test_arrays_and_their_like_are_no_weights_and_no_words(value, tmp_path):
    with pytest.raises(InputError, match="lexical is"):
        build(["cat"]).search(query_of("cat"), lexical=value)
    with pytest.raises(InputError, match="words is"):
        build(["cat"], value)
    with pytest.raises(InputError, match="words is"):
        IndexWriter(tmp_path / "index", words=value)


def test_a_refresh_in_the_midst_of_an_explanation_changes_nothing(tmp_path, monkeypatch):
    build(["cat", "snow"]).save(tmp_path / "index")
    index = Index.open(tmp_path / "index")
    state = index._state
    with IndexWriter(tmp_path / "index") as opened:
        opened.add(vectors_of(["cat"]), [Document("n", "cat")])
    asked = type(state).ask

    def ask_and_refresh(self, query, lexical):
        index.refresh()
        return asked(self, query, lexical)

    monkeypatch.setattr(type(state), "ask", ask_and_refresh)
    with pytest.raises(InputError, match="there is no document number 2: the index has 2"):
        index.word_scores(query_of("cat"), 2)


def test_vectors_of_before_come_out_of_their_pickles():
    vector, vectors = query_of("cat"), vectors_of(["cat"])
    old, olds = SparseVector.__new__(SparseVector), SparseVectors.__new__(SparseVectors)
    old.__setstate__([vector.term_ids, vector.weights, VOCAB, MODEL])
    olds.__setstate__([vectors.row_offsets, vectors.term_ids, vectors.weights, VOCAB, MODEL, ()])

    assert (old, old.text) == (vector, None)
    assert (olds[0], olds.texts, olds.language) == (vectors[0], None, None)
    assert pickle.loads(pickle.dumps(vectors))[0] == vectors[0]


def test_what_another_release_stemmed_is_not_believed(tmp_path):
    with pytest.raises(InputError, match=r"as Snowball 0\.1 stems them"):
        build(["cat"], Words(stemmer="0.1"))
    build(["cat"]).save(tmp_path / "index")
    with (
        IndexWriter(tmp_path / "index") as opened,
        pytest.raises(InputError, match=r"Snowball 0\.1"),
    ):
        opened.recount(Words(stemmer="0.1"))


@pytest.mark.parametrize("text", ["ले लाई को मा हरू", "\u0308 \u0301"])
@pytest.mark.parametrize("language", ["nepali", "german", "none"])
def test_no_word_is_empty(text, language):
    assert "" not in Analyzer(language).words(text)


def test_without_texts_there_are_no_words(encoder):
    vectors = encoder.encode_documents(["cats"])

    assert Index.build(vectors, [Document("d", "")]).words is None


def test_what_are_no_documents_is_refused():
    with pytest.raises(InputError, match="documents is 5; expected several"):
        Index.build(None, 5)


def test_the_words_of_an_index_without_any_are_not_asked_by_text():
    with pytest.raises(InputError, match="the index has no words"):
        build(["cat"], None).search("cat", lexical="only")
