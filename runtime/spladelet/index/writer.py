"""Changing an index on disk: add, replace, delete, compact.

Changes are gathered and take effect together, when they are committed. Documents fill a segment in
memory, which is written when full, so that memory does not grow with the collection. Commits leave
small segments, which are merged eight at a time: a document is rewritten at most five times.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from types import MappingProxyType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelet.documents import PARENT, Document, as_documents, check_id_list, check_ids, passage_id
from spladelet.errors import DuplicateIdError, IndexWriteError, InputError
from spladelet.files import as_path
from spladelet.index import segment_files
from spladelet.index.build import build_segment, count_words, merge_segments
from spladelet.index.filters import Filter, Where
from spladelet.index.format import (
    MAX_DOCUMENTS,
    KeptEncoding,
    Manifest,
    SegmentEntry,
)
from spladelet.index.generations import IndexFolder, claim, write_error
from spladelet.index.intake import WordsArgument, admit, new_manifest
from spladelet.index.merging import fitting, plan_merge
from spladelet.index.metadata_table import MetadataTable
from spladelet.index.pending import Pending
from spladelet.index.segment import Segment, hash_ids
from spladelet.lexical.words import Words, as_words
from spladelet.origins import with_origin
from spladelet.vector import SparseVectors
from spladelet.vector_arguments import as_vectors, no_vectors

_PASSAGES = 32  # of one document that are looked for together


@dataclass(slots=True)
class _Part:
    """A segment of the index to be."""

    entry: SegmentEntry
    segment: Segment
    is_new: bool = False  # no manifest names it yet


class IndexWriter:
    """The one writer of an index folder; readers go on beside it.

    Use it in a `with` block: what was changed is committed at the end of it, or dropped if an error
    leaves it. It belongs to the process that made it: a fork of that process cannot use it.

    >>> with IndexWriter("notes-index") as writer:  # doctest: +SKIP
    ...     writer.add(encoder.encode_documents(documents), documents)
    ...     writer.delete(["an old one"])

    Args:
        path: The index; a new one is made where there is none.
        weight_type: What a new index keeps weights in: "float32" (the default), "float16" or
            "uint8". None takes what the index has.
        model_name: What people call a new index's model.
        encoding: How a new index's documents are encoded: see `Index.build`.
        words: How a new index's words are counted: see `Index.build`; "auto" takes what the index
            has, or waits for the first documents.

    Raises:
        IndexLockedError: Another writer is at work.
        IndexWriteError: The folder holds something else, or cannot be written to.
        IndexFormatError: The index is of an unknown version, truncated or damaged.
        InputError: `weight_type` is none of the three, or it or `words` not the index's.
    """

    _manifest: Manifest
    _parts: list[_Part]
    _pending: Pending
    _folder: IndexFolder
    _resources: ExitStack
    _changed: bool
    _closed: bool
    _words: WordsArgument  # what the first documents decide; None when they have

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        weight_type: str | None = None,
        model_name: str = "",
        encoding: KeptEncoding | Mapping[str, Any] | None = None,
        words: WordsArgument = "auto",
    ) -> None:
        self._begin(path, new_manifest(weight_type, model_name, encoding), words)
        try:
            if self._folder.generation:
                self._open(weight_type, words)
        except BaseException:
            self._resources.close()
            raise

    @classmethod
    def anew(
        cls,
        path: str | os.PathLike[str],
        *,
        weight_type: str | None = None,
        model_name: str = "",
        encoding: KeptEncoding | Mapping[str, Any] | None = None,
        words: WordsArgument = "auto",
    ) -> "IndexWriter":
        """Begin an index that takes the place of the one at `path`, if there is one.

        It does so when it is committed; until then, and if it never is, what is there stays. It
        need not be of the same model, nor one that can be opened. See the class for the rest.
        """
        writer: IndexWriter = cls.__new__(cls)
        writer._begin(path, new_manifest(weight_type, model_name, encoding), words)
        writer._changed = True
        return writer

    @property
    def encoding(self) -> Mapping[str, Any]:
        """How the documents are encoded; see `Index.encoding`."""
        return MappingProxyType(dict(self._manifest.encoding))

    @property
    def words(self) -> Words | None:
        """How words are counted; see `Index.words`. Of a new index, once it has documents."""
        return self._manifest.words

    def add(
        self, vectors: SparseVectors | None, documents: Iterable[str | Document] | None = None
    ) -> None:
        """Add documents.

        Args:
            vectors: One vector a document; None in an index of words alone.
            documents: The documents, in the same order; a str, or None for each, gets as id how
                many documents there were before it.

        Raises:
            InputError: There are not as many documents as vectors; the index has words alone and
                there are vectors, or the other way round; or its words were stemmed by another
                release of Snowball.
            DuplicateIdError: Two documents have one id, or the index has it already.
            ModelMismatchError: The vectors are of another model than the index.
        """
        self._add(vectors, documents, replacing=False)

    def upsert(self, vectors: SparseVectors | None, documents: Iterable[Document]) -> None:
        """Add documents, each in place of the one that has its id, if there is one.

        Raises:
            InputError: See `add`.
            DuplicateIdError: Two of these documents have one id.
            ModelMismatchError: The vectors are of another model than the index.
        """
        self._add(vectors, documents, replacing=True)

    def delete(self, ids: Iterable[str], *, where: Where | None = None) -> int:
        """Delete documents; returns how many of the ids there were.

        Args:
            ids: Their ids.
            where: What their metadata must be, see `Index.search`; others of the ids stay.

        Raises:
            InputError: `ids` is one str, not several, one of them is no id, or `where` is not
                well-formed.
        """
        self._check_open()
        asked = check_id_list(ids)
        wanted = Filter.of(where, None)
        if wanted is not None:
            asked = self._fitting(asked, wanted)
        return self._delete(asked, hash_ids(asked))

    def delete_with_passages(self, ids: Iterable[str]) -> int:
        """Delete documents, whole or split into passages; returns how many of the ids there were.

        Args:
            ids: The documents' ids; see `Encoder.split` for their passages'.

        Raises:
            InputError: `ids` is one str, not several, or one of them is no id.
        """
        asked = check_id_list(ids)
        split = {identity for identity in asked if self._delete_passages(identity)}
        self.delete(split)  # which may be there whole, too
        return len(split) + self.delete(i for i in asked if i not in split)

    def replace(
        self, ids: Iterable[str], vectors: SparseVectors | None, documents: Iterable[Document]
    ) -> int:
        """Put documents, or their passages, in the place of those with some ids, passages included.

        Args:
            ids: The ids of the documents to be replaced, as they were before they were split.
            vectors: One vector for each of `documents`.
            documents: What comes in their place.

        Returns:
            How many of the ids there were.

        Raises:
            InputError, DuplicateIdError, ModelMismatchError: See `add`.
        """
        replaced = self.delete_with_passages(ids)
        self.add(vectors, documents)
        return replaced

    def commit(self) -> None:
        """Make the changes so far the index's next generation.

        Raises:
            IndexWriteError: Writing failed; the index is as it was, unless the message says
                otherwise, and this writer is closed.
        """
        self._check_open()
        if not self._changed and self._folder.generation:
            return
        with self._closing_on_error():
            self._flush(0)
            while (run := plan_merge([part.segment for part in self._parts])) is not None:
                self._merge(run)
            self._publish()

    def compact(self) -> None:
        """Commit, and rewrite so that no deleted document and no small neighbours are left.

        Raises:
            IndexWriteError: Writing failed; the index is as it was, and this writer is closed.
        """
        self._check_open()
        with self._closing_on_error():
            self._flush(0)
            start = 0
            while start < len(self._parts):
                stop = fitting([part.segment for part in self._parts], start)
                if stop - start > 1 or len(self._parts[start].segment.deleted):
                    removed = self._merge(slice(start, stop))
                    start += 1 - removed
                else:
                    start = stop
            self._publish()

    def recount(self, words: Words | None) -> None:
        """Count all words anew, from the documents' texts, and commit; None leaves words out.

        Raises:
            InputError: Nothing would be left of an index of words alone.
            IndexWriteError: Writing failed; the index is as it was, and this writer is closed.
        """
        self._check_open()
        if isinstance(words, str):
            raise InputError(f"words is {words!r:.60}; expected Words(...) or None.")
        counted = as_words(words, None)
        if counted is None and not self._manifest.vocab_size and len(self):
            raise InputError("the index has words alone; without them nothing would be found.")
        if counted is not None:
            counted.check_stemmer()
        with self._closing_on_error():
            self._flush(0)
            self._manifest, self._words, self._changed = (
                replace(self._manifest, words=counted),
                None,
                True,
            )
            for place in range(len(self._parts) - 1, -1, -1):
                old = self._parts[place]
                if len(old.segment):
                    kept = self._merged([replace(old.segment, words=None)])
                    lists = count_words(kept.documents, self._manifest.words)
                    self._write(place + 1, replace(kept, words=lists))
                del self._parts[place]
                self._folder.discard([old.entry.name] if old.is_new else [])
            self._publish()

    def close(self) -> None:
        """Drop what is not committed, and let other writers in."""
        if not self._closed and self._folder.is_mine:
            self._folder.discard(part.entry.name for part in self._parts if part.is_new)
        self._parts, self._pending, self._closed = [], Pending(), True
        self._resources.close()

    def __len__(self) -> int:
        """Return how many documents the index will have."""
        return sum(len(part.segment) for part in self._parts) + len(self._pending)

    def __enter__(self) -> "IndexWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.close()

    def _begin(
        self, path: str | os.PathLike[str], manifest: Manifest, words: WordsArgument
    ) -> None:
        """Claim the folder, with nothing in the index to be."""
        self._manifest = replace(manifest, words=as_words(words, None))
        self._words = words
        self._parts, self._pending = [], Pending()
        self._changed = self._closed = False
        self._resources = ExitStack()
        self._folder = self._resources.enter_context(claim(as_path(path, "the index").absolute()))

    def _open(self, weight_type: str | None, words: WordsArgument) -> None:
        opened = segment_files.read_index(self._folder.path)
        self._manifest, segments = opened.manifest, opened.segments
        if weight_type not in (None, self._manifest.weights):
            raise InputError(
                f"weight_type is {weight_type!r}, but the index in {self._folder.path} keeps "
                f"{self._manifest.weights!r}. Leave it out, or build another index."
            )
        entries = self._manifest.segments
        self._parts = [_Part(e, s) for e, s in zip(entries, segments, strict=True)]
        if not len(self) and self._manifest.words is None:
            return  # the first documents decide
        if not isinstance(words, str) and words != self._manifest.words:
            raise InputError(
                f"words is {words!r}, but the index in {self._folder.path} has "
                f"{self._manifest.words!r}. Leave it out, or count words anew with `recount`."
            )
        self._words = None

    def _add(
        self,
        given: SparseVectors | None,
        texts: Iterable[str | Document] | None,
        *,
        replacing: bool,
    ) -> None:
        self._check_open()
        vectors = None if given is None else as_vectors(given, self._manifest.vocab_size or None)
        documents = as_documents(texts, None if vectors is None else len(vectors), len(self))
        words = self._words if documents else None
        has_texts = words is not None and any(d.text or d.title for d in documents)
        is_empty = not len(self)
        manifest = admit(self._manifest, words, vectors, has_texts=has_texts, is_empty=is_empty)
        check_ids(documents)
        ids = [document.id for document in documents]
        hashes = hash_ids(ids if self._parts else ())
        if replacing:
            self._delete(ids, hashes)
        elif known := self._known(ids, hashes):
            raise DuplicateIdError(
                f"the index has a document with id {known!r}. Give each its own, or replace it "
                "with upsert."
            )
        if vectors is not None and documents:
            origins = with_origin(manifest.origins, vectors.origin)
            manifest = replace(manifest, origins=origins)
        self._manifest, self._changed = manifest, True
        self._words = None if documents else self._words
        self._pending.add(no_vectors(len(documents)) if vectors is None else vectors, documents)
        with self._closing_on_error():
            self._flush(MAX_DOCUMENTS)

    def _delete_passages(self, identity: str) -> int:
        """Delete the passages of a document, however many there are; returns how many."""
        start = deleted = 0
        while True:
            ids = [passage_id(identity, place) for place in range(start, start + _PASSAGES)]
            found = self.delete(ids, where={PARENT: identity})
            deleted += found
            if found < len(ids):
                return deleted
            start += _PASSAGES

    def _known(self, ids: Sequence[str], hashes: NDArray[np.uint64]) -> str | None:
        """Return one of the ids that is taken; None if none is."""
        pending = (i for i in ids if i in self._pending.places)
        stored = (i for part in self._parts for i in part.segment.find(ids, hashes))
        return next(chain(pending, stored), None)

    def _fitting(self, ids: Sequence[str], wanted: Filter) -> list[str]:
        """Return those of the ids whose documents fit."""
        found = self._pending.find(ids)
        hashes = hash_ids(ids)
        for part in self._parts:
            numbers = part.segment.find(ids, hashes)
            found |= {i: part.segment.documents[number] for i, number in numbers.items()}
        table = MetadataTable.of(document.metadata for document in found.values())
        fits = wanted.holds(table, len(found)).tolist()
        return [identity for identity, fit in zip(found, fits, strict=True) if fit]

    def _delete(self, ids: Sequence[str], hashes: NDArray[np.uint64]) -> int:
        count = self._pending.delete(ids)
        for part in self._parts:
            found = part.segment.find(ids, hashes)
            if found:
                numbers = np.fromiter(found.values(), np.int32, len(found))
                deleted = np.union1d(part.segment.deleted, numbers)
                part.segment = replace(part.segment, deleted=deleted)
                count += len(found)
        self._changed = self._changed or count > 0
        return count

    def _flush(self, full: int) -> None:
        """Write pending documents as segments, as long as there are so many (at least one)."""
        while len(self._pending) >= max(full, 1):
            size, model = self._manifest.vocab_size, self._manifest.model
            vectors, documents = self._pending.take(MAX_DOCUMENTS, size, model)
            lists = count_words(documents, self._manifest.words)
            segment = build_segment(vectors, documents, self._manifest.weights, lists)
            self._write(len(self._parts), segment)

    def _write(self, place: int, segment: Segment) -> None:
        """Write a new segment, and put it in its place as it is read from there."""
        entry = segment_files.write_segment(self._folder, segment)
        try:
            opened = segment_files.open_segment(self._folder.folder, entry, self._manifest, {})
        except BaseException:
            self._folder.discard([entry.name])
            raise
        self._parts.insert(place, _Part(entry, opened, is_new=True))

    def _merge(self, run: slice) -> bool:
        """Write one segment in place of several; returns whether nothing of them was left."""
        merged = self._parts[run]
        segments = [part.segment for part in merged]
        is_empty = not any(len(segment) for segment in segments)
        if not is_empty:
            self._write(run.stop, self._merged(segments))
        del self._parts[run]
        self._folder.discard(part.entry.name for part in merged if part.is_new)
        return is_empty

    def _merged(self, segments: Sequence[Segment]) -> Segment:
        return merge_segments(segments, self._manifest.weights, self._manifest.vocab_size)

    def _publish(self) -> None:
        entries = [
            part.entry
            if len(part.segment.deleted) == part.entry.deleted
            else segment_files.write_deleted(self._folder, part.entry, part.segment.deleted)
            for part in self._parts
        ]
        manifest = replace(
            self._manifest,
            generation=self._folder.generation + 1,
            segments=tuple(entries),
        )
        self._folder.publish(manifest)
        self._manifest, self._changed = manifest, False
        self._parts = [
            _Part(entry, part.segment) for entry, part in zip(entries, self._parts, strict=True)
        ]

    @contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        """Close after a failed write, and raise a system's error in the package's terms."""
        try:
            yield
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise write_error(self._folder.path, error) from error
            raise

    def _check_open(self) -> None:
        if self._closed:
            raise IndexWriteError(f"this writer of {self._folder.path} is closed. Open another.")
        if not self._folder.is_mine:
            raise IndexWriteError(
                f"this writer of {self._folder.path} belongs to the process that this one was "
                "forked from. Open another when that one has ended."
            )
