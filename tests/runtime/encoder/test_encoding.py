"""How documents become vectors: a value that an index keeps, and the road that goes by it."""

import warnings

import numpy as np
import pytest

from spladelet import Document, Index, IndexWriter, SparseVector, SparseVectors
from spladelet.encoder import Encoding, TruncationWarning
from spladelet.errors import InputError

LONG = " ".join(f"word{n}" for n in range(400))


def documents(count):
    return [Document(str(n), f"the cat number {n} purrs") for n in range(count)]


def test_an_index_keeps_it_as_it_is():
    encoding = Encoding("merge", 64, 0.25)

    assert Encoding.of_index(encoding.to_dict()) == encoding
    assert Encoding.of_index({"long_texts": "split", "unknown": 1}) == Encoding("split")
    assert Encoding("cut", np.int64(5), np.float32(0.5)) == Encoding("cut", 5, 0.5)


@pytest.mark.parametrize(
    "fields",
    [
        {"long_texts": "fold"},
        {"long_texts": None},
        {"max_active_dims": 0},
        {"max_active_dims": 2.0},
        {"max_active_dims": True},
        {"min_weight": -1},
        {"min_weight": float("nan")},
        {"min_weight": "0"},
    ],
)
def test_what_could_not_be_done_is_refused(fields):
    with pytest.raises(InputError, match=r"(long_texts|max_active_dims|min_weight) is"):
        Encoding(**fields)
    with pytest.raises(InputError, match="pip install -U spladelet"):
        Encoding.of_index(fields)


def test_batches_are_what_encoding_all_at_once_gives(encoder, monkeypatch):
    monkeypatch.setattr("spladelet.encoder.encoder.TEXTS_PER_WINDOW", 3)
    given = documents(8)

    batches = list(encoder.encode_batches(iter(given), Encoding(max_active_dims=16)))

    assert [len(vectors) for vectors, _ in batches] == [3, 3, 2]
    assert [d for _, found in batches for d in found] == given
    whole = encoder.encode_documents(given, max_active_dims=16)
    assert [v for vectors, _ in batches for v in vectors] == list(whole)


def test_a_batch_is_read_only_when_it_is_asked_for(encoder, monkeypatch):
    monkeypatch.setattr("spladelet.encoder.encoder.TEXTS_PER_WINDOW", 2)
    read = []

    def given():
        for document in documents(6):
            read.append(document.id)
            yield document

    batches = encoder.encode_batches(given())
    next(batches)
    assert read == ["0", "1"]


@pytest.mark.parametrize(("long_texts", "entries"), [("cut", 2), ("merge", 2)])
def test_long_texts_are_cut_or_merged(encoder, long_texts, entries):
    given = [Document("long", LONG), Document("short", "the cat")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        ((vectors, found),) = encoder.encode_batches(given, Encoding(long_texts))
        overlap = 32 if long_texts == "merge" else None
        expected = encoder.encode_documents(given, overlap=overlap)

    assert (len(vectors), [d.id for d in found]) == (entries, ["long", "short"])
    assert list(vectors) == list(expected)


def test_long_texts_are_split_into_passages(encoder):
    given = [Document("long", LONG), Document("short", "the cat")]
    ((vectors, found),) = encoder.encode_batches(given, Encoding("split"))

    assert found == [*encoder.split(given[0]), given[1]]
    assert len(found) > 2
    assert len(vectors) == len(found)


def test_what_was_cut_is_said_once_of_all(encoder, monkeypatch):
    monkeypatch.setattr("spladelet.encoder.encoder.TEXTS_PER_WINDOW", 2)
    given = [*documents(3), Document("3", LONG), Document("4", LONG)]

    with pytest.warns(TruncationWarning) as caught:
        for _ in encoder.encode_batches(given):
            pass

    (note,) = caught
    assert str(note.message).startswith("2 of 5 texts were longer")
    assert "the first is number 3" in str(note.message)
    assert note.filename == __file__


def test_terms_say_which_of_them_the_model_added(encoder):
    text = "rocket launch"
    vector = encoder.encode_document(text)

    terms = encoder.terms(text, vector)

    assert {t.term: np.float32(t.weight) for t in terms} == encoder.decode(vector)
    assert {t.term for t in terms if t.in_text} == {"rocket", "launch"}
    assert [t.weight for t in terms] == sorted((t.weight for t in terms), reverse=True)
    assert all(encoder.vocabulary()[t.term] == t.term_id for t in terms)


def test_a_vector_that_exists_is_explained_as_it_is(encoder):
    query, text = "why does my kitten hum", "A content cat purrs."
    pruned = encoder.encode_document(text, max_active_dims=4)

    whole = encoder.explain(query, text)
    explained = encoder.explain(query, text, document_vector=pruned)

    assert encoder.explain(query, text, query_vector=encoder.encode_query(query)) == whole
    assert {t.term_ids[0] for t in explained.terms} <= set(pruned.term_ids.tolist())
    assert explained.score == pytest.approx(encoder.encode_query(query).dot(pruned))
    assert explained.score < whole.score


def test_an_index_takes_it_as_it_is(tmp_path):
    rows = SparseVectors.from_rows([SparseVector([1], [1.0], 2)], 2)
    encoding = Encoding("split", max_active_dims=8)
    Index.build(rows, encoding=encoding).save(tmp_path / "built")
    with IndexWriter(tmp_path / "written", encoding=encoding) as writer:
        writer.add(rows)

    for name in ("built", "written"):
        assert Encoding.of_index(Index.open(tmp_path / name).encoding) == encoding


def test_terms_of_a_query_are_read_as_a_query(encoder):
    vector = encoder.encode_query("rocket launch")

    terms = encoder.terms("rocket launch", vector, side="query")
    assert {t.term for t in terms if t.in_text} == {"rocket", "launch"}
