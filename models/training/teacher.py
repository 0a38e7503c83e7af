"""The teacher: the dense model that training starts from, and BM25 on word pieces.

Each alone is beaten by both together: the dense one knows sense, BM25 which words carry it.
Dense vectors are computed when first needed and kept on disk.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

_K1, _B = 1.2, 0.75
_TEXTS = 16


class Dense:
    """Mean-pooled, normalised vectors of a frozen encoder.

    Args:
        base: Its folder or hub id.
        length: Tokens read of a text.
        device: Where it runs.
    """

    def __init__(self, base: str | Path, length: int, device: str = "cpu") -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(str(base))
        self._model = AutoModel.from_pretrained(str(base)).to(device).eval()
        self._length = length
        self._device = device

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the texts' vectors, float32[texts, width]."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        result = np.empty((len(texts), self._model.config.hidden_size), np.float32)
        for start in range(0, len(order), _TEXTS):
            rows = order[start : start + _TEXTS]
            batch = self._tokenizer(
                [texts[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=self._length,
                return_tensors="pt",
            ).to(self._device)
            with torch.inference_mode():
                hidden, keep = self._model(**batch)[0], batch["attention_mask"][:, :, None].float()
                pooled = (hidden * keep).sum(1) / keep.sum(1)
                result[rows] = F.normalize(pooled, dim=-1).cpu().numpy()
        return result


class DenseStore:
    """Dense vectors of a fixed list of texts, in a file that is filled as they are needed."""

    def __init__(self, dense: Dense, texts: Sequence[str], file: Path, width: int) -> None:
        self._dense = dense
        self._texts = texts
        shape = (len(texts), width)
        if not file.exists():
            np.memmap(str(file), np.float16, "w+", shape=shape)
        self._vectors = np.memmap(str(file), np.float16, "r+", shape=shape)

    def get(self, rows: Sequence[int]) -> NDArray[np.float32]:
        """Return the vectors of some of the texts, float32[rows, width]."""
        missing = [row for row in dict.fromkeys(rows) if not self._vectors[row].any()]
        if missing:
            self._vectors[missing] = self._dense.encode([self._texts[row] for row in missing])
        return np.asarray(self._vectors[list(rows)], np.float32)


class Bm25:
    """BM25 on word pieces: a passage's scores for a query are a product of sparse rows."""

    def __init__(self, tokenizer: Any, passages: Sequence[str], length: int) -> None:  # noqa: ANN401
        self._tokenizer = tokenizer
        bag = _bag(tokenizer, passages, length)
        self.frequency: NDArray[np.int64] = np.bincount(bag.indices, minlength=bag.shape[1])
        weights = idf(self.frequency, bag.shape[0])
        lengths = np.asarray(bag.sum(1)).ravel()
        norm = _K1 * (1 - _B + _B * lengths / max(lengths.mean(), 1e-9))
        rows = np.repeat(norm, np.diff(bag.indptr))
        bag.data = bag.data * (_K1 + 1) / (bag.data + rows) * weights[bag.indices]
        self.passages: sp.csr_array = bag

    def queries(self, texts: Sequence[str], length: int) -> sp.csr_array:
        """Return which terms each query has, float32[queries, vocabulary]."""
        return own_tokens(self._tokenizer, texts, length)

    def hard_negatives(self, queries: sp.csr_array, depth: int) -> NDArray[np.int64]:
        """Return for each query the passages that BM25 likes best, but for its own.

        Query i's own passage is number i. int64[queries, depth], the best in no order.
        """
        transposed = self.passages.T.tocsr()
        found = []
        for start in range(0, queries.shape[0], 256):
            scores = (queries[start : start + 256] @ transposed).toarray()
            scores[np.arange(len(scores)), start + np.arange(len(scores))] = -1
            found.append(np.argpartition(-scores, depth, axis=1)[:, :depth])
        return np.concatenate(found)


def idf(frequency: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """Return the weight of each term by how many of so many passages have it, as Lucene does."""
    weights: NDArray[np.float64] = np.log(1 + (count - frequency + 0.5) / (frequency + 0.5))
    return weights.astype(np.float32)


def own_tokens(tokenizer: Any, texts: Sequence[str], length: int) -> sp.csr_array:  # noqa: ANN401
    """Return which terms each text has, float32[texts, vocabulary]."""
    bag = _bag(tokenizer, texts, length)
    bag.data[:] = 1
    return bag


def _bag(tokenizer: Any, texts: Sequence[str], length: int) -> sp.csr_array:  # noqa: ANN401
    ids = tokenizer(list(texts), truncation=True, max_length=length, add_special_tokens=False)[
        "input_ids"
    ]
    rows = np.repeat(np.arange(len(ids)), [len(i) for i in ids])
    columns = np.concatenate([np.asarray(i, np.int64) for i in ids])
    shape = (len(ids), len(tokenizer))
    return sp.coo_array((np.ones(len(rows), np.float32), (rows, columns)), shape).tocsr()
