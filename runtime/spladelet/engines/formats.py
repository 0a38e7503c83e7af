"""Files that other engines read: one function a format, most a stream of lines or messages.

Whole numbers are hundredths of weights, rounded, as Anserini and Pyserini have them. Half of a
surrogate pair in a text becomes U+FFFD; in an id it is refused, and so is a NUL. An index's words
come along, what they weigh as of now, but in jsonl, npz and splade-index: these are read again by
`vector_files`, and words are counted anew from the texts. OpenSearch's seismic has no room for
them.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from spladelet import extras
from spladelet.documents import Document, to_record
from spladelet.engines.joined import join_documents, query_words, rows
from spladelet.engines.payload import (
    IDS,
    TermNames,
    Weights,
    all_named,
    all_numbered,
    id_keyed,
    term_keyed,
)
from spladelet.errors import InputError
from spladelet.files import replacing
from spladelet.index.index import Index
from spladelet.lexical.words import Words
from spladelet.text import check_portable_id, valid_unicode
from spladelet.vector import SparseVector, SparseVectors
from spladelet.vector_files import write_npz, write_splade_index

NPZ, SPLADE_INDEX = "npz", "splade-index"
_OF_TERMS = (NPZ, SPLADE_INDEX, "opensearch-seismic")
IMPACTS_PER_UNIT = 100
_SEISMIC_TERMS = 32_768
_PGVECTOR_TERMS = 16_000
_CIFF_MAXIMUM = 255


def convert(
    index: Index, format_name: str, path: str | os.PathLike[str], names: TermNames | None = None
) -> int:
    """Write an index as a file that another engine reads, whole or not at all.

    Args:
        index: Documents and vectors.
        format_name: One of `format_names`.
        path: The file, or for splade-index a new folder, in a folder that exists. ".gz" is packed.
        names: What terms are called, where the format has names; None calls them by id.

    Returns:
        How many documents were written.

    Raises:
        InputError: There is no such format, or it cannot hold this index; the message says why.
        OSError: The file cannot be written.
    """
    called = names or TermNames()
    if index.has_words_alone and format_name in _OF_TERMS:
        raise InputError(f"the index has words alone, and {format_name} holds a model's terms.")
    if format_name == NPZ:
        write_npz(index.vectors(), _documents(index), path)
    elif format_name == SPLADE_INDEX:
        term = called.term
        term_ids = {} if term is None else {term(i): i for i in range(index.vocab_size)}
        write_splade_index(index.vectors(), _documents(index), path, term_ids)
    elif format_name in FORMATS:
        _write(Path(path), FORMATS[format_name](index, called))
    else:
        raise InputError(f"format is {format_name!r}; expected one of {', '.join(format_names())}.")
    return len(index)


def format_names() -> list[str]:
    """Return the names of all formats."""
    return sorted([*FORMATS, NPZ, SPLADE_INDEX])


def write_topics(
    path: str | os.PathLike[str],
    queries: Iterable[tuple[str, SparseVector]],
    names: TermNames | None = None,
    words: Words | None = None,
) -> list[str]:
    """Write queries as Anserini's topics: query id, a tab, each term as often as its weight says.

    Args:
        path: The file.
        queries: Each query's id and its vector, which has its text, where words are asked for, too.
        names: What terms are called; None calls them by id.
        words: How the index counts words; None asks for none.

    Returns:
        The ids of queries without terms, which are left out: Anserini stops at an empty one.

    Raises:
        InputError: A query id or a term's name has white space in it.
        OSError: The file cannot be written.
    """
    called = names or TermNames()
    empty: list[str] = []

    def lines() -> Iterator[bytes]:
        for identity, vector in queries:
            weights = Weights(vector, query_words(vector.text, words))
            impacts = _without_spaces(_impacts(weights, called))
            repeated = [name for name, count in impacts.items() for _ in range(count)]
            if not repeated:
                empty.append(identity)
                continue
            yield f"{_without_space(identity)}\t{' '.join(repeated)}\n".encode()

    _write(Path(path), lines())
    return empty


def _vespa(index: Index, names: TermNames) -> Iterator[bytes]:
    """Put operations: a tensor for ranking, and a weighted set for finding (`wand`)."""
    # Vespa's `wand` takes whole numbers only, so weights are there twice.
    for document, weights in _rows(index):
        fields = {
            "id": document.id,
            "title": document.title,
            "text": document.text,
            "splade": {"cells": all_named(weights, names)},
            "splade_impacts": _impacts(weights, names),
        }
        yield _line({"put": f"id:spladelet:document::{document.id}", "fields": fields})


def _anserini(index: Index, names: TermNames) -> Iterator[bytes]:
    """JsonVectorCollection; Anserini takes whole numbers and splits names at white space."""
    for document, weights in _rows(index):
        yield _line(
            {
                "id": document.id,
                "contents": document.content,
                "vector": _without_spaces(_impacts(weights, names)),
            }
        )


def _opensearch_seismic(index: Index, names: TermNames) -> Iterator[bytes]:
    """A bulk body for a `sparse_vector` field: term ids as text, below 32,768."""
    del names  # this field has ids only
    if index.vocab_size > _SEISMIC_TERMS:
        raise InputError(
            f"the vocabulary has {index.vocab_size} terms; OpenSearch's sparse_vector takes ids "
            f"modulo {_SEISMIC_TERMS}, so different terms would meet. Push to rank_features "
            "instead (`spladelet push opensearch`)."
        )
    for document, (ids, weights) in ((d, id_keyed(w.vector)) for d, w in _rows(index)):
        yield _line({"index": {"_id": document.id}})
        source: dict[str, object] = {"title": document.title, "text": document.text}
        if ids:
            source["splade"] = {str(i): w for i, w in zip(ids, weights, strict=True)}
        yield _line(source)


def seismic_mapping(documents: SparseVectors) -> dict[str, object]:
    """Return the body that makes the index for `opensearch-seismic`.

    Its default ceiling of 3.0 would cut heavier weights, so the documents' maximum is set.
    """
    largest = float(documents.weights.max(initial=0.0)) or 1.0
    # Rounded up: what is above the ceiling by a hair is cut as well.
    parameters = {"quantization_ceiling_ingest": round(largest + 0.005, 2)}
    vector = {"type": "sparse_vector", "method": {"name": "seismic", "parameters": parameters}}
    properties = {"splade": vector, "title": {"type": "text"}, "text": {"type": "text"}}
    return {"settings": {"index": {"sparse": True}}, "mappings": {"properties": properties}}


def _pgvector(index: Index, names: TermNames) -> Iterator[bytes]:
    """Rows for COPY: id, title, text, sparsevec; indices from 1, at most 16,000 in a document."""
    del names  # a sparsevec has numbers only
    size = index.vocab_size if index.words is None else IDS
    for document, (ids, weights) in ((d, all_numbered(w)) for d, w in _rows(index)):
        if len(ids) > _PGVECTOR_TERMS:
            raise InputError(
                f"document {document.id!r} has {len(ids)} terms and words; a sparsevec holds "
                f"{_PGVECTOR_TERMS}. Build the index with --max-active-dims, or --no-words."
            )
        cells = ",".join(f"{i + 1}:{w:.9g}" for i, w in zip(ids, weights, strict=True))
        row = [document.id, document.title, document.text, f"{{{cells}}}/{size}"]
        yield valid_unicode("\t".join(_copy_text(value) for value in row) + "\n").encode()


def _copy_text(value: str) -> str:
    """Escape a value for PostgreSQL's COPY in text format; it has no NUL."""
    for character, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        value = value.replace(character, escaped)
    return value.replace("\0", "")


