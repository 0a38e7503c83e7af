"""Commands that encode, search and explain: what people see, and what programs read."""

import json
import re

import pytest


def test_encode_draws_terms_with_bars(encoder, run):
    heaviest, weight = next(iter(encoder.decode(encoder.encode_document("the cat")).items()))

    first, *others = run("encode", "the cat").splitlines()

    assert re.fullmatch(rf"{heaviest} +█{{20}} +{weight:.2f}", first)
    assert len(others) <= 10
    assert "added by the model" in "".join(others)


def test_encode_shows_as_many_terms_as_asked_for(run):
    lines = run("encode", "--top", "2", "the cat purrs").splitlines()

    assert len(lines) == 3
    assert re.fullmatch(r"… and \d+ lighter terms \(--top shows more\)", lines[-1])


def test_encode_prints_one_json_object_a_text(encoder, run):
    lines = run("encode", "--json", "cat", "snow").splitlines()

    assert [json.loads(line) for line in lines] == [
        {"id": str(n), "vector": encoder.decode(vector)}
        for n, vector in enumerate(encoder.encode_documents(["cat", "snow"]), start=1)
    ]


def test_encode_heads_each_of_several_texts(run):
    assert re.match(r"1: cat\n(.+\n)+2: snow\n", run("encode", "cat", "snow"))


def test_encode_reads_standard_input(encoder, run, stdin):
    stdin('{"id": "a", "title": "Cats", "text": "purr"}\n')

    (line,) = run("encode", "--json", "-").splitlines()

    vector = encoder.decode(encoder.encode_document("Cats purr"))
    assert json.loads(line) == {"id": "a", "vector": vector}


def test_encode_reads_standard_input_where_no_text_is_given(run, stdin):
    stdin("cat\nsnow\n")

    assert len(run("encode", "--json", "--side", "query").splitlines()) == 2


def test_encode_prunes(encoder, run):
    line = run("encode", "--json", "--side", "query", "--max-active-dims", "2", "cat")

    pruned = encoder.encode_query("cat", max_active_dims=2)
    assert json.loads(line)["vector"] == encoder.decode(pruned)
    assert json.loads(run("encode", "--json", "--min-weight", "100", "cat"))["vector"] == {}


def test_encode_says_so_where_a_text_is_empty(run):
    assert run("encode", "") == "no terms: the text is empty to the model\n"


def test_search_draws_one_hit_a_line(run, saved):
    lines = run("search", saved, "Why do kittens purr?", "-k", "1").splitlines()

    assert len(lines) == 1
    assert re.fullmatch(r" *\d+\.\d\d  cats  Cats: They purr when they are content\.", lines[0])


def test_search_indexes_a_file_of_documents_first(run, file, saved):
    query = "Why do kittens purr?"

    assert run("search", "--json", file, query) == run("search", "--json", saved, query)


def test_search_takes_queries_from_standard_input(run, saved, stdin):
    stdin("kittens purr\nbread\n")
    printed = run("search", saved, "-", "-k", "1")
    stdin("kittens purr\nbread\n")
    first, second = run("search", "--json", saved, "-").splitlines()

    assert [line for line in printed.splitlines() if line.startswith("?")] == [
        "? kittens purr",
        "? bread",
    ]
    assert json.loads(first)[0]["id"] == "cats"
    assert json.loads(second)[0]["id"] == "dough"


def test_search_says_so_where_nothing_is_found(run, saved):
    assert run("search", saved, "") == "no document shares a term with the query\n"
    assert json.loads(run("search", "--json", saved, "")) == []


def test_explain_draws_the_words_of_a_score(encoder, run):
    result = encoder.explain("a cat can purr", "Cats purr.")

    head, *lines = run("explain", "a cat can purr", "Cats purr.").splitlines()

    assert head.startswith(f"score {result.score:.2f} from {len(result.terms)} shared terms, ")
    assert any(re.match(r"purr .*in both texts$", line) for line in lines)
    assert any(line.endswith('added to the query by "cat"') for line in lines)


def test_explain_prints_json(encoder, run):
    told = json.loads(run("explain", "--json", "kittens purr", "Cats purr."))

    result = encoder.explain("kittens purr", "Cats purr.")
    assert told["score"] == result.score
    assert told["added_share"] == result.added_share
    assert [word["term"] for word in told["words"]] == [word.term for word in result.words]


def test_explain_looks_a_document_up_by_its_id(run, saved):
    by_id = run("explain", "kittens purr", "cats", "--index", saved, "--lexical", "0")

    assert by_id == run("explain", "kittens purr", "Cats They purr when they are content.")


def test_explain_says_so_where_nothing_is_shared(run):
    assert run("explain", "cat", "") == "score 0: the texts share no term\n"


def test_a_minimum_score_leaves_out_the_rest(run, saved):
    assert json.loads(run("search", "--json", saved, "bread", "--min-score", "99")) == []


def test_a_search_is_narrowed_by_metadata_and_ids(run, dated, tmp_path):
    def found(*arguments):
        return {hit["id"]: hit for hit in json.loads(run("search", dated, *arguments, "--json"))}

    query = "cat snow bread"
    assert set(found(query)) == {"cats", "snow", "dough"}
    hits = found(query, "--where", '{"year": {"gte": 2021}}')
    assert {i: hit["metadata"] for i, hit in hits.items()} == {
        "snow": {"year": 2021},
        "dough": {"year": 2022},
    }
    (tmp_path / "ids").write_text("cats\nsnow\nnone\n")
    assert set(found(query, "--ids", tmp_path / "ids")) == {"cats", "snow"}
    both = ("--ids", tmp_path / "ids", "--where", '[{"year": 2021}, {"year": 2022}]')
    assert set(found(query, *both)) == {"snow"}


@pytest.mark.parametrize(
    ("where", "message"),
    [("year=2020", "no JSON"), ('{"year": {"above": 1}}', "operator"), ("[1]", "mapping")],
)
def test_a_filter_that_is_none_is_one_sentence(fail, dated, where, message):
    assert message in fail("search", dated, "snow", "--where", where)


def test_an_engine_takes_no_filter_of_ours(fail):
    for option in (("--where", "{}"), ("--ids", "f"), ("--min-score", "1"), ("--snippets",)):
        message = fail("search", "collection", "snow", "--engine", "qdrant", *option)
        assert "an engine has its own" in message


def test_demo_answers_its_questions_and_says_why(run):
    printed = run("demo")

    assert printed.startswith("200 short documents on everyday subjects")
    questions = re.findall(r"^\? (.+)\n +\d+\.\d\d  (\S+) .*\n +matched: (.+)$", printed, re.M)
    assert len(questions) == 4
    assert "cat-purring" in [found for _, found, _ in questions]


def test_demo_answers_a_question_in_json(run, file, tmp_path, monkeypatch):
    # A smaller corpus, to save the time of encoding the real one again.
    (tmp_path / "data").mkdir()
    file.rename(tmp_path / "data" / "demo.jsonl")
    monkeypatch.setattr("spladelet.cli.searching.files", lambda package: tmp_path)

    (told,) = json.loads(run("demo", "--json", "-k", "2", "How", "does", "yeast", "work?"))

    assert told["question"] == "How does yeast work?"
    assert told["hits"][0]["id"] == "dough"
    assert len(told["hits"]) <= 2


def test_a_long_hit_is_cut_to_the_width_of_the_terminal(run, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "60")
    (tmp_path / "long.txt").write_text("the cat purrs and purrs and " * 40)

    (line,) = run("search", tmp_path / "long.txt", "cat").splitlines()

    assert len(line) <= 60
    assert line.endswith(" …")
