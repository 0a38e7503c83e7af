"""Text to sparse vectors.

Texts are tokenized, sorted by length, put into batches of a fixed number of tokens, and run
through the bundle's graph, which pools over positions itself: memory stays bounded whatever the
texts. Does not search: see `index`.
"""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spladelet.bundle import TOKENIZER, Bundle, Description, Semantics
from spladelet.documents import Document
from spladelet.errors import BundleGraphError, InputError
from spladelet.language import is_plainly_not_english
from spladelet.models import find_bundle
from spladelet.progress import Progress
from spladelet.session import GraphSession
from spladelet.threads import available_cpus
from spladelet.tokenizer import TokenizedText, Tokenizer
from spladelet.vector import (
    SparseVector,
    SparseVectors,
    check_pruning,
    check_same_model,
    prune_row,
)

if TYPE_CHECKING:
    from spladelet.explain import Explanation

# Positions in one run of the graph, padding counted: enough to keep the processors busy, small
# enough for their caches (benchmarks/README.md).
TOKENS_PER_BATCH = 1024
# Texts read ahead and sorted by length together.
TEXTS_PER_WINDOW = 2048

Row = tuple[NDArray[np.int32], NDArray[np.float32]]


class TruncationWarning(UserWarning):
    """Some texts were longer than the model reads; what came after its limit was ignored."""


class LanguageWarning(UserWarning):
    """Some texts are plainly not in the language that the model was trained on."""


