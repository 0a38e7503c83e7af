import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest
import transformers
from sentence_transformers import SparseEncoder

from spladelet.bundle.description import Semantics
from spladelet.errors import SpladeletError
from spladelet_export import CheckpointError
from spladelet_export.checkpoint.checkpoint import read_checkpoint
from spladelet_export.checkpoint.families import FAMILIES
from spladelet_export.torch_export import load_model

OLD_TYPES = (
    "sentence_transformers.sparse_encoder.models.MLMTransformer",
    "sentence_transformers.sparse_encoder.models.SpladePooling",
)
NEW_TYPES = (
    "sentence_transformers.base.modules.transformer.Transformer",
    "sentence_transformers.sparse_encoder.modules.splade_pooling.SpladePooling",
)


def modules(*types):
    """Write modules.json as sentence-transformers does."""
    return [
        {
            "idx": i,
            "name": str(i),
            "path": f"{i}_{kind.rsplit('.', 1)[-1]}" if i else "",
            "type": kind,
        }
        for i, kind in enumerate(types)
    ]


def sparse_encoder(pooling=None, prompts=None, types=OLD_TYPES):
    """Return the files that make a plain checkpoint one of sentence-transformers."""
    return {
        "modules.json": modules(*types),
        "1_SpladePooling/config.json": {
            "pooling_strategy": "max",
            "activation_function": "relu",
            **(pooling or {}),
        },
        "config_sentence_transformers.json": {"prompts": prompts or {}},
    }


def safetensors_without(folder, prefix):
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    kept = {name: value for name, value in load_file(path).items() if not name.startswith(prefix)}
    save_file(kept, path, metadata={"format": "pt"})


class TestSemantics:
    @pytest.mark.parametrize("family", ["bert", "distilbert"])
    def test_a_plain_checkpoint_pools_by_max(self, checkpoint, family):
        found = read_checkpoint(checkpoint(family))

        assert found.folder == checkpoint(family)
        assert found.name == family
        assert found.family == FAMILIES[family]
        assert found.query == found.document == Semantics("max", "log1p", max_length=512)
        assert found.source == {
            "checkpoint": family,
            "revision": None,
            "license": None,
            "language": None,
        }

    @pytest.mark.parametrize(
        ("kind", "pooling", "activation", "max_length"),
        [
            ("bert-max", "max", "log1p", 512),
            ("bert-sum", "sum", "log1p", 96),
            ("bert-max-twice", "max", "log1p_log1p", 512),
            ("bert-sum-twice", "sum", "log1p_log1p", 96),
        ],
    )
    def test_what_sentence_transformers_saves(
        self, checkpoint, kind, pooling, activation, max_length
    ):
        found = read_checkpoint(checkpoint(kind))

        assert found.document == Semantics(pooling, activation, max_length=max_length)
        assert found.query == found.document

    @pytest.mark.parametrize("types", [OLD_TYPES, NEW_TYPES], ids=["old", "new"])
    def test_both_spellings_of_the_module_types_are_one(self, edited, types):
        pooling = {"pooling_strategy": "sum", "activation_function": "log1p_relu"}
        folder = edited("bert", sparse_encoder(pooling, types=types))

        found = read_checkpoint(folder)

        assert (found.document.pooling, found.document.activation) == ("sum", "log1p_log1p")

    def test_the_transformer_may_lie_in_a_folder_of_its_own(self, edited):
        files = sparse_encoder({"pooling_strategy": "sum"})
        folder = edited("bert", files)
        own = folder / "0_MLMTransformer"
        own.mkdir()
        for path in folder.iterdir():
            if path.is_file() and path.name not in files:
                path.rename(own / path.name)
        listed = json.loads((folder / "modules.json").read_text())
        listed[0]["path"] = own.name
        (folder / "modules.json").write_text(json.dumps(listed))

        found = read_checkpoint(folder)

        assert found.folder == own
        assert found.name == "edited"
        assert found.document.pooling == "sum"

    def test_a_pooling_without_settings_is_max_of_log1p(self, edited):
        folder = edited("bert", sparse_encoder() | {"1_SpladePooling/config.json": {}})
        (folder / "1_SpladePooling/config.json").write_text("{}")

        assert read_checkpoint(folder).document == Semantics("max", "log1p", max_length=512)