def _jsonl(index: Index, names: TermNames) -> Iterator[bytes]:
    """One document a line, with exact weights: what `vector_files.read_vectors` reads."""
    for document, weights in _rows(index):
        vector = {} if index.has_words_alone else {"vector": term_keyed(weights.vector, names)}
        yield _line(to_record(document) | vector)


def _ciff(index: Index, names: TermNames) -> Iterator[bytes]:
    """The Common Index File Format, which PISA, BMP, JASS and Lucene read.

    Weights become whole numbers up to 255, the maximum; document numbers are gaps.

    Source: Lin et al. 2020, https://arxiv.org/abs/2003.08276
    """
    header, postings_list, record = _ciff_messages()
    joined, words = join_documents(index)
    by_term = joined.to_csr().tocsc()
    scale = _CIFF_MAXIMUM / float(by_term.data.max(initial=1.0))
    impacts = np.rint(by_term.data * scale).astype(np.int64)
    present = impacts > 0  # light weights round to 0, which is no posting
    lists = []
    for term_id in np.flatnonzero(np.diff(by_term.indptr)).tolist():
        place = term_id - index.vocab_size
        name = names.name(term_id) if place < 0 else names.word_name(words[place])
        span = slice(int(by_term.indptr[term_id]), int(by_term.indptr[term_id + 1]))
        if name is not None and present[span].any():
            lists.append((name, span))
    lists.sort(key=lambda item: item[0].encode())  # by bytes, as readers in other languages compare
    for (name, _), (following, _) in pairwise(lists):
        if name == following:
            raise InputError(f"two terms are named {name!r}. Call terms by id.")
    lengths = np.zeros(len(index), np.int64)
    np.add.at(lengths, by_term.indices, impacts)  # `+=` would count a repeated document once
    total = int(impacts.sum())
    yield _delimited(
        header(
            version=1,
            num_postings_lists=len(lists),
            num_doc_records=len(index),
            total_postings_lists=len(lists),
            total_docs=len(index),
            total_terms_in_collection=total,
            average_doclength=total / max(1, len(index)),
            description=valid_unicode(
                f"spladelet, model {index.model_name}, weights times {scale:.6g}"
            ),
        )
    )
    for name, span in lists:
        kept = present[span]
        numbers, counts = by_term.indices[span][kept], impacts[span][kept]
        gaps = np.diff(numbers, prepend=0)  # the first is the document's own number
        message = postings_list(term=name, df=len(numbers), cf=int(counts.sum()))
        for gap, count in zip(gaps.tolist(), counts.tolist(), strict=True):
            message.postings.add(docid=gap, tf=count)
        yield _delimited(message)
    for number, length in enumerate(lengths.tolist()):
        identity = _document(index, number).id
        yield _delimited(record(docid=number, collection_docid=identity, doclength=length))


