"""Passages: what of a document its score comes from, and what in it is marked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spladelet import Document
from spladelet.explain import Explanation, Source, TermScore, WordScore
from spladelet.explaining.snippets import Snippet, snippet
from spladelet.lexical.analyzer import analyzer_of

english = analyzer_of("english")
FILLER = "Nothing of this is what anybody looks for. " * 40


def term(name, score, word, start, *, added=False, special=False):
    source = Source(word, start, start + len(word), special)
    return TermScore(name, (1,), 1.0, score, score, True, not added, None, source)


def why(*parts):
    terms = tuple(part for part in parts if isinstance(part, TermScore))
    words = tuple(part for part in parts if isinstance(part, WordScore))
    return Explanation(sum(part.score for part in parts), terms, terms, 0.0, words)


def word(stem, score, spelled=None):
    return WordScore(stem, spelled or stem, 1, 1, 1.0, score)


def marked(found: Snippet):
    return [found.text[mark.start : mark.end] for mark in found.marks]


def test_the_passage_is_where_most_of_the_score_is():
    text = FILLER + "A kitten purrs at night. " + FILLER
    start = text.index("kitten")
    explanation = why(term("cat", 2.0, "kitten", start, added=True), word("purr", 1.0, "purring"))

    found = snippet(Document("d", text), explanation, english, 80)

    assert found.text.startswith("A kitten purrs at night.")
    assert len(found.text) <= 80
    assert found.text == text[found.start : found.start + len(found.text)]
    assert (found.cut_before, found.cut_after) == (True, True)
    assert marked(found) == ["kitten", "purrs"]
    cat, purr = found.marks
    assert (cat.terms, cat.added, cat.score) == (("cat",), True, 2.0)
    assert (purr.terms, purr.added, purr.score) == (("purring",), False, 1.0)


def test_places_are_told_apart_between_title_and_text():
    document = Document("d", "Its kitten sleeps.", "The kitten")
    places = [document.content.index("kitten"), document.content.rindex("kitten")]
    for place, in_title, in_text in ((places[0], ["kitten"], []), (places[1], [], ["kitten"])):
        found = snippet(document, why(term("cat", 1.0, "kitten", place)), english)
        assert [document.title[m.start : m.end] for m in found.title_marks] == in_title
        assert marked(found) == in_text


@pytest.mark.parametrize(("title", "text"), [("", "  kitten"), ("  T ", "kitten"), ("", "kitten")])
def test_white_space_around_moves_nothing(title, text):
    document = Document("d", text, title)
    place = document.content.index("kitten")
    found = snippet(document, why(term("cat", 1.0, "kitten", place)), english)
    assert marked(found) == ["kitten"]


def test_a_title_may_begin_with_white_space():
    document = Document("d", "x", " Cats purr")
    found = snippet(document, why(term("cat", 1.0, "Cats", 0)), english)
    (mark,) = found.title_marks
    assert document.title[mark.start : mark.end] == "Cats"


def test_where_hardly_anything_is_known_the_beginning_is_shown():
    explanation = why(term("cat", 0.5, "kitten", 3000), term("dog", 9.0, "[CLS]", 0, special=True))
    found = snippet(Document("d", FILLER * 2 + "kitten"), explanation, english, 60)
    assert (found.start, found.marks) == (0, ())


def test_what_no_place_is_known_of_shows_the_beginning():
    for explanation in (why(), why(term("cat", 1.0, "[CLS]", 0, special=True))):
        found = snippet(Document("d", FILLER), explanation, english, 60)
        assert (found.start, found.marks, found.cut_before, found.cut_after) == (0, (), False, True)
        assert len(found.text) <= 60
    assert snippet(Document("d", ""), why(), english).text == ""
    assert snippet(Document("d", "short"), why(), None).cut_after is False


def test_a_word_that_comes_often_counts_once():
    often = "snow " * 30
    text = often + FILLER + "ice and frost"
    explanation = why(word("snow", 1.0), word("ice", 0.8), word("frost", 0.8))
    assert snippet(Document("d", text), explanation, english, 60).text.endswith("ice and frost")


def test_what_hardly_matters_is_not_marked():
    explanation = why(term("cat", 5.0, "kitten", 0), term("and", 0.01, "and", 7))
    assert marked(snippet(Document("d", "kitten and dog"), explanation, english)) == ["kitten"]


def test_signs_are_not_marked():
    explanation = why(term("sound", 5.0, ".", 6), term("cat", 5.0, "kitten", 0))
    assert marked(snippet(Document("d", "kitten. dog"), explanation, english)) == ["kitten"]


def test_overlapping_places_are_one_mark():
    explanation = why(
        term("cat", 2.0, "kitten", 0, added=True), term("cute", 1.0, "kitten", 0, added=True),
        word("kitten", 3.0),
    )  # fmt: skip
    (mark,) = snippet(Document("d", "kitten"), explanation, english).marks
    assert mark.terms == ("kitten", "cat", "cute")
    assert (mark.added, mark.score) == (False, 6.0)


def test_a_term_and_a_word_at_one_place_add_up():
    explanation = why(term("guilty", 2.5, "guilty", 0), word("guilti", 1.5, "guilty"))
    (mark,) = snippet(Document("d", "guilty"), explanation, english).marks
    assert (mark.terms, mark.score) == (("guilty",), 4.0)


def test_unparted_scripts_are_marked_by_character():
    found = snippet(Document("d", "吾輩は猫である"), why(word("猫", 1.0)), english)
    assert marked(found) == ["猫"]


def test_a_huge_document_takes_no_more_than_it_must():
    document = Document("d", "snow " * 400_000 + "ice")
    found = snippet(document, why(word("snow", 1.0), word("ice", 9.0)), english)
    assert marked(found)[0] == "snow"
    endless = snippet(Document("d", "x" * 3_000_000), why(word("snow", 1.0)), english, 100)
    assert endless.text == "x" * 100


words = st.lists(
    st.sampled_from("snow ice kitten purrs . naïve 猫 \ud83d <b> \n".split(" ")), max_size=60
)


@given(words, words, st.integers(1, 120), st.data())
def test_marks_lie_in_the_text_and_apart(title, text, width, data):
    document = Document("d", " ".join(text), " ".join(title))
    length = len(document.content)
    spans = data.draw(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 12)), max_size=8))
    terms = [
        term(f"t{i}", 1.0 + i, "x" * size, start, added=bool(i % 2))
        for i, (start, size) in enumerate(spans)
        if start + size <= length
    ]
    found = snippet(document, why(*terms, word("snow", 1.0), word("ice", 2.0)), english, width)

    assert len(found.text) <= max(width, 1)
    for marks, whole in ((found.marks, found.text), (found.title_marks, document.title)):
        end = 0
        for mark in marks:
            assert end <= mark.start < mark.end <= len(whole)
            assert mark.terms
            end = mark.end