class TestPrompts:
    @pytest.mark.parametrize(
        ("prompts", "query", "document"),
        [
            ({}, "", ""),
            ({"query": "", "document": ""}, "", ""),
            ({"query": None, "document": None}, "", ""),
            ({"query": "q: "}, "q: ", ""),
            ({"document": "d: "}, "", "d: "),
            ({"query": "q: ", "passage": "p: "}, "q: ", ""),
            ({"corpus": "c: ", "passage": "p: ", "document": "d: "}, "", "d: "),
            ({"clustering": "x: "}, "", ""),
        ],
    )
    def test_each_side_has_its_own(self, checkpoint, edited, prompts, query, document):
        found = read_checkpoint(edited("bert", sparse_encoder(prompts=prompts)))

        assert (found.query.prompt, found.document.prompt) == (query, document)
        if prompts and None not in prompts.values():  # the library has it so, too
            folder = str(checkpoint("bert-max"))
            model = SparseEncoder(folder, prompts=dict(prompts), device="cpu")
            plain = [model.encode("river", prompt=prompt) for prompt in (query, document)]
            used = [model.encode_query("river"), model.encode_document("river")]
            for one, other in zip(plain, used, strict=True):
                assert one.to_dense().equal(other.to_dense())

    def test_an_empty_prompt_for_documents_is_one(self, checkpoint, tmp_path):
        prompts = {"query": "find ", "document": "", "passage": "text "}
        model = SparseEncoder(str(checkpoint("bert-max")), prompts=prompts, device="cpu")
        model.save(str(tmp_path))
        used = model.encode_document("river").to_dense()
        assert used.equal(model.encode("river", prompt="").to_dense())

        assert read_checkpoint(tmp_path).document.prompt == ""


class TestMaxLength:
    @pytest.mark.parametrize(
        ("tokenizer", "sentence_bert", "expected"),
        [
            (512, None, 512),
            (128, None, 128),
            (512, 64, 64),
            (64, 128, 64),
            (1000, 2000, 512),  # the model has 512 positions
            (int(1e30), None, 512),  # what transformers writes for "no limit"
            (None, 200, 200),
            (None, None, 512),
        ],
    )
    def test_the_smallest_limit_holds(self, edited, tokenizer, sentence_bert, expected):
        settings = json.dumps({"tokenizer_class": "BertTokenizer", "model_max_length": tokenizer})
        files = {"tokenizer_config.json": settings}
        files["sentence_bert_config.json"] = {"max_seq_length": sentence_bert}

        assert read_checkpoint(edited("bert", files)).document.max_length == expected

    @pytest.mark.parametrize("tokenizer", [None, '{"model_max_length": 1e30}'])
    def test_no_limit_stated_anywhere_is_512(self, edited, tokenizer):
        config = {"model_type": "bert", "architectures": ["BertForMaskedLM"]}
        files = {"tokenizer_config.json": tokenizer, "config.json": json.dumps(config)}

        assert read_checkpoint(edited("bert", files)).query.max_length == 512

    def test_what_sentence_transformers_was_told(self, checkpoint, tmp_path):
        model = SparseEncoder(str(checkpoint("bert-max")), device="cpu")
        model.max_seq_length = 77
        model.save(str(tmp_path))

        assert read_checkpoint(tmp_path).document.max_length == 77

    def test_the_limit_among_the_processing_kwargs_counts(self, edited):
        settings = {"processing_kwargs": {"text": {"max_length": 20}}}

        found = read_checkpoint(edited("bert-max", {"sentence_bert_config.json": settings}))

        assert found.document.max_length == 20


