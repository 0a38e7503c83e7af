"""An index of sparse vectors, in memory or memory-mapped, to be searched.

Does not encode: vectors come from an `Encoder`, or from elsewhere. Does not change what is indexed:
see `IndexWriter`. Does not prune or approximate: every search looks at every posting of the query's
terms.
"""

import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelet.documents import Document, as_documents, check_ids
from spladelet.errors import InputError, ModelMismatchError
from spladelet.files import as_path
from spladelet.index import segment_files
from spladelet.index.build import build_segment, join_rows
from spladelet.index.filters import Filter, Where
from spladelet.index.format import (
    MAX_DOCUMENTS,
    KeptEncoding,
    Manifest,
    SegmentEntry,
    check_encoding,
    check_kind,
)
from spladelet.index.generations import claim
from spladelet.index.hits import Hit
from spladelet.index.segment import Segment
from spladelet.index.view import View
from spladelet.parameters import as_count, as_real
from spladelet.text import as_id, shown
from spladelet.vector import SparseVector, SparseVectors, check_same_model
from spladelet.vector_arguments import as_query, as_vectors


class Index:
    """Documents that can be searched; made by `Index.build` or `Index.open`."""

    def __init__(self, segments: Sequence[Segment], manifest: Manifest) -> None:
        self._state = _State(manifest, View(segments))
        self._folder: Path | None = None

    @property
    def vocab_size(self) -> int:
        """How many terms the model has; 0 if there was no vector yet."""
        return self._state.vocab_size

    @property
    def model(self) -> str | None:
        """Fingerprint of the model whose vectors are in here; None if unknown."""
        return self._state.model

    @property
    def model_name(self) -> str:
        """What people call that model; may be empty."""
        return self._state.manifest.model_name

    @property
    def weight_type(self) -> str:
        """What weights are kept in: "float32", "float16" or "uint8"."""
        return self._state.manifest.weights

    @property
    def encoding(self) -> Mapping[str, Any]:
        """How the documents were encoded, as `build` or the writer was told; may be empty."""
        return MappingProxyType(dict(self._state.manifest.encoding))

    @classmethod
    def build(
        cls,
        vectors: SparseVectors,
        documents: Iterable[str | Document] | None = None,
        *,
        model_name: str = "",
        weight_type: str = "float32",
        encoding: KeptEncoding | Mapping[str, Any] | None = None,
    ) -> "Index":
        """Index vectors, with the documents they were made of.

        Args:
            vectors: One vector a document: `SparseVectors`, a list of `SparseVector`, or a sparse
                matrix of scipy, documents x terms.
            documents: The documents, in the same order; a str gets its number, from 0, as id.
                None stores no texts.
            model_name: What people call the model; kept for `info`.
            weight_type: What weights are kept in: "float32" (4 bytes, exact), "float16" (2 bytes)
                or "uint8" (1 byte, with a scale for each term).
            encoding: How the documents were encoded, kept for whoever adds others: an `Encoding`,
                or values of JSON by name.

        Raises:
            InputError: There are not as many documents as vectors, or `weight_type` is none of
                these.
            DuplicateIdError: Two documents have one id.
        """
        check_kind(weight_type)
        vectors = as_vectors(vectors)
        kept = as_documents(documents, len(vectors))
        check_ids(kept)
        segments = [
            build_segment(
                vectors.take(np.arange(start, min(start + MAX_DOCUMENTS, len(kept)))),
                kept[start : start + MAX_DOCUMENTS],
                weight_type,
            )
            for start in range(0, len(kept), MAX_DOCUMENTS)
        ]
        about = (vectors.vocab_size, vectors.model, model_name or "", weight_type)
        return cls(segments, Manifest(0, *about, (), check_encoding(encoding)))

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Index":
        """Open a saved index in place: its large files stay on disk until needed.

        Processes that open the same folder share the memory of these; files below a megabyte
        (64 KiB from Python 3.13 on), of which small segments consist, are read by each.

        Takes no lock and writes nothing, so a read-only file system will do. Goes on reading the
        generation it opened, whatever a writer does, until `refresh`.

        Raises:
            IndexNotFoundError: There is no index at `path`.
            IndexFormatError: It is of an unknown version, truncated or damaged.
            IndexReadError: The system does not let it be read.
        """
        folder = as_path(path, "the index")
        opened = segment_files.read_index(folder)
        index = cls(opened.segments, opened.manifest)
        # As absolute: `refresh` may be called from elsewhere.
        index._folder, index._state = folder.absolute(), _State.of(opened)
        return index

    def refresh(self) -> bool:
        """Take over what was committed since this index was opened; returns whether there was any.

        An index that was put in its place counts, too. Searches that run meanwhile end on what they
        began with. What did not change is not opened again.

        Raises:
            InputError: The index was built in memory.
            IndexNotFoundError: It is not there any more.
            IndexFormatError: It is truncated or damaged.
            IndexReadError: The system does not let it be read.
        """
        if self._folder is None:
            raise InputError("an index that was built in memory has nothing to refresh from.")
        before = self._state.opened
        opened = segment_files.read_index(self._folder, before)
        if opened is before:
            return False
        self._state = _State.of(opened)  # all at once, for others may be searching
        return True

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save to a folder, replacing the index that is there.

        Either the whole index is saved or nothing changes. Any number of processes may read
        meanwhile.

        Raises:
            IndexLockedError: Another writer is at work there.
            IndexWriteError: The folder holds something else, or writing failed.
        """
        state = self._state
        with claim(as_path(path, "the index")) as folder:
            entries: list[SegmentEntry] = []
            try:
                for segment in state.view.segments:
                    entries.append(segment_files.write_segment(folder, segment))
                    entries[-1] = segment_files.write_deleted(folder, entries[-1], segment.deleted)
                generation = folder.generation + 1
                segments = tuple(entries)
                folder.publish(replace(state.manifest, generation=generation, segments=segments))
            except BaseException:
                folder.discard(entry.name for entry in entries)
                raise

    def search(
        self,
        query: SparseVector,
        k: int = 10,
        *,
        min_score: float = 0.0,
        where: Where | None = None,
        ids: Iterable[str] | None = None,
    ) -> list[Hit]:
        """Return the k documents with the highest score, among those that may be found.

        The score is the dot product over shared terms, summed in float32 by falling term id. Time
        grows with the length of the query's posting lists; where few documents may be found, with
        their number instead.

        Args:
            query: Its vector.
            k: Hits wanted, at least 1; fewer return if fewer documents share a term.
            min_score: Documents that score less are left out.
            where: What a hit's metadata must be: a mapping from fields to a value, a list of
                values of which it has one, or a mapping of operators to operands: "eq", "ne",
                "in", "not_in", "gt", "gte", "lt", "lte", "exists". All of it must hold; of a list
                of mappings, one. A document without the field is "ne" and "not_in" everything; of
                a field with several values, one must fit. Numbers are compared with numbers, text
                with text by code point.
            ids: The ids that a hit may have; None for all.

        Returns:
            Hits by falling score; equal scores by rising document number.

        Raises:
            ModelMismatchError: The query was encoded by another model than the documents.
            InputError: `k` is below 1, `min_score` negative or not finite, or `where` not
                well-formed.
            IndexFormatError: A file of the index is damaged; the message names it.

        Source: Formal et al. 2021, https://arxiv.org/abs/2109.10086
        """
        (hits,) = self.search_many([as_query(query)], k, min_score=min_score, where=where, ids=ids)
        return hits

    def search_many(
        self,
        queries: Iterable[SparseVector],
        k: int = 10,
        *,
        min_score: float = 0.0,
        where: Where | None = None,
        ids: Iterable[str] | None = None,
        threads: int = 1,
    ) -> list[list[Hit]]:
        """Search several queries; see `search`.

        Args:
            queries: Their vectors, for example a `SparseVectors`.
            k: Hits wanted for each.
            min_score: Documents that score less are left out.
            where: What a hit's metadata must be.
            ids: The ids that a hit may have; None for all.
            threads: How many searches run at a time. More than one gains nothing where searches
                are short, for they take turns with the interpreter's lock; processes that open the
                same folder share its large files' memory and do not wait for each other.
        """
        wanted = as_count(k, "k")
        at_once = as_count(threads, "threads")
        asked = _several(queries)
        least = _check_score(min_score)
        state = self._state  # one and the same to the end, whatever `refresh` does meanwhile
        selection = state.view.select(Filter.of(where, ids))

        def search(query: object) -> list[Hit]:
            vector = as_query(query)
            state.check_model(vector)
            return state.view.search(vector, wanted, least, selection)

        if at_once == 1:
            return [search(query) for query in asked]
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(search, asked))

    def check_model(self, query: SparseVector) -> None:
        """Raise ModelMismatchError if a query was encoded by another model than the documents."""
        self._state.check_model(query)

    def document(self, number: int) -> Document:
        """Return a document by its number."""
        return self._state.view.document(self._checked(number))

    def find(self, identity: str) -> int | None:
        """Return the number of the document with an id; None if there is none."""
        return self._state.view.find(as_id(identity, "the id"))

    def vector(self, number: int) -> SparseVector:
        """Return a document's vector, as it is kept; see `document`.

        Looks at every posting of its segment; for many documents, `vectors` takes less time.
        """
        state = self._state
        segment, inside = state.view.place(self._checked(number))
        term_ids, weights = segment.row(inside)
        return SparseVector(term_ids, weights, state.vocab_size, state.model)

    def vectors(self) -> SparseVectors:
        """Return the documents' vectors, in the documents' order.

        Takes about 8 bytes of memory a posting.
        """
        state = self._state
        return join_rows(state.view.segments, state.vocab_size, state.model)

    def fields(self) -> list[str]:
        """Return the names of the metadata that searches can be narrowed by, ascending."""
        return sorted({name for s in self._state.view.segments for name in s.fields()})

    def list_lengths(self) -> NDArray[np.int64]:
        """Return the length of each term's posting lists, with the deleted: int64[vocab_size]."""
        state = self._state
        lengths = np.zeros(state.vocab_size, np.int64)
        for segment in state.view.segments:
            lengths[segment.postings.terms] += np.diff(segment.postings.offsets)
        return lengths

    def _checked(self, number: object) -> int:
        """Return a document's number; InputError if there is none of that number."""
        count = len(self)
        try:
            place = operator.index(number)  # type: ignore[arg-type]
        except TypeError:
            place = -1
        if not 0 <= place < count:
            raise InputError(
                f"there is no document number {number!r:.40}: the index has {count}. Numbers begin "
                "at 0; for an id use find."
            )
        return place

    @property
    def postings(self) -> int:
        """How many weights are stored, over all documents, with those deleted but not yet gone."""
        return sum(len(segment.postings.numbers) for segment in self._state.view.segments)

    @property
    def segments(self) -> int:
        """How many segments hold the documents."""
        return len(self._state.view.segments)

    @property
    def deleted(self) -> int:
        """How many documents are deleted but not yet gone."""
        return sum(len(segment.deleted) for segment in self._state.view.segments)

    @property
    def bytes_per_posting(self) -> float:
        """How many bytes the posting lists take for each weight, texts and ids aside."""
        lists = [segment.postings for segment in self._state.view.segments]
        count = sum(len(postings.numbers) for postings in lists)
        return sum(postings.size for postings in lists) / count if count else 0.0

    def facts(self) -> dict[str, object]:
        """Return what there is to know of the index, as values of JSON by name."""
        count = len(self) + self.deleted
        return {
            "documents": len(self),
            "deleted": self.deleted,
            "segments": self.segments,
            "postings": self.postings,
            "weight_type": self.weight_type,
            "bytes_per_posting": round(self.bytes_per_posting, 2),
            "metadata_fields": self.fields(),
            "active_dims": round(self.postings / max(count, 1), 1),
            "vocab_size": self.vocab_size,
            "model_name": self.model_name,
            "fingerprint": self.model,
            "encoding": dict(self.encoding),
        }

    def __len__(self) -> int:
        return self._state.view.starts[-1]

    def __repr__(self) -> str:
        return f"Index({len(self)} documents, {self.postings} postings)"


