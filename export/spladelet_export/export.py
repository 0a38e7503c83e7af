"""From checkpoint to bundle: the steps in order, and writing the result whole or not at all."""

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx

import spladelet
from spladelet import Encoder
from spladelet.bundle import (
    CARD,
    DESCRIPTION,
    GRAPH,
    GRAPH_DATA,
    TOKENIZER,
    Bundle,
    Description,
    FileEntry,
)
from spladelet.encoder import TruncationWarning
from spladelet_export.card import model_card
from spladelet_export.checkpoint import Checkpoint, read_checkpoint
from spladelet_export.errors import ExportError
from spladelet_export.fidelity import TorchReference, check, measure
from spladelet_export.graph import fuse_pooling, opset
from spladelet_export.texts import built_in_texts
from spladelet_export.trunk import export_trunk, load_model

# From this size weights lie beside the graph, where they are mapped instead of copied.
_EXTERNAL_FROM = 1024


def export_checkpoint(
    checkpoint: str | Path,
    output: str | os.PathLike[str],
    *,
    name: str | None = None,
    revision: str | None = None,
    texts: Sequence[str] = (),
    report: Callable[[str], object] = lambda step: None,
) -> Description:
    """Export a SPLADE checkpoint to a bundle.

    The bundle is checked against torch before it appears: it is written aside and moved into
    place, replacing a bundle that is there.

    Args:
        checkpoint: A folder or hub id; plain masked language model, or sentence-transformers'
            SparseEncoder.
        output: The bundle's folder.
        name: What to call the model; None means as the checkpoint.
        revision: Branch, tag or commit on the hub.
        texts: Checked besides the built-in texts.
        report: Told each step as it begins.

    Returns:
        The bundle's description, with the fidelity that was measured.

    Raises:
        CheckpointError: The checkpoint cannot be exported; the message says why.
        GraphError: The exported graph does not end as a masked language model does.
        FidelityError: The bundle's vectors are not those of the checkpoint.
        ExportError: The output cannot be written.
    """
    target = Path(output)
    _check_target(target)
    report("reading the checkpoint")
    source = read_checkpoint(checkpoint, revision)
    model = load_model(source)
    report("exporting the graph")
    graph = export_trunk(model)
    report("fusing the pooling into it")
    vocab_size = fuse_pooling(graph, source.document, _metadata(source))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as aside:
            folder = Path(aside) / "bundle"
            description = _write(folder, graph, source, name or source.name, vocab_size)
            report("comparing with torch")
            fidelity = _verify(folder, TorchReference(model, source), texts)
            description = replace(description, fidelity=fidelity)
            _describe(folder, description)
            _move(folder, target, Path(aside))
    except OSError as error:
        raise ExportError(
            f"cannot write {target}: {error.strerror or error}. Nothing was left behind."
        ) from error
    return description


def _check_target(target: Path) -> None:
    if target.exists() and not (target / DESCRIPTION).is_file():
        if not target.is_dir() or any(target.iterdir()):
            raise ExportError(
                f"{target} exists and is not a bundle. Give the name of a new folder, or of a "
                "bundle to replace."
            )


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """Say in the graph itself what its weights mean, for those who find it alone."""
    return {
        "spladelet.pooling": checkpoint.document.pooling,
        "spladelet.activation": checkpoint.document.activation,
        "spladelet.source": str(checkpoint.source["checkpoint"]),
        "spladelet.revision": str(checkpoint.source["revision"] or ""),
        "spladelet.version": spladelet.__version__,
    }


def _write(
    folder: Path, graph: onnx.ModelProto, checkpoint: Checkpoint, name: str, vocab_size: int
) -> Description:
    folder.mkdir()
    onnx.save(
        graph,
        folder / GRAPH,
        save_as_external_data=True,
        location=GRAPH_DATA,
        size_threshold=_EXTERNAL_FROM,
    )
    (folder / GRAPH_DATA).chmod(0o644)  # onnx makes it readable for its owner alone
    shutil.copyfile(checkpoint.folder / TOKENIZER, folder / TOKENIZER)
    description = Description(
        name=name,
        vocab_size=vocab_size,
        query=checkpoint.query,
        document=checkpoint.document,
        files={file.name: FileEntry.of(file) for file in sorted(folder.iterdir())},
        source=dict(checkpoint.source),
        quantization={"weights": "float32"},
        exporter=_versions(graph),
    )
    _describe(folder, description)
    return description


def _versions(graph: onnx.ModelProto) -> dict[str, Any]:
    packages = ("torch", "transformers", "optimum-onnx", "onnx")
    return {
        "spladelet": spladelet.__version__,
        "opset": opset(graph),
        **{package: version(package) for package in packages},
    }


def _describe(folder: Path, description: Description) -> None:
    (folder / DESCRIPTION).write_text(description.to_json(), encoding="utf-8")
    (folder / CARD).write_text(model_card(description), encoding="utf-8")


def _verify(folder: Path, reference: TorchReference, texts: Sequence[str]) -> dict[str, Any]:
    encoder = Encoder(Bundle.open(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        fidelity = measure(encoder, reference, [*built_in_texts(), *texts])
    check(fidelity)
    return {"reference": "torch, float32", **fidelity.to_dict()}


def _move(folder: Path, target: Path, aside: Path) -> None:
    if target.exists():
        target.rename(aside / "replaced")
    folder.rename(target)
