"""From checkpoint to bundle: the steps in order, and writing the result whole or not at all."""

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import spladelet
from spladelet import Encoder
from spladelet.bundle.description import (
    CARD,
    DESCRIPTION,
    GRAPH,
    GRAPH_DATA,
    QUERY_GRAPH,
    QUERY_TOKENIZER,
    QUERY_WEIGHTS,
    TOKENIZER,
    Description,
    Semantics,
)
from spladelet.bundle.folder import Bundle
from spladelet.encoder.encoder import LanguageWarning, TruncationWarning
from spladelet.encoder.tokenizer import Tokenizer
from spladelet.evaluation import Collection, VectorCache, demo_collection
from spladelet.files import FileEntry
from spladelet.text import valid_unicode
from spladelet_export.card import model_card
from spladelet_export.checkpoint import Checkpoint, is_folder, read_checkpoint
from spladelet_export.errors import CheckpointError, ExportError, FidelityError, door
from spladelet_export.fidelity import (
    LogitsReference,
    Reference,
    TorchReference,
    check,
    measure,
)
from spladelet_export.files import read_json
from spladelet_export.gate import Gate, Limits
from spladelet_export.graph import BLOCK, compact, fuse_pooling, opset, rename_inputs, upgrade
from spladelet_export.logits import write_logits
from spladelet_export.optimize import fuse_operators
from spladelet_export.quantize import RECIPES, Calibration, calibrate, quantize
from spladelet_export.recipes import find_recipe
from spladelet_export.texts import built_in_texts
from spladelet_export.tokens import check_tokens
from spladelet_export.trunk import export_trunk, load_model

Report = Callable[[str], object]

# From this size, in bytes, weights lie beside the graph, where they are mapped instead of copied.
_EXTERNAL_FROM = 1024
# int8 products are fast enough for the maximum after them to count: smaller blocks stay in cache.
_INT8_BLOCK = BLOCK // 2
_CALIBRATION_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Int8:
    """How to quantize, and what the result must reach.

    Attributes:
        calibration: Texts like those the model will see, a few hundred; empty means the built-in
            documents.
        collections: What the gate asks; empty means the built-in documents and questions.
        limits: What must be reached.
        force: Write the last recipe's model even if none passes.
    """

    calibration: Sequence[str] = ()
    collections: Sequence[Collection] = ()
    limits: Limits = Limits()  # noqa: RUF009 - frozen
    force: bool = False


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

    The bundle is checked before it appears: it is written aside and moved into place, replacing a
    bundle that is there. float32 weights are compared with torch; int8, with float32, by what is
    found.

    Args:
        checkpoint: A folder, or a hub id (owner/name, or owner/name@revision), for which there may
            be a recipe; a plain masked language model, or sentence-transformers' SparseEncoder. Or
            one that was read already, with other semantics perhaps.
        output: The bundle's folder.
        name: What to call the model; None means as the checkpoint.
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
    with _io_errors(target):
        trunk = export_trunk(model)
        query_trunk = None if query_model is None else export_trunk(query_model)
    tokenizer = source.folder / TOKENIZER
    job = _Job(source, tokenizer, name or source.name, reference, texts, report, query_trunk)
    with _aside(target) as folder, warnings.catch_warnings():
        for kind in (TruncationWarning, LanguageWarning):  # the built-in texts are meant to be odd
            warnings.simplefilter("ignore", kind)
        return job.run(trunk, int8, folder, target)


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
    source, target = _read(checkpoint), Path(output)
    with _io_errors(target):
        write_logits(source, export_trunk(load_model(source.folder)), target)


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
    job = _Job(source, words, source.name, reference, (), report)
    with _aside(target) as folder, warnings.catch_warnings():
        for kind in (TruncationWarning, LanguageWarning):  # the built-in texts are meant to be odd
            warnings.simplefilter("ignore", kind)
        graph = upgrade(onnx.load(path))
        rename_inputs(graph)
        return job.run(graph, int8, folder, target)


