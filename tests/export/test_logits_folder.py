"""The graph with its logits: what sentence-transformers and Vespa take."""

import json

import numpy as np
import onnxruntime
import pytest
from sentence_transformers import SparseEncoder

from spladelet_export import ExportError, export_logits, fuse_logits
from spladelet_export.checkpoint.checkpoint import read_checkpoint
from spladelet_export.cli import main

TEXTS = ["the cat sat on the mat", "how long do goldfish live?", "river"]


@pytest.fixture(scope="module")
def logits(checkpoint, tmp_path_factory):
    """Return `make(kind)`: the folder of a checkpoint's logits graph."""

    def make(kind):
        folder = tmp_path_factory.mktemp("logits") / kind
        export_logits(checkpoint(kind), folder)
        return folder

    return make


@pytest.mark.parametrize("kind", ["bert", "roberta", "bert-sum", "bert-max-twice"])
def test_sentence_transformers_opens_it_by_its_onnx_back_end(kind, checkpoint, logits):
    theirs = SparseEncoder(str(checkpoint(kind)), device="cpu")
    opened = SparseEncoder(
        str(logits(kind)),
        device="cpu",
        backend="onnx",
        local_files_only=True,
        model_kwargs={"file_name": "model.onnx", "provider": "CPUExecutionProvider"},
    )

    for name in ("encode_query", "encode_document"):
        expected, found = (
            getattr(model, name)(TEXTS, convert_to_sparse_tensor=False)
            for model in (theirs, opened)
        )
        assert np.abs(np.asarray(found) - np.asarray(expected)).max() < 1e-4


def test_the_graph_alone_gives_logits(logits):
    session = onnxruntime.InferenceSession(
        str(logits("distilbert") / "model.onnx"), providers=["CPUExecutionProvider"]
    )

    assert [entry.name for entry in session.get_inputs()] == ["input_ids", "attention_mask"]
    assert [len(entry.shape) for entry in session.get_outputs()] == [3]


def test_it_makes_the_same_bundle_as_the_checkpoint(logits, tmp_path):
    folder = logits("bert")

    described = fuse_logits(folder / "model.onnx", folder / "tokenizer.json", tmp_path / "out")
    assert described.fidelity["max_abs_difference"] <= 1e-4


def test_it_is_read_as_what_it_was_made_of(logits, checkpoint):
    found = read_checkpoint(logits("bert-max-twice"))
    expected = read_checkpoint(checkpoint("bert-max-twice"))

    assert (found.query, found.document) == (expected.query, expected.document)


def test_the_command_writes_it_beside_the_bundle(checkpoint, tmp_path, capsys):
    arguments = [str(checkpoint("bert")), "-o", str(tmp_path / "out")]
    assert main([*arguments, "--also-logits", str(tmp_path / "logits")]) == 0

    assert (tmp_path / "out" / "spladelet.json").is_file()
    modules = json.loads((tmp_path / "logits" / "modules.json").read_text())
    assert [module["path"] for module in modules] == ["", "1_SpladePooling"]
    assert main([*arguments, "--also-logits", str(tmp_path / "logits")]) == 1
    assert "exists. Give the name of a new folder" in capsys.readouterr().err


def test_no_folder_is_written_over(checkpoint, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(ExportError, match="exists"):
        export_logits(checkpoint("bert"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_that_cannot_be_renamed_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ExportError, match="Give the name of a new folder"):
        export_logits(tmp_path / "no checkpoint", ".")
