"""An exact in-memory or memory-mapped index of sparse vectors.

Does not encode: vectors come from an `Encoder`, or from elsewhere. Does not prune or approximate:
every search looks at every posting of the query's terms.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spladelet.documents import Document
from spladelet.errors import DuplicateIdError, IndexFormatError, InputError
from spladelet.ranking import Postings, score, top_k
from spladelet.store import Documents, read_index, write_index
from spladelet.threads import available_cpus
from spladelet.vector import SparseVector, SparseVectors, check_same_model


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that was found.

    Attributes:
        id: The document's id.
        score: The sum over shared terms of query weight times document weight.
        text: The document's text.
        title: Its title; may be empty.
        number: Its place in the index, from 0.
    """

    id: str
    score: float
    text: str
    title: str
    number: int


class Index:
    """Documents that can be searched; made by `Index.build` or `Index.open`.

    Attributes:
        vocab_size: How many terms the model has.
        model: Fingerprint of the model whose vectors are in here; None if unknown.
        model_name: What people call that model; may be empty.
    """

    def __init__(
        self,
        postings: Postings,
        documents: Documents,
        *,
        vocab_size: int,
        model: str | None,
        model_name: str = "",
    ) -> None:
        self._postings = postings
        self._documents = documents
        self._sound = np.zeros(vocab_size, bool)
        self.vocab_size = vocab_size
        self.model = model
        self.model_name = model_name

    @classmethod
    def build(
        cls,
        vectors: SparseVectors,
        documents: Iterable[str | Document] | None = None,
        *,
        model_name: str = "",
    ) -> "Index":
        """Index vectors, with the documents they were made of.

        Args:
            vectors: One vector a document.
            documents: The documents, in the same order; a str gets its number, from 0, as id.
                None stores no texts.
            model_name: What people call the model; kept for `info`.

        Raises:
            InputError: There are not as many documents as vectors.
            DuplicateIdError: Two documents have one id.
        """
        kept = _documents(documents, len(vectors))
        by_term = vectors.to_csr().tocsc()
        postings = Postings(
            by_term.indptr.astype(np.int64),
            by_term.indices.astype(np.int32, copy=False),
            by_term.data,
            len(vectors),
        )
        return cls(
            postings,
            kept,
            vocab_size=vectors.vocab_size,
            model=vectors.model,
            model_name=model_name,
        )

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Index":
        """Open a saved index in place: posting lists and texts stay on disk until needed.

        Takes no lock and writes nothing, so a read-only file system will do.

        Raises:
            IndexNotFoundError: There is no index at `path`.
            IndexFormatError: It is of an unknown version, truncated or damaged.
        """
        folder = Path(path)
        manifest, segments = read_index(folder)
        if len(segments) != 1:
            raise IndexFormatError(
                f"{folder} has {len(segments)} segments; this version reads one. Upgrade with "
                "`pip install -U spladelet`."
            )
        postings, documents = segments[0]
        return cls(
            postings,
            documents,
            vocab_size=manifest.vocab_size,
            model=manifest.model,
            model_name=manifest.model_name,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save to a folder, replacing the index that is there.

        Either the whole index is saved or nothing changes. Processes that save to one folder wait
        for each other (on Windows they must not meet); any number may read.

        Raises:
            IndexWriteError: The folder holds something else, or writing failed.
        """
        write_index(
            Path(path),
            self._postings,
            self._documents,
            vocab_size=self.vocab_size,
            model=self.model,
            model_name=self.model_name,
        )

    def search(self, query: SparseVector, k: int = 10) -> list[Hit]:
        """Return the k documents with the highest score.

        The score is the dot product over shared terms, summed in float32 by rising term id. Time
        grows with the length of the query's posting lists.

        Args:
            query: Its vector.
            k: Hits wanted, at least 1; fewer return if fewer documents share a term.

        Returns:
            Hits by falling score; equal scores by rising document number.

        Raises:
            ModelMismatchError: The query was encoded by another model than the documents.
            InputError: `k` is below 1.
            IndexFormatError: A posting list on disk is damaged.

        Source: Formal et al. 2021, https://arxiv.org/abs/2109.10086
        """
        check_k(k)
        self.check_model(query)
        self._check_postings(query.term_ids)
        scores = score(self._postings, query.term_ids, query.weights)
        return [self._hit(number, scores[number]) for number in top_k(scores, k).tolist()]

    def search_many(
        self, queries: Iterable[SparseVector], k: int = 10, *, threads: int | None = None
    ) -> list[list[Hit]]:
        """Search several queries, on several threads; see `search`.

        Args:
            queries: Their vectors, for example a `SparseVectors`.
            k: Hits wanted for each.
            threads: How many searches run at a time; None means the processors this process may
                use.
        """
        check_k(k)
        if threads is not None and threads < 1:
            raise InputError(f"threads is {threads}; expected at least 1, or None for all.")
        with ThreadPoolExecutor(threads or available_cpus()) as pool:
            return list(pool.map(lambda query: self.search(query, k), queries))

    def check_model(self, query: SparseVector) -> None:
        """Raise ModelMismatchError if a query was encoded by another model than the documents."""
        nothing = SparseVector([], [], self.vocab_size, self.model)
        check_same_model(query, nothing)

    def document(self, number: int) -> Document:
        """Return a document by its number."""
        if not 0 <= number < len(self):
            raise InputError(f"document number {number} is not between 0 and {len(self) - 1}.")
        return self._documents[number]

    def vectors(self) -> SparseVectors:
        """Return the documents' vectors, in the documents' order.

        Takes as much memory as the posting lists, about 8 bytes a posting.
        """
        from scipy.sparse import csr_array

        stored = self._postings
        shape = (self.vocab_size, stored.documents)
        by_term = csr_array((stored.weights, stored.numbers, stored.term_offsets), shape=shape)
        return SparseVectors.from_csr(by_term.T.tocsr(), self.model)

    @property
    def postings(self) -> int:
        """How many weights are stored, over all documents."""
        return len(self._postings.numbers)

    def __len__(self) -> int:
        return self._postings.documents

    def __repr__(self) -> str:
        return f"Index({len(self)} documents, {self.postings} postings)"

    def _hit(self, number: int, score: np.float32) -> Hit:
        document = self._documents[number]
        return Hit(document.id, float(score), document.text, document.title, number)

    def _check_postings(self, term_ids: NDArray[np.int32]) -> None:
        """Check each posting list at its first use: the kernel trusts document numbers blindly."""
        for term_id in term_ids[~self._sound[term_ids]].tolist():
            span = self._postings.span(term_id)
            numbers = self._postings.numbers[span]
            weights = self._postings.weights[span]
            in_range = not len(numbers) or (
                0 <= numbers.min() and numbers.max() < self._postings.documents
            )
            if not (in_range and np.isfinite(weights).all() and (weights >= 0).all()):
                raise IndexFormatError(
                    f"the posting list of term {term_id} is damaged. Build the index again."
                )
            self._sound[term_id] = True


def _documents(documents: Iterable[str | Document] | None, expected: int) -> list[Document]:
    if isinstance(documents, str):
        raise InputError("documents is one str; expected as many as there are vectors.")
    given = [""] * expected if documents is None else documents
    kept = [
        item if isinstance(item, Document) else Document(str(number), item)
        for number, item in enumerate(given)
    ]
    if len(kept) != expected:
        raise InputError(f"{expected} vectors came with {len(kept)} documents; give one for each.")
    by_id = sorted((document.id, number) for number, document in enumerate(kept))
    for (left, first), (right, second) in pairwise(by_id):
        if left == right:
            raise DuplicateIdError(
                f"documents {first} and {second} (from 0) both have id {left!r}. Give each its own."
            )
    return kept


def check_k(k: int) -> None:
    """Raise InputError unless k is at least 1."""
    if k < 1:
        raise InputError(f"k is {k}; expected at least 1.")
