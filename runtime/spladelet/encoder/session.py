"""The graph in ONNX Runtime: token ids in, dense weights out.

Before ONNX Runtime opens the graph, the files that it names are held against the description (see
`graph_file`): sizes at every load, hashes only by `Bundle.verify`.

One session serves all threads of a process. After a fork it is made anew, because ONNX Runtime's
threads do not survive one: a run would wait for them for ever, and so would the end of the old
session, which a child therefore keeps.
"""

import os
import platform
import threading
import weakref
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spladelet.bundle.folder import Bundle
from spladelet.encoder.graph_file import GraphFile
from spladelet.encoder.onnx_runtime import load_onnx_runtime
from spladelet.errors import BundleGraphError
from spladelet.forks import unforked
from spladelet.origins import Origin

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

# Its fused kernel is not vectorised, and takes several times as long as the two it replaces.
_DISABLED_OPTIMIZERS = ["SkipLayerNormFusion"]
_INPUTS = {"input_ids": "tensor(int64)", "attention_mask": "tensor(int64)"}
# The first release that does not end the process at a product without a stated zero point.
_TAKES_ZERO_FOR_GRANTED = (1, 30)


class GraphSession:
    """A bundle's graph, loaded at the first run.

    Args:
        bundle: Where the graph is.
        name: Its file.
        threads: How many threads one run uses.
        traces: Whether it is one that also says where weights come from.

    Raises:
        BundleGraphError: The graph does not load, or its inputs and outputs are not a bundle's.
    """

    def __init__(self, bundle: Bundle, name: str, threads: int, *, traces: bool = False) -> None:
        self._bundle = bundle
        self._name = name
        self._threads = threads
        self._outputs = ["tensor(float)", *(["tensor(int64)"] if traces else [])]
        self._lock = threading.Lock()
        self._session: InferenceSession = None
        self._origin: Origin | None = None
        _graphs.add(self)

    def run(self, input_ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return weights float32[batch, vocab_size] for ids and mask int64[batch, length]."""
        weights: NDArray[np.float32] = self._run(input_ids, mask)[0]
        return weights

    def trace(
        self, input_ids: NDArray[np.int64], mask: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return what `run` does, and at which position of its text each term has its weight."""
        weights, positions = self._run(input_ids, mask)
        return weights, positions

    def _run(self, input_ids: NDArray[np.int64], mask: NDArray[np.int64]) -> "list[NDArray[Any]]":
        feed = {"input_ids": input_ids, "attention_mask": mask}
        session = self._current()
        expected = (len(input_ids), self._bundle.description.vocab_size)
        try:
            found: list[NDArray[Any]] = session.run(None, feed)
        except Exception as error:
            raise BundleGraphError(
                f"the graph failed on a batch of shape {input_ids.shape}: {error}. If the length "
                "is more than the model has positions for, export it with a smaller max_length; "
                "if memory ran out, use a smaller model."
            ) from error
        for output in found:
            if output.shape != expected:
                raise BundleGraphError(
                    f"the graph gave weights of shape {output.shape} for a batch of shape "
                    f"{input_ids.shape}; expected {expected}. Export the bundle again."
                )
        return found

    @property
    def origin(self) -> Origin | None:
        """What runs it; None before the first run."""
        return self._origin

    def _current(self) -> "InferenceSession":
        if self._session is None:
            with self._lock:
                if self._session is None:
                    self._session = self._load()
        return self._session

    def _start_anew(self) -> None:
        self._lock = threading.Lock()  # the parent's may have been held at the fork
        _inherited.append(self._session)
        self._session = None

    def _load(self) -> "InferenceSession":
        onnxruntime = load_onnx_runtime()
        path = self._bundle.path(self._name)
        graph = GraphFile.read(path)
        graph.check_files(self._bundle, self._name)
        # Without VNNI, ONNX Runtime's fastest kernel adds pairs of products in 16 bits.
        saturates = self._bundle.description.is_int8 and _saturates()
        if saturates and not graph.states_zero_points:
            self._check_release(onnxruntime.__version__)
        try:
            with unforked():
                session = onnxruntime.InferenceSession(
                    str(path),
                    self._options(exact=saturates),
                    providers=["CPUExecutionProvider"],
                    disabled_optimizers=_DISABLED_OPTIMIZERS,
                )
        except Exception as error:
            raise BundleGraphError(
                f"ONNX Runtime {onnxruntime.__version__} cannot load {path}: {error}. Export the "
                "bundle again, or upgrade with `pip install -U onnxruntime`."
            ) from error
        self._check(session)
        machine = _machine()
        alike = machine in self._bundle.description.alike_on
        self._origin = Origin(onnxruntime.__version__, machine, alike)
        return session

    def _options(self, *, exact: bool) -> "SessionOptions":
        """Say how to run.

        Args:
            exact: Take int8 products by a kernel that never saturates. Where VNNI is, none does,
                and this one takes more than twice the time.
        """
        options = load_onnx_runtime().SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3  # errors reach us as exceptions; warnings are not for users
        # Batches come in all shapes; a memory plan kept for each of them only makes memory grow.
        options.enable_mem_pattern = False
        if exact:
            options.add_session_config_entry("session.x64quantprecision", "1")
        return options

    def _check_release(self, version: str) -> None:
        """Refuse what would end the process, which nothing could catch."""
        release = tuple(int(number) for number in version.split(".")[:2])
        if release < _TAKES_ZERO_FOR_GRANTED:
            needed = ".".join(map(str, _TAKES_ZERO_FOR_GRANTED))
            raise BundleGraphError(
                f"{self._bundle.path(self._name)} states no zero points, and ONNX "
                f"Runtime {version} fails on such graphs on this processor, which has no VNNI. "
                f"Upgrade with `pip install -U 'onnxruntime>={needed}'`, or export the bundle "
                "again."
            )

    def _check(self, session: "InferenceSession") -> None:
        inputs = {i.name: i.type for i in session.get_inputs()}
        outputs = [(o.type, o.shape[-1:]) for o in session.get_outputs()]
        terms = self._bundle.description.vocab_size
        expected = [(kind, [terms]) for kind in self._outputs]
        if inputs != _INPUTS or outputs != expected:
            raise BundleGraphError(
                f"{self._bundle.path(self._name)} has inputs {inputs} and outputs {outputs}; "
                f"expected {_INPUTS} and {expected}. It is no pooled SPLADE graph: export the "
                "checkpoint with `spladelet-export`."
            )


@cache
def _machine() -> str:
    """Return the processor's kind, as Linux calls it."""
    found = platform.machine()
    return {"AMD64": "x86_64", "arm64": "aarch64", "ARM64": "aarch64"}.get(found, found)


@cache
def _saturates() -> bool:
    """Say whether this processor's int8 kernel loses large sums: 4 x 255 x 127 tells.

    Asking the kernel itself is right on every processor, whatever its flags are called.
    """
    onnxruntime = load_onnx_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with unforked():
        graph = (files("spladelet") / "data" / "saturation.onnx").read_bytes()
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        total = session.run(None, {"activations": np.full((1, 4), 255, np.uint8)})[0]
    return int(total.item()) != 4 * 255 * 127


_graphs: "weakref.WeakSet[GraphSession]" = weakref.WeakSet()
# A parent's sessions, which a forked child must not end.
_inherited: "list[InferenceSession]" = []


def _start_graphs_anew() -> None:
    for graph in list(_graphs):
        graph._start_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_graphs_anew)
