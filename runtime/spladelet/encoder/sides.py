"""One side of a model, queries or documents: from tokens to sparse rows.

A graph makes them; or, for the queries of some models, a table alone does, and then neither ONNX
Runtime nor the graph is loaded.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spladelet.bundle.bundle_files import read_file
from spladelet.bundle.description import (
    EXPLAIN,
    GRAPH,
    QUERY_EXPLAIN,
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
from spladelet.origins import Origin
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

    @property
    def traces(self) -> bool:
        """Whether it can say where weights come from."""
        return True

    @property
    def origin(self) -> Origin | None:
        """Where its vectors are made; None if none were yet, or if they are the same everywhere."""
        return None

    @abstractmethod
    def trace(self, texts: Sequence[TokenizedText]) -> Iterator[tuple[int, Row, NDArray[np.int64]]]:
        """Return as `rows` does, and at which of its tokens each of a text's terms has its weight.

        Raises:
            BundleGraphError: The bundle has no graph that says it.
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
        graphs: What encodes, and what also says where weights come from.
        name: What messages call the model.
        table: float32[vocab_size]: only a text's own tokens count, their weights times these; None
            for all terms as they are.
    """

    def __init__(
        self,
        semantics: Semantics,
        tokenizer: Tokenizer,
        graphs: "Graphs",
        name: str,
        table: Weights | None = None,
    ) -> None:
        super().__init__(semantics, tokenizer)
        self._graphs = graphs
        self._name = name
        self._table = table

    def rows(self, texts: Sequence[TokenizedText]) -> Iterator[tuple[int, Row]]:
        """See `Side`; texts of like length run together."""
        for batch in _batches([len(text.ids) for text in texts]):
            dense = self._run([texts[i].ids for i in batch])
            for i, weights in zip(batch, dense, strict=True):
                yield i, self._row(texts[i].ids, weights)

    @property
    def traces(self) -> bool:
        """See `Side`."""
        return self._graphs.tracer is not None

    @property
    def origin(self) -> Origin | None:
        """See `Side`."""
        return self._graphs.model.origin

    def trace(self, texts: Sequence[TokenizedText]) -> Iterator[tuple[int, Row, NDArray[np.int64]]]:
        """See `Side`; a sum is said to come from where most of it does."""
        if self._graphs.tracer is None:
            raise BundleGraphError(
                f"{self._name} has no {EXPLAIN}, so it cannot say where weights come from. Add it "
                "with `spladelet-export explain BUNDLE`, or export the checkpoint again."
            )
        for batch in _batches([len(text.ids) for text in texts]):
            dense, positions = self._graphs.tracer.trace(*_padded([texts[i].ids for i in batch]))
            for i, weights, places in zip(batch, self._checked(dense), positions, strict=True):
                row, last = self._row(texts[i].ids, weights), len(texts[i].ids) - 1
                yield i, row, places[row[0]].clip(0, last)  # whatever a graph says

    def _row(self, ids: Sequence[int], weights: Weights) -> Row:
        if self._table is not None:
            weights = self._own_tokens(ids, self._table) * weights
        return self._sparsify(weights)

    def _run(self, batch: list[list[int]]) -> Weights:
        return self._checked(self._graphs.model.run(*_padded(batch)))

    def _checked(self, weights: Weights) -> Weights:
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

    def trace(self, texts: Sequence[TokenizedText]) -> Iterator[tuple[int, Row, NDArray[np.int64]]]:
        """See `Side`; a term's weight is that of its token, from where it first stands."""
        for i, row in self.rows(texts):
            first = [texts[i].ids.index(term) for term in row[0].tolist()]
            yield i, row, np.array(first, np.int64)


class Graphs(NamedTuple):
    """The graphs of one side.

    Attributes:
        model: What encodes.
        tracer: What also says where weights come from; None if the bundle has none.
    """

    model: GraphSession
    tracer: GraphSession | None

    @classmethod
    def of(cls, bundle: Bundle, name: str, tracing: str, threads: int) -> "Graphs":
        """Return those of a bundle, by the names of their files."""
        has_tracer = tracing in bundle.description.auxiliary
        tracer = GraphSession(bundle, tracing, threads, traces=True) if has_tracer else None
        return cls(GraphSession(bundle, name, threads), tracer)


def open_sides(bundle: Bundle, threads: int) -> tuple[Side, Side]:
    """Return the sides of queries and of documents.

    Raises:
        BundleFileError: A file holds no tokenizer, or no table.
    """
    description = bundle.description
    mode, query, document = description.query_mode, description.query, description.document
    graphs = Graphs.of(bundle, GRAPH, EXPLAIN, threads)
    tokenizer = _tokenizer(bundle, TOKENIZER, document)
    documents = GraphSide(document, tokenizer, graphs, description.name)
    if mode in ("idf", "bow"):
        words = QUERY_TOKENIZER if QUERY_TOKENIZER in description.files else TOKENIZER
        plain = _tokenizer(bundle, words, query, special_tokens=False)
        ones = np.ones(description.vocab_size, np.float32)
        return TableSide(query, plain, ones if mode == "bow" else _table(bundle)), documents
    if mode == "separate":
        tokenizer = _tokenizer(bundle, QUERY_TOKENIZER, query)
        graphs = Graphs.of(bundle, QUERY_GRAPH, QUERY_EXPLAIN, threads)
    elif (query.max_length, query.prompt) != (document.max_length, document.prompt):
        tokenizer = _tokenizer(bundle, TOKENIZER, query)
    table = _table(bundle) if mode == "lexical" else None
    return GraphSide(query, tokenizer, graphs, description.name, table), documents


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


def _padded(batch: list[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ids of texts and which of them are not padding, int64[batch, length] both."""
    shape = (len(batch), max(map(len, batch)))
    input_ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, ids in enumerate(batch):
        input_ids[row, : len(ids)] = ids
        mask[row, : len(ids)] = 1
    return input_ids, mask


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Group texts of like length within the token budget, so that all runs together cost the least.

    A batch is padded to its longest text. From the shortest text on, it is found how far down a
    batch that begins with it best reaches.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    count = len(order)
    costs, ends = np.zeros(count + 1, np.int64), [count] * count
    sizes = np.arange(1, TOKENS_PER_BATCH + 1)
    for start in reversed(range(count)):
        length = lengths[order[start]]
        most = min(count - start, max(1, TOKENS_PER_BATCH // max(1, length)))
        # From the largest batch on: of two that cost the same, it is the fuller.
        ways = (sizes[:most] * length + costs[start + 1 : start + most + 1])[::-1]
        best = ways.argmin()
        costs[start], ends[start] = _RUN_COST + ways[best], start + most - int(best)
    batches, start = [], 0
    while start < count:
        batches.append(order[start : ends[start]])
        start = ends[start]
    return batches
