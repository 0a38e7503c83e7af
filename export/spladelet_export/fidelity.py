"""How far a bundle's vectors are from the torch reference.

The reference goes its own way from text to weights: transformers' tokenizer, torch logits of one
text at a time, activation and pooling written out. Texts without content are left out: the runtime
gives them no terms, on purpose.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from spladelet import Encoder, SparseVectors
from spladelet.bundle.description import Semantics
from spladelet.encoder.onnx_runtime import load_onnx_runtime
from spladelet.encoder.tokenizer import Tokenizer
from spladelet.text import valid_unicode
from spladelet_export.checkpoint import Checkpoint
from spladelet_export.errors import CheckpointError, FidelityError, GraphError, require
from spladelet_export.graph import ALIASES, INPUTS

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

Side = Literal["query", "document"]

# What float32 arithmetic in another order may differ by. A sum over 512 positions is itself rounded
# to nearly 1e-4.
TOLERANCES = {"max": 1e-4, "sum": 1e-3}
TOLERANCE = TOLERANCES["max"]
_TOP = 10
# The terms that a text has in checkpoints that people use; and the share of the vocabulary beyond
# which, if that is more, a model is none of them.
_USUAL, _MOST = (6, 200), 0.5


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

    def encode(self, text: str, side: Side) -> NDArray[np.float32]:
        """Return the weights of a query or document: float32[vocab_size]."""
        ...

    def tokenizer(self, side: Side) -> "PreTrainedTokenizerBase | None":
        """Return the tokenizer of queries or documents; None if it is the runtime's."""
        ...


class TorchReference:
    """Encode texts in torch, one at a time, without any of the runtime's code.

    Args:
        checkpoint: What its vectors mean, and where its tokenizers are.
        model: The documents' masked language model.
        query_model: The queries' own; None if they have none.
    """

    name = "torch, float32"

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: "PreTrainedModel",
        query_model: "PreTrainedModel | None" = None,
    ) -> None:
        require("torch", "transformers")
        self._checkpoint = checkpoint
        self._model = model
        self._query_model = query_model or model
        self._tokenizer = _transformers_tokenizer(checkpoint.folder)
        self._query_tokenizer = self._tokenizer
        if checkpoint.query_tokenizer is not None:
            self._query_tokenizer = _transformers_tokenizer(checkpoint.query_tokenizer.parent)

    def tokenizer(self, side: Side) -> "PreTrainedTokenizerBase":
        """Return transformers' tokenizer of queries or documents."""
        return self._query_tokenizer if side == "query" else self._tokenizer

    def encode(self, text: str, side: Side) -> NDArray[np.float32]:
        """Return the weights of a query or document: float32[vocab_size]."""
        checkpoint = self._checkpoint
        if side == "document":
            return self._by_model(text, checkpoint.document, self._model, self._tokenizer)
        tokenizer, mode = self._query_tokenizer, checkpoint.query_mode
        if mode in ("idf", "bow"):
            return self._by_table(text, checkpoint.query, tokenizer)
        weights = self._by_model(text, checkpoint.query, self._query_model, tokenizer)
        if mode == "lexical" and checkpoint.query_weights is not None:
            own = np.zeros_like(weights)
            ids = self._ids(text, checkpoint.query, tokenizer)["input_ids"][0].tolist()
            own[ids] = checkpoint.query_weights[ids]
            weights = weights * own
        return weights

    def _by_model(
        self,
        text: str,
        semantics: Semantics,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
    ) -> NDArray[np.float32]:
        import torch

        batch = self._ids(text, semantics, tokenizer)
        with torch.no_grad():
            weights = torch.log1p(torch.relu(model(**batch).logits[0]))
            if semantics.activation == "log1p_log1p":
                weights = torch.log1p(weights)
            pooled = weights.amax(0) if semantics.pooling == "max" else weights.sum(0)
        return _without_zeroed(pooled.numpy(), semantics, tokenizer)

    def _by_table(
        self, text: str, semantics: Semantics, tokenizer: "PreTrainedTokenizerBase"
    ) -> NDArray[np.float32]:
        size = self._model.config.vocab_size
        table = self._checkpoint.query_weights
        weights = np.zeros(size, np.float32)
        for number in self._ids(text, semantics, tokenizer, special=False)["input_ids"][0].tolist():
            weights[number] = 1.0 if table is None else table[number]
        return _without_zeroed(weights, semantics, tokenizer)

    @staticmethod
    def _ids(
        text: str,
        semantics: Semantics,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        special: bool = True,
    ) -> "BatchEncoding":
        return tokenizer(
            semantics.prompt + valid_unicode(text),
            truncation=True,
            max_length=semantics.max_length,
            add_special_tokens=special,
            return_tensors="pt",
        )


