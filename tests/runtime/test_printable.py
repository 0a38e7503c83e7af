"""What a terminal would obey is shown instead, and JSON says the same as before."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spladelet.printable import clean, clean_lines, field, one_line, to_json

# Any text, and often what terminals and editors act on.
CONTROLS = "\x00\x07\x08\t\n\r\x1b\x7f\x85\x90\x9b\x9d\u061c\u2028\u2029\u202e\u2066\u2069"
ANY = st.text(st.one_of(st.characters(), st.sampled_from(f"{CONTROLS}\ud800\udfff")), max_size=40)


def obeyed(text, allowed=""):
    """Return the characters of a text that a terminal acts on, or that turn it around."""
    return [
        c
        for c in text
        if c not in allowed
        and (
            unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")
            or unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF")
            or unicodedata.bidirectional(c) in ("LRI", "RLI", "FSI", "PDI")
        )
    ]


@given(ANY)
def test_nothing_that_controls_is_left(text):
    assert obeyed(clean(text)) == []
    assert obeyed(field(text)) == []
    assert obeyed(one_line(text)) == []
    assert obeyed(to_json([text])) == []
    assert obeyed(clean_lines(text), "\n\t") == []


@given(ANY)
def test_json_says_the_same(text):
    assert json.loads(to_json({"id": text})) == {"id": text}


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"])))
def test_text_without_controls_is_as_it_was(text):
    assert clean(text) == clean_lines(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b]52;c;cm0=\x07b", r"a\x1b]52;c;cm0=\x07b"),
        ("one\n9.99  two", r"one\n9.99  two"),
        ("\x9b2J", r"\x9b2J"),
        ("invoice\u202efdp.exe", r"invoice\u202efdp.exe"),
        ("by\udcfcte", r"by\udcfcte"),
        ("emoji 👩\u200d🚀, עברית, العربية", "emoji 👩\u200d🚀, עברית, العربية"),
    ],
)
def test_what_controls_is_shown_as_python_writes_it(text, shown):
    assert clean(text) == shown


def test_a_field_is_cut():
    assert field("x" * 200) == "x" * 200
    assert field("x" * 201) == "x" * 199 + "…"
    assert len(field("\x1b" * 10**6)) == 200


def test_a_message_of_several_lines_becomes_one():
    assert one_line(" a\n\n  b\r\nc ") == "a b c"
    assert len(one_line("x" * 10**6)) == 2000
