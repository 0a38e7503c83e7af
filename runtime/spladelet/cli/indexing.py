"""The commands that make an index and change it: index, import, add, delete and compact."""

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from spladelet.batches import batched
from spladelet.cli.console import standard_input
from spladelet.cli.options import (
    Command,
    add_pruning,
    add_words,
    chosen_words,
    load_encoder,
    readable,
    whole,
)
from spladelet.documents import Document, read_documents
from spladelet.encoder import Encoder, Encoding
from spladelet.encoder.encoding import LONG_TEXTS
from spladelet.errors import IndexStoreError, InputError
from spladelet.index.format import KINDS
from spladelet.index.generations import is_index
from spladelet.index.index import Index
from spladelet.index.writer import IndexWriter
from spladelet.lexical.languages import LANGUAGES
from spladelet.lexical.words import Words
from spladelet.printable import clean
from spladelet.progress import Progress
from spladelet.sources import read_lines
from spladelet.vector import SparseVectors
from spladelet.vector_files import read_vectors

_AT_ONCE = 4096  # documents whose words are counted together

FILE_HELP = (
    'JSONL ({"id", "title", "text"}), a JSON array, CSV, TSV, or a document a line; packed or not; '
    "- for standard input"
)


def build_words(source: str | Path) -> Index:
    """Index the words of a file of documents in memory."""
    return Index.build(None, [document for _, batch in _unencoded(source) for document in batch])


def build(encoder: Encoder, source: str | Path, options: argparse.Namespace) -> Index:
    """Encode a file of documents and index them in memory."""
    encoding = _asked_encoding(options)
    batches = list(_encoded(encoder, source, encoding))
    vectors = [vectors for vectors, _ in batches]
    return Index.build(
        SparseVectors.stack(vectors, encoder.vocab_size, encoder.fingerprint),
        [document for _, documents in batches for document in documents],
        model_name=encoder.description.name,
        weight_type=options.weights,
        encoding=encoding,
    )


def run_index(options: argparse.Namespace) -> str:
    """Encode documents and write an index, a batch at a time, however many they are."""
    if is_index(Path(options.output)) and not options.replace:
        raise InputError(
            f"{options.output} holds {_what_is_there(options.output)}. Add to it with `spladelet "
            "add`, or have another take its place with --replace."
        )
    words = chosen_words(options)
    if options.lexical_only:
        if words is None:
            raise InputError("--lexical-only and --no-words leave nothing to index.")
        if _asked_encoding(options) != Encoding():
            raise InputError(
                "--lexical-only counts all words of each document; --long-texts, --max-active-dims "
                "and --min-weight are for a model."
            )
        encoder, encoding, name = None, None, ""
        words = Words() if words == "auto" else words
    else:
        encoder, encoding = load_encoder(options), _asked_encoding(options)
        name = encoder.description.name
    start = time.perf_counter()
    with IndexWriter.anew(
        options.output,
        weight_type=options.weights,
        model_name=name,
        encoding=encoding,
        words=words,
    ) as writer:
        for vectors, documents in _batches(encoder, options.file, encoding):
            writer.add(vectors, documents)
    index = Index.open(options.output)
    seconds = time.perf_counter() - start
    if options.json:
        counts = {"documents": len(index), "postings": index.postings}
        counts |= {} if index.words is None else {"word_postings": index.word_postings}
        return json.dumps(counts | {"seconds": seconds})
    said = f"{len(index)} documents, {index.postings} postings"
    if index.has_words_alone:
        said = f"{len(index)} documents, {index.word_postings} postings of words"
    elif index.words is not None:
        said += f" of terms, {index.word_postings} of words"
    return f"{clean(options.output)}: {said}, in {seconds:.1f} s"


def run_add(options: argparse.Namespace) -> str:
    """Add a file's documents, on the same road."""
    before = Index.open(options.index)  # a slip in its name makes no new one
    encoder = None if before.has_words_alone else load_encoder(options)
    given = entries = replaced = 0
    ids: list[str] = []  # of the documents in a batch, which may be more entries than that
    with IndexWriter(options.index) as writer:
        encoding = None if encoder is None else _kept_encoding(writer.encoding, options)
        for vectors, documents in _batches(encoder, options.file, encoding, ids):
            if options.replace:
                replaced += writer.replace(ids, vectors, documents)
            else:
                writer.add(vectors, documents)
            given, entries = given + len(ids), entries + len(documents)
            ids.clear()
        after = len(writer)
    added = given - replaced
    is_split = encoding is not None and encoding.long_texts == "split"
    if is_split and not options.json:
        counts = {"passages": after, "documents added": added}  # a short document is one passage
    else:
        counts = {"documents": after, "added": added}
    counts |= {"replaced": replaced} if options.replace else {}
    counts |= {"new passages": entries} if is_split else {}
    return _report(options, options.index, counts)


def run_delete(options: argparse.Namespace) -> str:
    """Delete documents by their ids, from the command line or standard input."""
    Index.open(options.index)
    ids = options.id or [line for _, _, line in read_lines(standard_input())]
    with IndexWriter(options.index) as writer:
        deleted, after = writer.delete(ids), len(writer)
    return _report(options, options.index, {"documents": after, "deleted": deleted})


