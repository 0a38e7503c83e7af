"""Words on the command line: counted beside the model, alone, later, or not at all."""

import contextlib
import json
import re

import pytest

from spladelet import Encoder, Index, Words
from spladelet.cli.main import main


def refusal(capsys, *arguments):
    """Run a command that must fail; returns what it says."""
    with contextlib.suppress(SystemExit):  # of the parser
        assert main([str(argument) for argument in arguments]) != 0
    return capsys.readouterr().err


@pytest.fixture
def no_model(monkeypatch):
    """See that no model is loaded."""

    def load(*arguments, **options):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(Encoder, "load", load)


def found(text):
    return [(hit["id"], hit["lexical"] > 0) for hit in json.loads(text)]


def test_search_asks_for_both_and_for_each_alone(run, saved):
    both, alone, words = (
        json.loads(run("search", saved, "why do kittens purr", "--json", *more))
        for more in ((), ("--lexical", "0"), ("--lexical", "only"))
    )

    assert [hit["id"] for hit in words] == ["cats"]
    assert words[0]["score"] == words[0]["lexical"]
    assert {hit["lexical"] for hit in alone} == {0}
    assert both[0]["score"] == pytest.approx(alone[0]["score"] + 0.8 * words[0]["score"], rel=1e-5)
    assert both[0]["lexical"] == pytest.approx(0.8 * words[0]["score"], rel=1e-5)


@pytest.mark.parametrize("value", ["-1", "all", "nan", "1e9"])
def test_what_is_no_weight_is_refused(capsys, saved, value):
    assert "expected a number" in refusal(capsys, "search", saved, "cat", f"--lexical={value}")


def test_explain_says_what_words_add(run, saved):
    drawn = run("explain", "Why do kittens purr", "cats", "--index", saved)
    told = json.loads(run("explain", "Why do kittens purr", "cats", "--index", saved, "--json"))

    assert re.match(
        r"score \d+\.\d\d from \d+ shared terms and 1 word, \d+% of it by words, ", drawn
    )
    assert re.search(r"\npurr +\S+ +\d\.\d\d  rarity 0\.98   word, once in the document\n", drawn)
    (word,) = told["lexical"]
    assert (word["word"], word["spelled"], word["in_document"]) == ("purr", "purr", 1)
    hit = json.loads(run("search", saved, "Why do kittens purr", "--json"))[0]
    assert told["score"] == pytest.approx(hit["score"], rel=1e-5)


class TestWordsAlone:
    @pytest.fixture
    def folder(self, run, file, tmp_path, no_model):
        run("index", file, "-o", tmp_path / "words", "--lexical-only")
        return tmp_path / "words"

    def test_no_model_is_ever_loaded(self, run, folder, stdin, tmp_path):
        assert found(run("search", folder, "purrs", "--json")) == [("cats", True)]
        assert "1 word, 100% of it by words" in run("explain", "purr", "cats", "--index", folder)
        (tmp_path / "more").write_text('{"id": "n", "text": "purr purr"}\n')
        assert "4 documents, 1 added" in run("add", folder, tmp_path / "more")
        assert found(run("search", folder, "purr", "--json"))[0] == ("n", True)
        assert "3 documents, 1 deleted" in run("delete", folder, "n")
        assert "3 documents" in run("compact", folder)
        assert "language english" in run("info", folder)

    def test_its_language_may_be_another(self, run, file, tmp_path, no_model):
        run("index", file, "-o", tmp_path / "words", "--lexical-only", "--language", "none")
        assert Index.open(tmp_path / "words").words == Words("none")
        assert found(run("search", tmp_path / "words", "purrs", "--json")) == []

    def test_something_must_be_left(self, capsys, file, tmp_path):
        said = refusal(capsys, "index", file, "-o", tmp_path / "w", "--lexical-only", "--no-words")
        assert "leave nothing to index" in said

    def test_a_file_is_searched_without_a_model(self, run, file, no_model):
        assert found(run("search", file, "purrs", "--lexical", "only", "--json")) == [
            ("cats", True)
        ]


def test_without_words_all_is_as_it_was(run, capsys, file, tmp_path):
    told = run("index", file, "-o", tmp_path / "index", "--no-words")
    assert re.search(r"3 documents, \d+ postings, in", told)
    assert Index.open(tmp_path / "index").words is None
    assert all(
        not lexical for _, lexical in found(run("search", tmp_path / "index", "cats", "--json"))
    )
    said = refusal(capsys, "search", tmp_path / "index", "cats", "--lexical", "1")
    assert "the index has no words" in said


def test_words_are_counted_later_or_left_out(run, file, tmp_path, saved):
    run("index", file, "-o", tmp_path / "index", "--no-words")
    run("compact", tmp_path / "index", "--language", "english")
    query = ("why do kittens purr", "--json")

    assert json.loads(run("search", tmp_path / "index", *query)) == json.loads(
        run("search", saved, *query)
    )
    run("compact", tmp_path / "index", "--no-words")
    assert Index.open(tmp_path / "index").words is None


def test_imported_vectors_get_words_of_their_texts(run, saved, tmp_path):
    run("convert", "jsonl", saved, "-o", tmp_path / "out.jsonl")
    run("import", tmp_path / "out.jsonl", "-o", tmp_path / "again")
    query = ("why do kittens purr", "--json")

    assert json.loads(run("search", tmp_path / "again", *query)) == json.loads(
        run("search", saved, *query)
    )
    run("import", tmp_path / "out.jsonl", "-o", tmp_path / "without", "--no-words")
    assert Index.open(tmp_path / "without").words is None
    run("import", tmp_path / "out.jsonl", "-o", tmp_path / "german", "--language", "german")
    assert Index.open(tmp_path / "german").words.language == "german"