def _ciff_messages() -> tuple[Callable[..., "Message"], ...]:  # type: ignore[name-defined]  # noqa: F821
    """Make the format's messages from their fields, so that no generated code is needed."""
    descriptors = extras.load("google.protobuf.descriptor_pb2", "ciff", "writing CIFF")
    factory = extras.load("google.protobuf.message_factory", "ciff", "writing CIFF")
    pool = extras.load("google.protobuf.descriptor_pool", "ciff", "writing CIFF").DescriptorPool()
    file = descriptors.FileDescriptorProto(name="ciff.proto", package="ciff", syntax="proto3")
    field = descriptors.FieldDescriptorProto
    kinds = {"i": field.TYPE_INT32, "l": field.TYPE_INT64, "d": field.TYPE_DOUBLE}
    kinds |= {"s": field.TYPE_STRING, "m": field.TYPE_MESSAGE}
    layouts = {
        "Header": "i:version i:num_postings_lists i:num_doc_records i:total_postings_lists "
        "i:total_docs l:total_terms_in_collection d:average_doclength s:description",
        "Posting": "i:docid i:tf",
        "PostingsList": "s:term l:df l:cf m:postings",
        "DocRecord": "i:docid s:collection_docid i:doclength",
    }
    for message_name, layout in layouts.items():
        message = file.message_type.add(name=message_name)
        for number, entry in enumerate(layout.split(), start=1):
            kind, _, name = entry.partition(":")
            added = message.field.add(name=name, number=number, type=kinds[kind], label=1)
            if kind == "m":
                added.label, added.type_name = field.LABEL_REPEATED, ".ciff.Posting"
    pool.Add(file)
    return tuple(
        factory.GetMessageClass(pool.FindMessageTypeByName(f"ciff.{name}"))
        for name in ("Header", "PostingsList", "DocRecord")
    )


def _delimited(message: "Message") -> bytes:  # type: ignore[name-defined]  # noqa: F821
    """Put a message's length, as a varint, before it."""
    body: bytes = message.SerializeToString()
    length, head = len(body), bytearray()
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + body


def _impacts(weights: Weights, names: TermNames) -> dict[str, int]:
    """Return `{name: hundredths}` without zeros."""
    rounded = {n: round(w * IMPACTS_PER_UNIT) for n, w in all_named(weights, names).items()}
    return {name: impact for name, impact in rounded.items() if impact > 0}


def _without_spaces(impacts: dict[str, int]) -> dict[str, int]:
    return {_without_space(name): impact for name, impact in impacts.items()}


def _without_space(name: str) -> str:
    if check_portable_id(name).split() != [name]:
        raise InputError(
            f"{name!r} is empty or has white space in it, where this format splits. Call terms by "
            "id, or rename it."
        )
    return name


def _documents(index: Index) -> list[Document]:
    return [index.document(number) for number in range(len(index))]


def _rows(index: Index) -> Iterator[tuple[Document, Weights]]:
    for document, weights in rows(index):
        check_portable_id(document.id)
        yield document, weights


def _document(index: Index, number: int) -> Document:
    """Return a document whose id any format can hold.

    Raises:
        InputError: It has one that would become another.
    """
    document = index.document(number)
    check_portable_id(document.id)
    return document


def _line(value: object) -> bytes:
    return valid_unicode(json.dumps(value, ensure_ascii=False)).encode() + b"\n"


def _write(path: Path, parts: Iterable[bytes]) -> None:
    with replacing(path) as file:
        file.writelines(parts)


FORMATS: dict[str, Callable[[Index, TermNames], Iterator[bytes]]] = {
    "vespa": _vespa,
    "anserini": _anserini,
    "opensearch-seismic": _opensearch_seismic,
    "pgvector": _pgvector,
    "ciff": _ciff,
    "jsonl": _jsonl,
}
