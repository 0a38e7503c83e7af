"""One side of a model, queries or documents: from tokens to sparse rows.

A graph makes them; or, for the queries of some models, a table alone does, and then neither ONNX
Runtime nor the graph is loaded.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from spladelet.bundle.bundle_files import read_file
from spladelet.bundle.description import (
    GRAPH,
    QUERY_GRAPH,
    QUERY_TOKENIZER,
    QUERY_WEIGHTS,
    TOKENIZER,
    Semantics,
)
from spladelet.bundle.folder import Bundle
from spladelet.encoder.session import GraphSession
from spladelet.encoder.tokenizer import TokenizedText, Tokenizer
from spladelet.errors import BundleFileError, BundleGraphError
from spladelet.pruning import Row

# Positions in one run of the graph, padding counted: enough to keep the processors busy, small
# enough for their caches (benchmarks/README.md).
TOKENS_PER_BATCH = 1024
# What a run costs besides, in positions: many small ones, each padded less, are not for nothing.
_RUN_COST = 32
_LONGEST_HEAD = 1 << 16  # bytes of a .npy file before its numbers; ours have 128

Weights = NDArray[np.float32]


class Side(ABC):
    """Turns tokenized texts into rows, and knows which terms are never in them.

    Attributes:
        semantics: What the side's weights mean.
        tokenizer: The side's.
    """

    def __init__(self, semantics: Semantics, tokenizer: Tokenizer) -> None:
        self.semantics = semantics
        self.tokenizer = tokenizer
        special, unknown = tokenizer.special_ids()
        zeroed = special if semantics.special_tokens == "zero_dims" else frozenset()
        zeroed |= unknown if semantics.unknown_token == "zero_dims" else frozenset()
        self._zeroed = np.array(sorted(zeroed), np.int64)

    @abstractmethod
    def rows(self, texts: Sequence[TokenizedText]) -> Iterator[tuple[int, Row]]:
        """Return the number of each text and its row, in any order.

        Args:
            texts: Texts with content.
        """

    def _own_tokens(self, ids: Sequence[int], table: Weights) -> Weights:
        """Return the table's weights of a text's tokens, 0 for all other terms."""
        if (highest := max(ids, default=0)) >= len(table):
            raise BundleFileError(
                f"the tokenizer gives term {highest} ({self.tokenizer.term(highest)}), and the "
                f"model has {len(table)}: they do not belong together. Export the bundle again."
            )
        weights = np.zeros_like(table)
        weights[ids] = table[ids]
        return weights

    def _sparsify(self, weights: Weights) -> Row:
        """Turn dense weights float32[vocab_size] into ascending ids and their weights."""
        weights[self._zeroed] = 0.0
        ids = np.flatnonzero(weights != 0)  # of truth values, it takes a tenth of the time
        return ids.astype(np.int32), weights[ids]


class GraphSide(Side):
    """A side that is encoded by a graph.

    Args:
        semantics: What its weights mean.
        tokenizer: Its tokenizer.
        session: The graph.
        name: What messages call the model.
        table: float32[vocab_size]: only a text's own tokens count, their weights times these; None
            for all terms as they are.
    """

    def __init__(
        self,
        semantics: Semantics,
        tokenizer: Tokenizer,
        session: GraphSession,
        name: str,
        table: Weights | None = None,
    ) -> None:
        super().__init__(semantics, tokenizer)
        self._session = session
        self._name = name
        self._table = table

    def rows(self, texts: Sequence[TokenizedText]) -> Iterator[tuple[int, Row]]:
        """See `Side`; texts of like length run together."""
        for batch in _batches([len(text.ids) for text in texts]):
            dense = self._run([texts[i].ids for i in batch])
            for i, weights in zip(batch, dense, strict=True):
                if self._table is not None:
                    weights = self._own_tokens(texts[i].ids, self._table) * weights
                yield i, self._sparsify(weights)

    def _run(self, batch: list[list[int]]) -> Weights:
        shape = (len(batch), max(map(len, batch)))
        input_ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, ids in enumerate(batch):
            input_ids[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        weights = self._session.run(input_ids, mask)
        lowest, highest = weights.min(initial=0.0), weights.max(initial=0.0)
        if not (lowest >= 0 and np.isfinite(highest)):  # said so that NaN is refused, too
            wrong = highest if lowest >= 0 else lowest
            raise BundleGraphError(
                f"the graph of {self._name} gives a weight of {wrong}; expected finite ones, 0 or "
                "above. The model is damaged: get or export the bundle again."
            )
        return weights


class TableSide(Side):
    """A side whose texts have their own tokens only, each with its weight in a table."""

    def __init__(self, semantics: Semantics, tokenizer: Tokenizer, table: Weights) -> None:
        super().__init__(semantics, tokenizer)
        self._table = table

    def rows(self, texts: Sequence[TokenizedText]) -> Iterator[tuple[int, Row]]:
        """See `Side`."""
        for i, text in enumerate(texts):
            yield i, self._sparsify(self._own_tokens(text.ids, self._table))


def open_sides(bundle: Bundle, threads: int) -> tuple[Side, Side]:
    """Return the sides of queries and of documents.

    Raises:
        BundleFileError: A file holds no tokenizer, or no table.
    """
    description = bundle.description
    mode, query, document = description.query_mode, description.query, description.document
    session = GraphSession(bundle, GRAPH, threads)
    tokenizer = _tokenizer(bundle, TOKENIZER, document)
    documents = GraphSide(document, tokenizer, session, description.name)
    if mode in ("idf", "bow"):
        words = QUERY_TOKENIZER if QUERY_TOKENIZER in description.files else TOKENIZER
        plain = _tokenizer(bundle, words, query, special_tokens=False)
        ones = np.ones(description.vocab_size, np.float32)
        return TableSide(query, plain, ones if mode == "bow" else _table(bundle)), documents
    if mode == "separate":
        tokenizer = _tokenizer(bundle, QUERY_TOKENIZER, query)
        session = GraphSession(bundle, QUERY_GRAPH, threads)
    elif (query.max_length, query.prompt) != (document.max_length, document.prompt):
        tokenizer = _tokenizer(bundle, TOKENIZER, query)
    table = _table(bundle) if mode == "lexical" else None
    return GraphSide(query, tokenizer, session, description.name, table), documents


def _tokenizer(
    bundle: Bundle, name: str, semantics: Semantics, *, special_tokens: bool = True
) -> Tokenizer:
    path, terms = bundle.path(name), bundle.description.vocab_size
    tokenizer = Tokenizer(
        path,
        max_length=semantics.max_length,
        prompt=semantics.prompt,
        special_tokens=special_tokens,
    )
    highest = max(tokenizer.size - 1, *map(max, filter(None, tokenizer.special_ids())), 0)
    if highest >= terms:
        raise BundleFileError(
            f"{path} has term {highest}, and the model {terms} terms: they do not belong together. "
            "Export the bundle again."
        )
    return tokenizer


def _table(bundle: Bundle) -> Weights:
    path, terms = bundle.path(QUERY_WEIGHTS), bundle.description.vocab_size
    content = read_file(path, _LONGEST_HEAD + 4 * terms)
    head = BytesIO(content[:_LONGEST_HEAD])
    try:
        if np.lib.format.read_magic(head) != (1, 0):
            raise ValueError("it is of another version than 1.0")
        shape, _, dtype = np.lib.format.read_array_header_1_0(head)
        if (shape, dtype) == ((terms,), np.dtype("<f4")):
            table = np.frombuffer(content, "<f4", offset=head.tell()).astype(np.float32)
        else:
            raise ValueError(f"it holds {dtype}{list(shape)}")
    except Exception as error:  # numpy parses the head as Python, and lets its errors through
        raise BundleFileError(
            f"{path} is no array of {terms} float32 ({error}). Export the bundle again."
        ) from error
    if len(table) != terms or not (np.isfinite(table).all() and (table >= 0).all()):
        raise BundleFileError(
            f"{path} does not hold {terms} finite weights, 0 or above. Export the bundle again."
        )
    return table


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Group texts of like length within the token budget, so that all runs together cost the least.

    A batch is padded to its longest text. From the shortest text on, it is found how far down a
    batch that begins with it best reaches: to where texts become shorter, or as far as it may.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    count = len(order)
    costs, ends = [0] * (count + 1), [count] * count
    changes: list[int] = []  # where texts become shorter, after the one that is looked at
    for start in reversed(range(count)):
        length = lengths[order[start]]
        if start + 1 < count and lengths[order[start + 1]] < length:
            changes.append(start + 1)
        furthest = min(count, start + max(1, TOKENS_PER_BATCH // max(1, length)))
        costs[start], ends[start] = min(
            (_RUN_COST + (end - start) * length + costs[end], -end)
            for end in (furthest, *takewhile(furthest.__gt__, reversed(changes)))
        )
        ends[start] *= -1
    batches, start = [], 0
    while start < count:
        batches.append(order[start : ends[start]])
        start = ends[start]
    return batches
