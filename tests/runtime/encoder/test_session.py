"""The session: what a graph gives is checked, and every refusal is the package's own."""

import os
import sys

import numpy as np
import pytest

from spladelet import Encoder
from spladelet.bundle.folder import Bundle
from spladelet.encoder.cpus import thread_count
from spladelet.encoder.session import GraphSession
from spladelet.errors import BundleGraphError, InputError, MissingDependencyError


@pytest.fixture
def session(bundle_folder):
    return GraphSession(Bundle.open(bundle_folder), "model.onnx", 1)


@pytest.mark.parametrize(
    ("ids", "mask"),
    [
        (np.array([[10**9]]), np.ones((1, 1), np.int64)),  # no such token
        (np.array([[101, 102]]), np.ones((1, 3), np.int64)),
        (np.full((1, 600), 101), np.ones((1, 600), np.int64)),  # more than it has positions for
        (np.array([[1.0]]), np.ones((1, 1), np.int64)),
    ],
    ids=["token", "mask", "length", "type"],
)
def test_what_the_graph_cannot_take_is_an_error_of_the_package(session, ids, mask):
    with pytest.raises(BundleGraphError, match=r"the graph failed on a batch of shape \(1, "):
        session.run(ids, mask)


def test_weights_of_another_shape_than_the_batch_are_refused(copy_bundle, replace_file, redescribe):
    onnx = pytest.importorskip("onnx", reason="writes a graph: extra `fuse`")
    texts, width = ["batch", "length"], 30522
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["always the same"], ["weights"])],
        "wrong",
        [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, texts)
            for name in ("input_ids", "attention_mask")
        ],
        [onnx.helper.make_tensor_value_info("weights", onnx.TensorProto.FLOAT, ["n", width])],
        [onnx.numpy_helper.from_array(np.zeros((1, width), np.float32), "always the same")],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    folder = copy_bundle()
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    replace_file(folder, "model.onnx", model.SerializeToString())

    with pytest.raises(BundleGraphError, match=r"gave weights of shape \(1, 30522\) for a batch"):
        Encoder.load(folder).encode_documents(["cat", "dog"])


@pytest.mark.parametrize("threads", [0, -1, 1025, 2**31, 2**64, 1.5, "2", True, float("nan")])
def test_what_is_no_number_of_threads_is_refused(threads, bundle_folder):
    with pytest.raises(InputError, match="expected a whole number from 1 to 1024, or None"):
        Encoder.load(bundle_folder, threads=threads)


@pytest.mark.parametrize("threads", [1, 2, np.int64(2)])
def test_any_number_of_threads_gives_the_same_vector(threads, bundle_folder, encoder):
    assert Encoder.load(bundle_folder, threads=threads).encode_query("cat") == (
        encoder.encode_query("cat")
    )
    assert type(thread_count(threads)) is int


