"""Query weights without a network: a weight for each term of the vocabulary.

From sentence-transformers' SparseStaticEmbedding (once IDF), and from OpenSearch's idf.json and
query_token_weights.txt, which say the same by the terms' names.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spladelet_export.checkpoint.checkpoint_files import read_json
from spladelet_export.checkpoint.layout import TABLES
from spladelet_export.errors import CheckpointError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Weights = NDArray[np.float32]

_TENSOR = "weight"
_LEAST_KNOWN = 0.5  # of a table's terms must be in the vocabulary, or it is of another one


def read_table(folder: Path, top: Path, tokenizer: "Tokenizer", vocab_size: int) -> Weights:
    """Read a table of query weights: float32[vocab_size], 0 where it has none.

    Negative weights, which a few learned tables have, are 0: OpenSearch does not use them, and a
    sparse vector has none.

    Args:
        folder: Where the table is.
        top: The checkpoint's folder, where a file may be that the table's settings name.
        tokenizer: Its terms.
        vocab_size: How many terms the model has.

    Raises:
        CheckpointError: There is no table, or one of another vocabulary.
    """
    stated = (read_json(folder / "config.json", dict) or {}).get("path")
    names = [Path(stated).name] if isinstance(stated, str) else []
    if folder == top:  # beside a plain checkpoint, whose config.json is not a table's
        names = list(TABLES)
    for path in [place / name for place in (folder, top) for name in names]:
        if path.is_file():
            return _by_name(path, tokenizer, vocab_size)
    weights = _tensor(folder)
    if len(weights) > vocab_size:
        raise CheckpointError(
            f"{folder} has {len(weights)} query weights and the model {vocab_size} terms: they do "
            "not belong together. Get the checkpoint again."
        )
    return _clean(np.pad(weights, (0, vocab_size - len(weights))), folder)


def _by_name(path: Path, tokenizer: "Tokenizer", vocab_size: int) -> Weights:
    weights = np.zeros(vocab_size, np.float32)
    known = total = 0
    for term, weight in _entries(path):
        number = tokenizer.token_to_id(term)
        total += 1
        if number is not None and number < vocab_size:
            weights[number] = weight
            known += 1
    if known < _LEAST_KNOWN * total or not total:
        raise CheckpointError(
            f"{path} has weights for {total} terms, of which the tokenizer knows {known}: it is of "
            "another vocabulary. Get the checkpoint again."
        )
    return _clean(weights, path)


def _entries(path: Path) -> Iterator[tuple[str, float]]:
    try:
        if path.suffix == ".json":
            raw: Mapping[str, float] = read_json(path, dict)
            yield from ((term, float(weight)) for term, weight in raw.items())
            return
        for line in path.read_text(encoding="utf-8").split("\n"):
            if line.strip():
                term, _, weight = line.rstrip("\r").rpartition("\t")
                yield term, float(weight)
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{path} does not give each term a weight ({error}). Get the checkpoint again."
        ) from error


def _tensor(folder: Path) -> Weights:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / "model.safetensors"
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has neither {' nor '.join(TABLES)} nor {path.name}, so there are no query "
            "weights. Get the checkpoint again."
        )
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Get it again.") from error
    if _TENSOR not in tensors or tensors[_TENSOR].ndim != 1:
        raise CheckpointError(
            f"{path} holds {', '.join(tensors) or 'nothing'}; expected {_TENSOR!r}, one number for "
            "each term."
        )
    weights: Weights = tensors[_TENSOR].astype(np.float32)
    return weights


def _clean(weights: Weights, where: Path) -> Weights:
    if not np.isfinite(weights).all():
        raise CheckpointError(f"{where} has a weight that is no finite number. Get it again.")
    return np.maximum(weights, 0)