class TestLicense:
    @pytest.mark.parametrize(
        ("card", "expected"),
        [
            (None, None),
            ("# no header\nlicense: mit", None),
            ("---\nlicense: cc-by-nc-sa-4.0\ntags:\n- splade\n---\n# A model", "cc-by-nc-sa-4.0"),
            ("---\r\ntags: [a]\r\nlicense: apache-2.0\r\n---\r\n", "apache-2.0"),
            ("---\ntags: [a]\n---\nlicense: mit\n", None),
            ("# A model\n---\nlicense: mit\n---\n", None),
            ("---\nlicense_name: own\n---\n", None),
            (b"---\nauthor: \xff\xfe\nlicense: mit\n---\n", "mit"),
            pytest.param(
                "---\nlicense:\ntags:\n- a\n---\n",
                None,
            ),
            pytest.param(
                '---\nlicense: "mit"\n---\n',
                "mit",
            ),
        ],
        ids=[
            "no-card",
            "no-header",
            "stated",
            "windows",
            "after-the-header",
            "not-at-the-top",
            "other-key",
            "not-utf-8",
            "empty",
            "quoted",
        ],
    )
    def test_it_is_what_the_cards_header_states(self, edited, card, expected):
        folder = edited("bert", {} if card is None else {"README.md": card})

        assert read_checkpoint(folder).source["license"] == expected

    def test_that_of_a_sparse_encoder_is_found_too(self, edited):
        folder = edited("bert-max", {"README.md": "---\nlicense: mit\nlanguage: en\n---\n"})

        assert read_checkpoint(folder).source["license"] == "mit"
        assert read_checkpoint(folder).source["language"] == "en"

    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            ("language: en", "en"),
            ("language:\n- en", "en"),
            ("language:\n- en\n- de", None),
            ("language: [en, de]", None),
            ("tags: [en]", None),
        ],
    )
    def test_a_language_counts_if_it_is_the_only_one(self, edited, header, expected):
        folder = edited("bert", {"README.md": f"---\n{header}\n---\n"})

        assert read_checkpoint(folder).source["language"] == expected


