"""What does it cost that vectors are the same with every ONNX Runtime, on every processor?

The plain alternative is the operator LayerNormalization, whose sums releases order as they like.
Forms of the default model's graph are run in turn in one process, as ratios to the plain one.

    python benchmarks/rounding.py            40 rounds
    python benchmarks/rounding.py --quick    a check that it runs
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from common import machine, markdown_table, save
from onnx import TensorProto, helper

from spladelet.bundle.description import GRAPH, GRAPH_DATA
from spladelet.bundle.find import find_bundle
from spladelet.encoder.onnx_runtime import load_onnx_runtime
from spladelet_export.graph.graph_editor import GraphEditor
from spladelet_export.graph.portable_rounding import spell_out_rounding

SHAPES = {"a query of 11 tokens": (1, 11), "8 documents of 128": (8, 128)}
_RUNS = {"a query of 11 tokens": 50, "8 documents of 128": 1}
_EPSILON = 1e-12  # BERT's


def main() -> None:
    """Parse arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rounds = 2 if options.quick else options.rounds
    with tempfile.TemporaryDirectory() as folder:
        result = {"machine": machine(), "times_ms": _measure(Path(folder), rounds)}
    save("rounding", options.quick, result)
    print(json.dumps(result, indent=1) if options.json else table(result))


def _forms() -> dict[str, Callable[[onnx.GraphProto], None]]:
    return {
        "LayerNormalization": lambda graph: _fold_norms(graph, wide=False),
        "as exported": lambda graph: None,
        "LayerNormalization in float64": lambda graph: _fold_norms(graph, wide=True),
        "as exported with --web": lambda graph: spell_out_rounding(graph, web=True),
    }


def _fold_norms(graph: onnx.GraphProto, *, wide: bool) -> None:
    """Make one operator again of what `spell_out_rounding` writes for a LayerNormalization."""
    editor = GraphEditor(graph)
    made = {node.output[0]: node for node in graph.node}
    for node in graph.node:
        scaled = made.get(node.input[0])
        if (
            node.op_type == "Add"
            and scaled is not None
            and scaled.output[0].endswith("/norm/scaled")
        ):
            rows = made[f"{node.output[0]}/norm/centred"].input[0]
            _norm(editor, [rows, scaled.input[1], node.input[1]], node.output[0], wide=wide)
        else:
            editor.nodes.append(node)
    editor.drop_unread()
    editor.finish()


def _norm(editor: GraphEditor, inputs: list[str], output: str, *, wide: bool) -> None:
    if not wide:
        editor.add("LayerNormalization", inputs, output, {"epsilon": _EPSILON})
        return
    parts = [
        editor.constant(f"{name}/wide", editor.array(name).astype(np.float64))
        for name in inputs[1:]
    ]
    rows = editor.add("Cast", inputs[:1], f"{output}/in", {"to": TensorProto.DOUBLE})
    made = editor.add("LayerNormalization", [rows, *parts], f"{output}/out", {"epsilon": _EPSILON})
    editor.nodes.append(helper.make_node("Cast", [made], [output], to=TensorProto.FLOAT))


def _measure(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    sessions = {
        name: _session(folder, number, edit) for number, (name, edit) in enumerate(_forms().items())
    }
    ids = np.random.default_rng(0).integers(1000, 30000, (8, 128))
    found: dict[str, dict[str, float]] = {name: {} for name in sessions}
    for shape, (texts, length) in SHAPES.items():
        feed = {"input_ids": ids[:texts, :length], "attention_mask": np.ones((texts, length), int)}
        times: dict[str, list[float]] = {name: [] for name in sessions}
        for _ in range(rounds):
            for name, session in sessions.items():
                times[name].append(_least(session, feed, _RUNS[shape]))
        for name, values in times.items():
            found[name][shape] = statistics.median(values)
    return found


def _least(session: Any, feed: dict[str, Any], runs: int) -> float:  # noqa: ANN401 - untyped
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        session.run(None, feed)
        best = min(best, 1e3 * (time.perf_counter() - start))
    return best


def _session(folder: Path, number: int, edit: Callable[[onnx.GraphProto], None]) -> Any:  # noqa: ANN401
    for name in (GRAPH, GRAPH_DATA):  # onnx reads no tensors that others have links to
        shutil.copyfile(find_bundle(None).path(name), folder / name)
    model = onnx.load(folder / GRAPH)
    edit(model.graph)
    path = folder / f"{number}.onnx"
    onnx.save(model, path)
    onnxruntime = load_onnx_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        str(path),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["SkipLayerNormFusion"],
    )


def table(result: dict[str, Any]) -> str:
    """Draw one row a form."""
    times = result["times_ms"]
    plain = next(iter(times.values()))
    header = ["", *(column for shape in SHAPES for column in (f"{shape}, ms", "ratio"))]
    rows = [
        [
            name,
            *(
                cell
                for shape in SHAPES
                for cell in (f"{row[shape]:.2f}", f"{row[shape] / plain[shape]:.2f}")
            ),
        ]
        for name, row in times.items()
    ]
    return markdown_table(header, rows)


if __name__ == "__main__":
    main()