def test_the_fusion_that_is_switched_off_is_off(copy_bundle, replace_file, tmp_path, monkeypatch):
    """ONNX Runtime takes any name for an optimizer, and says nothing if it has none of that name.

    So a graph is loaded that it fuses, as far as the shapes in it are known: the default one has
    Reshapes, behind which they are not.
    """
    onnx = pytest.importorskip("onnx", reason="writes a graph: extra `fuse`")
    make, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    sizes = {"words": (120, 8), "norm": (8,), "shift": (8,), "decoder": (8, 30522)}
    graph = onnx.helper.make_graph(
        [
            make("Gather", ["words", "input_ids"], ["left"]),
            make("Gather", ["words", "attention_mask"], ["right"]),
            make("Add", ["left", "right"], ["sum"]),
            make("LayerNormalization", ["sum", "norm", "shift"], ["hidden"]),
            make("ReduceMax", ["hidden", "axis"], ["pooled"], keepdims=0),
            make("MatMul", ["pooled", "decoder"], ["weights"]),
        ],
        "fusible",
        [
            value(name, onnx.TensorProto.INT64, ["batch", "length"])
            for name in ("input_ids", "attention_mask")
        ],
        [value("weights", onnx.TensorProto.FLOAT, ["batch", 30522])],
        [
            *(onnx.numpy_helper.from_array(np.ones(s, np.float32), n) for n, s in sizes.items()),
            onnx.numpy_helper.from_array(np.array([1]), "axis"),
        ],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    folder = copy_bundle()
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    replace_file(folder, "model.onnx", model.SerializeToString())

    class Watched(GraphSession):
        def _options(self, *, exact):
            options = super()._options(exact=exact)
            options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
            return options

    def normalizations():
        ids = np.ones((1, 3), np.int64)
        Watched(Bundle.open(folder), "model.onnx", 1).run(ids, ids)
        nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
        return [node.op_type for node in nodes if "Normalization" in node.op_type]

    assert normalizations() == ["LayerNormalization"]
    monkeypatch.setattr("spladelet.encoder.session._DISABLED_OPTIMIZERS", [])
    assert normalizations() == ["SkipLayerNormalization"]


def test_a_runtime_that_cannot_be_imported_is_an_error_of_the_package(session, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(MissingDependencyError, match="pip install --force-reinstall onnxruntime"):
        session.run(np.ones((1, 1), np.int64), np.ones((1, 1), np.int64))


class TestGraphsWithoutZeroPoints:
    """As spladelet 0.1.0 exported them: ONNX Runtime before 1.30 aborts where there is no VNNI."""

    @pytest.fixture
    def old(self, copy_bundle, replace_file, monkeypatch):
        folder = copy_bundle()
        content = (folder / "model.onnx").read_bytes()
        first, second = (b"splade/logits/%d/weight_zero_point" % number for number in (0, 1))
        replace_file(folder, "model.onnx", content.replace(first, second, 1))  # one for two
        monkeypatch.setattr("spladelet.encoder.session._saturates", lambda: True)
        return Encoder.load(folder)

    @pytest.mark.parametrize("version", ["1.20.0", "1.29.0"])
    def test_are_refused_by_name(self, version, old, monkeypatch):
        monkeypatch.setattr("onnxruntime.__version__", version)

        with pytest.raises(BundleGraphError, match=r"pip install -U 'onnxruntime>=1\.30'"):
            old.encode_query("cat")

    @pytest.mark.parametrize("version", ["1.30.0", "1.32.1", "1.30.0.dev20270101", "2.0.0"])
    def test_are_taken_by_releases_that_can(self, version, old):
        assert old._document._graphs.model._check_release(version) is None


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")

# A child that waited for its parent's threads would wait for ever.
FORK = """
import os, sys, threading, time
from spladelet import Encoder
encoder = Encoder.load(threads=2)
before = encoder.encode_query("the cat purrs")
child = os.fork()
if child == 0:
    os._exit(0 if encoder.encode_query("the cat purrs") == before else 3)
end = time.monotonic() + 30
while True:
    done, status = os.waitpid(child, os.WNOHANG)
    if done: sys.exit(status)
    if time.monotonic() > end:
        os.kill(child, 9); os.waitpid(child, 0); sys.exit("the child hangs")
    time.sleep(0.01)
"""


@needs_fork
def test_a_forked_child_encodes_as_its_parent_did(run_python):
    result = run_python(FORK)

    assert result.returncode == 0, result.stderr


POOL = """
import multiprocessing as mp
from spladelet import Encoder
encoder = Encoder.load(); encoder.encode_query("x")
def work(text): return encoder.encode_query(text).active_dims
with mp.get_context("fork").Pool(2) as pool:
    assert min(pool.map_async(work, ["cat", "snow"]).get(timeout=40)) > 0
"""


@needs_fork
def test_a_pool_of_forked_workers_encodes(run_python):
    result = run_python(POOL)

    assert result.returncode == 0, result.stderr[-300:]
