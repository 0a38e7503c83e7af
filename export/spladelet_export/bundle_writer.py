"""From a logits graph to a bundle: float32 first, compared with a reference, then perhaps int8."""

import json
import shutil
from collections.abc import Callable, Sequence
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
from spladelet.encoder.tokenizer import Tokenizer
from spladelet.evaluation import Collection, VectorCache, demo_collection
from spladelet.files import FileEntry
from spladelet.text import valid_unicode
from spladelet_export.card import model_card
from spladelet_export.checkpoint.checkpoint import Checkpoint
from spladelet_export.checkpoint.checkpoint_files import read_json
from spladelet_export.checks.fidelity import check, measure
from spladelet_export.checks.fidelity_texts import built_in_texts
from spladelet_export.checks.gate import Gate, Limits
from spladelet_export.checks.reference import Reference
from spladelet_export.checks.token_check import check_tokens
from spladelet_export.conformance_files import add_conformance
from spladelet_export.errors import CheckpointError, ExportError, FidelityError
from spladelet_export.explain_graphs import add_explaining
from spladelet_export.graph.compaction import compact
from spladelet_export.graph.logits_graph import opset
from spladelet_export.graph.operator_fusion import fuse_operators
from spladelet_export.graph.pooling import BLOCK, fuse_pooling
from spladelet_export.graph.portable_rounding import alike_on, spell_out_rounding
from spladelet_export.int8.calibration import Calibration, calibrate
from spladelet_export.int8.int8_recipes import INT8_RECIPES
from spladelet_export.int8.quantization import quantize

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
        web: Have WebAssembly give the same bits, too, in two to three times the time.
    """

    calibration: Sequence[str] = ()
    collections: Sequence[Collection] = ()
    limits: Limits = Limits()  # noqa: RUF009 - frozen
    force: bool = False
    web: bool = False


@dataclass(frozen=True, slots=True)
class BundleWriter:
    """Writes the bundle of one checkpoint.

    Attributes:
        source: What is exported.
        tokenizer: The documents' tokenizer.json.
        name: What to call the model.
        reference: What float32 weights are compared with.
        report: Told each step as it begins.
        texts: Compared besides the built-in texts.
        query_logits: The queries' own logits graph; None if they have none.

    Raises:
        ExportError: The name, or a prompt, is no text that a file can hold.
    """

    source: Checkpoint
    tokenizer: Path
    name: str
    reference: Reference
    report: Report
    texts: Sequence[str] = ()
    query_logits: onnx.ModelProto | None = None

    def __post_init__(self) -> None:
        prompts = (self.source.query.prompt, self.source.document.prompt)
        for what, text in (("the name", self.name), *(("a prompt", prompt) for prompt in prompts)):
            if valid_unicode(text) != text:
                raise ExportError(
                    f"{what} is {text!r:.60}, with half of a character in it, which no file can be "
                    "written with. Give another."
                )

    def write(self, folder: Path, logits: onnx.ModelProto, int8: Int8 | None) -> Description:
        """Write a bundle, and check it against the reference.

        Args:
            folder: Empty; what lies beside it goes away with it.
            logits: The documents' graph, which is used up.
            int8: Quantize; None keeps float32.

        Returns:
            The bundle's description, with what was measured.

        Raises:
            CheckpointError: The parts of the checkpoint do not belong together.
            GraphError: The graph does not end as a masked language model does.
            FidelityError: The weights are not the reference's, or int8 misses its limits.
        """
        if int8 is None:
            self.report("fusing the pooling into it")
            description = self._write_float32(logits, folder)
        else:
            # Before the pooling, which attention is not recognised behind; see `operator_fusion`.
            fused = fuse_operators(logits)
            self.report("fusing the pooling into it")
            reference = folder.with_name("float32")
            exact = self._write_float32(logits, reference)
            description = self._write_int8(fused, reference, exact, int8, folder)
        described = add_explaining(folder, description)
        self.report("writing down vectors, for other languages")
        description = _describe(folder, add_conformance(folder, described))
        (folder / CARD).write_text(model_card(description), encoding="utf-8")
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
        exact: Description,
        int8: Int8,
        folder: Path,
    ) -> Description:
        """Try recipes until one passes the gate."""
        document = self.source.document
        fuse_pooling(fused, document, _metadata(document), _INT8_BLOCK)
        calibration = self._calibrate(fused, reference, int8)
        collections = int8.collections or [demo_collection()]
        self.report("retrieving with float32, for the gate")
        gate = Gate(VectorCache(_load(reference)), collections)
        attempts: list[dict[str, Any]] = []
        for recipe in INT8_RECIPES:
            self.report(f"int8, {recipe.name}")
            graph = quantize(fused, calibration, recipe)
            spell_out_rounding(graph.graph, web=int8.web)
            quantization: dict[str, Any] = {"weights": "int8"}
            alike = alike_on(graph.graph) if self.query_logits is None else ()
            written = self._write(folder, graph, exact.vocab_size, quantization)
            agreement = gate.measure(VectorCache(_load(folder)))
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
        described = replace(
            written, quantization=quantization, fidelity=exact.fidelity, alike_on=alike
        )
        return _describe(folder, described)

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
        shutil.rmtree(folder, ignore_errors=True)  # an int8 recipe that did not pass left its own
        folder.mkdir()
        save_graph(graph, folder)
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
        save_graph(graph, (folder / QUERY_GRAPH).parent)


def _metadata(semantics: Semantics) -> dict[str, str]:
    """Say in a graph itself what its weights mean, for those who find it alone.

    Where it came from is in the description: the fingerprint is of the vectors.
    """
    return {
        "spladelet.pooling": semantics.pooling,
        "spladelet.activation": semantics.activation,
    }


def save_graph(graph: onnx.ModelProto, folder: Path) -> None:
    """Write a fused graph, which is used up, and beside it the tensors that it shall map."""
    compact(graph)
    onnx.save(
        graph,
        folder / GRAPH,
        save_as_external_data=True,
        location=GRAPH_DATA,
        size_threshold=_EXTERNAL_FROM,
    )
    (folder / GRAPH_DATA).chmod(0o644)  # onnx makes it readable for its owner alone


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
