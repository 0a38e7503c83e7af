"""Commands that make and change indexes: what they leave, and what they say."""

import io
import json
import re
import sys

import pytest

from spladelet import Document, Index


def test_index_saves_what_search_then_finds(run, file, tmp_path):
    folder = tmp_path / "index"

    told = run("index", file, "-o", folder)
    hits = json.loads(run("search", "--json", folder, "Why do kittens purr?"))

    counts = r"3 documents, \d+ postings of terms, \d+ of words, in \d+\.\d s\n"
    assert re.fullmatch(f"{folder}: {counts}", told)
    assert set(hits[0]) == {"id", "score", "margin", "lexical", "title", "text", "metadata"}
    assert hits[0]["margin"] == 0
    assert (hits[0]["id"], hits[0]["title"]) == ("cats", "Cats")


def test_index_prints_json(run, file, tmp_path):
    told = json.loads(run("index", "--json", file, "-o", tmp_path / "index"))

    opened = Index.open(tmp_path / "index")
    assert (told["documents"], told["postings"]) == (len(opened), opened.postings)
    assert told["seconds"] >= 0


def test_index_reads_standard_input_and_prunes(run, stdin, tmp_path):
    stdin("They purr.\nSnow falls.\n")
    run("index", "-", "-o", tmp_path / "index", "--max-active-dims", "3")

    opened = Index.open(tmp_path / "index")
    assert (len(opened), opened.postings) == (2, 6)
    assert opened.document(1) == Document("2", "Snow falls.")


def test_documents_are_added_replaced_and_deleted(run, growing, tmp_path):
    more = tmp_path / "more.jsonl"
    more.write_text(
        '{"id": "snow", "text": "Trains run on rails."}\n'
        '{"id": "salt", "text": "Salt is sodium."}\n'
    )

    assert run("add", "--replace", growing, more) == (
        f"{growing}: 4 documents, 1 added, 1 replaced\n"
    )
    (hit,) = json.loads(run("search", "--json", growing, "railway", "-k", "1"))
    assert (hit["id"], hit["text"]) == ("snow", "Trains run on rails.")
    assert run("delete", growing, "snow", "nobody") == f"{growing}: 3 documents, 1 deleted\n"
    changed = json.loads(run("compact", "--json", growing))
    assert changed["documents"] == 3
    facts = json.loads(run("info", "--json", growing))
    assert (facts["documents"], facts["deleted"], facts["segments"]) == (3, 0, 1)
    assert facts["postings"] == changed["postings"]


def test_ids_to_delete_may_come_from_standard_input(run, growing, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("cats\ndough\n"))

    assert json.loads(run("delete", "--json", growing)) == {"documents": 1, "deleted": 2}


def test_an_index_is_replaced_on_purpose_only(run, fail, growing, file):
    before = run("search", "--json", growing, "cat")
    (file.parent / "other").write_text("Trains run on rails.\n")

    message = fail("index", file.parent / "other", "-o", growing)
    assert f"{growing} holds an index of 3 documents" in message
    assert "--replace" in message
    assert run("search", "--json", growing, "cat") == before

    run("index", file.parent / "other", "-o", growing, "--replace")
    assert len(Index.open(growing)) == 1


def test_an_index_that_cannot_be_opened_is_not_replaced_by_chance(run, fail, growing, file):
    (growing / "generation-1.json").write_text("{}")

    assert "an index that cannot be opened" in fail("index", file, "-o", growing)
    run("index", file, "-o", growing, "--replace")
    assert len(Index.open(growing)) == 3


LONG = " ".join(f"The cat of house {n} purrs." for n in range(90))


@pytest.fixture
def long_texts(tmp_path):
    """Return a file of one document that is longer than the model reads, and a short one."""
    path = tmp_path / "long.jsonl"
    records = [{"id": "long", "text": LONG}, {"id": "short", "text": "Snow falls."}]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_what_is_added_is_encoded_as_the_index_was(run, long_texts, tmp_path):
    options = ("--long-texts", "merge", "--max-active-dims", "5", "--min-weight", "0.5")
    run("index", long_texts, "-o", tmp_path / "whole", *options)
    (tmp_path / "first").write_text("a\n")
    run("index", tmp_path / "first", "-o", tmp_path / "grown", *options)
    run("add", tmp_path / "grown", long_texts)

    def found(name):
        return [
            (hit["id"], hit["score"])
            for hit in json.loads(run("search", tmp_path / name, "cat house snow", *search))
        ]

    search = ("--lexical", "0", "--json")  # a word is rarer among more documents
    assert found("grown") == found("whole")
    assert json.loads(run("info", "--json", tmp_path / "grown"))["encoding"] == {
        "long_texts": "merge",
        "max_active_dims": 5,
        "min_weight": 0.5,
    }
    printed = run("info", tmp_path / "grown")
    assert "long texts merge, max active dims 5, min weight 0.5\n" in printed


def test_what_is_usual_need_not_be_said(run, growing, tmp_path, file):
    run("index", file, "-o", tmp_path / "usual")

    assert "encoding" not in run("info", tmp_path / "usual")
    assert "encoding" not in run("info", growing)


