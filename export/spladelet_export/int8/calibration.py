"""What activations look like: a sample of their rows, and each channel's extremes."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from spladelet.encoder.onnx_runtime import load_onnx_runtime
from spladelet_export.int8.constant_products import constant_products

_ROWS_PER_TEXT = 24


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was seen of the activations that enter constant matrices.

    Attributes:
        rows: Tensor name to a sample of its rows, float32[rows, channels].
        lowest: Tensor name to the least value of each channel over all texts.
        highest: Tensor name to the greatest.
        texts: How many texts were read.
    """

    rows: Mapping[str, NDArray[np.float32]]
    lowest: Mapping[str, NDArray[np.float32]]
    highest: Mapping[str, NDArray[np.float32]]
    texts: int


def calibrate(model: onnx.ModelProto, texts: Iterable[Sequence[int]]) -> Calibration:
    """Run texts, one at a time, and look at what enters the constant matrices.

    Args:
        model: A fused float32 graph.
        texts: Token ids of each text.
    """
    onnxruntime = load_onnx_runtime()
    names = sorted(constant_products(model.graph))
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    for name in names:
        watched.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    # Always the same rows: two exports of a checkpoint are the same to the byte.
    rng = np.random.default_rng(0)
    rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    lows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    highs: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(watched, path, save_as_external_data=True, location="model.data")
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for ids in texts:
            count += 1
            batch = np.array([ids], np.int64)
            # As many rows of a long text as of a short one, so that no text outweighs the others.
            picked = rng.permutation(len(ids))[:_ROWS_PER_TEXT]
            feed = {"input_ids": batch, "attention_mask": np.ones_like(batch)}
            for name, values in zip(names, session.run(names, feed), strict=True):
                rows[name].append(values[0][picked])
                lows[name].append(values[0].min(0))
                highs[name].append(values[0].max(0))
    return Calibration(
        {name: np.concatenate(found) for name, found in rows.items()},
        {name: np.min(found, axis=0) for name, found in lows.items()},
        {name: np.max(found, axis=0) for name, found in highs.items()},
        count,
    )
