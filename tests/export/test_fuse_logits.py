"""`fuse_logits` and `spladelet-export fuse`: a logits graph that is exported already."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import transformers

from spladelet import Encoder
from spladelet_export.bundle_writer import Int8
from spladelet_export.checkpoint.checkpoint import read_checkpoint
from spladelet_export.checks.fidelity_texts import built_in_texts
from spladelet_export.checks.gate import Limits
from spladelet_export.checks.reference import TorchReference
from spladelet_export.export import fuse_logits
from spladelet_export.torch_export import export_logits_graph, load_model

ANY = Limits(overlap=0.0, ndcg_ratio=0.0)
TEXTS = [text for text in built_in_texts() if text.strip()][:40]


def dense(vectors):
    return vectors.to_csr().toarray()


class TestFuse:
    """`spladelet-export fuse`: a logits graph that is exported already."""

    @pytest.fixture(scope="class")
    @classmethod
    def logits(cls, checkpoint, tmp_path_factory):
        folder = tmp_path_factory.mktemp("logits")
        source = read_checkpoint(checkpoint("bert"))
        onnx.save(export_logits_graph(load_model(source.folder)), folder / "model.onnx")
        (folder / "tokenizer.json").write_bytes((source.folder / "tokenizer.json").read_bytes())
        return folder

    def test_without_torch_gives_what_torch_gives(self, logits, checkpoint, tmp_path):
        command = [
            sys.executable,
            "-c",
            _WITHOUT_TORCH,
            str(logits / "model.onnx"),
            "--tokenizer",
            str(logits / "tokenizer.json"),
            "-o",
            str(tmp_path / "out"),
            "--json",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["fidelity"]["max_abs_difference"] <= 1e-4

        source = read_checkpoint(checkpoint("bert"))
        reference = TorchReference(source, load_model(source.folder))
        encoder = Encoder.load(tmp_path / "out")
        for text in TEXTS[:10]:
            ours = dense(encoder.encode_documents([text]))[0]
            assert ours == pytest.approx(reference.encode(text, "document"), abs=1e-4)

    @pytest.mark.parametrize("opset", [11, 14, 17])
    def test_older_operators_are_taken(self, opset, checkpoint, tmp_path, monkeypatch):
        monkeypatch.setattr("spladelet_export.torch_export.OPSET", opset)
        model = transformers.BertForMaskedLM.from_pretrained(
            checkpoint("bert"),
            attn_implementation="eager",  # the other one is exported from 14 on only
        )
        onnx.save(export_logits_graph(model.eval()), tmp_path / "old.onnx")
        words = checkpoint("bert") / "tokenizer.json"
        description = fuse_logits(tmp_path / "old.onnx", words, tmp_path / "float32")
        assert description.fidelity["max_abs_difference"] <= 1e-4
        int8 = Int8(TEXTS, limits=ANY)
        fuse_logits(tmp_path / "old.onnx", words, tmp_path / "int8", int8=int8)
        exact, ours = (
            dense(Encoder.load(tmp_path / name).encode_documents(TEXTS[:20]))
            for name in ("float32", "int8")
        )
        assert 0 < np.abs(ours - exact).sum() < 0.1 * exact.sum()

    def test_constants_that_are_inputs_too_are_taken(self, logits, tmp_path):
        model = onnx.load(logits / "model.onnx")
        for tensor in model.graph.initializer:
            entry = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            model.graph.input.append(entry)
        onnx.save(model, tmp_path / "old.onnx")
        words, int8 = logits / "tokenizer.json", Int8(TEXTS, limits=ANY)
        assert fuse_logits(tmp_path / "old.onnx", words, tmp_path / "out", int8=int8).is_int8

    def test_inputs_by_their_old_names_are_taken(self, logits, tmp_path):
        model = onnx.load(logits / "model.onnx")
        names = {"attention_mask": "input_mask", "token_type_ids": "segment_ids"}
        for entry in model.graph.input:
            entry.name = names.get(entry.name, entry.name)
        for node in model.graph.node:
            for position, name in enumerate(node.input):
                node.input[position] = names.get(name, name)
        onnx.save(model, tmp_path / "old.onnx")

        description = fuse_logits(
            tmp_path / "old.onnx", logits / "tokenizer.json", tmp_path / "out"
        )

        assert description.fidelity["max_abs_difference"] <= 1e-4

    @pytest.mark.parametrize(
        ("file", "content", "expected"),
        [
            ("model.onnx", None, "there is no file"),
            ("tokenizer.json", None, "there is no file"),
            ("model.onnx", b"no graph", "ONNX Runtime cannot load"),
        ],
    )
    def test_what_cannot_be_fused_is_said(self, file, content, expected, logits, tmp_path, capsys):
        from spladelet_export.cli import main

        folder = tmp_path / "in"
        folder.mkdir()
        for path in logits.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
        words = [str(folder / "model.onnx"), "--tokenizer", str(folder / "tokenizer.json")]

        assert main(["fuse", *words, "-o", str(tmp_path / "out")]) == 1
        assert expected in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


_WITHOUT_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "optimum"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
from spladelet_export.cli import main
sys.exit(main(["fuse", *sys.argv[1:]]))
"""
