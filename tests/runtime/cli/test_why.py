"""What the commands say of why: sources of terms, snippets, and the page."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from spladelet import Document, Encoder, Explainer, Index
from spladelet.cli import console
from spladelet.printable import BOLD, PLAIN, UNDERLINED

KITTEN = "Why does my kitten purr?"


@pytest.fixture
def odd(encoder, tmp_path):
    """Return an index of a document that would write to the terminal by itself."""
    text = f"\x1b[2JA {BOLD}kitten{PLAIN} purrs.\u202e" + " Snow falls." * 60
    documents = [Document("odd", text, f"{UNDERLINED}Cats")]
    Index.build(encoder.encode_documents(documents), documents).save(tmp_path / "odd")
    return tmp_path / "odd"


def test_encode_says_for_which_word_a_term_was_added(run):
    lines = run("encode", "--why", "--side", "query", "--top", "40", KITTEN).splitlines()

    assert any(re.match(r'cat  .*added by "kitten"$', line) for line in lines)
    assert any(re.match(r"kitten  .*\d$", line) for line in lines)
    assert not any("by the model" in line for line in lines)


def test_no_word_is_said_to_raise_itself(run):
    text = "The kittenish café naïve Photosynthesis"
    shown = run("encode", "--why", "--top", "99", text)
    assert not re.search(r"^(cafe|naive|kitten|photos) .*raised", shown, re.MULTILINE)


def test_encode_says_so_in_json(encoder, run):
    (told,) = map(json.loads, run("encode", "--why", "--json", KITTEN).splitlines())

    terms = encoder.explain_terms(KITTEN)
    assert [(t["term"], t["weight"]) for t in told["terms"]] == [(t.term, t.weight) for t in terms]
    for term in told["terms"]:
        source = term["source"]
        assert source["special"] or source["word"] == KITTEN[source["start"] : source["end"]]


def test_search_shows_the_passage_below_each_hit(run, saved, encoder):
    lines = run("search", saved, KITTEN, "-k", "1", "--snippets").splitlines()
    assert re.match(r" *\d+\.\d\d  cats", lines[0])
    assert lines[1].startswith("        They purr when they are content.")

    (hit,) = json.loads(run("search", saved, KITTEN, "-k", "1", "--snippets", "--json"))
    index = Index.open(saved)
    query = encoder.encode_query(KITTEN)
    expected = Explainer(index, encoder, query).snippet(index.find("cats"))
    assert hit["snippet"]["text"] == expected.text
    assert [mark["terms"] for mark in hit["snippet"]["marks"]] == [
        list(mark.terms) for mark in expected.marks
    ]


def test_on_a_terminal_what_matters_stands_out(run, saved, monkeypatch):
    monkeypatch.setattr(console, "has_styles", lambda: True)
    monkeypatch.setattr("spladelet.cli.display.has_styles", lambda: True)
    shown = run("search", saved, KITTEN, "-k", "1", "--snippets")
    assert "\x1b[1mpurr\x1b[0m" in shown


def test_what_a_document_writes_controls_nothing(run, odd, monkeypatch):
    plain = run("search", odd, "kitten purrs", "--snippets")
    assert not re.search(r"[\x1b\u202e]", plain)
    monkeypatch.setattr(console, "has_styles", lambda: True)
    monkeypatch.setattr("spladelet.cli.display.has_styles", lambda: True)
    styled = run("search", odd, "kitten purrs", "--snippets")
    assert not re.search(r"\x1b(?!\[[014]m)", styled)
    assert re.sub(r"\x1b\[[014]m", "", styled) == plain
    assert styled.count("\x1b[0m") == len(re.findall(r"\x1b\[[14]m", styled))
    (hit,) = json.loads(run("search", odd, "kitten purrs", "--snippets", "--json"))
    assert BOLD in hit["text"]


def test_styles_are_for_terminals_that_have_them(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert console.has_styles()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not console.has_styles()
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setenv("TERM", "dumb")
    assert not console.has_styles()


def test_long_lines_are_broken_at_the_terminals_width(run, odd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    lines = run("search", odd, "snow", "--snippets").splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 50


def test_explain_tells_without_sources_where_a_model_cannot(run, saved, monkeypatch):
    monkeypatch.setattr(Encoder, "can_trace", False)
    assert "added to the query\n" in run("explain", "a cat can purr", "Cats purr.")
    assert run("search", saved, KITTEN, "-k", "1", "--snippets").count("\n") == 2


def explore(*arguments):
    command = [sys.executable, "-m", "spladelet.cli", "explore", "--no-browser", "--json"]
    return subprocess.Popen([*command, *map(str, arguments)], stdout=subprocess.PIPE)


def wait_for(url):
    for _ in range(1000):
        try:
            ask(url)
            return
        except urllib.error.HTTPError as error:  # 503, until all is loaded
            error.close()
        time.sleep(0.01)


def ask(url, body=None, host=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Host": host} if host else {})
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
        return answer.read()


def test_explore_serves_the_page_to_this_machine_alone(saved):
    pytest.importorskip("starlette", reason="needs the extra `serve`")
    with explore(saved) as process:
        url = json.loads(process.stdout.readline())["url"]
        try:
            assert url.startswith("http://127.0.0.1:")
            wait_for(f"{url}health")
            assert b"<!doctype html>" in ask(url)[:20].lower()
            hits = json.loads(ask(f"{url}v1/search", {"query": KITTEN, "snippets": True}))["hits"]
            assert hits[0]["id"] == "cats"
            with pytest.raises(urllib.error.HTTPError, match="400") as refused:
                ask(url, host="evil.example")
            refused.value.close()
        finally:
            process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert process.returncode in (0, 143)


def test_explore_says_what_is_wrong(fail, tmp_path):
    pytest.importorskip("starlette", reason="needs the extra `serve`")
    assert "nothing.jsonl" in fail("explore", tmp_path / "nothing.jsonl", "--no-browser")
    file = tmp_path / "one.txt"
    file.write_text("snow\n")
    assert "--port 99999 cannot be used" in fail("explore", file, "--port", "99999")
