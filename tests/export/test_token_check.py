"""Tokens are compared before weights: where they differ, the tokenizer is named, not the graph."""

import json

import pytest

from spladelet.bundle.folder import Bundle
from spladelet_export import CheckpointError, export_checkpoint
from spladelet_export.checkpoint.checkpoint import read_checkpoint
from spladelet_export.checks.fidelity_texts import built_in_texts
from spladelet_export.checks.reference import TorchReference
from spladelet_export.checks.token_check import check_tokens
from spladelet_export.torch_export import load_model


def reference_of(folder):
    source = read_checkpoint(folder)
    return TorchReference(source, load_model(source.folder))


@pytest.mark.filterwarnings("ignore::spladelet.encoder.TruncationWarning")
@pytest.mark.parametrize("kind", ["bert", "roberta", "albert", "distilbert-prompt"])
def test_tokenizers_that_agree_pass(kind, checkpoint, bundle):
    check_tokens(Bundle.open(bundle(kind)), reference_of(checkpoint(kind)), built_in_texts())


@pytest.mark.parametrize(
    ("config", "texts", "named"),
    [
        ({"do_lower_case": False}, ["The cat"], "normalizer (lowercase True and False)"),
        ({"strip_accents": False}, ["naïve"], "normalizer (strip_accents None and False)"),
        ({"tokenize_chinese_chars": False}, ["日本語"], "normalizer (handle_chinese_chars True"),
    ],
)
def test_the_entry_that_makes_another_tokenizer_is_named(config, texts, named, edited, bundle):
    folder = edited(
        "bert", {"tokenizer_config.json": {"tokenizer_class": "BertTokenizer", **config}}
    )

    with pytest.raises(CheckpointError) as caught:
        check_tokens(Bundle.open(bundle("bert")), reference_of(folder), texts)

    message = str(caught.value)
    ((entry, value),) = config.items()
    assert named in message
    assert f"{entry} {value}" in message
    assert repr(texts[0]) in message
    assert "correct the entry of tokenizer_config.json" in message


def test_texts_without_content_do_not_count(edited, bundle):
    folder = edited("bert", {"tokenizer_config.json": {"do_lower_case": False}})

    check_tokens(Bundle.open(bundle("bert")), reference_of(folder), ["", " \n", "\u200b"])


def test_an_export_names_the_tokenizer_and_asks_for_no_report(edited, tmp_path):
    files = {"tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "do_lower_case": False}}
    folder = edited("bert", files)

    with pytest.raises(CheckpointError, match=r"holds two tokenizers that differ") as caught:
        export_checkpoint(folder, tmp_path / "out")

    assert "report" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_json_that_was_changed_alone_is_named(edited, tmp_path):
    folder = edited("bert", {})
    rules = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    rules["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(rules), encoding="utf-8")
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")

    with pytest.raises(CheckpointError, match=r"normalizer \(lowercase False and True\)"):
        export_checkpoint(folder, tmp_path / "out")