@dataclass(frozen=True, slots=True)
class _Job:
    """One export: what it is of, and the steps from a logits graph to a bundle."""

    source: Checkpoint
    tokenizer: Path
    name: str
    reference: Reference
    texts: Sequence[str]
    report: Report
    query_logits: onnx.ModelProto | None = None

    def __post_init__(self) -> None:
        prompts = (self.source.query.prompt, self.source.document.prompt)
        for what, text in (("the name", self.name), *(("a prompt", prompt) for prompt in prompts)):
            if valid_unicode(text) != text:
                raise ExportError(
                    f"{what} is {text!r:.60}, with half of a character in it, which no file can be "
                    "written with. Give another."
                )

    def run(
        self, logits: onnx.ModelProto, int8: Int8 | None, folder: Path, target: Path
    ) -> Description:
        fused = None if int8 is None else fuse_operators(logits)
        self.report("fusing the pooling into it")
        bundle = folder / "float32"
        description = self._write_float32(logits, bundle)
        if int8 is not None and fused is not None:
            bundle, description = self._write_int8(fused, bundle, description, int8, folder)
        (bundle / CARD).write_text(model_card(description), encoding="utf-8")
        _move(bundle, target, folder)
        return description

    def _write_float32(self, logits: onnx.ModelProto, bundle: Path) -> Description:
        vocab_size = fuse_pooling(logits, self.source.document, _metadata(self.source.document))
        description = self._write(bundle, logits, vocab_size, {"weights": "float32"})
        self._check_vocabulary(bundle, vocab_size)
        self.report(f"comparing with {self.reference.name}")
        texts = [*built_in_texts(), *self.texts]
        check_tokens(Bundle.open(bundle), self.reference, texts)
        fidelity = measure(_load(bundle), self.reference, texts)
        pools = {self.source.document.pooling, self.source.query.pooling}
        check(fidelity, "sum" if "sum" in pools else "max", self.reference.name)
        figures = {"reference": self.reference.name, **fidelity.to_dict()}
        return _describe(bundle, replace(description, fidelity=figures))

    def _check_vocabulary(self, bundle: Path, vocab_size: int) -> None:
        terms = Tokenizer(bundle / TOKENIZER, max_length=self.source.document.max_length).size
        if terms > vocab_size:
            raise CheckpointError(
                f"the tokenizer has {terms} terms and the model {vocab_size}: they do not belong "
                "together. Get the checkpoint again, or the model's own tokenizer.json."
            )

    def _write_int8(
        self,
        fused: onnx.ModelProto,
        reference: Path,
        description: Description,
        int8: Int8,
        folder: Path,
    ) -> tuple[Path, Description]:
        """Try recipes until one passes the gate."""
        document = self.source.document
        fuse_pooling(fused, document, _metadata(document), _INT8_BLOCK)
        calibration = self._calibrate(fused, reference, int8)
        collections = int8.collections or [demo_collection()]
        self.report("retrieving with float32, for the gate")
        gate = Gate(VectorCache(_load(reference)), collections)
        attempts: list[dict[str, Any]] = []
        bundle = folder / "int8"
        for recipe in RECIPES:
            self.report(f"int8, {recipe.name}")
            shutil.rmtree(bundle, ignore_errors=True)
            graph = quantize(fused, calibration, recipe)
            quantization: dict[str, Any] = {"weights": "int8"}
            written = self._write(bundle, graph, description.vocab_size, quantization)
            agreement = gate.measure(VectorCache(_load(bundle)))
            attempts.append({"recipe": recipe.name, **agreement.to_dict()})
            if agreement.passes(int8.limits):
                break
        else:
            if not int8.force:
                raise FidelityError(_missed(attempts, int8.limits))
        quantization |= {
            "activations": "uint8, calibrated",
            "calibration_texts": calibration.texts,
            "recipe": recipe.name,
            "evaluated_on": [collection.label for collection in collections],
            "limits": asdict(int8.limits),
            "attempts": attempts,
        }
        fidelity = description.fidelity
        return bundle, _describe(
            bundle, replace(written, quantization=quantization, fidelity=fidelity)
        )

    def _calibrate(self, graph: onnx.ModelProto, bundle: Path, int8: Int8) -> Calibration:
        texts = int8.calibration or [document.content for document in demo_collection().documents]
        self.report(f"calibrating on {len(texts)} texts")
        length = min(_CALIBRATION_TOKENS, self.source.document.max_length)
        tokenizer = Tokenizer(bundle / TOKENIZER, max_length=length)
        return calibrate(graph, (text.ids for text in tokenizer.tokenize(texts)))

    def _write(
        self,
        folder: Path,
        graph: onnx.ModelProto,
        vocab_size: int,
        quantization: dict[str, Any],
    ) -> Description:
        folder.mkdir()
        _save_graph(graph, folder)
        _copy_tokenizer(self.tokenizer, folder / TOKENIZER)
        self._write_query_side(folder, vocab_size)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        description = Description(
            name=self.name,
            vocab_size=vocab_size,
            query=self.source.query,
            document=self.source.document,
            query_mode=self.source.query_mode,
            files={path.relative_to(folder).as_posix(): FileEntry.of(path) for path in files},
            source=dict(self.source.source),
            quantization=quantization,
            exporter=_versions(graph),
        )
        return _describe(folder, description)

    def _write_query_side(self, folder: Path, vocab_size: int) -> None:
        """Write what only queries need: a graph of their own, always float32, or a table."""
        if self.source.query_weights is not None:
            np.save(folder / QUERY_WEIGHTS, self.source.query_weights, allow_pickle=False)
        if self.source.query_tokenizer is not None:
            (folder / QUERY_TOKENIZER).parent.mkdir()
            _copy_tokenizer(self.source.query_tokenizer, folder / QUERY_TOKENIZER)
        if self.query_logits is None:
            return
        graph = onnx.ModelProto()  # saving moves the weights out of what it saves
        graph.CopyFrom(self.query_logits)
        size = fuse_pooling(graph, self.source.query, _metadata(self.source.query))
        if size != vocab_size:
            raise CheckpointError(
                f"queries have {size} terms and documents {vocab_size}, so none can meet another."
            )
        _save_graph(graph, (folder / QUERY_GRAPH).parent)