@dataclass(frozen=True, slots=True)
class _State:
    """All that changes at once when an index is refreshed.

    Attributes:
        manifest: What the index consists of; in memory, what is known of it.
        view: Its segments, to be searched.
        opened: What was read from disk; None in memory.
    """

    manifest: Manifest
    view: View
    opened: segment_files.Opened | None = None

    @classmethod
    def of(cls, opened: segment_files.Opened) -> "_State":
        return cls(opened.manifest, View(opened.segments), opened)

    @property
    def vocab_size(self) -> int:
        return self.manifest.vocab_size

    @property
    def model(self) -> str | None:
        return self.manifest.model

    def check_model(self, query: SparseVector) -> None:
        try:
            if self.vocab_size:
                check_same_model(query, self)
        except ModelMismatchError as error:
            name = self.manifest.model_name or "unnamed"
            raise ModelMismatchError(
                f"{error} This index is of the model {name!r}; if the query's is another version "
                "of it, build the index again with that."
            ) from error


def _several(queries: object) -> Iterable[object]:
    """Return what the queries are in; a matrix by rows.

    Raises:
        InputError: It is one query, or none at all.
    """
    if isinstance(queries, SparseVector):
        raise InputError("got one vector where several queries are expected; use search.")
    are_items = not isinstance(queries, (str, bytes, Mapping, np.ndarray))
    if isinstance(queries, Iterable) and are_items and not hasattr(queries, "tocsr"):
        return queries
    return as_vectors(queries)  # a matrix, or an error that names the right call


def _check_score(value: object) -> float:
    expected = "a finite number, 0 or above"
    score = as_real(value, "min_score", expected)
    if not 0 <= score < np.inf:
        raise InputError(f"min_score is {shown(value)}; expected {expected}.")
    return score
