"""Tokenizing: the ids that the tokenizers library gives when it truncates the whole text."""

import json
import os

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from spladelet.bundle.description import TOKENIZER
from spladelet.encoder.tokenizer import Tokenizer
from spladelet.errors import BundleFileError, InputError

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


@pytest.mark.parametrize(
    "text",
    [
        "a" * 200,
        "x x x " + "a" * 300,
        "(" + "b" * 150 + ")" + "c" * 99,
        "one two three " + "unbelie\x1cvable" * 9,
    ],
)
def test_a_long_word_at_the_limit_is_cut_as_the_library_cuts_it(short, plainly, text):
    assert ids_and_flag(short, text) == plainly(text, 6)


ODD = st.text(min_size=1, max_size=120) | st.sampled_from(["a" * 101, "un,", "\x0b", " "])


@given(st.lists(ODD, max_size=9))
def test_any_text_is_cut_as_the_library_cuts_it(short, plainly, parts):
    text = "".join(parts)
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    assert ids_and_flag(short, text) == plainly(whole, 6)


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


@pytest.mark.parametrize("number", [-1, 1 << 31, (1 << 32) - 1])
def test_a_number_that_no_entry_can_have_is_shown_as_such(tokenizer, number):
    assert tokenizer.term(number) == f"[{number}]"


@pytest.mark.parametrize("number", [1 << 40, 1.5, "cat", None])
def test_what_is_no_term_id_is_refused(tokenizer, number):
    with pytest.raises(InputError, match="a term id is"):
        tokenizer.term(number)


# ---- texts without end


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a" * 3_000_000, id="one endless word"),
        pytest.param("\x00" * 3_000_000, id="characters that are dropped"),
        pytest.param(" " * 3_000_000 + "cat", id="white space first"),
    ],
)
def test_a_text_that_does_not_fill_the_model_is_read_to_a_bound(tokenizer, text):
    begun, whole = tokenizer.tokenize([text[: 1 << 19], text])

    assert whole.ids == begun.ids
    assert (begun.truncated, whole.truncated) == (False, True)


def test_white_space_that_is_not_read_is_no_truncation(tokenizer):
    assert not tokenizer.tokenize(["cat" + " " * 3_000_000])[0].truncated


@pytest.fixture(scope="module")
def unigram(tmp_path_factory):
    """Return a tokenizer that knows no boundary but white space, and the library's own."""
    pieces = [
        ("<unk>", 0.0),
        ("a", -1.0),
        ("b", -1.5),
        ("ab", -2.0),
        ("aab", -2.5),
        ("\u2581", -3.0),
    ]
    made = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=0))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    path = tmp_path_factory.mktemp("unigram") / TOKENIZER
    made.save(str(path))
    return Tokenizer(path, max_length=20), made


def test_a_writing_without_spaces_is_not_read_to_its_end(unigram):
    ours, library = unigram
    library.enable_truncation(20)
    text = "aabab" * 500_000

    (found,) = ours.tokenize([text])

    assert found.ids == library.encode(text[:5000]).ids
    assert found.truncated


def windows_of(library, text, length, overlap):
    library.enable_truncation(length, stride=overlap)
    encoding = library.encode(text)
    return [part.ids for part in (encoding, *encoding.overflowing)]


@given(
    st.lists(st.text(CHARACTERS, min_size=1, max_size=8), max_size=60).map(" ".join),
    st.integers(0, 3),
)
def test_windows_are_those_of_the_library(short, path, text, overlap):
    library = tokenizers.Tokenizer.from_file(str(path))
    library.no_padding()

    (found,) = short.windows([text], overlap)

    assert [window.ids for window in found] == windows_of(library, text, 6, overlap)


def test_windows_of_other_tokenizers_are_those_of_the_library_too(unigram):
    ours, library = unigram
    text = "aab abba baab " * 40

    (found,) = ours.windows([text], 7)

    assert [window.ids for window in found] == windows_of(library, text, 20, 7)


def test_a_very_long_text_is_read_in_sections_that_miss_no_word(tokenizer):
    words = [f"{number} cats" for number in range(30_000)]
    text = " ".join(words)
    assert len(text) > 1 << 18

    many, few = tokenizer.windows([text, "cat"], 0)
    spans = tokenizer.spans(text, 0, 0)

    whole = tokenizers.Tokenizer.from_file(str(tokenizer._path))
    whole.no_truncation()
    read = [i for window in many for i in window.ids[1:-1]]
    assert read == whole.encode(text, add_special_tokens=False).ids
    assert len(few) == 1
    assert len(spans) == len(many)
    assert "".join(text[a:b] for a, b in spans).replace(" ", "") == text.replace(" ", "")


