"""The commands that change an index in place, add, delete and compact, and import."""

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from spladelet.documents import Document, read_documents
from spladelet.encoder import Encoder
from spladelet.errors import InputError
from spladelet.exchange import read_vectors
from spladelet.index import Index
from spladelet.segment import KINDS
from spladelet.vector import SparseVectors
from spladelet.writer import IndexWriter

FILE_HELP = (
    'JSONL ({"id", "title", "text"}) or one document a line; may be .gz; - for standard input'
)
_BATCH = 4096  # documents that are encoded before they are written
_PASSAGES = 32  # of one document that are looked for together
_OVERLAP = 32  # tokens that neighbouring windows of a long text share


def encode(
    encoder: Encoder, documents: list[Document], options: argparse.Namespace
) -> tuple[SparseVectors, list[Document]]:
    """Encode documents as the options say; returns what is to be indexed."""
    if options.long_texts == "split":
        documents = [passage for d in documents for passage in encoder.split(d, overlap=_OVERLAP)]
    vectors = encoder.encode_documents(
        documents,
        max_active_dims=options.max_active_dims,
        min_weight=options.min_weight,
        overlap=_OVERLAP if options.long_texts == "merge" else None,
    )
    return vectors, documents


def run_add(options: argparse.Namespace) -> str:
    """Add a file's documents a batch at a time, so that neither texts nor vectors pile up."""
    Index.open(options.index)  # a slip in its name makes no new one
    encoder = Encoder.load(options.model, threads=options.threads)
    documents = read_documents(sys.stdin if options.file == "-" else options.file)
    with IndexWriter(options.index) as writer:
        before = len(writer)
        put = writer.upsert if options.replace else writer.add
        for batch in _batches(documents):
            if options.replace:
                _delete_passages(writer, batch)
            put(*encode(encoder, batch, options))
        after = len(writer)
    return _report(options, options.index, {"documents": after, "added": after - before})


def run_delete(options: argparse.Namespace) -> str:
    """Delete documents by their ids, from the command line or standard input."""
    Index.open(options.index)
    ids = options.id or [line.rstrip("\n") for line in sys.stdin]
    with IndexWriter(options.index) as writer:
        deleted, after = writer.delete(ids), len(writer)
    return _report(options, options.index, {"documents": after, "deleted": deleted})


def run_compact(options: argparse.Namespace) -> str:
    """Rewrite an index, and say how many postings are gone."""
    before = Index.open(options.index).postings
    with IndexWriter(options.index) as writer:
        writer.compact()
        after = len(writer)
    now = Index.open(options.index).postings
    return _report(
        options, options.index, {"documents": after, "postings": now, "postings gone": before - now}
    )


def run_import(options: argparse.Namespace) -> str:
    """Make an index of vectors that are there already."""
    if Path(options.output).exists():
        raise InputError(f"{options.output} exists. Give the name of a new index.")
    known = options.vocab_size is None
    encoder = Encoder.load(options.model) if known else None
    term_ids = None
    if encoder is not None and options.names == "terms":
        term_ids = {encoder.term(i): i for i in range(encoder.vocab_size)}
    batches = read_vectors(
        options.source,
        encoder.vocab_size if encoder else options.vocab_size,
        model=encoder.fingerprint if encoder else None,
        term_ids=term_ids,
    )
    texts = None if options.documents is None else read_documents(options.documents)
    name = encoder.description.name if encoder else ""
    with IndexWriter(options.output, weights=options.weights, model_name=name) as writer:
        for vectors, documents in batches:
            writer.add(vectors, documents if texts is None else list(islice(texts, len(vectors))))
        if texts is not None and next(texts, None) is not None:
            raise InputError(
                f"{options.documents} has more documents than the {len(writer)} vectors."
            )
        count = len(writer)
    return _report(options, options.output, {"documents": count})


def add_import(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `spladelet import`."""
    command.add_argument(
        "source",
        metavar="SOURCE",
        help='a matrix of scipy (.npz), JSONL with "vector", or a folder of splade-index',
    )
    command.add_argument("-o", "--output", required=True, metavar="FOLDER", help="the index")
    command.add_argument(
        "--documents", metavar="FILE", help="the texts, in the same order (default: SOURCE's)"
    )
    command.add_argument(
        "--names", choices=("terms", "ids"), default="terms", help="what JSONL calls terms"
    )
    command.add_argument(
        "--vocab-size",
        type=int,
        metavar="N",
        help="of a model that is not here; terms are called by id",
    )
    add_weights(command)


def add_long_texts(command: argparse.ArgumentParser) -> None:
    """Add what becomes of documents that are longer than the model reads."""
    command.add_argument(
        "--long-texts",
        choices=("cut", "merge", "split"),
        default="cut",
        help="cut them, merge all of one into one vector, or split it into passages (default: cut)",
    )


def add_weights(command: argparse.ArgumentParser) -> None:
    """Add what weights are kept in."""
    command.add_argument(
        "--weights",
        choices=KINDS,
        default=KINDS[0],
        help="what weights are kept in: 4, 2 or 1 bytes (default: float32)",
    )


def add_add(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `spladelet add`."""
    _add_index(command)
    command.add_argument("file", metavar="FILE", help=FILE_HELP)
    command.add_argument(
        "--replace", action="store_true", help="in place of documents with the same ids"
    )


def add_delete(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `spladelet delete`."""
    _add_index(command)
    command.add_argument("id", nargs="*", help="their ids (default: one a line on standard input)")


def add_compact(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `spladelet compact`."""
    _add_index(command)


def _add_index(command: argparse.ArgumentParser) -> None:
    command.add_argument("index", metavar="INDEX", help="the index")


def _delete_passages(writer: IndexWriter, documents: list[Document]) -> None:
    """Delete the passages into which documents were split before, however many they are now."""
    for document in documents:
        start = 0
        while True:
            ids = [f"{document.id}#{place}" for place in range(start, start + _PASSAGES)]
            if writer.delete(ids, where={"document": document.id}) < len(ids):
                break
            start += _PASSAGES
    if documents:  # and those that were whole, if they are split now
        writer.delete(document.id for document in documents)


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    while batch := list(islice(documents, _BATCH)):
        yield batch


def _report(options: argparse.Namespace, index: str, counts: dict[str, int]) -> str:
    if options.json:
        return json.dumps({name.replace(" ", "_"): count for name, count in counts.items()})
    return f"{index}: " + ", ".join(f"{count} {name}" for name, count in counts.items())
