"""From text to words: what people look for is found, however it is written."""

import sys
import threading
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spladelet.errors import MissingDependencyError
from spladelet.lexical import analyzer
from spladelet.lexical.analyzer import Analyzer
from spladelet.lexical.languages import LANGUAGES, NONE, stop_words

english, plain = Analyzer("english"), Analyzer(NONE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \n\t,.;!?-'_", ["_"]),
        ("The cats are hunting", ["cat", "hunt"]),
        ("ERR_42", ["err", "42", "err_42"]),
        ("C++ and C#", ["c", "c++", "c", "c#"]),
        ("foo.bar()", ["foo", "bar", "foo.bar"]),
        ("10.1.2.3", ["10", "1", "2", "3", "10.1.2.3"]),
        ("covid-19", ["covid", "19", "covid-19"]),
        ("state-of-the-art", ["state", "art"]),
        ("TCP/IP", ["tcp", "ip"]),
        ("fe80::1", ["fe80", "1"]),
        ("a.b@c.org", ["b", "c", "org", "a.b@c.org"]),
        ("AT&T", ["t", "at&t"]),
        ("snake_case_name", ["snake", "case", "name", "snake_case_name"]),
        ("the dog's bone", ["dog", "bone"]),
        ("the dog\u2019s bone", ["dog", "bone"]),
        ("naïve cafés", ["naiv", "cafe"]),
        ("e\u0301clair", ["eclair"]),
        ("ＡＢＣ ﬁne", ["abc", "fine"]),
        ("soft\u00adhyphen", ["softhyphen"]),
        ("黒猫", ["黒", "猫", "黒猫"]),
        ("🎉 party👍", ["🎉", "parti", "👍"]),
        ("ὈΔΥΣΣΕΎΣ", ["οδυσσευσ"]),
    ],
)
def test_english(text, words):
    # Capital sigma ends a word as another small letter than within it, and either may be found.
    assert [w.replace("ς", "σ") for w in english.words(text)] == words


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("german", "die Häuser der Städte", ["haus", "stadt"]),
        ("french", "l'accélération des chevaux", ["acceler", "cheval"]),
        ("spanish", "las canciones de la nación", ["cancion", "nacion"]),
        ("russian", "красивые кошки", ["красив", "кошк"]),
        ("turkish", "kitaplar", ["kitap"]),
        (NONE, "The cats are purring", ["the", "cats", "are", "purring"]),
        (NONE, "naïve हिन्दी", ["naive", "हिन्दी"]),
    ],
)
def test_other_languages(language, text, words):
    assert Analyzer(language).words(text) == words


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_an_analyzer(language):
    assert Analyzer(language).words("alpha 42")[-1] == "42"


def test_marks_belong_to_the_letter_before():
    """All of Unicode's, but those of scripts that part no words, and what only picks a picture."""
    marks = [
        chr(code)
        for code in range(0x300, 0x20000)
        if unicodedata.category(chr(code)) in ("Mn", "Mc", "Me")
        and not 0xFE00 <= code <= 0xFE0F
        and not analyzer._UNPARTED.fullmatch(chr(code))
    ]
    parting = [mark for mark in marks if len(analyzer._SURFACE.findall(f"a{mark}b")) != 1]

    assert len(marks) > 1500
    assert parting == []


@given(st.text(max_size=200))
def test_any_text_gives_words_that_are_found_again(text):
    for one in (english, plain):
        words = one.words(text)
        assert words == one.words(text)
        assert all(word and len(word) <= 4 * 255 and not word.isspace() for word in words)
        assert set(one.spelled(text)) == set(words)
        assert Counter(one.words(f"{text} {text}")) == Counter(
            {w: 2 * n for w, n in Counter(words).items()}
        )


@given(st.text(max_size=100))
def test_case_accents_and_forms_of_unicode_are_one(text):
    assert plain.words(unicodedata.normalize("NFD", text)) == plain.words(
        unicodedata.normalize("NFC", text)
    )


@pytest.mark.parametrize(
    "text", ["x" * 10_000_000, "x-" * 1_000_000, "猫" * 1_000_000, "'" * 10**7]
)
def test_megabytes_take_no_more_than_they_must(text):
    words = english.words(text)

    assert max(map(len, words), default=0) <= 255
    assert len(words) <= 2 * len(text)


def test_a_word_without_end_is_known_by_its_beginning():
    assert plain.words("x" * 300) == plain.words("x" * 400) == ["x" * 255]


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(analyzer, "_KEPT", 10)
    one = Analyzer("english")

    for number in range(100):
        one.words(f"words{number}")

    assert len(one._of_thread.known) <= 10


def test_threads_have_stemmers_of_their_own():
    texts = [f"running{n} cats purring generalizations{n}" for n in range(200)]
    expected = [english.words(text) for text in texts]
    found = [None] * 4

    def work(place):
        found[place] = [english.words(text) for text in texts]

    threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_stop_words_are_there_for_the_languages_that_snowball_has_some_for():
    assert {"the", "of", "and"} <= stop_words("english")
    assert len([language for language in LANGUAGES if stop_words(language)]) == 15


def test_without_pystemmer_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "Stemmer", None)

    with pytest.raises(MissingDependencyError, match="pip install PyStemmer"):
        Analyzer("german")
    assert Analyzer(NONE).words("Cats purr") == ["cats", "purr"]