def _metadata(semantics: Semantics) -> dict[str, str]:
    """Say in a graph itself what its weights mean, for those who find it alone.

    Where it came from is in the description: the fingerprint is of the vectors.
    """
    return {
        "spladelet.pooling": semantics.pooling,
        "spladelet.activation": semantics.activation,
    }


def _read(checkpoint: str | Path | Checkpoint) -> Checkpoint:
    """Read a checkpoint, and what its recipe adds, if it is from the hub and has one."""
    if isinstance(checkpoint, Checkpoint):
        return checkpoint
    recipe = None if is_folder(Path(checkpoint)) else find_recipe(str(checkpoint))
    source = read_checkpoint(checkpoint)
    return source if recipe is None else recipe.apply(source)


def _save_graph(graph: onnx.ModelProto, folder: Path) -> None:
    compact(graph)
    onnx.save(
        graph,
        folder / GRAPH,
        save_as_external_data=True,
        location=GRAPH_DATA,
        size_threshold=_EXTERNAL_FROM,
    )
    (folder / GRAPH_DATA).chmod(0o644)  # onnx makes it readable for its owner alone


def _check_target(target: Path) -> None:
    try:
        taken = target.exists() and not (target / DESCRIPTION).is_file()
        fixed = target.exists() and (target.samefile(Path.cwd()) or target.is_mount())
        if fixed or (taken and (not target.is_dir() or any(target.iterdir()))):
            raise ExportError(
                f"{target} exists and is not a bundle. Give the name of a new "
                "folder, or of a bundle to replace."
            )
    except (OSError, ValueError) as error:
        raise ExportError(f"{str(target)[:80]!r} cannot be a bundle's folder: {error}.") from error


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """Make a folder beside the target, on the same disk, that goes away whatever happens."""
    made = [folder for folder in target.absolute().parents if not folder.exists()]
    try:
        with _io_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as name:
                yield Path(name)
    except BaseException:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise


@contextmanager
def _io_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(
            f"cannot write {target}: {error.strerror or error}. Nothing was left behind."
        ) from error


def _copy_tokenizer(source: Path, target: Path) -> None:
    """Copy a tokenizer without line breaks and indents, a third of the file.

    Its own truncation and padding go, too: the runtime sets them, and others would be misled.
    """
    content = (read_json(source, dict) or {}) | {"truncation": None, "padding": None}
    target.write_text(
        json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8"
    )


def _versions(graph: onnx.ModelProto) -> dict[str, Any]:
    found: dict[str, Any] = {"spladelet": spladelet.__version__, "opset": opset(graph)}
    for package in ("torch", "transformers", "optimum-onnx", "onnx", "onnxruntime"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _describe(folder: Path, description: Description) -> Description:
    (folder / DESCRIPTION).write_text(description.to_json(), encoding="utf-8")
    return description


def _load(folder: Path) -> Encoder:
    return Encoder(Bundle.open(folder))


def _missed(attempts: Sequence[dict[str, Any]], limits: Limits) -> str:
    tried = "; ".join(
        f"{attempt['recipe']}: overlap {attempt['top10_overlap']:.3f}, nDCG ratio "
        f"{attempt['ndcg_ratio']:.3f} ({attempt['ndcg_ratio_low']:.3f} to "
        f"{attempt['ndcg_ratio_high']:.3f})"
        for attempt in attempts
    )
    return (
        f"no int8 recipe reaches top-10 overlap {limits.overlap} and nDCG ratio "
        f"{limits.ndcg_ratio}. {tried}. Nothing was written. Calibrate on texts like your own "
        "(--calibration), lower the limits, or write it all the same (--force)."
    )


def _move(bundle: Path, target: Path, aside: Path) -> None:
    replaced = aside / "replaced"
    if target.exists():
        target.rename(replaced)
    try:
        bundle.rename(target)
    except OSError:
        if replaced.exists():
            replaced.rename(target)
        raise