def _transformers_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise CheckpointError(f"the tokenizer in {folder} cannot be loaded: {error}") from error


def _without_zeroed(
    weights: NDArray[np.float32], semantics: Semantics, tokenizer: "PreTrainedTokenizerBase"
) -> NDArray[np.float32]:
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    for rule, ids in (
        (semantics.special_tokens, special),
        (semantics.unknown_token, {tokenizer.unk_token_id} - {None}),
    ):
        if rule == "zero_dims":
            weights[sorted(ids)] = 0
    return weights


class LogitsReference:
    """Encode texts by a graph that ends in logits, one at a time, pooled in numpy.

    Args:
        graph: The ONNX file.
        tokenizer: Its `tokenizer.json`.
        semantics: What its weights mean, for queries and documents.

    Raises:
        GraphError: ONNX Runtime does not load it, or it wants other inputs.
    """

    name = "its own logits, pooled in numpy"

    def __init__(self, graph: Path, tokenizer: Path, semantics: Semantics) -> None:
        onnxruntime = load_onnx_runtime()
        self._words = tokenizer
        self._semantics = semantics
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

    def tokenizer(self, side: Side) -> None:
        """Return None: the runtime's tokenizer is the only one there is."""
        del side

    def encode(self, text: str, side: Side) -> NDArray[np.float32]:
        """Return the weights of a query or document: float32[vocab_size]."""
        del side  # a graph alone has one meaning
        semantics = self._semantics
        tokenizer = Tokenizer(self._words, max_length=semantics.max_length, prompt=semantics.prompt)
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
        special, unknown = tokenizer.special_ids()
        for rule, numbers in (
            (semantics.special_tokens, special),
            (semantics.unknown_token, unknown),
        ):
            if rule == "zero_dims":
                pooled[sorted(numbers)] = 0
        return pooled


def measure(encoder: Encoder, reference: Reference, texts: Sequence[str]) -> Fidelity:
    """Compare a bundle with its reference on texts, as queries and as documents.

    Raises:
        CheckpointError: The reference has hardly any terms, or hardly any that it has not, for
            queries or for documents: there is nothing to compare, and nothing to search by.
    """
    description = encoder.description
    documents = encoder.encode_documents(texts, progress=False)
    sides: list[tuple[Side, SparseVectors, Callable[[str], Sequence[object]]]] = [
        ("document", documents, encoder.document_words)
    ]
    if description.query_mode != "same" or description.query != description.document:
        sides.append(("query", encoder.encode_queries(texts), encoder.query_words))
    pairs = []
    for side, vectors, words in sides:
        found = [
            (row, reference.encode(text, side))
            for row, text in zip(_dense_rows(vectors), texts, strict=True)
            if words(text)
        ]
        check_active_dims([theirs for _, theirs in found], description.vocab_size, side)
        pairs += found
    return compare(pairs, len(texts))


def check_active_dims(rows: Sequence[NDArray[np.float32]], vocab_size: int, side: Side) -> None:
    """Raise CheckpointError unless texts have terms at all, and not most of the vocabulary.

    Args:
        rows: What a reference gives for the texts of a side, float32[vocab_size] each.
        vocab_size: How many terms there are.
        side: Whose texts they are.
    """
    mean = float(np.mean([(row > 0).sum() for row in rows])) if rows else 0.0
    most = int(max(_USUAL[1], _MOST * vocab_size))
    if 0 < mean <= most:
        return
    cause = "a plain masked language model, which was not trained to be sparse"
    if not mean:
        cause = "damaged, or its head or its table of query weights was never trained"
    raise CheckpointError(
        f"a {side} has {mean:.1f} of {vocab_size} terms on average, over {len(rows)} texts; "
        f"expected some, and at most {most}: checkpoints that people use have {_USUAL[0]} to "
        f"{_USUAL[1]}. It is {cause}. Export one that was trained for sparse retrieval."
    )


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


def check(fidelity: Fidelity, pooling: str = "max", reference: str = "torch") -> None:
    """Raise FidelityError if float32 weights differ from the reference by more than rounding."""
    tolerance = TOLERANCES[pooling]
    if not fidelity.max_abs_difference <= tolerance:
        raise FidelityError(
            f"the bundle's weights differ from {reference} by up to "
            f"{fidelity.max_abs_difference:.2g}; float32 may differ by {tolerance:.0e}. Nothing "
            "was written. Please report the checkpoint: its graph is not understood rightly."
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
