"""The commands that make an index and change it: index, import, add, delete and compact."""

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from spladelet.cli.console import standard_input
from spladelet.cli.options import Command, add_pruning, load_encoder, readable, whole
from spladelet.documents import Document, read_documents
from spladelet.encoder.encoder import TEXTS_PER_WINDOW, Encoder
from spladelet.errors import IndexStoreError, InputError
from spladelet.index.format import KINDS
from spladelet.index.generations import is_index
from spladelet.index.index import Index
from spladelet.index.writer import IndexWriter
from spladelet.printable import clean
from spladelet.progress import Progress
from spladelet.sources import read_lines
from spladelet.vector import SparseVectors
from spladelet.vector_files import read_vectors

FILE_HELP = (
    'JSONL ({"id", "title", "text"}) or one document a line; may be .gz; - for standard input'
)
_LONG_TEXTS = ("cut", "merge", "split")
_PASSAGES = 32  # of one document that are looked for together
_OVERLAP = 32  # tokens that neighbouring windows of a long text share


@dataclass(frozen=True, slots=True)
class Encoding:
    """How documents become vectors; an index keeps it for those that are added later.

    Attributes:
        long_texts: What becomes of texts that are longer than the model reads: cut, merge, split.
        max_active_dims: How many terms are kept of each; None for all.
        min_weight: What a kept term weighs at least.
    """

    long_texts: str = "cut"
    max_active_dims: int | None = None
    min_weight: float = 0.0

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Encoding":
        """Return what the options of `index` or `search` say."""
        return cls(options.long_texts, options.max_active_dims, options.min_weight)

    @classmethod
    def as_before(cls, kept: Mapping[str, object], options: argparse.Namespace) -> "Encoding":
        """Return what an index keeps of how it was made; if nothing, what the options of `add` say.

        Raises:
            InputError: The options say otherwise than the index, or it says what cannot be.
        """
        given = {name: getattr(options, name) for name in asdict(cls())}
        given = {name: value for name, value in given.items() if value is not None}
        if not kept:
            return cls(**given)
        said: dict[str, Any] = asdict(cls())
        said |= {name: value for name, value in kept.items() if name in said}
        known = cls(**said)
        if not known._is_sound():
            raise InputError(
                f"the index says that it was encoded with {dict(kept)!r}, which this "
                "version does not know. Upgrade with `pip install -U spladelet`."
            )
        for name, value in given.items():
            before = getattr(known, name)
            if value != before:
                option = "--" + name.replace("_", "-")
                raise InputError(
                    f"{option} is {value}, but the index was made with "
                    f"{'none' if before is None else before}. Leave it out, or make another index."
                )
        return known

    def encode(
        self, encoder: Encoder, documents: list[Document], *, progress: bool | None = None
    ) -> tuple[SparseVectors, list[Document]]:
        """Encode documents; returns what is to be indexed."""
        if self.long_texts == "split":
            documents = [part for d in documents for part in encoder.split(d, overlap=_OVERLAP)]
        vectors = encoder.encode_documents(
            documents,
            max_active_dims=self.max_active_dims,
            min_weight=self.min_weight,
            overlap=_OVERLAP if self.long_texts == "merge" else None,
            progress=progress,
        )
        return vectors, documents

    def _is_sound(self) -> bool:
        return (
            self.long_texts in _LONG_TEXTS
            and (self.max_active_dims is None or type(self.max_active_dims) is int)
            and type(self.min_weight) in (int, float)
            and math.isfinite(self.min_weight)
        )


def build(encoder: Encoder, source: str | Path, options: argparse.Namespace) -> Index:
    """Encode and index a file of documents."""
    read = list(read_documents(standard_input() if str(source) == "-" else source))
    encoding = Encoding.of(options)
    vectors, documents = encoding.encode(encoder, read)
    return Index.build(
        vectors,
        documents,
        model_name=encoder.description.name,
        weights=options.weights,
        encoding=asdict(encoding),
    )


def run_index(options: argparse.Namespace) -> str:
    """Encode documents and save an index."""
    if is_index(Path(options.output)) and not options.replace:
        raise InputError(
            f"{options.output} holds {_what_is_there(options.output)}. Add to it with `spladelet "
            "add`, or have another take its place with --replace."
        )
    encoder = load_encoder(options)
    start = time.perf_counter()
    index = build(encoder, options.file, options)
    index.save(options.output)
    seconds = time.perf_counter() - start
    if options.json:
        return json.dumps({"documents": len(index), "postings": index.postings, "seconds": seconds})
    return (
        f"{clean(options.output)}: {len(index)} documents, {index.postings} postings, "
        f"in {seconds:.1f} s"
    )