def run_compact(options: argparse.Namespace) -> str:
    """Rewrite an index, and say how many postings are gone; count its words anew if asked to."""
    before = Index.open(options.index).postings
    words = chosen_words(options)
    with IndexWriter(options.index) as writer:
        if words != "auto":
            writer.recount(words)
        writer.compact()
        after = len(writer)
    now = Index.open(options.index).postings
    return _report(
        options, options.index, {"documents": after, "postings": now, "postings gone": before - now}
    )


def run_import(options: argparse.Namespace) -> str:
    """Make an index of vectors that are there already."""
    if is_index(Path(options.output)):
        raise InputError(f"{options.output} is an index already. Give the name of a new one.")
    known = options.vocab_size is None
    encoder = load_encoder(options) if known else None
    term_ids = None
    if encoder is not None and options.names == "terms":
        term_ids = encoder.vocabulary()
    batches = read_vectors(
        options.source,
        encoder.vocab_size if encoder else options.vocab_size,
        model=encoder.fingerprint if encoder else None,
        term_ids=term_ids,
    )
    texts = None if options.documents is None else read_documents(options.documents)
    name = encoder.description.name if encoder else ""
    with (
        IndexWriter(
            options.output,
            weight_type=options.weights,
            model_name=name,
            words=chosen_words(options),
        ) as writer,
        Progress("importing", None) as bar,
    ):
        language = None if encoder is None else encoder.language
        for read, documents in batches:
            vectors = replace(read, language=language)
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
    add_words(command)


def _add_index_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help=FILE_HELP)
    command.add_argument("-o", "--output", required=True, metavar="FOLDER", help="the index")
    command.add_argument(
        "--replace", action="store_true", help="in place of the index that is there"
    )
    command.add_argument(
        "--lexical-only", action="store_true", help="words alone: plain BM25, without a model"
    )
    add_words(command)
    _add_weights(command)
    _add_long_texts(command, "cut")
    add_pruning(command)


def _add_long_texts(command: argparse.ArgumentParser, default: str | None) -> None:
    said = default or "as the index was made"
    command.add_argument(
        "--long-texts",
        choices=LONG_TEXTS,
        default=default,
        help="cut them, merge all of one into one vector, or split it into passages "
        f"(default: {said})",
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
    command.add_argument(
        "--language",
        choices=LANGUAGES,
        metavar="LANGUAGE",
        help="count words anew, in this language",
    )
    command.add_argument("--no-words", action="store_true", help="leave the words out")


def _add_index(command: argparse.ArgumentParser) -> None:
    command.add_argument("index", metavar="INDEX", help="the index")


def _batches(
    encoder: Encoder | None,
    source: str | Path,
    encoding: Encoding | None,
    ids: list[str] | None = None,
) -> Iterator[tuple[SparseVectors | None, list[Document]]]:
    """Encode what a file or standard input has; the documents' ids are appended as it is read.

    A file is read twice, so that a slip in it is found before hours of encoding, and the progress
    bar knows how many documents there are.
    """
    if encoder is None or encoding is None:
        return _unencoded(source, ids)
    return _encoded(encoder, source, encoding, ids)


def _encoded(
    encoder: Encoder, source: str | Path, encoding: Encoding, ids: list[str] | None = None
) -> Iterator[tuple[SparseVectors, list[Document]]]:
    is_file = str(source) != "-" and Path(source).is_file()
    total = sum(1 for _ in read_documents(source)) if is_file else None
    return encoder.encode_batches(_documents(source, ids), encoding, total=total)


def _unencoded(
    source: str | Path, ids: list[str] | None = None
) -> Iterator[tuple[None, list[Document]]]:
    """Read what a file or standard input has, for an index of words alone."""
    with Progress("indexing", None) as bar:
        for batch in batched(_documents(source, ids), _AT_ONCE):
            yield None, batch
            bar.advance(len(batch))


def _documents(source: str | Path, ids: list[str] | None) -> Iterator[Document]:
    for document in read_documents(standard_input() if str(source) == "-" else source):
        if ids is not None:
            ids.append(document.id)
        yield document


def _asked_encoding(options: argparse.Namespace) -> Encoding:
    return Encoding(options.long_texts, options.max_active_dims, options.min_weight)


def _kept_encoding(kept: Mapping[str, Any], options: argparse.Namespace) -> Encoding:
    """Return how an index was made; where it does not say so, how the options say.

    Raises:
        InputError: The options say otherwise than the index.
    """
    names = Encoding().to_dict()
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if not kept:
        return Encoding(**given)
    known = Encoding.of_index(kept)
    for name, value in given.items():
        before = getattr(known, name)
        if value != before:
            raise InputError(
                f"--{name.replace('_', '-')} is {value}, but the index was made with "
                f"{'none' if before is None else before}. Leave it out, or make another index."
            )
    return known


def _what_is_there(folder: str) -> str:
    try:
        return f"an index of {len(Index.open(folder))} documents"
    except IndexStoreError:
        return "an index that cannot be opened"


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
