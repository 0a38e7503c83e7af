"""int8: close to float32, and the same vector whatever a text's neighbours are."""

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from spladelet import Encoder
from spladelet.bundle.description import Semantics
from spladelet.bundle.folder import Bundle
from spladelet.encoder.tokenizer import Tokenizer
from spladelet_export.graph import tensor_names
from spladelet_export.graph.compaction import compact
from spladelet_export.graph.graph_editor import GraphEditor
from spladelet_export.graph.operator_fusion import fuse_operators
from spladelet_export.graph.pooling import fuse_pooling
from spladelet_export.int8.calibration import calibrate
from spladelet_export.int8.int8_recipes import Int8Recipe
from spladelet_export.int8.quantization import _Quantizer, quantize
from spladelet_export.torch_export import export_logits_graph, load_model

KINDS = ("bert", "distilbert", "bert-sum", "bert-max-twice", "distilbert-prompt")


def dense(vectors):
    return vectors.to_csr().toarray()


@pytest.mark.filterwarnings("ignore::spladelet.encoder.TruncationWarning")
@pytest.mark.parametrize("kind", KINDS)
class TestVectors:
    def test_are_near_those_of_float32(self, kind, int8_bundle, bundle, any_int8):
        texts = any_int8.calibration
        ours = dense(Encoder.load(int8_bundle(kind)).encode_documents(texts))
        exact = dense(Encoder.load(bundle(kind)).encode_documents(texts))

        # rounding to 8 bits shows, and stays a small part of the whole
        assert 0 < np.abs(ours - exact).sum() < 0.1 * exact.sum()

    def test_do_not_depend_on_the_batch(self, kind, int8_bundle, any_int8):
        texts = any_int8.calibration
        encoder = Encoder.load(int8_bundle(kind))
        together = encoder.encode_documents(texts)
        backwards = encoder.encode_documents(texts[::-1])

        for number, text in enumerate(texts):
            alone = encoder.encode_document(text)
            for other in (together[number], backwards[len(texts) - 1 - number]):
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


@pytest.fixture(scope="module")
def logits(checkpoint):
    """A logits graph with its operators fused."""
    return fuse_operators(export_logits_graph(load_model(checkpoint("bert"))))


@pytest.fixture(scope="module")
def texts(checkpoint, any_int8):
    """The token ids of some texts."""
    tokenizer = Tokenizer(checkpoint("bert") / "tokenizer.json", max_length=64)
    return [text.ids for text in tokenizer.tokenize(any_int8.calibration)]


def copy_of(model):
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


@pytest.fixture(scope="module")
def prepared(logits, texts):
    """A fused float32 graph with its calibration."""
    graph = copy_of(logits)
    fuse_pooling(graph, Semantics(), {}, 64)
    return graph, calibrate(graph, texts)


def test_the_head_is_found_whatever_its_tensors_are_called(prepared, logits, texts, monkeypatch):
    def stored(graph, calibration):
        """Return float32 and int8 as they are written: the operators, and each constant's size."""
        models = [copy_of(graph), quantize(graph, calibration, Int8Recipe("all"))]
        for model in models:
            compact(model)
        operators = [Counter(node.op_type for node in model.graph.node) for model in models]
        sizes = [[(t.data_type, *t.dims) for t in model.graph.initializer] for model in models]
        return operators, sizes

    expected = stored(*prepared)
    # A name that is written out somewhere, instead of read from `tensor_names`, fails here.
    for name in ("HIDDEN", "POOLED", "DECODER"):
        monkeypatch.setattr(tensor_names, name, f"another/{name}")
    renamed = copy_of(logits)
    fuse_pooling(renamed, Semantics(), {}, 64)

    found = stored(renamed, calibrate(renamed, texts))
    assert found == expected
    assert found[0][0]["Split"] == 1  # the decoder, cut from the embeddings
    assert found[0][1]["MatMulInteger"] == 5  # blocks of 64 of the 300 terms


def run(model, ids, tmp_path):
    import onnxruntime

    compact(model)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    batch = np.array([ids])
    return session.run(None, {"input_ids": batch, "attention_mask": np.ones_like(batch)})[0]


def test_float_share_leaves_the_worst_products_float32(prepared, texts, tmp_path):
    graph, calibration = prepared
    exact = copy_of(graph)
    whole = quantize(graph, calibration, Int8Recipe("all"))
    none = quantize(graph, calibration, Int8Recipe("almost none", float_share=0.9))

    expected = run(exact, texts[3], tmp_path)
    error = np.abs(run(whole, texts[3], tmp_path) - expected).sum()
    assert np.abs(run(none, texts[3], tmp_path) - expected).sum() < error


def test_row_wise_scales_are_used_where_asked(prepared):
    graph, calibration = prepared
    always = quantize(graph, calibration, Int8Recipe("always", row_wise_gain=-100.0))
    never = quantize(graph, calibration, Int8Recipe("never"))

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
    assert _Quantizer(GraphEditor(graph), {})._is_large_table(gather) == expected
