"""The command: what people see, what programs read, and one sentence where something is wrong."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spladelet import Document, Index, SparseVector, SparseVectors, __version__
from spladelet.cli.main import main
from spladelet.index.format import FILES

DOCUMENTS = [
    {"id": "cats", "title": "Cats", "text": "They purr when they are content."},
    {"id": "snow", "text": "Snow falls in winter and covers the roofs."},
    {"id": "dough", "text": "Yeast makes bread dough rise."},
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps(document) + "\n" for document in DOCUMENTS))
    return path


@pytest.fixture(scope="session")
def saved(encoder, tmp_path_factory):
    """Return the folder of an index of the documents, made without the command."""
    folder = tmp_path_factory.mktemp("cli") / "index"
    documents = [Document(d["id"], d["text"], d.get("title", "")) for d in DOCUMENTS]
    vectors = encoder.encode_documents(documents)
    Index.build(vectors, documents, model_name=encoder.description.name).save(folder)
    return folder


@pytest.fixture
def run(capsys):
    """Return a function that runs the command and returns what it printed; it must succeed."""

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert status == 0, printed.err
        return printed.out

    return run


@pytest.fixture
def fail(capsys):
    """Return a function that runs the command and returns its one sentence; it must fail."""

    def fail(*arguments):
        status = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert (status, printed.out) == (1, "")
        assert re.fullmatch(r"error: [^\n]+\n", printed.err)
        return printed.err

    return fail


@pytest.fixture
def stdin(monkeypatch):
    """Return a function that puts text on standard input."""
    return lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def start(*arguments, **options):
    """Start the command as a process of its own."""
    command = [sys.executable, "-m", "spladelet.cli", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", **options
    )


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


def test_index_saves_what_search_then_finds(run, file, tmp_path):
    folder = tmp_path / "index"

    told = run("index", file, "-o", folder)
    hits = json.loads(run("search", "--json", folder, "Why do kittens purr?"))

    assert re.fullmatch(rf"{folder}: 3 documents, \d+ postings, in \d+\.\d s\n", told)
    assert set(hits[0]) == {"id", "score", "margin", "title", "text", "metadata"}
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
    assert any(line.endswith("added to the query") for line in lines)


def test_explain_prints_json(encoder, run):
    told = json.loads(run("explain", "--json", "kittens purr", "Cats purr."))

    result = encoder.explain("kittens purr", "Cats purr.")
    assert told["score"] == result.score
    assert told["added_share"] == result.added_share
    assert [word["term"] for word in told["words"]] == [word.term for word in result.words]


def test_explain_looks_a_document_up_by_its_id(run, saved):
    by_id = run("explain", "kittens purr", "cats", "--index", saved)

    assert by_id == run("explain", "kittens purr", "Cats They purr when they are content.")


def test_explain_says_so_where_nothing_is_shared(run):
    assert run("explain", "cat", "") == "score 0: the texts share no term\n"


def test_info_describes_the_default_model(encoder, run):
    facts = json.loads(run("info", "--json"))
    printed = run("info")

    assert facts["fingerprint"] == encoder.fingerprint
    assert facts["vocab_size"] == encoder.vocab_size
    assert re.search(rf"^fingerprint +{encoder.fingerprint}$", printed, re.MULTILINE)


def test_info_describes_an_index(encoder, run, saved):
    facts = json.loads(run("info", "--json", saved))
    printed = run("info", saved)

    assert facts["documents"] == 3
    assert facts["fingerprint"] == encoder.fingerprint
    assert facts["model_name"] == encoder.description.name
    assert re.search(r"^documents +3$", printed, re.MULTILINE)


@pytest.fixture
def growing(saved, tmp_path):
    """Return the folder of an index that may be changed."""
    return shutil.copytree(saved, tmp_path / "growing")


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
            for hit in json.loads(run("search", tmp_path / name, "cat house snow", "--json"))
        ]

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


def test_a_minimum_score_leaves_out_the_rest(run, saved):
    assert json.loads(run("search", "--json", saved, "bread", "--min-score", "99")) == []


@pytest.fixture
def dated(run, tmp_path):
    """Return the folder of an index whose documents have years."""
    path = tmp_path / "dated.jsonl"
    records = [d | {"metadata": {"year": 2020 + n}} for n, d in enumerate(DOCUMENTS)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    run("index", path, "-o", tmp_path / "dated")
    return tmp_path / "dated"


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
    for option in (("--where", "{}"), ("--ids", "f"), ("--min-score", "1")):
        message = fail("search", "collection", "snow", "--engine", "qdrant", *option)
        assert "filters of its own" in message


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
    assert "exists" in fail("import", path, "-o", tmp_path / "index", *arguments)
    for count in (1, 3):
        (tmp_path / "texts").write_text("text\n" * count)
        rest = ("-o", tmp_path / "other", *arguments, "--documents", tmp_path / "texts")
        assert "documents" in fail("import", path, *rest)
        assert not (tmp_path / "other").exists()


def test_verify_counts_the_files_it_checked(encoder, run, saved, bundle_folder):
    files = len(encoder.description.files)

    assert run("verify") == f"{bundle_folder}: {files} files, all as they should be\n"
    assert json.loads(run("verify", "--json", saved)) == {
        "path": str(saved),
        "files": len(FILES),
        "intact": True,
    }


def test_verify_names_the_damaged_file(fail, copy_bundle, overwrite):
    folder = copy_bundle()
    content = (folder / "tokenizer.json").read_bytes()
    overwrite(folder / "tokenizer.json", content.replace(b'"cat"', b'"car"'))

    assert "tokenizer.json has sha256" in fail("verify", folder)


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


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as exited:
        main(["--version"])
    assert exited.value.code == 0
    assert capsys.readouterr().out == f"spladelet {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["search"],
        ["index", "documents.jsonl"],
        ["search", "index", "query", "-k", "many"],
        ["encode", "cat", "--side", "both"],
        ["encode", "cat", "--wings"],
        ["encode", "cat", "--top", "0"],
        ["explain", "cat", "cat", "--top", "-1"],
    ],
)
def test_wrong_usage_exits_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 2
    assert "usage: spladelet" in capsys.readouterr().err


def test_a_missing_file_is_one_sentence(fail, tmp_path):
    missing = tmp_path / "none.jsonl"

    assert "none.jsonl: No such file" in fail("index", missing, "-o", tmp_path / "index")
    assert "none.jsonl: No such file" in fail("search", missing, "cat")
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("command", [["encode", "cat"], ["explain", "a", "b"], ["demo"]])
def test_a_missing_model_is_one_sentence(fail, command):
    assert "there is no bundle at './none'" in fail(*command, "--model", "./none")


@pytest.mark.parametrize("command", ["info", "verify"])
def test_a_missing_path_is_one_sentence(fail, command):
    assert "there is no bundle at './none'" in fail(command, "./none")


def test_a_bad_k_is_one_sentence(fail, saved):
    assert "k is 0; expected at least 1" in fail("search", saved, "cat", "-k", "0")


@pytest.mark.parametrize(
    ("option", "value"), [("--max-active-dims", "0"), ("--min-weight", "-1"), ("--threads", "0")]
)
def test_a_bad_limit_is_one_sentence(fail, option, value):
    name = option.removeprefix("--").replace("-", "_")

    assert f"error: {name} is {value}" in fail("encode", "cat", option, value)


def test_a_line_that_is_no_json_is_one_sentence(fail, file, tmp_path):
    with file.open("a") as appended:
        appended.write("{broken\n")

    assert "line 4 is no JSON" in fail("index", file, "-o", tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_an_id_given_twice_is_one_sentence(fail, tmp_path):
    (tmp_path / "twice.jsonl").write_text('{"id": 1, "text": "a"}\n' * 2)

    assert "both have id '1'" in fail("search", tmp_path / "twice.jsonl", "cat")


def test_an_index_of_another_model_is_one_sentence(fail, encoder, tmp_path):
    row = SparseVector([1], [1.0], encoder.vocab_size, "f" * 64)
    Index.build(SparseVectors.from_rows([row], row.vocab_size, row.model)).save(tmp_path / "index")

    assert "same model" in fail("search", tmp_path / "index", "cat")


def test_an_unknown_document_is_one_sentence(fail, saved, tmp_path):
    assert "no document with id 'dogs'" in fail("explain", "cat", "dogs", "--index", saved)
    assert "holds no index" in fail("explain", "cat", "dogs", "--index", tmp_path)


def test_a_folder_of_other_things_is_not_overwritten(fail, file, tmp_path):
    assert "is not an index" in fail("index", file, "-o", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_texts_that_are_cut_are_noted_on_standard_error(capsys):
    assert main(["encode", "cat " * 600]) == 0

    printed = capsys.readouterr()
    assert re.fullmatch(r"note: 1 of 1 texts were longer than \d+ tokens .*\n", printed.err)
    assert printed.out.startswith("cat")


def test_a_reader_that_leaves_early_meets_no_traceback():
    # Buffered, as it is for users, so that the last words are written when all else is done.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with start("encode", "the cat purrs", env=buffered) as process:
        process.stdout.close()  # long before anything is printed
        error = process.stderr.read()

    assert (process.returncode, error) == (0, "")


def test_a_full_disk_behind_the_output_is_one_sentence():
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    command = [sys.executable, "-m", "spladelet.cli", "encode", "cat"]
    with full.open("w") as output:
        result = subprocess.run(
            command, stdout=output, stderr=subprocess.PIPE, encoding="utf-8", check=False
        )

    assert result.returncode == 1
    assert re.fullmatch(r"error: [^\n]*No space left[^\n]*\n", result.stderr)


def test_a_terminal_without_blocks_gets_hashes(run_python):
    show = "import sys; from spladelet.cli.main import main; sys.exit(main(sys.argv[1:]))"

    result = run_python(
        show, "encode", "cat", "--max-active-dims", 5, env={"PYTHONIOENCODING": "ascii"}
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert re.match(r"cat +#{20} ", result.stdout)
    assert result.stdout.isascii()


def test_a_long_hit_is_cut_to_the_width_of_the_terminal(run, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "60")
    (tmp_path / "long.txt").write_text("the cat purrs and purrs and " * 40)

    (line,) = run("search", tmp_path / "long.txt", "cat").splitlines()

    assert len(line) <= 60
    assert line.endswith(" …")
