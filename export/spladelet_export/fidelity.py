"""How far a bundle's vectors are from the torch reference.

The reference goes its own way from text to weights: transformers' tokenizer, torch logits of one
text at a time, activation and pooling written out. Texts without content are left out: the runtime
gives them no terms, on purpose.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from spladelet import Encoder, SparseVectors
from spladelet.bundle import Semantics
from spladelet.tokenizer import Tokenizer, valid_unicode
from spladelet_export.checkpoint import Checkpoint
from spladelet_export.errors import CheckpointError, FidelityError, GraphError, require
from spladelet_export.graph import ALIASES, INPUTS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What float32 arithmetic in another order may differ by. A sum over 512 positions is itself rounded
# to nearly 1e-4.
TOLERANCES = {"max": 1e-4, "sum": 1e-3}
TOLERANCE = TOLERANCES["max"]
_TOP = 10


@dataclass(frozen=True, slots=True)
class Fidelity:
    """A comparison of vectors.

    Attributes:
        texts: How many texts were compared, as query and as document.
        max_abs_difference: The largest difference of one weight.
        active_dims: Mean number of terms a vector has in the reference.
        active_dims_difference: The largest difference in their number.
        flipped_above_tolerance: Terms that only one side has, with a weight above the tolerance.
        top_overlap: Mean share of the reference's ten heaviest terms that are among the bundle's.
    """

    texts: int
    max_abs_difference: float
    active_dims: float
    active_dims_difference: int
    flipped_above_tolerance: int
    top_overlap: float

    def to_dict(self) -> dict[str, float]:
        """Return the figures by name."""
        return asdict(self)


class Reference(Protocol):
    """Something that encodes texts without the runtime's code.

    Attributes:
        name: What the report calls it.
    """

    name: str

    def encode(self, text: str, semantics: Semantics) -> NDArray[np.float32]:
        """Return the weights of a text: float32[vocab_size]."""
        ...


class TorchReference:
    """Encode texts in torch, one at a time, without any of the runtime's code.

    Args:
        model: The masked language model.
        checkpoint: Where its tokenizer is.
    """

    name = "torch, float32"

    def __init__(self, model: "PreTrainedModel", checkpoint: Checkpoint) -> None:
        require("torch", "transformers")
        from transformers import AutoTokenizer

        self._model = model
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                checkpoint.folder, local_files_only=True
            )
        except Exception as error:
            raise CheckpointError(
                f"the tokenizer in {checkpoint.folder} cannot be loaded: {error}"
            ) from error

    def encode(self, text: str, semantics: Semantics) -> NDArray[np.float32]:
        """Return the weights of a text: float32[vocab_size]."""
        import torch

        batch = self._tokenizer(
            semantics.prompt + valid_unicode(text),
            truncation=True,
            max_length=semantics.max_length,
            return_tensors="pt",
        )
        with torch.no_grad():
            weights = torch.log1p(torch.relu(self._model(**batch).logits[0]))
            if semantics.activation == "log1p_log1p":
                weights = torch.log1p(weights)
            pooled = weights.amax(0) if semantics.pooling == "max" else weights.sum(0)
        result: NDArray[np.float32] = pooled.numpy()
        for rule, ids in (
            (semantics.special_tokens, self._special_ids()),
            (semantics.unknown_token, {self._tokenizer.unk_token_id}),
        ):
            if rule == "zero_dims":
                result[sorted(ids)] = 0
        return result

    def _special_ids(self) -> set[int]:
        return set(self._tokenizer.all_special_ids) - {self._tokenizer.unk_token_id}


class LogitsReference:
    """Encode texts by a graph that ends in logits, one at a time, pooled in numpy.

    Args:
        graph: The ONNX file.
        tokenizer: Its `tokenizer.json`.

    Raises:
        GraphError: ONNX Runtime does not load it, or it wants other inputs.
    """

    name = "its own logits, pooled in numpy"

    def __init__(self, graph: Path, tokenizer: Path) -> None:
        import onnxruntime

        self._tokenizer = tokenizer
        try:
            self._session = onnxruntime.InferenceSession(
                str(graph), providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise GraphError(f"ONNX Runtime cannot load {graph}: {error}") from error
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        usual = {ALIASES.get(name, name) for name in self._inputs}
        if not set(INPUTS) <= usual <= {*INPUTS, "token_type_ids"}:
            raise GraphError(
                f"{graph} has inputs {', '.join(self._inputs)}; expected input_ids, "
                "attention_mask and perhaps token_type_ids. Rename them first."
            )

    def encode(self, text: str, semantics: Semantics) -> NDArray[np.float32]:
        """Return the weights of a text: float32[vocab_size]."""
        tokenizer = Tokenizer(
            self._tokenizer, max_length=semantics.max_length, prompt=semantics.prompt
        )
        ids = np.array([tokenizer.tokenize([text])[0].ids], np.int64)
        values = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        }
        feed = {name: values[ALIASES.get(name, name)] for name in self._inputs}
        weights = np.log1p(np.maximum(self._session.run(None, feed)[0][0], 0))
        if semantics.activation == "log1p_log1p":
            weights = np.log1p(weights)
        pooled: NDArray[np.float32] = (
            weights.max(axis=0) if semantics.pooling == "max" else weights.sum(axis=0)
        )
        return pooled


def measure(encoder: Encoder, reference: Reference, texts: Sequence[str]) -> Fidelity:
    """Compare a bundle with its reference on texts, as queries and as documents."""
    description = encoder.description
    sides = [
        (encoder.encode_queries(texts), encoder.query_words, description.query),
        (
            encoder.encode_documents(texts, progress=False),
            encoder.document_words,
            description.document,
        ),
    ]
    if description.query == description.document:
        sides = sides[:1]
    pairs = [
        (row, reference.encode(text, semantics))
        for vectors, words, semantics in sides
        for row, text in zip(_dense_rows(vectors), texts, strict=True)
        if words(text)
    ]
    return compare(pairs, len(texts))


def compare(
    pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]], texts: int
) -> Fidelity:
    """Compare dense rows: (ours, reference) float32[vocab_size] each."""
    differences = [np.abs(ours - theirs).max() for ours, theirs in pairs]
    counts = [int((ours > 0).sum()) - int((theirs > 0).sum()) for ours, theirs in pairs]
    flipped = [
        ((ours > 0) != (theirs > 0)) & (np.maximum(ours, theirs) > TOLERANCE)
        for ours, theirs in pairs
    ]
    overlaps = [
        len(_top(ours) & _top(theirs)) / max(1, len(_top(theirs))) for ours, theirs in pairs
    ]
    return Fidelity(
        texts,
        float(np.max(differences, initial=0.0)),
        float(np.mean([(theirs > 0).sum() for _, theirs in pairs])) if pairs else 0.0,
        max(map(abs, counts), default=0),
        int(sum(mask.sum() for mask in flipped)),
        float(np.mean(overlaps)) if overlaps else 1.0,
    )


def check(fidelity: Fidelity, pooling: str = "max") -> None:
    """Raise FidelityError if float32 weights differ by more than rounding."""
    tolerance = TOLERANCES[pooling]
    if not fidelity.max_abs_difference <= tolerance:
        raise FidelityError(
            f"the bundle's weights differ from torch by up to {fidelity.max_abs_difference:.2g}; "
            f"float32 may differ by {tolerance:.0e}. Nothing was written. Please report the "
            "checkpoint: its graph is not understood rightly."
        )


def _top(weights: NDArray[np.float32]) -> set[int]:
    best = np.argsort(-weights, kind="stable")[:_TOP]
    return {int(i) for i in best if weights[i] > 0}


def _dense_rows(vectors: SparseVectors) -> list[NDArray[np.float32]]:
    rows = []
    for vector in vectors:
        row = np.zeros(vectors.vocab_size, np.float32)
        row[vector.term_ids] = vector.weights
        rows.append(row)
    return rows
