"""What a bundle is compared with: texts encoded without any of the runtime's graphs.

The references go their own way from text to weights: one text at a time, logits, activation and
pooling written out; for a checkpoint in torch, with transformers' tokenizer.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from spladelet.bundle.description import Semantics
from spladelet.encoder.onnx_runtime import load_onnx_runtime
from spladelet.encoder.tokenizer import Tokenizer
from spladelet.text import valid_unicode
from spladelet_export.checkpoint.checkpoint import Checkpoint
from spladelet_export.errors import CheckpointError, GraphError, require
from spladelet_export.graph.logits_graph import ALIASES, TOKEN_TYPES, takes_texts

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

Side = Literal["query", "document"]


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
        # A table weighs a text's own tokens; none are put around them.
        ids = self._ids(text, semantics, partial(tokenizer, add_special_tokens=False))
        for number in ids["input_ids"][0].tolist():
            weights[number] = 1.0 if table is None else table[number]
        return _without_zeroed(weights, semantics, tokenizer)

    @staticmethod
    def _ids(
        text: str, semantics: Semantics, tokenizer: "Callable[..., BatchEncoding]"
    ) -> "BatchEncoding":
        return tokenizer(
            semantics.prompt + valid_unicode(text),
            truncation=True,
            max_length=semantics.max_length,
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
        if not takes_texts(ALIASES.get(name, name) for name in self._inputs):
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
            TOKEN_TYPES: np.zeros_like(ids),
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