class TestRefusals:
    @pytest.mark.parametrize("name", ["nowhere", "./no/where", "/no/where/at/all", "a/b/c", "../x"])
    def test_no_such_folder(self, name, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(CheckpointError, match=rf"no folder '{name}'.*hub id \(owner/name\)"):
            read_checkpoint(name)

    def test_a_file_is_no_folder(self, checkpoint):
        with pytest.raises(CheckpointError, match="there is no folder"):
            read_checkpoint(checkpoint("bert") / "config.json")

    def test_a_hub_id_that_cannot_be_had(self, monkeypatch):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

        with pytest.raises(
            CheckpointError, match=r"'no/such' is no folder here, and cannot be had"
        ):
            read_checkpoint("no/such")

    def test_a_gated_checkpoint_says_where_to_accept_its_terms(self, monkeypatch, tmp_path):
        class Hub(BaseHTTPRequestHandler):
            """The hub's answer to those who have not accepted."""

            def do_GET(self):
                self.send_response(403)
                self.send_header("X-Error-Code", "GatedRepo")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        with HTTPServer(("127.0.0.1", 0), Hub) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            constants = huggingface_hub.constants
            monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
            monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
            with pytest.raises(CheckpointError, match=r"(?s)cannot be had.*If it is gated, accept"):
                read_checkpoint("naver/splade-v3")
            server.shutdown()

    @pytest.mark.parametrize("name", ["runs/splade--v2", "runs/splade..v2", "runs/" + 97 * "x"])
    def test_what_can_be_no_hub_id(self, name, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(CheckpointError):
            read_checkpoint(name)

    def test_no_config(self, tmp_path):
        with pytest.raises(CheckpointError, match=r"no config\.json, so it is no checkpoint"):
            read_checkpoint(tmp_path)

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            (
                {"architectures": ["BertModel"]},
                r"states architecture BertModel, which has no masked-language-model head; expected "
                r"BertForMaskedLM\. A dense encoder",
            ),
            ({"architectures": None}, "states architecture none"),
            ({"architectures": ["DistilBertForMaskedLM"]}, "expected BertForMaskedLM"),
            (
                {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"},
                r"is a causal language model \(Qwen3ForCausalLM\)\. SPLADE needs a masked",
            ),
            (
                {"architectures": ["NewForMaskedLM"], "model_type": "new"},
                r"is of family 'new'; this version exports bert, distilbert, roberta",
            ),
            ({"model_type": None}, "is of family None"),
            (
                {"auto_map": {"AutoModelForMaskedLM": "modeling.NewForMaskedLM"}},
                r"brings its own code \(auto_map in config\.json\), which is not run",
            ),
        ],
        ids=["headless", "none", "other", "causal", "family", "no-family", "code"],
    )
    def test_a_model_of_another_kind(self, edited, config, message):
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(edited("bert", {"config.json": config}))

    def test_gpt2_as_transformers_saves_it(self, tmp_path):
        config = transformers.GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=20)
        transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)

        with pytest.raises(CheckpointError, match="is a causal language model"):
            read_checkpoint(tmp_path)

    def test_no_tokenizer_file(self, edited):
        folder = edited("bert", {"tokenizer.json": None})

        with pytest.raises(CheckpointError, match=r"has no tokenizer\.json.*save_pretrained"):
            read_checkpoint(folder)

    @pytest.mark.parametrize(
        ("types", "named"),
        [
            (
                [
                    "sentence_transformers.models.Transformer",
                    "sentence_transformers.models.Pooling",
                ],
                "Transformer, Pooling",
            ),
            ([*OLD_TYPES, "sentence_transformers.models.Normalize"], "SpladePooling, Normalize"),
            ([OLD_TYPES[0]], "MLMTransformer"),
            ([], "none"),
        ],
        ids=["dense", "one-more", "no-pooling", "empty"],
    )
    def test_other_modules(self, edited, types, named):
        folder = edited("bert", {"modules.json": modules(*types)})

        with pytest.raises(CheckpointError, match=rf"of the modules .*{named}; expected a masked"):
            read_checkpoint(folder)

    @pytest.mark.parametrize(
        ("pooling", "message"),
        [
            ({"pooling_strategy": "mean"}, r"pooling 'mean' is not one of max, sum\."),
            (
                {"activation_function": "gelu"},
                r"activation function 'gelu' is not one of relu, log1p_relu\.",
            ),
        ],
        ids=["pooling", "activation"],
    )
    def test_an_unknown_pooling_or_activation(self, edited, pooling, message):
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(edited("bert", sparse_encoder(pooling)))

    @pytest.mark.parametrize(
        "name",
        [
            "config.json",
            "modules.json",
            "tokenizer_config.json",
            "sentence_bert_config.json",
            "config_sentence_transformers.json",
            "1_SpladePooling/config.json",
        ],
    )
    @pytest.mark.parametrize("content", ["", "{", b"\xff\xfe\x00"], ids=["empty", "cut", "binary"])
    def test_broken_json(self, edited, name, content):
        folder = edited("bert-max", {name: content})

        with pytest.raises(
            CheckpointError, match=rf"{name} is no JSON: .*Get the checkpoint again"
        ):
            read_checkpoint(folder)

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("config.json", "[1]"),
            ("modules.json", '{"0": "MLMTransformer"}'),
            ("modules.json", '["MLMTransformer", "SpladePooling"]'),
            ("modules.json", json.dumps([{"type": kind} for kind in OLD_TYPES])),
            ("modules.json", json.dumps([{"type": kind, "path": None} for kind in OLD_TYPES])),
            ("config_sentence_transformers.json", '{"prompts": ["query: "]}'),
            ("tokenizer_config.json", '{"model_max_length": "512"}'),
        ],
        ids=["config", "modules", "types", "no-path", "null-path", "prompts", "length"],
    )
    def test_json_of_another_shape(self, edited, name, content):
        folder = edited("bert-max", {name: content})

        with pytest.raises(SpladeletError):
            read_checkpoint(folder)

    @pytest.mark.parametrize("length", [2, 0, -1])
    def test_a_length_limit_that_leaves_no_room(self, edited, length):
        folder = edited("bert", {"tokenizer_config.json": {"model_max_length": length}})

        with pytest.raises(SpladeletError, match=f"max_length is {length}; expected"):
            read_checkpoint(folder)

    @pytest.mark.parametrize("path", ["..", "/", "a\0b", "../edited-too"])
    def test_a_module_in_a_place_that_cannot_be(self, path, edited):
        folder = edited("bert", sparse_encoder())
        listed = modules(*OLD_TYPES)
        listed[1]["path"] = path
        (folder / "modules.json").write_text(json.dumps(listed))

        with pytest.raises(CheckpointError, match=r"modules\.json leads out of the checkpoint"):
            read_checkpoint(folder)

    def test_a_module_outside_the_checkpoint(self, edited, checkpoint):
        folder = edited("bert", sparse_encoder())
        listed = modules(*OLD_TYPES)
        listed[0]["path"] = str(checkpoint("distilbert"))
        (folder / "modules.json").write_text(json.dumps(listed))

        with pytest.raises(CheckpointError):
            read_checkpoint(folder)


