"""From checkpoint to logits graph: loading in torch, exporting by optimum."""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from spladelet.encoder.onnx_runtime import load_onnx_runtime
from spladelet_export.errors import CheckpointError, require
from spladelet_export.graph.logits_graph import OPSET

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ATTENTION = "eager"


def load_model(folder: Path) -> "PreTrainedModel":
    """Load a masked language model in torch, as float32, ready for inference.

    Runs no code but transformers' own: a config may name attention that is fetched from the hub,
    for the model or for a part of it, so that is always transformers' plain one.

    Raises:
        CheckpointError: The weights cannot be read, or the head's are not among them.
    """
    require("torch", "transformers")
    import torch
    from transformers import AutoConfig, AutoModelForMaskedLM

    try:
        with _quiet():
            config = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            config._attn_implementation = _ATTENTION  # of its parts, too
            model, found = AutoModelForMaskedLM.from_pretrained(
                folder,
                config=config,
                attn_implementation=_ATTENTION,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:
        raise CheckpointError(f"the weights in {folder} cannot be read: {error}") from error
    if missing := sorted(found["missing_keys"]):
        raise CheckpointError(
            f"{folder} lacks weights that {type(model).__name__} needs: "
            f"{', '.join(missing[:4])}{' …' if len(missing) > 4 else ''}. It was saved without its "
            "masked-language-model head; export the checkpoint that has it."
        )
    return model.eval()


def export_logits_graph(model: "PreTrainedModel") -> onnx.ModelProto:
    """Export a masked language model to a logits graph, by optimum."""
    require("optimum.exporters.onnx")
    load_onnx_runtime()
    from optimum.exporters.onnx import onnx_export_from_model

    with tempfile.TemporaryDirectory() as folder, _quiet():
        onnx_export_from_model(
            model, Path(folder), task="fill-mask", opset=OPSET, do_validation=False, monolith=True
        )
        return onnx.load(Path(folder) / "model.onnx")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' own chatter off the user's screen."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    transformers_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        transformers_logging.set_verbosity(verbosity)
