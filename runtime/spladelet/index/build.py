"""Making segments: of vectors and their documents, or of other segments."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelet.documents import Document
from spladelet.errors import InputError
from spladelet.index.format import check_kind
from spladelet.index.metadata_table import MetadataTable
from spladelet.index.scoring import Postings
from spladelet.index.segment import IdTable, Segment
from spladelet.index.stored_documents import DocumentList
from spladelet.index.transposing import transpose
from spladelet.index.word_lists import WordLists
from spladelet.lexical.words import Words
from spladelet.vector import SparseVectors

_LEVELS = 255  # of a uint8 impact; 0 would be no posting


def build_segment(
    vectors: SparseVectors,
    documents: Sequence[Document],
    kind: str,
    words: WordLists | None = None,
    errors: NDArray[np.float32] | None = None,
) -> Segment:
    """Make a segment of vectors and their documents, at most `MAX_DOCUMENTS`.

    Args:
        vectors: One vector a document.
        documents: The documents.
        kind: "float32", "float16" or "uint8".
        words: The documents' words; None leaves them out.
        errors: How far each term's weights may be from what was given, float32[vocab_size]; None
            means that they are what was given.

    Raises:
        InputError: `kind` is none of them, or a weight is too large for float16.
    """
    check_kind(kind)
    terms, offsets, numbers, weights = transpose(
        vectors.term_ids, vectors.row_offsets, vectors.vocab_size, vectors.weights
    )
    impacts, scales = _to_impacts(weights, offsets, kind)
    lost = _largest_errors(weights, impacts, scales, offsets)
    if errors is not None:
        lost = lost + errors[terms]
    postings = Postings(
        terms,
        offsets,
        numbers,
        impacts,
        scales,
        lost,
        len(vectors),
    )
    ids = IdTable.of(document.id for document in documents)
    metadata = MetadataTable.of(document.metadata for document in documents)
    return Segment(postings, DocumentList(documents), ids, metadata, words)


def count_words(documents: Iterable[Document], words: Words | None) -> WordLists | None:
    """Count the words of documents, titles too; None where an index has none."""
    if words is None:
        return None
    return WordLists.of((document.content for document in documents), words.language)


def merge_segments(segments: Sequence[Segment], kind: str, vocab_size: int) -> Segment:
    """Make one segment of several, in their order, without what is deleted.

    Raises:
        IndexFormatError: One is damaged on disk.
    """
    for segment in segments:
        if segment.checks is not None and segment.words is not None:
            segment.checks.all_words(segment.words)
    vectors = join_rows(segments, vocab_size, None)
    documents = [segment.document(rank) for segment in segments for rank in range(len(segment))]
    errors = np.zeros(vocab_size, np.float32)
    for segment in segments:
        terms = segment.postings.terms
        errors[terms] = np.maximum(errors[terms], segment.postings.errors)
    lists = [segment.words for segment in segments if segment.words is not None]
    kept = [segment.live if len(segment.deleted) else None for segment in segments]
    words = WordLists.merge(lists, kept) if lists else None
    return build_segment(vectors, documents, kind, words, errors)


def join_rows(segments: Sequence[Segment], vocab_size: int, model: str | None) -> SparseVectors:
    """Return the vectors of several segments, none of the deleted."""
    parts = [SparseVectors(*segment.rows(), vocab_size, model) for segment in segments]
    return SparseVectors.stack(parts, vocab_size, model)


def _to_impacts(
    weights: NDArray[np.float32], offsets: NDArray[np.int64], kind: str
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    terms = len(offsets) - 1
    ones = np.ones(terms, np.float32)
    if kind == "float32":
        return weights, ones
    if kind == "float16":
        if len(weights) and weights.max() > np.finfo(np.float16).max:
            raise InputError(
                f"weight {weights.max()} is above float16's {np.finfo(np.float16).max}; choose "
                "float32 or uint8."
            )
        # What would round to nothing stays the smallest there is: it is a posting.
        least = np.finfo(np.float16).smallest_subnormal
        return np.maximum(weights.astype(np.float16), least), ones
    if not terms:
        return np.empty(0, np.uint8), ones
    least_scale = np.finfo(np.float32).tiny
    scales = np.maximum(np.maximum.reduceat(weights, offsets[:-1]) / _LEVELS, least_scale)
    levels = np.rint(weights / np.repeat(scales, np.diff(offsets)))
    return np.clip(levels, 1, _LEVELS).astype(np.uint8), scales.astype(np.float32)


def _largest_errors(
    weights: NDArray[np.float32],
    impacts: NDArray[Any],
    scales: NDArray[np.float32],
    offsets: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Return how far each term's impacts may be from its weights, rounded up: float32[terms]."""
    if impacts is weights or not len(scales):
        return np.zeros(len(scales), np.float32)
    kept = impacts.astype(np.float32) * np.repeat(scales, np.diff(offsets))
    largest = np.maximum.reduceat(np.abs(kept.astype(np.float64) - weights), offsets[:-1])
    up = np.nextafter(largest.astype(np.float32), np.float32(np.inf))
    return np.where(largest > 0, up, np.float32(0))
