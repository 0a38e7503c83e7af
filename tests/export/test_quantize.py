"""int8: close to float32, and the same vector whatever a text's neighbours are."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from spladelet import Encoder
from spladelet.bundle.description import Semantics
from spladelet.bundle.folder import Bundle
from spladelet.encoder.tokenizer import Tokenizer
from spladelet_export import FidelityError, export_checkpoint
from spladelet_export.checkpoint import read_checkpoint
from spladelet_export.errors import GraphError
from spladelet_export.export import Int8, fuse_logits
from spladelet_export.fidelity import TorchReference
from spladelet_export.gate import Limits
from spladelet_export.graph import compact, fuse_pooling, upgrade
from spladelet_export.optimize import fuse_operators
from spladelet_export.quantize import (
    RECIPES,
    Recipe,
    _Rewriter,
    _round_in_turn,
    calibrate,
    quantize,
)
from spladelet_export.texts import built_in_texts
from spladelet_export.trunk import export_trunk, load_model

ANY = Limits(overlap=0.0, ndcg_ratio=0.0)
TEXTS = [text for text in built_in_texts() if text.strip()][:40]
KINDS = ("bert", "distilbert", "bert-sum", "bert-max-twice", "distilbert-prompt")


@pytest.fixture(scope="session")
def int8_bundle(checkpoint, tmp_path_factory):
    """Return a function that gives the int8 bundle of a checkpoint, exported once."""
    made = {}

    def export(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("int8") / kind
            export_checkpoint(checkpoint(kind), made[kind], int8=Int8(TEXTS, limits=ANY))
        return made[kind]

    return export


def dense(vectors):
    return vectors.to_csr().toarray()


@pytest.mark.filterwarnings("ignore::spladelet.encoder.TruncationWarning")
@pytest.mark.parametrize("kind", KINDS)
class TestVectors:
    def test_are_near_those_of_float32(self, kind, int8_bundle, bundle):
        ours = dense(Encoder.load(int8_bundle(kind)).encode_documents(TEXTS))
        exact = dense(Encoder.load(bundle(kind)).encode_documents(TEXTS))

        # rounding to 8 bits shows, and stays a small part of the whole
        assert 0 < np.abs(ours - exact).sum() < 0.1 * exact.sum()

    def test_do_not_depend_on_the_batch(self, kind, int8_bundle):
        encoder = Encoder.load(int8_bundle(kind))
        together = encoder.encode_documents(TEXTS)
        backwards = encoder.encode_documents(TEXTS[::-1])

        for number, text in enumerate(TEXTS):
            alone = encoder.encode_document(text)
            for other in (together[number], backwards[len(TEXTS) - 1 - number]):
                if kind == "bert-sum":  # a sum is rounded as its length is padded
                    assert alone.weights == pytest.approx(other.weights, rel=1e-4)
                else:
                    assert alone == other


@pytest.mark.parametrize("kind", KINDS)
def test_no_constant_matrix_stays_float32(kind, int8_bundle):
    model = onnx.load(int8_bundle(kind) / "model.onnx")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    products = [n for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in constants]

    assert products == []
    assert any(tensor.data_type == TensorProto.INT8 for tensor in constants.values())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bert-sum"])
def test_no_operator_has_an_order_of_the_processors(kind, int8_bundle):
    graph = onnx.load(int8_bundle(kind) / "model.onnx", load_external_data=False).graph
    operators = {node.op_type for node in graph.node}
    assert {"Exp", "ReduceLogSum"} <= operators
    assert not operators & {"MultiHeadAttention", "Attention", "Softmax", "Log"}


@pytest.mark.parametrize("kind", ["bert", "albert"])  # ALBERT's layers share their matrices
def test_every_product_has_a_zero_point_of_its_own(kind, int8_bundle):
    graph = onnx.load(int8_bundle(kind) / "model.onnx", load_external_data=False).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    places = {"MatMulInteger": 3, "MatMulIntegerToFloat": 5}
    zeros = [node.input[places[node.op_type]] for node in graph.node if node.op_type in places]

    # without, or with one for several, ONNX Runtime 1.20 to 1.29 abort where there is no VNNI
    assert len(zeros) == len(set(zeros)) > 0
    for name in zeros:
        assert constants[name].data_type == TensorProto.INT8
        assert numpy_helper.to_array(constants[name]).tolist() == 0  # a scalar


def test_a_tied_decoder_is_stored_once(int8_bundle):
    description = Bundle.open(int8_bundle("bert")).description
    model = onnx.load(int8_bundle("bert") / "model.onnx")
    tables = [t for t in model.graph.initializer if description.vocab_size in t.dims]
    wide = [t for t in tables if len(t.dims) == 2 and min(t.dims) > 1]

    # small vocabularies keep float embeddings, and then the int8 decoder beside them
    assert len(wide) <= 2
    assert sum(t.data_type == TensorProto.FLOAT for t in wide) <= 1


def test_the_maximum_is_taken_before_scaling_back(int8_bundle):
    nodes = onnx.load(int8_bundle("bert") / "model.onnx").graph.node
    integers = {
        output for node in nodes if node.op_type == "MatMulInteger" for output in node.output
    }
    maxima = [node for node in nodes if node.op_type == "ReduceMax" and node.input[0] in integers]

    assert maxima
    assert len(maxima) == len(integers)


def test_the_description_says_what_was_done(int8_bundle):
    description = Bundle.open(int8_bundle("bert")).description

    assert description.is_int8
    assert description.quantization["recipe"] == RECIPES[0].name  # the first one passes no limit
    assert description.quantization["calibration_texts"] == len(TEXTS)
    attempt = description.quantization["attempts"][0]
    assert attempt["queries"] == 40
    assert attempt["ndcg_ratio_low"] <= attempt["ndcg_ratio"] <= attempt["ndcg_ratio_high"]
    assert description.fidelity["max_abs_difference"] <= 1e-4  # of the float32 graph it comes from


def test_a_model_that_misses_the_limits_is_not_written(checkpoint, tmp_path):
    impossible = Int8(TEXTS, limits=Limits(overlap=1.01))

    with pytest.raises(FidelityError, match=r"no int8 recipe reaches .* static: overlap 0\.\d+"):
        export_checkpoint(checkpoint("bert"), tmp_path / "out", int8=impossible)

    assert list(tmp_path.iterdir()) == []


def test_force_writes_it_all_the_same_with_every_attempt(checkpoint, tmp_path):
    impossible = Int8(TEXTS, limits=Limits(overlap=1.01), force=True)

    description = export_checkpoint(checkpoint("bert"), tmp_path / "out", int8=impossible)

    tried = [attempt["recipe"] for attempt in description.quantization["attempts"]]
    assert tried == [recipe.name for recipe in RECIPES]
    assert Encoder.load(tmp_path / "out").encode_query("river stone").active_dims


@pytest.fixture(scope="module")
def prepared(checkpoint):
    """A fused float32 graph with its calibration, and the tokenizer."""
    source = read_checkpoint(checkpoint("bert"))
    graph = fuse_operators(export_trunk(load_model(source.folder)))
    fuse_pooling(graph, Semantics(), {})
    tokenizer = Tokenizer(source.folder / "tokenizer.json", max_length=64)
    texts = [text.ids for text in tokenizer.tokenize(TEXTS)]
    return graph, calibrate(graph, texts), texts


def run(model, ids, tmp_path):
    import onnxruntime

    compact(model)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    batch = np.array([ids])
    return session.run(None, {"input_ids": batch, "attention_mask": np.ones_like(batch)})[0]


def test_float_share_leaves_the_worst_products_float32(prepared, tmp_path):
    graph, calibration, texts = prepared
    exact = onnx.ModelProto()
    exact.CopyFrom(graph)
    whole = quantize(graph, calibration, Recipe("all"))
    none = quantize(graph, calibration, Recipe("almost none", float_share=0.9))

    expected = run(exact, texts[3], tmp_path)
    error = np.abs(run(whole, texts[3], tmp_path) - expected).sum()
    assert np.abs(run(none, texts[3], tmp_path) - expected).sum() < error


def test_row_wise_scales_are_used_where_asked(prepared):
    graph, calibration, _ = prepared
    always = quantize(graph, calibration, Recipe("always", row_wise_gain=-100.0))
    never = quantize(graph, calibration, Recipe("never"))

    def count(model):
        return sum(output.endswith("/row_scales") for n in model.graph.node for output in n.output)

    assert count(never) == 0
    assert count(always) > 0


@pytest.mark.parametrize(
    ("shape", "kind", "axis", "expected"),
    [
        ((300, 80), np.float32, 0, True),
        ((80, 300), np.float32, 1, False),
        ((300, 80), np.int64, 0, False),
        ((300, 32), np.float32, 0, False),  # rotations
        ((32, 80), np.float32, 0, False),  # relative positions
    ],
)
def test_only_embeddings_become_bytes(shape, kind, axis, expected):
    table = onnx.numpy_helper.from_array(np.ones(shape, kind), "table")
    gather = onnx.helper.make_node("Gather", ["table", "ids"], ["found"], axis=axis)
    graph = onnx.helper.make_graph([gather], "graph", [], [], [table])
    rewriter = _Rewriter(graph, {}, matrices={"table": table})
    assert rewriter._is_large_table(gather) == expected


@pytest.mark.parametrize("channels", [6, 64, 150])
def test_rounding_in_turn_loses_less_of_the_products(channels):
    rng = np.random.default_rng(channels)
    rows = rng.normal(size=(400, 4)) @ rng.normal(size=(4, channels))
    rows = (rows + 0.1 * rng.normal(size=rows.shape)).astype(np.float32)
    levels = rng.uniform(-127, 127, (channels, 30)).astype(np.float32)

    found = _round_in_turn(levels, rows.T @ rows)

    lost = np.linalg.norm(rows @ (found - levels))
    plain = np.linalg.norm(rows @ (np.rint(levels) - levels))
    assert lost < 0.8 * plain
    assert np.abs(found).max() <= 127


def test_channels_that_have_nothing_in_common_are_rounded_one_by_one():
    levels = np.random.default_rng(0).uniform(-127, 127, (70, 3)).astype(np.float32)

    found = _round_in_turn(levels, np.diag(np.arange(70, dtype=np.float32)))

    assert np.array_equal(found, np.rint(levels))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_columns_keep_to_half_a_step(rows, columns, seed):
    from spladelet_export.quantize import _int8

    matrix = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    quantized, scales = _int8(matrix)

    assert quantized.dtype == np.int8
    assert (np.abs(quantized * scales - matrix) <= scales / 2 * 1.001).all()


class TestFuse:
    """`spladelet-export fuse`: a logits graph that is exported already."""

    @pytest.fixture(scope="class")
    @classmethod
    def logits(cls, checkpoint, tmp_path_factory):
        folder = tmp_path_factory.mktemp("logits")
        source = read_checkpoint(checkpoint("bert"))
        onnx.save(export_trunk(load_model(source.folder)), folder / "model.onnx")
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
        monkeypatch.setattr("spladelet_export.trunk.OPSET", opset)
        model = transformers.BertForMaskedLM.from_pretrained(
            checkpoint("bert"),
            attn_implementation="eager",  # the other one is exported from 14 on only
        )
        onnx.save(export_trunk(model.eval()), tmp_path / "old.onnx")
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

    def test_what_cannot_be_converted_is_said(self):
        node = onnx.helper.make_node("Nonsense", ["input_ids"], ["logits"])
        graph = onnx.helper.make_graph([node], "graph", [], [])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 12)])
        with pytest.raises(GraphError, match=r"operator set 12, and .* Export it again"):
            upgrade(model)

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