@pytest.mark.parametrize(
    "option", [("--long-texts", "split"), ("--max-active-dims", "7"), ("--min-weight", "0.1")]
)
def test_what_is_added_cannot_be_encoded_otherwise(fail, run, file, tmp_path, option):
    run("index", file, "-o", tmp_path / "index", "--max-active-dims", "5")

    message = fail("add", "--replace", tmp_path / "index", file, *option)
    assert f"{' is '.join(option)}, but the index was made with " in message
    assert run("add", "--replace", tmp_path / "index", file, "--max-active-dims", "5")


def test_an_index_that_does_not_know_takes_what_is_said(run, growing, long_texts):
    told = run("add", growing, long_texts, "--long-texts", "split", "--json")

    assert json.loads(told)["new_passages"] > 2
    assert Index.open(growing).encoding == {}


@pytest.mark.parametrize(
    "said", [{"long_texts": "fold"}, {"max_active_dims": "5"}, {"min_weight": [1]}]
)
def test_an_index_that_says_what_cannot_be_is_not_added_to(fail, saved, file, tmp_path, said):
    opened = Index.open(saved)
    documents = [opened.document(number) for number in range(len(opened))]
    Index.build(opened.vectors(), documents, encoding=said).save(tmp_path / "odd")

    assert "which this version does not know" in fail("add", tmp_path / "odd", file)


def test_documents_are_counted_and_not_their_passages(run, long_texts, tmp_path):
    folder = tmp_path / "split"
    run("index", long_texts, "-o", folder, "--long-texts", "split")
    count = len(Index.open(folder))
    assert count > 2
    long_texts.write_text('{"id": "long", "text": "A cat."}\n{"id": "new", "text": "Snow."}\n')

    told = run("add", "--replace", folder, long_texts)
    assert told == f"{folder}: 3 passages, 1 documents added, 1 replaced, 2 new passages\n"
    again = json.loads(run("add", "--replace", "--json", folder, long_texts))
    assert again == {"documents": 3, "added": 0, "replaced": 2, "new_passages": 2}


def test_an_id_that_is_taken_is_not_added(fail, growing, file):
    assert "has a document with id 'cats'" in fail("add", growing, file)


@pytest.mark.parametrize("arguments", [("add", "FILE"), ("delete", "cats"), ("compact",)])
def test_a_change_of_no_index_makes_none(fail, tmp_path, file, arguments):
    name, *rest = [str(file) if a == "FILE" else a for a in arguments]

    assert "holds no index" in fail(name, tmp_path / "slip", *rest)
    assert not (tmp_path / "slip").exists()


def test_weights_of_one_byte_say_how_far_off_a_score_may_be(run, file, tmp_path, saved):
    run("index", file, "-o", tmp_path / "small", "--weights", "uint8")
    (exact,) = json.loads(run("search", "--json", saved, "bread", "-k", "1"))
    (hit,) = json.loads(run("search", "--json", tmp_path / "small", "bread", "-k", "1"))

    assert hit["id"] == exact["id"] == "dough"
    assert abs(hit["score"] - exact["score"]) <= hit["margin"] + 1e-6
    assert 0 < hit["margin"] < 0.1
    facts = json.loads(run("info", "--json", tmp_path / "small"))
    assert facts["weight_type"] == "uint8"


@pytest.mark.parametrize("form", ["jsonl", "npz", "splade-index"])
def test_an_index_goes_out_and_comes_back_in(run, dated, tmp_path, form):
    path = tmp_path / f"vectors.{form}"
    run("convert", form, dated, "-o", path)
    documents = ("--documents", tmp_path / "dated.jsonl") if form == "npz" else ()
    run("import", path, "-o", tmp_path / "back", *documents)

    for query in ("kitten", "frost"):
        arguments = (query, "--json", "--where", '{"year": {"lt": 2022}}')
        assert run("search", tmp_path / "back", *arguments) == run("search", dated, *arguments)
    assert json.loads(run("info", tmp_path / "back", "--json"))["fingerprint"]


def test_vectors_of_a_model_that_is_not_here_are_imported_by_id(run, fail, tmp_path):
    path = tmp_path / "vectors.jsonl"
    path.write_text('{"id": "a", "vector": {"3": 1.5}}\n{"vector": {"9": 1}, "text": "b"}\n')
    arguments = ("--vocab-size", "10", "--names", "ids", "--weights", "uint8")
    result = run("import", path, "-o", tmp_path / "index", *arguments, "--json")

    index = Index.open(tmp_path / "index")
    assert json.loads(result) == {"documents": 2}
    assert (index.vocab_size, index.model, index.weight_type) == (10, None, "uint8")
    assert [index.document(n).id for n in range(2)] == ["a", "2"]
    assert "is an index already" in fail("import", path, "-o", tmp_path / "index", *arguments)
    for count in (1, 3):
        (tmp_path / "texts").write_text("text\n" * count)
        rest = ("-o", tmp_path / "other", *arguments, "--documents", tmp_path / "texts")
        assert "documents" in fail("import", path, *rest)
        assert not (tmp_path / "other").exists()


def test_a_folder_of_other_things_is_not_overwritten(fail, file, tmp_path):
    assert "is not an index" in fail("index", file, "-o", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
