"""Whatever documents, models and names say, no command prints what a terminal would obey."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from runtime.test_printable import CONTROLS, obeyed

from spladelet import Document, Index
from spladelet.cli.main import main

WORST = CONTROLS.replace("\0", "")  # which names of fields cannot have
NASTY = st.text(st.sampled_from(f"{WORST}ab "), min_size=1, max_size=12)
NASTY_NAMES = st.text(st.sampled_from("\x07\n\x1b\x9b\u202eab"), min_size=1, max_size=12)
posix = pytest.mark.skipif(os.name == "nt", reason="shells, and names of files, of POSIX")
FEW = settings(
    max_examples=25 if os.environ.get("SPLADELET_THOROUGH") else 1,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def run(*arguments, stdin=""):
    """Run a command; returns its status and what it printed on both streams."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.stdin = sys.stdin, io.StringIO(stdin)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = main([str(argument) for argument in arguments])
            except SystemExit as exited:
                status = exited.code
    finally:
        sys.stdin = before
    assert obeyed(out.getvalue() + err.getvalue(), "\n\t") == []
    assert status in (0, 1, 2), err.getvalue()
    return status, out.getvalue()


@posix
@FEW
@given(NASTY, NASTY, NASTY, NASTY_NAMES)
@example(WORST, WORST, WORST, "\x1b[2J\n\x9b\u202e")
def test_commands_on_an_index(encoder, identity, title, other, name):
    documents = [
        Document(f"{identity}1", f"the cat {other}", title, {other: title}),
        Document("2", f"a {title} cat"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / name
        Index.build(
            encoder.encode_documents(documents), documents, model_name=other, encoding={other: name}
        ).save(index)
        status, out = run("search", index, "cat", "-k", "2")
        assert (status, out.count("\n")) == (0, 2)
        status, out = run("search", index, "cat", "--json")
        assert {hit["id"] for hit in json.loads(out)} == {f"{identity}1", "2"}
        run("search", index, f"cat {other}", "--min-score", "99")
        run("search", index, "-", stdin=f"cat {other}\ncat\n")
        run("search", index, "cat", "--where", other)
        run("explain", f"the cat {other}", f"{identity}1", "--index", index)
        run("explain", "the cat", other, "--index", index)
        assert run("verify", index)[1].count("\n") == 1
        run("info", index)
        run("info", index, "--json")
        run("convert", "jsonl", index, "-o", f"{index}.jsonl")
        assert run("delete", index, f"{identity}1", other)[1].count("\n") == 1
        assert run("compact", index)[1].count("\n") == 1


@posix
@FEW
@given(NASTY, NASTY, NASTY_NAMES)
@example(WORST, WORST, "\x1b[2J\n\x9b\u202e")
def test_commands_on_texts(identity, text, name):
    lines = [{"id": identity, "title": text, "text": f"cat {text}"}, {"id": "2", "text": "cat"}]
    stdin = "".join(f"{json.dumps(line)}\n" for line in lines)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_text(stdin)
        run("search", file, "cat")
        index = f"{file}.index"
        run("index", file, "-o", index)
        run("index", file, "-o", index)
        run("add", "--replace", index, "-", stdin=stdin)
    run("encode", stdin=stdin)
    run("encode", "--json", text, f"{text} cat")
    run("encode", "cat", "--side", text)
    run(text, text)
    run("info", f"./{name}")
    run("encode", "cat", "--model", f"./{name}")
    run("push", "qdrant", f"./{name}", "--collection", text)
    run("demo", "--nothing", text)


@posix
def test_tables_and_reports_have_the_rows_that_are_theirs(tmp_path, monkeypatch):
    pytest.importorskip("ir_measures", reason="needs the extra `evaluate`")
    from runtime.evaluation.small_collection import write_collection

    monkeypatch.setenv("SPLADELET_CACHE", str(tmp_path / "vectors"))
    label = "s|\x1b[2J\n| forged | 9 |<script>"
    queries = {"1": "why do cats\x9b purr", "\u202e2": "how does bread rise"}
    qrels = {"1": {"cat": 2}, "\u202e2": {"bread": 1}}
    write_collection(tmp_path / label, queries=queries, qrels=qrels)
    (tmp_path / "r").write_text("1 Q0 cat 1 2.0 r\n")
    report = tmp_path / "report.html"

    status, out = run(
        "evaluate", tmp_path / label, "--run", f"a|<b>$x^{{$={tmp_path / 'r'}", "--report", report
    )

    assert status == 0
    rows = [line for line in out.splitlines() if line.startswith("|")]
    assert len(rows) == 6
    assert rows[-1].startswith(r"| a\|<b>$x^{$ ")
    assert {row.replace(r"\|", "").count("|") for row in rows} == {8}
    page = report.read_text(encoding="utf-8")
    assert obeyed(page, "\n\t") == []
    assert "<script>" not in page
    assert "<b>$" not in page


@posix
@pytest.mark.parametrize(
    "arguments",
    [["encode", b"z\xfcrich"], ["search", "index", b"z\xfcrich"], ["delete", "index", b"\xfc"]],
)
def test_bytes_that_are_no_text_are_wrong_usage(arguments):
    assert run(*[os.fsdecode(argument) for argument in arguments])[0] == 2


@pytest.mark.skipif(sys.platform != "linux", reason="names elsewhere are Unicode")
def test_a_path_may_be_any_bytes(tmp_path):
    file = os.fsdecode(os.fsencode(tmp_path) + b"/\xfc")
    Path(file).write_text("the cat\n")

    status, out = run("index", file, "-o", f"{file}.index")
    assert status == 0
    assert out.startswith(f"{tmp_path}/\\udcfc.index: 1 documents, ")
    assert run("search", f"{file}.index", "cat")[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["encode", "cat", "--threads", "2147483648"],
        ["encode", "cat", "--threads", "5000"],
        ["encode", "cat", "--top", "9" * 5000],
        ["encode", "cat", "--max-active-dims", "2.0"],
        ["encode", "cat", "--min-weight", "nan"],
        ["search", "index", "cat", "-k", "2.0"],
        ["search", "index", "cat", "--min-score", "inf"],
        ["push", "qdrant", "index", "--collection", "x", "--batch-size", "9" * 30],
        ["evaluate", "set", "--depth", "9" * 30],
        ["evaluate", "set", "--share", "nan"],
        ["fuse", "run", "-o", "out", "--weight", "nan"],
        ["import", "vectors", "-o", "out", "--vocab-size", "1e3"],
    ],
)
def test_a_number_that_cannot_be_is_wrong_usage(arguments):
    assert run(*arguments)[0] == 2


@pytest.mark.parametrize("where", ["[" * 10**5, '{"a":' * 900 + "1" + "}" * 900])
def test_a_filter_that_is_nested_too_deeply_is_one_sentence(encoder, tmp_path, where):
    documents = [Document("a", "the cat")]
    Index.build(encoder.encode_documents(documents), documents).save(tmp_path / "index")

    assert run("search", tmp_path / "index", "cat", "--where", where) == (1, "")


@posix
def test_encode_prints_the_first_texts_before_the_last_are_there():
    command = [sys.executable, "-m", "spladelet.cli", "encode", "--json"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"the cat\nsnow\n")
        process.stdin.flush()
        first = [json.loads(process.stdout.readline())["id"] for _ in range(2)]
        process.stdin.write(b"bread\n" * 7)
        process.stdin.close()
        others = [json.loads(line)["id"] for line in process.stdout]

    assert first == ["1", "2"]
    assert others == [str(number) for number in range(3, 10)]
    assert process.returncode == 0


def test_texts_that_are_cut_are_counted_over_all_windows(capsys, monkeypatch):
    texts = ["cat", "snow", "cat " * 600, "bread", "cat " * 600, "cat"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(texts)))

    assert main(["encode", "--json"]) == 0

    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 6
    assert printed.err.startswith("note: 2 of 6 texts were longer than 512 tokens")
    assert "(the first is number 2)" in printed.err


def test_progress_is_shown_where_it_is_asked_for(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("spladelet.progress._SECONDS_BEFORE_A_BAR", 0.0)
    monkeypatch.setattr("spladelet.progress._SECONDS_BETWEEN_LINES", 0.0)
    (tmp_path / "texts").write_text("the cat\nsnow\n")

    for number, (option, told) in enumerate(
        [((), "encoding: 100% 2/2 ["), (("--progress",), "%|"), (("--no-progress",), None)]
    ):
        assert (
            main(["index", str(tmp_path / "texts"), "-o", str(tmp_path / f"{number}"), *option])
            == 0
        )
        printed = capsys.readouterr().err
        assert printed == "" if told is None else told in printed
