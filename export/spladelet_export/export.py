"""The exporter's doors: checkpoint to bundle, logits graph to bundle, checkpoint to logits."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx

from spladelet.bundle.description import DESCRIPTION, TOKENIZER, Description, Semantics
from spladelet.encoder.notices import LanguageWarning, TruncationWarning
from spladelet_export.bundle_writer import BundleWriter, Int8, Report
from spladelet_export.checkpoint.checkpoint import Checkpoint, is_folder, read_checkpoint
from spladelet_export.checkpoint.recipes import find_recipe
from spladelet_export.checks.reference import LogitsReference, TorchReference
from spladelet_export.errors import ExportError, door
from spladelet_export.graph.logits_graph import rename_inputs, upgrade
from spladelet_export.logits_folder import check_new, write_logits
from spladelet_export.torch_export import export_logits_graph, load_model
from spladelet_export.whole_folder import is_fixed, replacing_folder, write_errors


@door("the export failed, and nothing was written")
def export_checkpoint(
    checkpoint: str | Path | Checkpoint,
    output: str | os.PathLike[str],
    *,
    name: str | None = None,
    texts: Sequence[str] = (),
    int8: Int8 | None = None,
    report: Report = lambda step: None,
) -> Description:
    """Export a SPLADE checkpoint to a bundle.

    The bundle is written aside, checked, and only then moved into place, where it may replace one.
    float32 weights are compared with torch; int8 with float32, by the documents that each finds.

    Args:
        checkpoint: A folder, or a hub id (owner/name, or owner/name@revision), for which there may
            be a recipe; a plain masked language model, or sentence-transformers' SparseEncoder. Or
            one that was read already, perhaps with other semantics.
        output: The bundle's folder.
        name: What to call the model; None means what the checkpoint is called.
        texts: Compared with torch besides the built-in texts.
        int8: Quantize; None keeps float32.
        report: Told each step as it begins.

    Returns:
        The bundle's description, with what was measured.

    Raises:
        CheckpointError: The checkpoint cannot be exported; the message says why.
        GraphError: The exported graph does not end as a masked language model does.
        FidelityError: The bundle's vectors are not those of the checkpoint, or an int8 model
            misses its limits.
        ExportError: The output cannot be written.
    """
    target = Path(output)
    _check_target(target)
    report("reading the checkpoint")
    source = _read(checkpoint)
    model = load_model(source.folder)
    query_model = None if source.query_folder is None else load_model(source.query_folder)
    reference = TorchReference(source, model, query_model)
    report("exporting the graph")
    with write_errors(target):
        graph = export_logits_graph(model)
        query_graph = None if query_model is None else export_logits_graph(query_model)
    tokenizer = source.folder / TOKENIZER
    title = name or source.name
    writer = BundleWriter(source, tokenizer, title, reference, report, texts, query_graph)
    with bundle_folder(target) as folder:
        return writer.write(folder, graph, int8)


@door("the export of the logits failed")
def export_logits(checkpoint: str | Path | Checkpoint, output: str | os.PathLike[str]) -> None:
    """Export the documents' graph of a checkpoint with its logits, for tools that pool them.

    Args:
        checkpoint: As for `export_checkpoint`.
        output: A new folder, which `SparseEncoder(folder, backend="onnx")` opens, too.

    Raises:
        CheckpointError: The checkpoint cannot be exported; the message says why.
        ExportError: The output exists, or cannot be written.
    """
    target = Path(output)
    check_new(target)
    source = _read(checkpoint)
    with write_errors(target):
        write_logits(source, export_logits_graph(load_model(source.folder)), target)


@door("the graph cannot be made a bundle")
def fuse_logits(
    logits: str | os.PathLike[str],
    tokenizer: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    semantics: Semantics | None = None,
    int8: Int8 | None = None,
    report: Report = lambda step: None,
) -> Description:
    """Make a bundle of a logits graph that somebody has already exported; torch is not needed.

    Args:
        logits: An ONNX masked language model: optimum's, fastembed's, or one like them. Its own
            logits, pooled in numpy, are what the bundle is compared with.
        tokenizer: Its `tokenizer.json`.
        output: The bundle's folder.
        semantics: What the weights mean, for queries and documents; None means max pooling of
            log1p(relu(x)) over 512 tokens.
        int8: Quantize; None keeps float32.
        report: Told each step as it begins.

    Raises:
        GraphError: The graph is not one, or does not end as a masked language model does.
        FidelityError: See `export_checkpoint`.
        ExportError: A file cannot be read, or the output cannot be written.
    """
    path, words, target = Path(logits), Path(tokenizer), Path(output)
    _check_target(target)
    meaning = semantics or Semantics()
    for file in (path, words):
        if not file.is_file():
            raise ExportError(
                f"there is no file {file}. Give an ONNX graph and its tokenizer.json."
            )
    source = Checkpoint(
        words.parent,
        path.parent.resolve().name,
        None,
        meaning,
        meaning,
        {"checkpoint": path.name, "revision": None, "license": None},
    )
    reference = LogitsReference(path, words, meaning)
    writer = BundleWriter(source, words, source.name, reference, report)
    with bundle_folder(target) as folder:
        graph = upgrade(onnx.load(path))
        rename_inputs(graph)
        return writer.write(folder, graph, int8)


def _read(checkpoint: str | Path | Checkpoint) -> Checkpoint:
    """Read a checkpoint, and what its recipe adds, if it is from the hub and has one."""
    if isinstance(checkpoint, Checkpoint):
        return checkpoint
    recipe = None if is_folder(Path(checkpoint)) else find_recipe(str(checkpoint))
    source = read_checkpoint(checkpoint)
    return source if recipe is None else recipe.apply(source)


def _check_target(target: Path) -> None:
    try:
        taken = target.exists() and not (target / DESCRIPTION).is_file()
        if is_fixed(target) or (taken and (not target.is_dir() or any(target.iterdir()))):
            raise ExportError(
                f"{target} exists and is not a bundle. Give the name of a new "
                "folder, or of a bundle to replace."
            )
    except (OSError, ValueError) as error:
        raise ExportError(f"{str(target)[:80]!r} cannot be a bundle's folder: {error}.") from error


@contextmanager
def bundle_folder(target: Path) -> Iterator[Path]:
    """Write a bundle aside that takes the place of nothing, or of a bundle, when all went well."""
    with replacing_folder(target, _check_target) as folder, warnings.catch_warnings():
        for kind in (TruncationWarning, LanguageWarning):  # the built-in texts are meant to be odd
            warnings.simplefilter("ignore", kind)
        yield folder
