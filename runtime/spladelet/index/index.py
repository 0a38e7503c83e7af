"""An index of sparse vectors, in memory or memory-mapped, to be searched.

Does not encode: vectors come from an `Encoder`, or from elsewhere. Does not change what is indexed:
see `IndexWriter`. Does not prune or approximate: every search looks at every posting of the query's
terms.
"""

import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spladelet.documents import Document, as_documents, check_ids
from spladelet.errors import InputError
from spladelet.explain import WordScore
from spladelet.files import as_path
from spladelet.index import segment_files
from spladelet.index.build import build_segment, count_words, join_rows
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
from spladelet.index.queries import (
    Lexical,
    as_least_score,
    as_lexical,
    as_one,
    as_several,
)
from spladelet.index.segment import Segment
from spladelet.index.state import State
from spladelet.index.view import View
from spladelet.index.word_impacts import WordImpacts
from spladelet.lexical.words import Words, as_words
from spladelet.origins import with_origin
from spladelet.parameters import as_count
from spladelet.text import as_id
from spladelet.vector import SparseVector, SparseVectors
from spladelet.vector_arguments import as_vectors, no_vectors


class Index:
    """Documents that can be searched; made by `Index.build` or `Index.open`."""

    def __init__(self, segments: Sequence[Segment], manifest: Manifest) -> None:
        self._state = State(manifest, View(segments))
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
    def words(self) -> Words | None:
        """How the documents' words are counted; None if they are not."""
        return self._state.manifest.words

    @property
    def generation(self) -> int:
        """Number of the commit that is shown; each one raises it. 0 of an index in memory."""
        return 0 if self._state.opened is None else self._state.manifest.generation

    @property
    def encoding(self) -> Mapping[str, Any]:
        """How the documents were encoded, as `build` or the writer was told; may be empty."""
        return MappingProxyType(dict(self._state.manifest.encoding))

    @classmethod
    def build(
        cls,
        vectors: SparseVectors | None,
        documents: Iterable[str | Document] | None = None,
        *,
        model_name: str = "",
        weight_type: str = "float32",
        encoding: KeptEncoding | Mapping[str, Any] | None = None,
        words: Words | Literal["auto"] | None = "auto",
    ) -> "Index":
        """Index vectors, with the documents they were made of, and their words beside.

        Args:
            vectors: One vector a document: `SparseVectors`, a list of `SparseVector`, or a sparse
                matrix of scipy, documents x terms. None indexes words alone.
            documents: The documents, in the same order; a str gets its number, from 0, as id.
                None stores no texts.
            model_name: What people call the model; kept for `info`.
            weight_type: What weights are kept in: "float32" (4 bytes, exact), "float16" (2 bytes)
                or "uint8" (1 byte, with a scale for each term).
            encoding: How the documents were encoded, kept for whoever adds others: an `Encoding`,
                or values of JSON by name.
            words: How the documents' words are counted, so that searches can look for them, too;
                None counts none. "auto" takes the language that the model says it reads, or, where
                it does not say, or there are no documents, counts none.

        Raises:
            InputError: There are not as many documents as vectors, or `weight_type` is none of
                these.
            DuplicateIdError: Two documents have one id.
            MissingDependencyError: Words are to be stemmed, and PyStemmer is not installed.
        """
        check_kind(weight_type)
        encoded = None if vectors is None else as_vectors(vectors)
        kept = as_documents(documents, None if encoded is None else len(encoded))
        check_ids(kept)
        has_texts = any(document.text or document.title for document in kept)
        language = encoded.language if encoded is not None and has_texts else None
        counted = as_words(words, "english" if encoded is None else language)
        if counted is not None:
            counted.check_stemmer()
        elif encoded is None:
            raise InputError("there are neither vectors nor words to be searched by.")
        encoded = no_vectors(len(kept)) if encoded is None else encoded
        segments = []
        for start in range(0, len(kept), MAX_DOCUMENTS):
            part = kept[start : start + MAX_DOCUMENTS]
            rows = encoded.take(np.arange(start, start + len(part)))
            segments.append(build_segment(rows, part, weight_type, count_words(part, counted)))
        about = (encoded.vocab_size, encoded.model, model_name or "", weight_type)
        origins = with_origin((), encoded.origin)
        return cls(segments, Manifest(0, *about, (), check_encoding(encoding), counted, origins))

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
        index._folder, index._state = folder.absolute(), State.of(opened)
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
        self._state = State.of(opened)  # all at once, for others may be searching
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
        query: SparseVector | str,
        k: int = 10,
        *,
        lexical: Lexical = None,
        min_score: float = 0.0,
        where: Where | None = None,
        ids: Iterable[str] | None = None,
    ) -> list[Hit]:
        """Return the k documents with the highest score, among those that may be found.

        The score is the dot product over shared terms, and `lexical` times BM25 over shared words,
        summed in float32, words first, both by falling name or number. Time grows with the length
        of the query's posting lists; where few documents may be found, with their number instead.

        Args:
            query: Its vector, which `Encoder.encode_query` gives together with its text. For words
                alone, the text itself will do.
            k: Hits wanted, at least 1; fewer return if fewer documents share a term or a word.
            lexical: What BM25 is multiplied with; 0 asks the model alone, "only" asks for words
                alone, which is plain BM25. None is 0.8 where the index has both and the query has
                its text, else what there is.
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
            InputError: `k` is below 1, `min_score` negative or not finite, `where` not
                well-formed, or `lexical` asks for words that the index or the query does not have.
            IndexFormatError: A file of the index is damaged; the message names it.

        Source: Formal et al. 2021, https://arxiv.org/abs/2109.10086; for BM25 see `Words`.
        """
        (hits,) = self.search_many(
            [query], k, lexical=lexical, min_score=min_score, where=where, ids=ids
        )
        return hits

    def search_many(  # noqa: PLR0913 - what is searched, and how many, and at once
        self,
        queries: Iterable[SparseVector | str],
        k: int = 10,
        *,
        lexical: Lexical = None,
        min_score: float = 0.0,
        where: Where | None = None,
        ids: Iterable[str] | None = None,
        threads: int = 1,
    ) -> list[list[Hit]]:
        """Search several queries; see `search`.

        Args:
            queries: Their vectors, for example a `SparseVectors`; or texts, for words alone.
            k: Hits wanted for each.
            lexical: What BM25 is multiplied with.
            min_score: Documents that score less are left out.
            where: What a hit's metadata must be.
            ids: The ids that a hit may have; None for all.
            threads: How many searches run at a time. More than one gains nothing where searches
                are short, for they take turns with the interpreter's lock; processes that open the
                same folder share its large files' memory and do not wait for each other.
        """
        wanted = as_count(k, "k")
        at_once = as_count(threads, "threads")
        asked = as_several(queries)
        least = as_least_score(min_score)
        weight = as_lexical(lexical)
        state = self._state  # one and the same to the end, whatever `refresh` does meanwhile
        selection = state.view.select(Filter.of(where, ids))

        def search(query: object) -> list[Hit]:
            return state.view.search(state.ask(query, weight), wanted, least, selection)

        if at_once == 1:
            return [search(query) for query in asked]
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(search, asked))

    def word_scores(
        self, query: SparseVector | str, number: int, *, lexical: Lexical = None
    ) -> tuple[WordScore, ...]:
        """Return what each shared word adds to the score of a document, the most first.

        Args:
            query: See `search`.
            number: The document's number.
            lexical: See `search`.

        Raises:
            InputError: See `search`; or there is no document of that number.
            IndexFormatError: A file of the index is damaged.
        """
        state = self._state
        asked = state.ask(as_one(query), as_lexical(lexical))
        place = _checked(state, number)
        return () if asked.words is None else state.view.word_scores(asked.words, place)

    def check_model(self, query: SparseVector) -> None:
        """Raise ModelMismatchError if a query was encoded by another model than the documents."""
        self._state.check_model(query)

    def document(self, number: int) -> Document:
        """Return a document by its number."""
        state = self._state
        return state.view.document(_checked(state, number))

    def find(self, identity: str) -> int | None:
        """Return the number of the document with an id; None if there is none."""
        return self._state.view.find(as_id(identity, "the id"))

    def vector(self, number: int, *, among: SparseVector | None = None) -> SparseVector:
        """Return a document's vector, as it is kept; see `document`.

        Looks at every posting of its segment; for many documents, `vectors` takes less time.

        Args:
            number: The document's number.
            among: Leave out terms that this vector has not, which takes a fraction of the time.
        """
        state = self._state
        segment, inside = state.view.place(_checked(state, number))
        if among is None:
            term_ids, weights = segment.row(inside)
        else:
            term_ids, weights = segment.row_among(inside, among.term_ids)
        return SparseVector(term_ids, weights, state.vocab_size, state.model)

    def vectors(self) -> SparseVectors:
        """Return the documents' vectors, in the documents' order.

        Takes about 8 bytes of memory a posting.
        """
        state = self._state
        return join_rows(state.view.segments, state.vocab_size, state.model)

    def word_impacts(self) -> WordImpacts | None:
        """Return what words weigh in each document now; None without words.

        Takes about 16 bytes of memory a word and document.
        """
        state = self._state
        settings = state.manifest.words
        return None if settings is None else WordImpacts.of(state.view.segments, settings)

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

    @property
    def postings(self) -> int:
        """How many weights are stored, over all documents, with those deleted but not yet gone."""
        return sum(len(segment.postings.numbers) for segment in self._state.view.segments)

    @property
    def word_postings(self) -> int:
        """How many counts of words are stored; see `postings`."""
        return sum(len(s.words.numbers) for s in self._state.view.segments if s.words is not None)

    @property
    def word_bytes(self) -> int:
        """How many bytes the posting lists of words take; see `bytes_per_posting`."""
        return sum(s.words.size for s in self._state.view.segments if s.words is not None)

    @property
    def has_words_alone(self) -> bool:
        """Whether there is nothing but words to search by: no vectors, nor a model to come."""
        manifest = self._state.manifest
        is_begun = bool(manifest.segments or len(self) or not manifest.model_name)
        return self.words is not None and not self.vocab_size and is_begun

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
            "origins": [origin.to_dict() for origin in self._state.manifest.origins],
            "words": None if self.words is None else self.words.to_dict(),
            "word_postings": self.word_postings,
            "generation": self.generation,
        }

    def __len__(self) -> int:
        return self._state.view.starts[-1]

    def __repr__(self) -> str:
        return f"Index({len(self)} documents, {self.postings} postings)"


def _checked(state: State, number: object) -> int:
    """Return a document's number; InputError if there is none of that number."""
    count = state.view.starts[-1]
    try:
        place = operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        place = -1
    if not 0 <= place < count:
        raise InputError(
            f"there is no document number {number!r:.40}: the index has {count}. Numbers begin at "
            "0; for an id use find."
        )
    return place
