"""Whatever a checkpoint's files hold is read, or refused by name."""

import json
import os
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spladelet.errors import SpladeletError
from spladelet_export import CheckpointError
from spladelet_export.checkpoint.checkpoint import read_checkpoint
from spladelet_export.checkpoint.checkpoint_files import read_json

OLD_TYPES = (
    "sentence_transformers.sparse_encoder.models.MLMTransformer",
    "sentence_transformers.sparse_encoder.models.SpladePooling",
)
# Where each file that is read has something that another may have written otherwise.
ENTRIES = {
    "config.json": (
        *("model_type", "architectures", "auto_map", "quantization_config", "pad_token_id"),
        *("vocab_size", "max_position_embeddings"),
    ),
    "tokenizer_config.json": ("model_max_length",),
    "sentence_bert_config.json": ("max_seq_length", "processing_kwargs", "do_lower_case"),
    "config_sentence_transformers.json": ("prompts",),
    "1_SpladePooling/config.json": ("pooling_strategy", "activation_function"),
    "modules.json": ("type", "path"),
    "router_config.json": ("types", "structure", "parameters"),
    "idf.json": ("river", "[PAD]"),
}
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(codec=None, categories=None), max_size=8),
    st.sampled_from(["a\ud800", "\0", "..", "/", "x" * 300, 10**400, -1, 0, 3]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["query", "document", "text", "max_length"]), inner),
    ),
    max_leaves=6,
)


class TestAnythingInTheFiles:
    """Files are other people's: whatever they hold is read, or refused by an error of ours."""

    @pytest.mark.parametrize("name", ENTRIES)
    def test_is_read_or_refused(self, name, edited):
        types = dict(zip(("", "1_SpladePooling"), OLD_TYPES, strict=True))
        routes = {"types": types, "structure": {"query": list(types), "document": list(types)}}
        files = {"idf.json": {"river": 1.5, "the": 1}, "router_config.json": routes}
        if name == "router_config.json":
            files["modules.json"] = [{"type": "m.Router", "path": ""}]
        if name == "idf.json":
            files["modules.json"] = None
        folder = edited("bert-max", files)
        whole = (folder / name).read_bytes()

        @settings(max_examples=40)
        @given(entry=st.sampled_from(ENTRIES[name]), value=JSON)
        def read(entry, value):
            content = json.loads(whole)
            (content[0] if isinstance(content, list) else content)[entry] = value
            (folder / name).write_text(json.dumps(content))
            with suppress(SpladeletError):
                read_checkpoint(folder)

        read_checkpoint(folder)  # as it is, it is read
        read()

    @pytest.mark.parametrize("name", ["config.json", "modules.json", "tokenizer_config.json"])
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("[" * 100_000 + "]" * 100_000, "nested too deep"),
            ('{"a": ' * 50_000 + "1" + "}" * 50_000, "nested too deep"),
            ('{"a": "b\\ud800"}', "half of a character"),
            ('{"a": 1' + "0" * 5000 + "}", "is no JSON"),
            (b'{"a": "\xe9"}', "is no JSON"),
        ],
        ids=["lists", "objects", "surrogate", "digits", "latin-1"],
    )
    def test_what_is_no_json_for_us_is_named(self, name, content, message, edited):
        with pytest.raises(CheckpointError, match=rf"{name} .*{message}"):
            read_checkpoint(edited("bert-max", {name: content}))

    @pytest.mark.parametrize("limit", ["-Infinity", "NaN", "true", '"512"', "[512]"])
    def test_a_limit_that_is_no_number_of_tokens(self, limit, edited):
        folder = edited("bert", {"tokenizer_config.json": f'{{"model_max_length": {limit}}}'})

        with pytest.raises(
            CheckpointError, match=r"model_max_length .*expected a number of tokens"
        ):
            read_checkpoint(folder)

    @pytest.mark.parametrize("limit", ["Infinity", "1e999", "1" + "0" * 400])
    def test_a_limit_beyond_all_others_is_none(self, limit, edited):
        folder = edited("bert", {"tokenizer_config.json": f'{{"model_max_length": {limit}}}'})

        assert read_checkpoint(folder).document.max_length == 512

    def test_a_file_that_cannot_be_looked_at(self, tmp_path):
        with pytest.raises(CheckpointError, match="cannot be read: File name too long"):
            read_json(tmp_path / ("x" * 300), dict)

    @pytest.mark.skipif(not hasattr(os, "geteuid"), reason="modes mean nothing on Windows")
    def test_a_file_that_may_not_be_read(self, edited, unprivileged):
        folder = edited("bert", {})
        (folder / "config.json").chmod(0)

        with (
            unprivileged(),
            pytest.raises(CheckpointError, match=r"config\.json cannot be read: Permission denied"),
        ):
            read_checkpoint(folder)