def run_add(options: argparse.Namespace) -> str:
    """Add a file's documents a batch at a time, so that neither texts nor vectors pile up."""
    Index.open(options.index)  # a slip in its name makes no new one
    encoder = load_encoder(options)
    documents = read_documents(standard_input() if options.file == "-" else options.file)
    given = entries = replaced = 0
    with IndexWriter(options.index) as writer, Progress("adding", None) as bar:
        encoding = Encoding.as_before(writer.encoding, options)
        put = writer.upsert if options.replace else writer.add
        for batch in _batches(documents):
            if options.replace:
                replaced += _remove(writer, batch)
            vectors, parts = encoding.encode(encoder, batch, progress=False)
            put(vectors, parts)
            given, entries = given + len(batch), entries + len(parts)
            bar.advance(len(batch))
        after = len(writer)
    added = given - replaced
    if encoding.long_texts == "split" and not options.json:
        counts = {"passages": after, "documents added": added}  # a short document is one passage
    else:
        counts = {"documents": after, "added": added}
    counts |= {"replaced": replaced} if options.replace else {}
    counts |= {"new passages": entries} if encoding.long_texts == "split" else {}
    return _report(options, options.index, counts)


def run_delete(options: argparse.Namespace) -> str:
    """Delete documents by their ids, from the command line or standard input."""
    Index.open(options.index)
    ids = options.id or [line for _, _, line in read_lines(standard_input())]
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
    encoder = load_encoder(options) if known else None
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
    with (
        IndexWriter(options.output, weights=options.weights, model_name=name) as writer,
        Progress("importing", None) as bar,
    ):
        for vectors, documents in batches:
            writer.add(vectors, documents if texts is None else list(islice(texts, len(vectors))))
            bar.advance(len(vectors))
        if texts is not None and next(texts, None) is not None:
            raise InputError(
                f"{options.documents} has more documents than the {len(writer)} vectors."
            )
        count = len(writer)
    return _report(options, options.output, {"documents": count})


def _add_import_arguments(command: argparse.ArgumentParser) -> None:
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
        type=whole,
        metavar="N",
        help="of a model that is not here; terms are called by id",
    )
    _add_weights(command)


def _add_index_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help=FILE_HELP)
    command.add_argument("-o", "--output", required=True, metavar="FOLDER", help="the index")
    command.add_argument(
        "--replace", action="store_true", help="in place of the index that is there"
    )
    _add_weights(command)
    _add_long_texts(command, "cut")
    add_pruning(command)


def _add_long_texts(command: argparse.ArgumentParser, default: str | None) -> None:
    command.add_argument(
        "--long-texts",
        choices=_LONG_TEXTS,
        default=default,
        help="cut them, merge all of one into one vector, or split it into passages (default: cut)",
    )


def _add_weights(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--weights",
        choices=KINDS,
        default=KINDS[0],
        help="what weights are kept in: 4, 2 or 1 bytes (default: float32)",
    )


def _add_add_arguments(command: argparse.ArgumentParser) -> None:
    _add_index(command)
    command.add_argument("file", metavar="FILE", help=FILE_HELP)
    command.add_argument(
        "--replace", action="store_true", help="in place of documents with the same ids"
    )
    _add_long_texts(command, None)
    add_pruning(command, None)


def _add_delete_arguments(command: argparse.ArgumentParser) -> None:
    _add_index(command)
    command.add_argument(
        "id", nargs="*", type=readable, help="their ids (default: one a line on standard input)"
    )


def _add_compact_arguments(command: argparse.ArgumentParser) -> None:
    _add_index(command)


def _add_index(command: argparse.ArgumentParser) -> None:
    command.add_argument("index", metavar="INDEX", help="the index")


def _remove(writer: IndexWriter, documents: list[Document]) -> int:
    """Delete documents, whole or in passages as they were before; returns how many were there."""
    split = {d.id for d in documents if _delete_passages(writer, d.id)}
    writer.delete(split)  # which may be there whole, too
    return len(split) + writer.delete(d.id for d in documents if d.id not in split)


def _delete_passages(writer: IndexWriter, identity: str) -> int:
    """Delete the passages into which a document was split, however many; returns how many."""
    start = deleted = 0
    while True:
        ids = [f"{identity}#{place}" for place in range(start, start + _PASSAGES)]
        found = writer.delete(ids, where={"document": identity})
        deleted += found
        if found < len(ids):
            return deleted
        start += _PASSAGES


def _what_is_there(folder: str) -> str:
    try:
        return f"an index of {len(Index.open(folder))} documents"
    except IndexStoreError:
        return "an index that cannot be opened"


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    while batch := list(islice(documents, TEXTS_PER_WINDOW)):
        yield batch


def _report(options: argparse.Namespace, index: str, counts: dict[str, int]) -> str:
    if options.json:
        return json.dumps({name.replace(" ", "_"): count for name, count in counts.items()})
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    return f"{clean(index)}: {told}"


INDEXING = (
    Command("index", run_index, _add_index_arguments, "encode documents and save an index"),
    Command(
        "import",
        run_import,
        _add_import_arguments,
        "make an index of vectors that are there already",
    ),
    Command("add", run_add, _add_add_arguments, "encode documents and add them to an index"),
    Command(
        "delete",
        run_delete,
        _add_delete_arguments,
        "delete documents of an index",
        has_model=False,
    ),
    Command(
        "compact",
        run_compact,
        _add_compact_arguments,
        "rewrite an index without what was deleted",
        has_model=False,
    ),
)