def test_an_endless_word_is_read_in_sections(tokenizer):
    (windows,) = tokenizer.windows(["a" * (1 << 20)], 32)

    assert [len(window.ids) for window in windows] == [3] * 4


# ---- files that are no tokenizers, or fail on texts


@pytest.fixture
def edited(path, tmp_path):
    """Return a function that loads the tokenizer's file with some parts replaced."""

    def load(**parts):
        raw = json.loads(path.read_text(encoding="utf-8"))
        file = tmp_path / TOKENIZER
        file.write_text(json.dumps(raw | parts), encoding="utf-8")
        return Tokenizer(file, max_length=8)

    return load


CLS = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
TEMPLATE = {"type": "TemplateProcessing", "pair": []}
KNOWN = {"[CLS]": {"id": "[CLS]", "ids": [101], "tokens": ["[CLS]"]}}


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"model": {"type": "WordPiece"}}, id="no vocabulary"),
        pytest.param({"normalizer": 5}, id="no normalizer"),
        pytest.param(
            {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}, id="a panic"
        ),
        pytest.param({"added_tokens": [{"id": -1}]}, id="no added token"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_a_bundle_error(edited, parts):
    with pytest.raises(BundleFileError, match=f"{TOKENIZER} is no tokenizer"):
        edited(**parts)


def test_more_special_tokens_than_the_model_reads_are_a_bundle_error(edited):
    with pytest.raises(BundleFileError, match="puts 8 special tokens around a text"):
        edited(post_processor={**TEMPLATE, "single": [CLS] * 8, "special_tokens": KNOWN})


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(
            {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "u"}}, id="raised"
        ),
        pytest.param(
            {"pre_tokenizer": {"type": "FixedLength", "length": 0}}, id="a panic in a step"
        ),
        pytest.param(
            {"post_processor": {**TEMPLATE, "single": [CLS], "special_tokens": {}}},
            id="a panic at the end",
        ),
    ],
)
def test_a_tokenizer_that_fails_on_a_text_is_a_bundle_error(edited, parts):
    try:
        failing = edited(**parts)
    except BundleFileError:
        pytest.skip("this version of tokenizers refuses it at once")
    for call in (
        lambda: failing.tokenize(["cat", "dog"]),
        lambda: failing.windows(["cat"], 0),
        lambda: failing.spans("cat", 0, 0),
        lambda: failing.beginning("cat", 3),
        lambda: failing.word_pieces("cat"),
    ):
        try:
            call()
        except BundleFileError as error:
            assert f"{TOKENIZER} fails on a text" in str(error)  # noqa: PT017
        else:
            assert "post_processor" in parts  # some of them do without it


def test_an_interrupt_gets_through(tokenizer):
    with pytest.raises(KeyboardInterrupt), tokenizer._speaking():
        raise KeyboardInterrupt


# ---- forks

# The parent's thread cuts texts all the time; the children it forks meanwhile do the same.
FORKS = """
import os, signal, sys, threading, warnings
from spladelet import Document, Encoder

document = Document("d", "the cat sat on the mat and purred " * 400)
encoder = Encoder.load(threads=1)
encoder.split(document, overlap=8)
ended = threading.Event()

def work():
    while not ended.is_set():
        encoder.split(document, overlap=8)

thread = threading.Thread(target=work)
thread.start()
warnings.simplefilter("ignore")  # of a fork beside threads: that is what this is about
for _ in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        assert len(encoder.split(document, overlap=8)) > 5
        assert len(encoder._document.tokenizer.tokenize([document.text] * 8)) == 8
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, "a child waits for ever"
ended.set()
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
@pytest.mark.parametrize("parallel", ["", "true", "false"])
def test_a_process_may_fork_while_its_threads_tokenize(run_python, parallel):
    count = 100 if os.environ.get("SPLADELET_THOROUGH") else 3

    result = run_python(FORKS, count, env={"TOKENIZERS_PARALLELISM": parallel})

    assert (result.returncode, result.stderr) == (0, "")
