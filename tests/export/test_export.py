import json
import os
import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest
from onnx import numpy_helper
from sentence_transformers import SparseEncoder

import spladelet_export.bundle_writer as writer_module
from spladelet import Encoder, SpladeletError
from spladelet.bundle.folder import Bundle
from spladelet_export import CheckpointError, ExportError, FidelityError, export_checkpoint
from spladelet_export.checks.fidelity_texts import built_in_texts
from spladelet_export.graph.pooling import fuse_pooling

KINDS = ("bert", "distilbert", "bert-max", "bert-sum", "bert-max-twice", "distilbert-prompt")
SIDES = ("query", "document")
FILES = [
    "README.md",
    "conformance.json",
    "explain.onnx",
    "model.onnx",
    "model.onnx.data",
    "spladelet.json",
    "tokenizer.json",
    "tokenizer_config.json",
]


def sentence_transformers_weights(folder, side, texts):
    model = SparseEncoder(str(folder), device="cpu")
    encode = model.encode_query if side == "query" else model.encode_document
    return encode(texts, convert_to_sparse_tensor=False).numpy()


def contents(folder):
    """Return every file below a folder with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def shift_bias(graph, by):
    """Add to the bias of the head, as a mistake in the surgery would."""
    for tensor in graph.graph.initializer:
        if tensor.name == "splade/bias":
            shifted = numpy_helper.to_array(tensor) + np.float32(by)
            tensor.CopyFrom(numpy_helper.from_array(shifted, tensor.name))
            return
    raise AssertionError("the graph has no bias to shift")


def set_bias(folder, value):
    """Give every term of a checkpoint the same bias."""
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["cls.predictions.bias"] = np.full_like(weights["cls.predictions.bias"], value)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def wrong_bias(monkeypatch):
    """Return `break_by(number)`, which makes the surgery get the bias wrong."""

    def break_by(number):
        def fuse(graph, *arguments):
            vocab_size = fuse_pooling(graph, *arguments)
            shift_bias(graph, number)
            return vocab_size

        monkeypatch.setattr(writer_module, "fuse_pooling", fuse)

    return break_by


class TestParity:
    @pytest.mark.parametrize("side", SIDES)
    @pytest.mark.parametrize("kind", [*KINDS, "bert-sum-twice"])
    def test_vectors_are_those_of_sentence_transformers(
        self, kind, side, checkpoint, bundle, varied_texts, assert_parity
    ):
        # without a prompt, queries go the documents' way, so a few are enough
        texts = varied_texts[:: 4 if side == "query" and "prompt" not in kind else 1]
        theirs = sentence_transformers_weights(checkpoint(kind), side, texts)

        assert_parity(Encoder.load(bundle(kind)), side, theirs, texts)
        # the comparison is worth something: many terms are active, and many are not
        assert 10 < (theirs > 0).sum(axis=1).mean() < theirs.shape[1] / 2

    def test_a_sum_over_long_texts_is_within_the_tolerance(self, checkpoint, tmp_path):
        export_checkpoint(checkpoint("bert-sum-long"), tmp_path / "out")

        assert Bundle.open(tmp_path / "out").description.document.pooling == "sum"

    @pytest.mark.parametrize("kind", ["bert", "bert-sum"])
    @pytest.mark.parametrize("text", ["", " ", "\n\t ", "\u200b\ufeff", "\x00\x01"])
    def test_a_text_without_content_has_no_terms(self, kind, text, bundle):
        encoder = Encoder.load(bundle(kind))

        # torch gives [CLS] and [SEP] weights even then; an empty query should find nothing
        assert encoder.encode_query(text).active_dims == 0
        assert encoder.encode_document(text).active_dims == 0

    def test_a_prompt_alone_is_no_content(self, bundle):
        assert Encoder.load(bundle("distilbert-prompt")).encode_query(" ").active_dims == 0

    def test_a_prompt_changes_its_side_alone(self, bundle):
        plain, prompted = (Encoder.load(bundle(k)) for k in ("distilbert", "distilbert-prompt"))

        assert prompted.encode_query("river") == plain.encode_query("the question: river")
        assert prompted.encode_document("river") == plain.encode_document("river")

    def test_a_checkpoint_in_half_precision_gives_a_bundle_of_half_the_size(
        self, edited, bundle, tmp_path, assert_parity
    ):
        import torch
        from transformers import AutoModelForMaskedLM

        folder = edited("bert", {})
        model = AutoModelForMaskedLM.from_pretrained(folder)
        model.to(torch.float16).save_pretrained(folder)
        texts = ["river", "the cat sat on the mat"]

        export_checkpoint(folder, tmp_path / "out")

        sizes = [(f / "model.onnx.data").stat().st_size for f in (tmp_path / "out", bundle("bert"))]
        assert sizes[0] < 0.6 * sizes[1]
        rounded = SparseEncoder(
            str(folder), device="cpu", model_kwargs={"torch_dtype": torch.float32}
        )
        theirs = rounded.encode(texts, convert_to_sparse_tensor=False).numpy()
        assert_parity(Encoder.load(tmp_path / "out"), "query", theirs, texts)

    def test_a_tokenizer_with_more_terms_than_the_model_is_refused(self, edited, tmp_path):
        from transformers import AutoTokenizer

        folder = edited("bert", {})
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_tokens(["gloxinia"])  # without model.resize_token_embeddings
        tokenizer.save_pretrained(folder)

        with pytest.raises(CheckpointError):
            export_checkpoint(folder, tmp_path / "out")


class TestBundle:
    @pytest.mark.parametrize("kind", KINDS)
    def test_it_is_whole_and_intact(self, kind, bundle):
        opened = Bundle.open(bundle(kind))

        opened.verify()
        assert sorted(path.name for path in bundle(kind).iterdir()) == FILES
        assert sorted(opened.description.files) == [
            "model.onnx",
            "model.onnx.data",
            "tokenizer.json",
        ]

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_fidelity_is_in_the_description(self, kind, bundle):
        found = Bundle.open(bundle(kind)).description.fidelity

        assert found["reference"] == "torch, float32"
        assert found["texts"] == len(built_in_texts()) > 50
        assert 0 <= found["max_abs_difference"] <= 1e-4
        assert found["flipped_above_tolerance"] == 0
        assert found["active_dims_difference"] <= 2  # terms of hardly any weight
        assert found["top_overlap"] > 0.99
        assert 10 < found["active_dims"] < 150

    def test_what_is_returned_is_what_is_written(self, checkpoint, tmp_path):
        texts = ["one more text", "and another"]

        returned = export_checkpoint(checkpoint("bert"), tmp_path / "out", name="Tiny", texts=texts)

        assert returned == Bundle.open(tmp_path / "out").description
        assert returned.name == "Tiny"
        assert returned.fidelity["texts"] == len(built_in_texts()) + 2

    def test_it_says_where_it_comes_from_and_what_made_it(self, edited, tmp_path):
        folder = edited("bert-max", {"README.md": "---\nlicense: cc-by-nc-4.0\n---\n"})

        description = export_checkpoint(folder, tmp_path / "out")

        assert description.name == "edited"
        assert description.source == {
            "checkpoint": "edited",
            "revision": None,
            "license": "cc-by-nc-4.0",
            "language": None,
        }
        assert description.vocab_size == 300
        assert description.exporter["opset"] == 18
        assert set(description.exporter) > {"spladelet", "torch", "transformers", "onnx"}
        card = (tmp_path / "out/README.md").read_text()
        assert card.startswith("---\nlicense: cc-by-nc-4.0\n")
        assert f"on {len(built_in_texts())} texts" in card
        assert "nan" not in card

    def test_two_exports_of_a_checkpoint_are_the_same_to_the_byte(
        self, checkpoint, bundle, tmp_path
    ):
        again = export_checkpoint(checkpoint("bert"), tmp_path / "out")

        assert again.fingerprint == Bundle.open(bundle("bert")).fingerprint
        assert contents(tmp_path / "out") == contents(bundle("bert"))

    def test_the_fingerprint_is_that_of_the_vectors_not_of_the_folder(self, bundle):
        plain, sparse_encoder = (Bundle.open(bundle(kind)) for kind in ("bert", "bert-max"))

        assert plain.fingerprint == sparse_encoder.fingerprint

    def test_checkpoints_of_other_meaning_have_other_fingerprints(self, bundle):
        kinds = [kind for kind in KINDS if kind != "bert-max"]  # means the same as "bert"

        assert len({Bundle.open(bundle(kind)).fingerprint for kind in kinds}) == len(kinds)

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
    def test_all_may_read_it(self, checkpoint, tmp_path):
        before = os.umask(0o022)
        try:
            export_checkpoint(checkpoint("bert"), tmp_path / "out")
        finally:
            os.umask(before)

        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path).rglob("*")}
        assert modes.pop("out") == 0o755
        assert modes == dict.fromkeys(FILES, 0o644)

    def test_it_works_wherever_it_is_moved(self, bundle, tmp_path):
        before = Encoder.load(bundle("bert")).encode_query("river")
        shutil.copytree(bundle("bert"), tmp_path / "elsewhere")

        assert Encoder.load(tmp_path / "elsewhere").encode_query("river") == before


class TestOutput:
    def test_steps_are_reported_in_order(self, checkpoint, tmp_path):
        steps = []

        export_checkpoint(checkpoint("bert"), tmp_path / "out", report=steps.append)

        assert steps == [
            "reading the checkpoint",
            "exporting the graph",
            "fusing the pooling into it",
            "comparing with torch, float32",
            "writing down vectors, for other languages",
        ]

    def test_missing_folders_above_are_made(self, checkpoint, tmp_path):
        export_checkpoint(checkpoint("bert"), str(tmp_path / "a/b/out"))

        assert sorted(path.name for path in (tmp_path / "a/b/out").iterdir()) == FILES
        assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["out"]

    def test_an_empty_folder_is_filled(self, checkpoint, tmp_path):
        (tmp_path / "out").mkdir()

        export_checkpoint(checkpoint("bert"), tmp_path / "out")

        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES

    def test_a_bundle_is_replaced_as_a_whole(self, checkpoint, bundle, tmp_path):
        shutil.copytree(bundle("distilbert"), tmp_path / "out")
        (tmp_path / "out/leftover.txt").write_text("of the old one")

        export_checkpoint(checkpoint("bert"), tmp_path / "out")

        assert contents(tmp_path / "out") == contents(bundle("bert"))
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_another_folder_is_refused_before_any_work(self, checkpoint, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        steps = []

        with pytest.raises(ExportError, match=r"exists and is not a bundle\. Give the name of a"):
            export_checkpoint(checkpoint("bert"), tmp_path, report=steps.append)

        assert contents(tmp_path) == {"notes.txt": b"mine"}
        assert steps == []

    def test_a_file_is_refused(self, checkpoint, tmp_path):
        (tmp_path / "out").write_text("mine")

        with pytest.raises(ExportError, match="exists and is not a bundle"):
            export_checkpoint(checkpoint("bert"), tmp_path / "out")

        assert contents(tmp_path) == {"out": b"mine"}

    @pytest.mark.parametrize(
        "place",
        [
            "file/out",
            pytest.param(
                "file/a/out",
            ),
        ],
    )
    def test_a_place_below_a_file_is_refused(self, place, checkpoint, tmp_path):
        (tmp_path / "file").write_text("mine")

        with pytest.raises(ExportError, match=r"cannot write .*Nothing was left behind"):
            export_checkpoint(checkpoint("bert"), tmp_path / place)

        assert contents(tmp_path) == {"file": b"mine"}


class TestFailure:
    @pytest.mark.parametrize("shift", [0.01, -0.01, 3.0])
    def test_vectors_that_differ_leave_nothing_behind(
        self, shift, checkpoint, tmp_path, wrong_bias
    ):
        wrong_bias(shift)

        with pytest.raises(
            FidelityError, match=r"differ from torch, float32 by up to .*Nothing was written"
        ):
            export_checkpoint(checkpoint("bert"), tmp_path / "out")

        assert list(tmp_path.iterdir()) == []

    def test_the_bundle_that_was_there_survives(self, checkpoint, bundle, tmp_path, wrong_bias):
        shutil.copytree(bundle("bert"), tmp_path / "out")
        wrong_bias(0.01)

        with pytest.raises(FidelityError):
            export_checkpoint(checkpoint("bert"), tmp_path / "out")

        assert contents(tmp_path / "out") == contents(bundle("bert"))
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_a_bundle_that_gives_no_terms_at_all_is_noticed(self, checkpoint, tmp_path, wrong_bias):
        wrong_bias(-1000)

        with pytest.raises(FidelityError):
            export_checkpoint(checkpoint("bert"), tmp_path / "out")

    @pytest.mark.parametrize(
        ("bias", "cause"), [(-1000, "damaged"), (1000, "a plain masked language model")]
    )
    def test_a_model_without_terms_or_with_all_is_refused(self, bias, cause, edited, tmp_path):
        folder = edited("bert", {})
        set_bias(folder, bias)

        with pytest.raises(CheckpointError, match=f"a document has .* It is {cause}"):
            export_checkpoint(folder, tmp_path / "out")

        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("name", ["a \ud800 b", "\udfff"])
    def test_a_name_with_half_a_character_is_refused(self, name, checkpoint, tmp_path):
        with pytest.raises(ExportError, match=r"the name is .* half of a character"):
            export_checkpoint(checkpoint("bert"), tmp_path / "out", name=name)

    def test_folders_made_above_go_again(self, checkpoint, tmp_path, wrong_bias):
        wrong_bias(0.01)

        with pytest.raises(FidelityError):
            export_checkpoint(checkpoint("bert"), tmp_path / "a/b/out")

        assert list(tmp_path.iterdir()) == []

    def test_weights_that_are_no_numbers_leave_nothing_behind(self, edited, tmp_path):
        from safetensors.torch import load_file, save_file

        folder = edited("bert", {})
        weights = load_file(folder / "model.safetensors")
        weights["cls.predictions.bias"][7] = float("nan")
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

        with pytest.raises(SpladeletError, match="nan"):
            export_checkpoint(folder, tmp_path / "out")

        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("tokenizer.json", "{"),
            ("tokenizer.json", "{}"),
            ("tokenizer_config.json", {"tokenizer_class": "NoSuchTokenizer"}),
        ],
        ids=["cut", "empty", "unknown-class"],
    )
    def test_a_tokenizer_that_cannot_be_loaded(self, name, content, edited, tmp_path):
        folder = edited("bert", {name: content})

        with pytest.raises(CheckpointError, match="tokenizer"):
            export_checkpoint(folder, tmp_path / "out")

    def test_a_text_with_a_lone_surrogate_is_compared_like_any(self, checkpoint, tmp_path):
        export_checkpoint(checkpoint("bert"), tmp_path / "out", texts=["a \ud800 b"])

        assert (
            Bundle.open(tmp_path / "out").description.fidelity["texts"] == len(built_in_texts()) + 1
        )


# Runs in a process of its own, whose home is empty and whose files cannot grow from a moment on,
# which is the same error as a full disk: never, while the bundle is written, or while the graph is.
_ALONE = """
import json, sys
from pathlib import Path
from spladelet_export import ExportError, export_checkpoint