class TestWeights:
    """What shows only when the weights are loaded."""

    @pytest.mark.parametrize("family", ["bert", "distilbert"])
    def test_they_are_loaded_as_float32_for_inference(self, edited, family):
        import torch

        half = transformers.AutoModelForMaskedLM.from_pretrained(edited(family, {})).half()
        folder = Path(half.config._name_or_path)
        half.save_pretrained(folder)

        model = load_model(read_checkpoint(folder).folder)

        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        assert not model.training

    @pytest.mark.parametrize(
        ("family", "head", "named"),
        [
            ("bert", "cls.", r"cls\.predictions\.bias"),
            ("distilbert", "vocab_", r"vocab_layer_norm\.bias"),
        ],
    )
    def test_a_head_that_is_stated_but_not_there(self, edited, family, head, named):
        folder = edited(family, {})
        safetensors_without(folder, head)

        with pytest.raises(
            CheckpointError,
            match=rf"lacks weights .*ForMaskedLM needs: {named}.*without its masked",
        ):
            load_model(read_checkpoint(folder).folder)

    @pytest.mark.parametrize(
        ("config", "named"),
        [({"vocab_size": 400}, "size mismatch"), ({"num_attention_heads": 5}, "not a multiple")],
        ids=["vocabulary", "heads"],
    )
    def test_a_config_that_does_not_fit_the_weights(self, edited, config, named):
        checkpoint = read_checkpoint(edited("bert", {"config.json": config}))

        with pytest.raises(CheckpointError, match=f"cannot be read: .*(\n.*)*{named}"):
            load_model(checkpoint.folder)

    def test_no_weights(self, edited):
        checkpoint = read_checkpoint(edited("bert", {"model.safetensors": None}))

        with pytest.raises(CheckpointError, match=r"cannot be read: .*no file named"):
            load_model(checkpoint.folder)

    def test_a_broken_pickle_is_not_run(self, edited):
        files = {"model.safetensors": None, "pytorch_model.bin": b"garbage" * 99}
        checkpoint = read_checkpoint(edited("bert", files))

        with pytest.raises(CheckpointError, match="cannot be read"):
            load_model(checkpoint.folder)

    @pytest.mark.parametrize("size", [0, 4, 5_000, -100])
    def test_a_truncated_safetensors_file(self, edited, checkpoint, size):
        whole = (checkpoint("bert") / "model.safetensors").read_bytes()
        broken = read_checkpoint(edited("bert", {"model.safetensors": whole[:size]}))

        with pytest.raises(CheckpointError, match="cannot be read"):
            load_model(broken.folder)

    def test_a_number_that_is_none(self, edited):
        broken = read_checkpoint(edited("bert", {"config.json": {"num_hidden_layers": "two"}}))

        with pytest.raises(CheckpointError, match="cannot be read"):
            load_model(broken.folder)
