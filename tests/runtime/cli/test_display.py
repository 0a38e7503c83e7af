"""What people see: lines that others cannot forge or stretch."""

from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from runtime.test_printable import ANY, obeyed

from spladelet.cli import display
from spladelet.explain import Explanation, TermScore, WordScore, of_words_alone


@dataclass
class Found:
    id: str
    score: float = 1.5
    title: str = ""
    text: str = "text"


@given(st.lists(st.tuples(ANY, ANY, ANY), min_size=1, max_size=4))
@example([("a\n9.99  b", "T\r", "\x1b[2J")])
def test_hits_are_one_line_each_whatever_they_say(hits):
    drawn = display.hits([Found(i, 1.0, title, text) for i, title, text in hits])

    assert obeyed(drawn, "\n") == []
    assert len(drawn.split("\n")) == len(hits)


@given(ANY, ANY)
def test_terms_and_values_are_one_line_each_whatever_they_are(one, two):
    term = TermScore(one, (1,), 1.0, 1.0, 1.0, True, False)
    of_terms = Explanation(1.0, (term,), (term,), 0.0)
    of_words = of_words_alone([WordScore(one, two, 1, 1, 1.0, 1.0)])
    drawn = [
        display.explanation(of_terms, 10),
        display.explanation(of_words, 10),
        display.bars({one: 2.0, f"{two}.": 1.0}, {}, 10),
        f"\n{display.matched(of_terms, 4)}",
        f"\n{display.matched(of_words, 4)}",
        display.table([("name", one), ("other", two)]),
    ]

    assert [obeyed(text, "\n") for text in drawn] == [[]] * 6
    assert [len(text.split("\n")) for text in drawn] == [2] * 6


def test_an_endless_id_is_cut_and_moves_no_other_row():
    long, short = display.hits([Found("x" * 10**6), Found("a")]).split("\n")

    assert "x" * 199 + "…" in long
    assert len(long) < 300
    assert short == f"  1.50  {'a':<40}  text"


def test_ids_line_up():
    assert display.hits([Found("a"), Found("long")]).split("\n") == [
        "  1.50  a     text",
        "  1.50  long  text",
    ]


def reference(title, text, width):
    """What a snippet is: all of it cleaned of white space, then cut."""
    import textwrap

    line = " ".join((f"{title}: {text}" if title else text).split())
    short = textwrap.shorten(line, width, placeholder=" …")
    return short if len(short) >= min(len(line), width // 2) else line[: width - 2] + " …"


@given(
    st.text("ab -\n\t\u3000é", max_size=20),
    st.text("ab -\n\t\u3000é", max_size=90),
    st.integers(20, 60),
)
def test_a_snippet_is_what_the_whole_text_would_give(title, text, width):
    title = title.strip()

    assert display.snippet(title, text, width) == reference(title, text, width)


class Read(str):
    """A text that says how much of it was copied."""

    copied = 0

    def __getitem__(self, key):
        part = super().__getitem__(key)
        Read.copied += len(part)
        return part

    def split(self, *_):
        raise AssertionError("the whole text was split")

    def __format__(self, _):
        raise AssertionError("the whole text was copied")


@pytest.mark.parametrize("text", ["the cat purrs ", "x", " \n"])
def test_a_snippet_of_a_long_text_reads_its_start_only(text):
    long = Read(text * (10**6 // len(text)))

    assert len(display.snippet("", long, 100)) <= 100
    assert len(display.snippet(long, "text", 100)) <= 100
    assert Read.copied < 1000


def test_json_is_in_letters_that_the_output_has(monkeypatch, capsys):
    assert display.as_json({"é": "…\x9b"}) == '{"é": "…\\u009b"}'
    monkeypatch.setattr(display, "can_print", lambda _: False)
    assert display.as_json({"é": "…"}) == '{"\\u00e9": "\\u2026"}'


def test_text_without_spaces_is_shown_cut():
    assert display.snippet("", "雪が降ると寒い" * 30, 60).startswith("雪が降ると寒い雪が")