class Encoder:
    """A SPLADE model: queries and documents in, sparse vectors out.

    Thread-safe; in a forked process the model is loaded again at the first use.

    Args:
        bundle: The model; `Encoder.load` finds one by path or name.
        threads: Threads per run; None means the processors this process may use, which in a
            container is its limit.
    """

    def __init__(self, bundle: Bundle, *, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"threads is {threads}; expected at least 1, or None for all.")
        self.description: Description = bundle.description
        self.fingerprint = bundle.fingerprint
        self._session = GraphSession(bundle, threads or available_cpus())
        self._is_english = bundle.description.source.get("language") == "en"
        self._query = _Side(bundle, bundle.description.query)
        self._document = _Side(bundle, bundle.description.document)

    @classmethod
    def load(
        cls, model: str | os.PathLike[str] | None = None, *, threads: int | None = None
    ) -> "Encoder":
        """Load a model.

        Args:
            model: A bundle (folder or .zip); a hub id, "owner/name" (extra `hub`); None for the
                model that comes with the package.
            threads: See the class.

        Raises:
            BundleError: There is no bundle, or it cannot be used; the message says why.
            MissingDependencyError: A hub id without the extra `hub`.
        """
        return cls(find_bundle(model), threads=threads)

    @property
    def vocab_size(self) -> int:
        """How many terms the model knows."""
        return self.description.vocab_size

    def encode_query(
        self, text: str, *, max_active_dims: int | None = None, min_weight: float = 0.0
    ) -> SparseVector:
        """Encode one query; see `encode_queries`."""
        pruning = _Pruning(max_active_dims, min_weight)
        return self._encode([text], self._query, pruning, Progress("queries", None, show=False))[0]

    def encode_document(
        self, text: str | Document, *, max_active_dims: int | None = None, min_weight: float = 0.0
    ) -> SparseVector:
        """Encode one document; see `encode_documents`."""
        pruning = _Pruning(max_active_dims, min_weight)
        return self._encode([text], self._document, pruning, Progress("", None, show=False))[0]

    def encode_queries(
        self,
        texts: Iterable[str],
        *,
        max_active_dims: int | None = None,
        min_weight: float = 0.0,
    ) -> SparseVectors:
        """Encode queries, in order.

        A text that is empty, or holds nothing the model reads, gives a vector without terms.

        Args:
            texts: The queries.
            max_active_dims: Keep at most so many terms of each, the heaviest; None keeps all.
            min_weight: Drop terms that weigh less.

        Raises:
            InputError: A text is not a str, or a limit makes no sense.
            BundleGraphError: The model does not load (it does so at the first text).

        Warns:
            TruncationWarning: Texts were longer than the model reads; `truncated` of the result
                has their numbers.
            LanguageWarning: The model knows English only, and texts are plainly not English.

        Source: Formal et al. 2021, https://arxiv.org/abs/2109.10086
        """
        pruning = _Pruning(max_active_dims, min_weight)
        return self._encode(texts, self._query, pruning, Progress("queries", None, show=False))

    def encode_documents(
        self,
        texts: Iterable[str | Document],
        *,
        max_active_dims: int | None = None,
        min_weight: float = 0.0,
        progress: bool | None = None,
    ) -> SparseVectors:
        """Encode documents, in order; a `Document` is encoded as title and text.

        See `encode_queries` for the rest; memory grows with the result only, so `texts` may be a
        generator over any number of them.

        Args:
            texts: The documents.
            max_active_dims: Keep at most so many terms of each, the heaviest; None keeps all.
            min_weight: Drop terms that weigh less.
            progress: Draw a progress bar on standard error; None means on a terminal.
        """
        total = len(texts) if isinstance(texts, Sequence) else None
        pruning = _Pruning(max_active_dims, min_weight)
        return self._encode(
            texts, self._document, pruning, Progress("encoding", total, show=progress)
        )

    def decode(self, vector: SparseVector) -> dict[str, float]:
        """Return `{term: weight}`, heaviest first.

        Raises:
            ModelMismatchError: The vector is of another model.
        """
        check_same_model(vector, SparseVector([], [], self.vocab_size, self.fingerprint))
        return {self.term(i): weight for i, weight in vector.to_dict().items()}

    def term(self, term_id: int) -> str:
        """Return the vocabulary's entry for a term id."""
        return self._document.tokenizer.term(term_id)

    def query_words(self, text: str) -> list[tuple[str, list[int]]]:
        """Return the words of a query that the model reads, each with its term ids."""
        return self._query.tokenizer.word_pieces(text)

    def document_words(self, text: str) -> list[tuple[str, list[int]]]:
        """Return the words of a document that the model reads, each with its term ids."""
        return self._document.tokenizer.word_pieces(text)

    def explain(self, query: str, document: str | Document) -> "Explanation":
        """Say which terms make a document's score for a query, and where they come from."""
        from spladelet.explain import explain

        return explain(self, query, document)

    def _encode(
        self, texts: Iterable[str | Document], side: "_Side", pruning: "_Pruning", bar: Progress
    ) -> SparseVectors:
        if isinstance(texts, (str, bytes, Document)):
            raise InputError(
                f"got one {type(texts).__name__} where several texts are expected. Use "
                "encode_query or encode_document for one text, or pass a list."
            )
        rows: list[Row] = []
        truncated: list[int] = []
        foreign: list[int] = []
        with bar:
            for window in _windows(texts):
                if self._is_english:
                    foreign += [
                        len(rows) + i for i, t in enumerate(window) if is_plainly_not_english(t)
                    ]
                tokenized = side.tokenizer.tokenize(window)
                truncated += [len(rows) + i for i, text in enumerate(tokenized) if text.truncated]
                rows += self._encode_window(tokenized, side, pruning, bar)
        if truncated:
            limit = side.semantics.max_length
            message = (
                f"{len(truncated)} of {len(rows)} texts were longer than {limit} tokens and were "
                f"cut there (the first is number {truncated[0]})."
            )
            warnings.warn(message, TruncationWarning, stacklevel=3)
        if foreign:
            message = (
                f"{len(foreign)} of {len(rows)} texts are not in English, which is all that this "
                f"model knows (the first is number {foreign[0]}): expect poor hits. Use a model "
                "that was trained on their language."
            )
            warnings.warn(message, LanguageWarning, stacklevel=3)
        return _stack(rows, self.vocab_size, self.fingerprint, tuple(truncated))

    def _encode_window(
        self, tokenized: list[TokenizedText], side: "_Side", pruning: "_Pruning", bar: Progress
    ) -> list[Row]:
        nothing = (np.empty(0, np.int32), np.empty(0, np.float32))
        rows: list[Row] = [nothing] * len(tokenized)
        filled = [i for i, text in enumerate(tokenized) if text.content]
        bar.advance(len(tokenized) - len(filled))
        for batch in _batches(filled, [len(text.ids) for text in tokenized]):
            dense = self._run([tokenized[i].ids for i in batch])
            for i, weights in zip(batch, dense, strict=True):
                rows[i] = pruning.apply(side.sparsify(weights))
            bar.advance(len(batch))
        return rows

    def _run(self, batch: list[list[int]]) -> NDArray[np.float32]:
        shape = (len(batch), max(map(len, batch)))
        input_ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, ids in enumerate(batch):
            input_ids[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        weights = self._session.run(input_ids, mask)
        lowest, highest = weights.min(initial=0.0), weights.max(initial=0.0)
        if not (lowest >= 0 and np.isfinite(highest)):
            wrong = highest if lowest >= 0 else lowest
            raise BundleGraphError(
                f"the graph of {self.description.name} gives a weight of {wrong}; expected finite "
                "ones, 0 or above. The model is damaged: get or export the bundle again."
            )
        return weights

    def __repr__(self) -> str:
        return f"Encoder({self.description.name!r}, vocab_size={self.vocab_size})"


class _Side:
    """What differs between queries and documents."""

    def __init__(self, bundle: Bundle, semantics: Semantics) -> None:
        self.semantics = semantics
        self.tokenizer = Tokenizer(
            bundle.path(TOKENIZER), max_length=semantics.max_length, prompt=semantics.prompt
        )
        special, unknown = self.tokenizer.special_ids()
        zeroed = special if semantics.special_tokens == "zero_dims" else frozenset()
        zeroed |= unknown if semantics.unknown_token == "zero_dims" else frozenset()
        self._zeroed = np.array(sorted(zeroed), np.int64)

    def sparsify(self, weights: NDArray[np.float32]) -> Row:
        """Turn dense weights float32[vocab_size] into ascending ids and their weights."""
        weights[self._zeroed] = 0.0
        ids = np.flatnonzero(weights)
        return ids.astype(np.int32), weights[ids]


class _Pruning:
    """Which light terms to drop."""

    def __init__(self, max_active_dims: int | None, min_weight: float) -> None:
        check_pruning(max_active_dims, min_weight)
        self._limits = (max_active_dims, min_weight)

    def apply(self, row: Row) -> Row:
        ids, weights = row
        keep = prune_row(weights, *self._limits)
        return ids[keep], weights[keep]


def _windows(texts: Iterable[str | Document]) -> Iterator[list[str]]:
    """Read texts ahead, checking each."""
    iterator = iter(texts)
    start = 0
    while window := list(islice(iterator, TEXTS_PER_WINDOW)):
        yield [_text(item, start + i) for i, item in enumerate(window)]
        start += len(window)


def _text(item: str | Document, number: int) -> str:
    if isinstance(item, Document):
        return item.content
    if not isinstance(item, str):
        raise InputError(
            f"text number {number} is {item!r:.60} ({type(item).__name__}); expected a str."
        )
    return item


def _batches(numbers: list[int], lengths: list[int]) -> Iterator[list[int]]:
    """Group texts of like length, the longest first, within the token budget."""
    batch: list[int] = []
    for number in sorted(numbers, key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _stack(
    rows: list[Row], vocab_size: int, model: str, truncated: tuple[int, ...]
) -> SparseVectors:
    offsets = np.cumsum([0, *(len(ids) for ids, _ in rows)], dtype=np.int64)
    ids = np.concatenate([np.empty(0, np.int32), *(ids for ids, _ in rows)])
    weights = np.concatenate([np.empty(0, np.float32), *(weights for _, weights in rows)])
    return SparseVectors(offsets, ids, weights, vocab_size, model, truncated)
