"""Tokenizing: the ids that the tokenizers library gives when it truncates the whole text."""

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from spladelet.bundle import TOKENIZER
from spladelet.tokenizer import Tokenizer

# Any character but white space, control characters and surrogates.
CHARACTERS = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Zs"])


@pytest.fixture(scope="session")
def path(bundle_folder):
    return bundle_folder / TOKENIZER


@pytest.fixture(scope="session")
def tokenizer(path):
    return Tokenizer(path, max_length=512)


@pytest.fixture(scope="session")
def short(path):
    return Tokenizer(path, max_length=6)


@pytest.fixture(scope="session")
def plainly(path):
    """Return a function that tokenizes the whole text and cuts it, as the library does."""
    loaded = tokenizers.Tokenizer.from_file(str(path))
    loaded.no_padding()

    def tokenize(text, max_length):
        loaded.enable_truncation(max_length)
        encoding = loaded.encode(text)
        return encoding.ids, bool(encoding.overflowing)

    return tokenize


def ids_and_flag(tokenizer, text):
    tokenized = tokenizer.tokenize([text])[0]
    return tokenized.ids, tokenized.truncated


@given(st.text(CHARACTERS | st.sampled_from(" \n\t"), max_size=48))
def test_a_short_text_is_cut_as_the_library_cuts_it(short, plainly, text):
    assert ids_and_flag(short, text) == plainly(text, 6)


@given(st.lists(st.text(CHARACTERS, min_size=1, max_size=8), max_size=60), st.sampled_from(" \n\t"))
def test_a_long_text_of_words_is_cut_as_the_library_cuts_it(short, plainly, words, space):
    text = space.join(words)

    assert ids_and_flag(short, text) == plainly(text, 6)


# One token each, but several where it is cut: four of them end behind what is first looked at.
LONG_WORDS = st.sampled_from(
    ["spectacular", "acknowledged", "unmistakable", "misunderstood", "concentration", "temperament"]
)


@given(st.lists(LONG_WORDS, min_size=3, max_size=8))
def test_a_text_of_long_words_is_cut_as_the_library_cuts_it(short, plainly, words):
    text = " ".join(words)

    assert ids_and_flag(short, text) == plainly(text, 6)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a" * 5000, id="one long word"),
        pytest.param("雪" * 5000, id="Chinese"),
        pytest.param("ความรัก" * 2000, id="Thai, without spaces"),
        pytest.param("extraordinarily " * 600, id="words longer than guessed"),
        pytest.param("x, " * 3000, id="punctuation"),
        pytest.param("internationalization," * 700, id="no white space"),
        pytest.param(" " * 9000 + "cat", id="white space first"),
        pytest.param("\x00" * 9000 + "cat", id="characters that are dropped first"),
        pytest.param("e\u0301" * 5000, id="combining accents"),
        pytest.param("[MASK] hello [SEP] ", id="names of special tokens"),
    ],
)
def test_hard_texts_are_cut_as_the_library_cuts_them(tokenizer, plainly, text):
    assert ids_and_flag(tokenizer, text) == plainly(text, 512)


def test_a_text_is_flagged_from_the_first_token_that_does_not_fit(tokenizer):
    fits, too_long = tokenizer.tokenize(["cat " * 510, "cat " * 511])

    assert (len(fits.ids), fits.content, fits.truncated) == (512, 510, False)
    assert (len(too_long.ids), too_long.content, too_long.truncated) == (512, 510, True)


def test_special_tokens_are_no_content(tokenizer):
    assert [text.content for text in tokenizer.tokenize(["", " \n", "cat"])] == [0, 0, 1]


def test_a_huge_text_has_the_tokens_of_its_beginning(tokenizer):
    beginning = "the cat sat on the mat " * 200

    huge, begun = tokenizer.tokenize([beginning + "word " * 10_000_000, beginning])

    assert huge.ids == begun.ids
    assert huge.truncated


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ("cat \ud83d dog", "cat \ufffd dog"),
        ("\udc00", "\ufffd"),
        ("caf\udce9", "caf\ufffd"),
        ("snow \ud83d\ude00", "snow \U0001f600"),
        ("\ufeffcat \ud800", "\ufeffcat \ufffd"),
    ],
)
def test_lone_surrogates_are_read_as_unknown_characters(tokenizer, broken, mended):
    assert tokenizer.tokenize([broken]) == tokenizer.tokenize([mended])


@given(st.text(st.characters(codec="utf-8") | st.characters(categories=["Cs"]), max_size=40))
def test_any_str_is_tokenized(short, text):
    tokenized = short.tokenize([text])[0]

    assert tokenized.content == len(tokenized.ids) - 2
    assert tokenized.content <= 4


def test_texts_tokenize_alone_as_they_do_together(tokenizer):
    texts = ["cat", "", "the quick brown fox " * 300, "雪が降る"]

    assert tokenizer.tokenize(texts) == [tokenizer.tokenize([text])[0] for text in texts]


def test_the_prompt_is_put_before_every_text(path, tokenizer):
    prompted = Tokenizer(path, max_length=512, prompt="query: ")

    found = prompted.tokenize(["cats purr", ""])
    written_out = tokenizer.tokenize(["query: cats purr", "query: "])
    assert [text.ids for text in found] == [text.ids for text in written_out]
    assert [text.content for text in found] == [3, 0]  # the prompt's own tokens do not count


def test_word_pieces_are_the_words_of_the_text_with_their_ids(tokenizer):
    words = tokenizer.word_pieces("Cats purr; CATS, purr!")

    assert [word for word, _ in words] == ["cats", "purr", ";", "cats", ",", "purr", "!"]
    assert words[0] == words[3]
    assert [tokenizer.term(i) for i in words[1][1]] == ["pu", "##rr"]


@given(st.text(CHARACTERS | st.sampled_from(" \n"), max_size=300))
def test_word_pieces_are_all_the_tokens_that_are_not_special(tokenizer, text):
    pieces = [i for _, ids in tokenizer.word_pieces(text) for i in ids]

    assert pieces == tokenizer.tokenize([text])[0].ids[1:-1]


@given(st.lists(st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12), max_size=20))
def test_word_pieces_name_every_word_in_order(tokenizer, words):
    assert [word for word, _ in tokenizer.word_pieces(" ".join(words).upper())] == words


def test_word_pieces_end_where_the_model_stops_reading(short):
    assert [word for word, _ in short.word_pieces("one two three four five six")] == [
        "one",
        "two",
        "three",
        "four",
    ]


def test_word_pieces_go_as_far_as_the_model_reads(tokenizer):
    # Longer words than what is first looked at is meant for.
    text = "international " * 400 + "kitten"

    assert [word for word, _ in tokenizer.word_pieces(text)] == text.split()


def test_a_number_without_entry_is_shown_as_such(tokenizer):
    assert tokenizer.term(tokenizer.size) == f"[{tokenizer.size}]"


def test_special_ids_tell_the_unknown_token_apart(tokenizer):
    special, unknown = tokenizer.special_ids()

    assert {tokenizer.term(i) for i in special} == {"[PAD]", "[CLS]", "[SEP]", "[MASK]"}
    assert {tokenizer.term(i) for i in unknown} == {"[UNK]"}