def limit(size=None):
    import resource  # which Windows has not
    infinity = resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (infinity if size is None else size, infinity))

def export(moment):
    def report(step):
        if step.startswith(moment):
            limit(100_000)
    folder = Path(sys.argv[2]) / moment
    folder.mkdir()
    try:
        export_checkpoint(sys.argv[1], folder / "out", report=report)
        outcome = "exported"
    except ExportError as error:
        outcome = f"ExportError: {error}"
    except OSError as error:
        outcome = f"OSError: {error}"
    if moment != "never":
        limit()
    return [outcome, [path.name for path in folder.iterdir()]]

moments = ["never", "fusing the pooling into it", "exporting the graph"]
moments = moments[:1] if sys.platform == "win32" else moments
print(json.dumps({moment: export(moment) for moment in moments}))
"""


class TestAlone:
    @pytest.fixture(scope="class")
    @classmethod
    def home(cls, tmp_path_factory):
        return tmp_path_factory.mktemp("home")

    @pytest.fixture(scope="class")
    @classmethod
    def outcomes(cls, checkpoint, home, tmp_path_factory):
        names = ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "XDG_DATA_HOME", "LOCALAPPDATA")
        env = {**os.environ, **dict.fromkeys(names, str(home))}
        folder = tmp_path_factory.mktemp("alone")
        command = [sys.executable, "-c", _ALONE, str(checkpoint("bert")), str(folder)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    def test_nothing_is_sent_home(self, outcomes, home):
        assert outcomes["never"] == ["exported", ["out"]]
        # ONNX Runtime keeps what it means to send in a database
        assert [path for path in home.rglob("*") if "onnxruntime" in path.name] == []

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no RLIMIT_FSIZE")
    def test_a_disk_that_is_full_while_the_bundle_is_written(self, outcomes):
        outcome, left = outcomes["fusing the pooling into it"]

        assert outcome.startswith("ExportError: cannot write ")
        assert outcome.endswith("File too large. Nothing was left behind.")
        assert left == []

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no RLIMIT_FSIZE")
    def test_a_disk_that_is_full_while_the_graph_is_written(self, outcomes):
        outcome, left = outcomes["exporting the graph"]

        assert left == []
        assert outcome.startswith("ExportError: ")
