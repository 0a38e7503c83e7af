"""Documents that wait to become a segment."""

from collections.abc import Iterable, Sequence

import numpy as np

from spladelet.documents import Document
from spladelet.vector import SparseVectors


class Pending:
    """Vectors and their documents, in the order in which they came.

    Attributes:
        places: Where each document stands that was not deleted again, by its id.
    """

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self._vectors: list[SparseVectors] = []
        self._documents: list[Document] = []

    def __len__(self) -> int:
        return len(self.places)

    def add(self, vectors: SparseVectors, documents: Sequence[Document]) -> None:
        """Take more of them; none has an id that is here."""
        start = len(self._documents)
        self.places |= {document.id: start + i for i, document in enumerate(documents)}
        self._vectors.append(vectors)
        self._documents += documents

    def delete(self, ids: Iterable[str]) -> int:
        """Forget documents; returns how many were here."""
        return sum(self.places.pop(i, None) is not None for i in ids)

    def find(self, ids: Iterable[str]) -> dict[str, Document]:
        """Return those of some documents that are here."""
        return {i: self._documents[self.places[i]] for i in ids if i in self.places}

    def take(
        self, count: int, vocab_size: int, model: str | None
    ) -> tuple[SparseVectors, list[Document]]:
        """Remove and return the first so many that are not deleted, as vectors of a model.

        The vectors themselves may not say it: those of words alone, deleted meanwhile, have none.
        """
        places = np.sort(np.fromiter(self.places.values(), np.int64, len(self.places)))
        joined = SparseVectors.stack(self._vectors, vocab_size, model)
        documents = self._documents
        first, rest = places[:count], places[count:]
        self.places, self._vectors, self._documents = {}, [], []
        if len(rest):
            self.add(joined.take(rest), [documents[place] for place in rest.tolist()])
        return joined.take(first), [documents[place] for place in first.tolist()]
