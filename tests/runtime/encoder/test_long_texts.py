"""Texts longer than the model reads: merged window by window, or split into passages."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from spladelet import Document, Encoder, Index
from spladelet.bundle.description import DESCRIPTION, Description, Semantics
from spladelet.bundle.find import find_bundle
from spladelet.encoder.notices import TruncationWarning
from spladelet.errors import InputError

WORDS = "rivers carry water to the sea and bread needs flour salt yeast time heat".split()
LIMIT = 16


PROMPTS = {"plain": "", "prompted": "about the river "}


def encoder_of(folder, prompt=""):
    """Return an encoder that reads 16 tokens of a document, 14 of them its own."""
    shutil.copytree(find_bundle(None).folder, folder)
    path = folder / DESCRIPTION
    described = Description.from_json(path.read_text(), str(path))
    semantics = Semantics(max_length=LIMIT, prompt=prompt)
    path.write_text(replace(described, query=semantics, document=semantics).to_json())
    return Encoder.load(folder)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    return encoder_of(tmp_path_factory.mktemp("short") / "bundle")


def dense(vector):
    row = np.zeros(vector.vocab_size, np.float32)
    row[vector.term_ids] = vector.weights
    return row


def highest(vectors):
    return np.asarray(vectors.to_csr().max(axis=0).todense()).ravel()


@pytest.mark.parametrize("overlap", [0, 5])
def test_a_long_text_has_the_highest_weight_of_its_windows(short, overlap):
    text = " ".join(WORDS * 3)  # a token a word
    (vector,) = short.encode_documents([text], overlap=overlap)
    words, step = text.split(), LIMIT - 2 - overlap
    starts = range(0, len(words) - overlap, step)
    windows = [" ".join(words[start : start + LIMIT - 2]) for start in starts]

    expected = highest(short.encode_documents(windows))
    assert np.array_equal(dense(vector), expected)


def test_short_and_long_texts_mix_and_none_is_cut(short):
    texts = ["bread", "", " ".join(WORDS * 5), "the sea", " ".join(WORDS * 2)]
    merged = short.encode_documents(texts, overlap=4, max_active_dims=9)

    assert merged.truncated == ()
    assert [short.encode_documents([t], overlap=4, max_active_dims=9)[0] for t in texts] == list(
        merged
    )
    assert merged[0] == short.encode_document("bread", max_active_dims=9)
    assert merged[1].active_dims == 0
    with pytest.warns(TruncationWarning, match=r"2 of 5 texts .*--long-texts"):
        short.encode_documents(texts)


@pytest.mark.parametrize("title", ["", "On baking", "a very long title " * 9])
def test_passages_fit_and_cover_the_text(short, title):
    words = [f"{word}," for word in WORDS * 4]
    document = Document("d", " ".join(words), title, {"year": 2020})
    passages = short.split(document, overlap=0)

    assert len(passages) > 3
    assert "".join(p.text for p in passages).replace(" ", "") == "".join(words)
    assert [p.id for p in passages] == [f"d#{n}" for n in range(len(passages))]
    assert passages[2].metadata == {"year": 2020, "document": "d", "passage": 2}
    assert short.encode_documents(passages).truncated == ()
    assert all(title.startswith(p.title) for p in passages)
    assert len(title) > 40 or passages[0].title == title


def test_a_title_that_leaves_no_room_is_cut(short):
    (passage,) = short.split(Document("d", "bread and salt", "heat " * 20), overlap=4)

    assert passage.id == "d#0"
    assert passage.title == " ".join(["heat"] * 8)
    assert short.encode_documents([passage]).truncated == ()


def test_neighbouring_passages_overlap(short):
    passages = short.split(Document("d", " ".join(WORDS * 3)), overlap=4)

    for left, right in pairwise(passages):
        assert left.text.split()[-4:] == right.text.split()[:4]


def test_a_document_that_fits_is_left_as_it_is(short):
    for text in ("", "bread", " ".join(WORDS)):
        document = Document("d", text, metadata={"a": 1})
        assert short.split(document, overlap=4) == [document]


def test_an_overlap_of_numpy_is_a_number(short):
    text = " ".join(WORDS * 3)
    document = Document("d", text)

    assert list(short.encode_documents([text], overlap=np.int64(4))) == list(
        short.encode_documents([text], overlap=4)
    )
    assert short.split(document, overlap=np.int64(4)) == short.split(document, overlap=4)


def test_a_prompt_that_leaves_no_room_is_said_to(tmp_path):
    prompted = encoder_of(tmp_path / "bundle", "about the river " * 9)

    for read in (
        lambda: prompted.encode_documents(["text"], overlap=0),
        lambda: prompted.split(Document("d", "text")),
    ):
        with pytest.raises(InputError, match="the prompt has 16 tokens"):
            read()


@pytest.mark.parametrize("overlap", [-1, 14, 99, 2.5, True, "4"])
def test_windows_must_move_on(short, overlap):
    with pytest.raises(InputError, match=rf"overlap is {overlap!r}; .* from 0 to 13"):
        short.encode_documents(["text"], overlap=overlap)
    with pytest.raises(InputError, match=rf"overlap is {overlap!r}; .* from 0 to 13"):
        short.split(Document("d", "text"), overlap=overlap)


def test_each_window_has_the_prompt(tmp_path):
    plain, prompted = (encoder_of(tmp_path / name, prompt) for name, prompt in PROMPTS.items())
    words = WORDS * 2
    room = LIMIT - 2 - 3  # "about the river" takes three
    windows = [" ".join(words[i : i + room]) for i in range(0, len(words), room)]

    (found,) = prompted.encode_documents([" ".join(words)], overlap=0)
    expected = highest(plain.encode_documents([f"{PROMPTS['prompted']}{w}" for w in windows]))
    assert np.array_equal(dense(found), expected)


@pytest.mark.usefixtures("one_model")
def test_the_command_splits_and_merges(tmp_path, capsys):
    from spladelet.cli.main import main

    text = "Rivers carry water to the sea. " * 120
    (tmp_path / "long.txt").write_text(f"{text}Yeast makes dough rise.\n")
    counts = {}
    for way in ("cut", "merge", "split"):
        folder = tmp_path / way
        arguments = ["index", str(tmp_path / "long.txt"), "-o", str(folder), "--long-texts", way]
        assert main(arguments) == 0
        counts[way] = len(Index.open(folder))
        assert ("were cut there" in capsys.readouterr().err) == (way == "cut")
        assert main(["search", str(folder), "yeast dough", "--lexical", "0", "--json"]) == 0
        assert ("dough" in capsys.readouterr().out) == (way != "cut")
    assert (counts["cut"], counts["merge"]) == (1, 1)
    assert counts["split"] > 1


@pytest.mark.usefixtures("one_model")
def test_replacing_a_split_document_leaves_none_of_its_passages(tmp_path, capsys):
    from spladelet.cli.main import main

    file, folder = str(tmp_path / "documents.jsonl"), str(tmp_path / "index")

    def ids_after(command, sentences):
        """Index d, of so many sentences, and another document whose id looks like a passage."""
        texts = {
            "d": "Rivers carry water to the sea. " * sentences,
            "d#0": "Yeast makes dough rise.",
        }
        lines = [json.dumps({"id": i, "text": text}) for i, text in texts.items()]
        (tmp_path / "documents.jsonl").write_text("\n".join(lines[: 2 if sentences == 5 else 1]))
        assert main([*command, "--long-texts", "split"]) == 0
        index = Index.open(folder)
        return sorted(index.document(n).id for n in range(len(index)))

    replace = ["add", folder, file, "--replace"]
    assert ids_after(["index", file, "-o", folder], 300) == ["d#0", "d#1", "d#2", "d#3", "d#4"]
    assert ids_after(replace, 120) == ["d#0", "d#1"]
    assert ids_after(replace, 5) == ["d", "d#0"]
    assert ids_after(replace, 4) == ["d", "d#0"]
    capsys.readouterr()
