"""The commands that change an index in place: add, delete, compact."""

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import islice

from spladelet.documents import Document, read_documents
from spladelet.encoder import Encoder
from spladelet.index import Index
from spladelet.writer import IndexWriter

FILE_HELP = (
    'JSONL ({"id", "title", "text"}) or one document a line; may be .gz; - for standard input'
)
_BATCH = 4096  # documents that are encoded before they are written


def run_add(options: argparse.Namespace) -> str:
    """Add a file's documents a batch at a time, so that neither texts nor vectors pile up."""
    Index.open(options.index)  # a slip in its name makes no new one
    encoder = Encoder.load(options.model, threads=options.threads)
    documents = read_documents(sys.stdin if options.file == "-" else options.file)
    limits = {"max_active_dims": options.max_active_dims, "min_weight": options.min_weight}
    with IndexWriter(options.index) as writer:
        before = len(writer)
        put = writer.upsert if options.replace else writer.add
        for batch in _batches(documents):
            put(encoder.encode_documents(batch, **limits), batch)
        after = len(writer)
    return _report(options, {"documents": after, "added": after - before})


def run_delete(options: argparse.Namespace) -> str:
    """Delete documents by their ids, from the command line or standard input."""
    Index.open(options.index)
    ids = options.id or [line.rstrip("\n") for line in sys.stdin]
    with IndexWriter(options.index) as writer:
        deleted, after = writer.delete(ids), len(writer)
    return _report(options, {"documents": after, "deleted": deleted})


def run_compact(options: argparse.Namespace) -> str:
    """Rewrite an index, and say how many postings are gone."""
    before = Index.open(options.index).postings
    with IndexWriter(options.index) as writer:
        writer.compact()
        after = len(writer)
    now = Index.open(options.index).postings
    return _report(options, {"documents": after, "postings": now, "postings gone": before - now})


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


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    while batch := list(islice(documents, _BATCH)):
        yield batch


def _report(options: argparse.Namespace, counts: dict[str, int]) -> str:
    if options.json:
        return json.dumps({name.replace(" ", "_"): count for name, count in counts.items()})
    return f"{options.index}: " + ", ".join(f"{count} {name}" for name, count in counts.items())
