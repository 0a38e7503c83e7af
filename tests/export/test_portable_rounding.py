"""What rounds alike everywhere: operators that are written anew, and that none is left out."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from spladelet import Encoder
from spladelet.bundle.folder import Bundle
from spladelet.errors import InputError
from spladelet_export import rewrite_bundle
from spladelet_export.cli import main
from spladelet_export.errors import ExportError
from spladelet_export.graph.portable_rounding import alike_on, spell_out_rounding

KINDS = ("bert", "distilbert", "roberta", "albert", "bert-sum")
MACHINES = ("x86_64", "aarch64")


def graph_of(*nodes, constants=None, domain=""):
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 24])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 24])
    tensors = [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "graph", [given], [made], tensors)
    versions = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=versions, ir_version=9)


def run(model, rows):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": rows})[0]


def layer_norm(*, shift=True, **attributes):
    rng = np.random.default_rng(0)
    constants = {"scale": rng.normal(1, 0.3, 24).astype(np.float32)}
    if shift:
        constants["shift"] = rng.normal(0, 0.3, 24).astype(np.float32)
    node = helper.make_node("LayerNormalization", ["x", *constants], ["y"], **attributes)
    return graph_of(node, constants=constants)


@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("epsilon", [1e-12, 1e-5, 0.1])
@pytest.mark.parametrize("offset", [0, 300])
def test_layer_normalization_is_what_it_was(shift, epsilon, offset):
    model = layer_norm(shift=shift, epsilon=epsilon)
    rows = np.random.default_rng(1).normal(offset, 3, (50, 24)).astype(np.float32)
    rows[0] = 7  # no deviation at all
    expected = run(model, rows)

    spell_out_rounding(model.graph)

    assert "LayerNormalization" not in {node.op_type for node in model.graph.node}
    assert alike_on(model.graph) == (*MACHINES, "wasm")
    tolerance = 1e-5 if offset == 0 else 1e-3  # of float32's mean, which the kernel has
    assert run(model, rows) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("attributes", [{"axis": 0}, {"axis": 1}])
def test_a_normalization_of_another_form_is_left_alone_and_not_vouched_for(attributes):
    model = layer_norm(**attributes)
    before = model.SerializeToString()

    spell_out_rounding(model.graph)

    assert model.SerializeToString() == before
    assert alike_on(model.graph) == ()


def test_gelu_is_what_it_was_to_the_error_of_its_series():
    model = graph_of(helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft"))
    rows = np.linspace(-12, 12, 2400).astype(np.float32).reshape(100, 24)
    expected = run(model, rows)
    assert alike_on(model.graph) == MACHINES

    spell_out_rounding(model.graph, web=True)

    assert alike_on(model.graph) == (*MACHINES, "wasm")
    assert run(model, rows) == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize("operator", ["Softmax", "Tanh", "Erf", "LayerNormalization", "Log"])
def test_nothing_is_promised_of_an_operator_that_nobody_tried(operator):
    assert alike_on(graph_of(helper.make_node(operator, ["x"], ["y"])).graph) == ()


def test_a_float32_product_by_a_matrix_is_not_vouched_for():
    node = helper.make_node("MatMul", ["x", "matrix"], ["y"])
    model = graph_of(node, constants={"matrix": np.eye(24, dtype=np.float32)})
    assert alike_on(model.graph) == ()

    spell_out_rounding(model.graph, web=True)

    assert alike_on(model.graph) == (*MACHINES, "wasm")


@pytest.mark.filterwarnings("ignore::spladelet.TruncationWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("web", [False, True])
def test_int8_bundles_promise_what_they_can(kind, int8_bundle, web, tmp_path, varied_texts):
    source = int8_bundle(kind)
    promised = Bundle.open(source).description.alike_on
    assert promised in ((), MACHINES)

    made = rewrite_bundle(source, tmp_path / "again", web=web)

    assert made.alike_on == ((*MACHINES, "wasm") if promised and web else promised)
    Bundle.open(tmp_path / "again").verify()
    ours, theirs = (Encoder.load(place) for place in (source, tmp_path / "again"))
    assert theirs.can_trace
    for one, other in zip(
        ours.encode_documents(varied_texts), theirs.encode_documents(varied_texts), strict=True
    ):
        if web:
            dense = np.zeros((2, one.vocab_size))
            dense[0, one.term_ids], dense[1, other.term_ids] = one.weights, other.weights
            assert np.abs(dense[0] - dense[1]).max() <= 0.2 * max(1, dense.max())
        else:  # it was written so already
            assert one == other


def test_what_cannot_be_rewritten_is_refused(bundle, int8_bundle, tmp_path, capsys):
    with pytest.raises(InputError, match="float32"):
        rewrite_bundle(bundle("bert"), tmp_path / "new")
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine").write_text("keep")
    with pytest.raises(ExportError, match="not a bundle"):
        rewrite_bundle(int8_bundle("bert"), taken)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    assert main(["rewrite", str(tmp_path / "none"), "-o", str(tmp_path / "new")]) == 1
    assert "error:" in capsys.readouterr().err


def test_a_bias_in_the_product_is_taken_out_of_it(int8_bundle):
    graph = onnx.load(int8_bundle("bert") / "model.onnx", load_external_data=False).graph
    products = [node for node in graph.node if node.op_type == "MatMulIntegerToFloat"]
    assert products
    assert all(len(node.input) == 6 for node in products)
    biased = products[0]
    name = biased.output[0]
    biased.input.append("a bias")
    graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "a bias"))
    assert alike_on(graph) == ()

    spell_out_rounding(graph)

    made = {node.output[0]: node for node in graph.node}
    assert made[name].op_type == "Add"
    assert list(made[name].input) == [f"{name}/unbiased", "a bias"]
