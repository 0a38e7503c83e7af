"""The commands that encode, search and explain: demo, encode, search, explain."""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

from spladelet import Document, Encoder, Index, SparseVector, SparseVectors, read_documents
from spladelet.cli import display, handing_over, indexing
from spladelet.cli.console import standard_input
from spladelet.cli.options import (
    Command,
    add_lexical,
    add_pruning,
    add_top,
    finite,
    load_encoder,
    readable,
    whole,
)
from spladelet.encoder.notices import TruncationWarning
from spladelet.engines import engines
from spladelet.errors import InputError
from spladelet.explain import Explanation
from spladelet.explaining import Explainer, Snippet
from spladelet.index.filters import Where
from spladelet.index.generations import is_index
from spladelet.index.hits import Hit
from spladelet.printable import field, snippet
from spladelet.progress import Progress
from spladelet.sources import read_lines

# Each shares few words, or none, with the document that answers it.
_QUESTIONS = (
    "Why does my kitten make a vibrating noise?",
    "Why does foliage go red in the fall?",
    "Who determines if a defendant committed the crime?",
    "Why does plumbing crack in winter?",
)
_MOST_AT_ONCE = 2048  # texts of `encode` that are encoded together, when there are many


def run_demo(options: argparse.Namespace) -> Iterator[str]:
    """Answer questions from the corpus that comes with the package."""
    encoder = load_encoder(options)
    documents = list(read_documents(str(files("spladelet") / "data" / "demo.jsonl")))
    start = time.perf_counter()
    index = Index.build(encoder.encode_documents(documents), documents)
    seconds = time.perf_counter() - start
    questions = [" ".join(options.question)] if options.question else list(_QUESTIONS)
    answers = [(q, index.search(encoder.encode_query(q), options.k)) for q in questions]
    if options.json:
        yield display.as_json(
            [{"question": q, "hits": [hit.to_dict() for hit in found]} for q, found in answers]
        )
        return
    yield f"{len(documents)} short documents on everyday subjects, indexed in {seconds:.1f} s."
    yield "In brackets: whose word it is, and for which word of the other the model added it there."
    for question, found in answers:
        yield f"\n{_asked(question)}"
        yield display.hits(found)
        if found:
            explainer = Explainer(index, encoder, encoder.encode_query(question))
            why = explainer.explain(found[0].number)
            yield f"        matched: {display.matched(why, top=4)}"
    if not options.question:
        yield '\nAsk your own: spladelet demo "…"    Search your own: spladelet search FILE "…"'


def run_encode(options: argparse.Namespace) -> Iterator[str]:
    """Encode few texts at first, then more at once, so that the first are not kept waiting."""
    encoder = load_encoder(options)
    texts = _texts(options.text)
    window = list(islice(texts, 2))
    is_one = len(window) < 2
    count, cut = 0, list[int]()
    is_seen = sys.stdout is not None and sys.stdout.isatty()  # and so is how far it has come
    with Progress("encoding", None, show=False if is_seen else None) as bar:
        while window:
            vectors = _vectors(encoder, window, options)
            cut += [count + number for number in vectors.truncated]
            count += len(window)
            bar.advance(len(window))
            for document, vector in zip(window, vectors, strict=True):
                if options.json and not options.why:
                    yield display.as_json({"id": document.id, "vector": encoder.decode(vector)})
                    continue
                explain = encoder.explain_terms if options.why else encoder.terms
                terms = explain(document.content, vector, side=options.side)
                if options.json:
                    told = [asdict(term) for term in terms]
                    yield display.as_json({"id": document.id, "terms": told})
                    continue
                if not is_one:
                    yield f"{field(document.id)}: {snippet('', document.content, 80)}"
                notes = {term.term: display.note(term) for term in terms}
                weights = {term.term: term.weight for term in terms}
                yield display.bars(weights, notes, options.top)
            window = list(islice(texts, min(2 * len(window), _MOST_AT_ONCE)))
    if cut:
        limit = getattr(encoder.description, options.side).max_length
        message = (
            f"{len(cut)} of {count} texts were longer than {limit} tokens and were cut there (the "
            f"first is number {cut[0]})."
        )
        warnings.warn(message, TruncationWarning, stacklevel=2)


def _vectors(
    encoder: Encoder, documents: list[Document], options: argparse.Namespace
) -> SparseVectors:
    limits = {"max_active_dims": options.max_active_dims, "min_weight": options.min_weight}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # said once, of all
        if options.side == "query":
            return encoder.encode_queries((d.content for d in documents), **limits)
        return encoder.encode_documents(documents, progress=False, **limits)


def run_search(options: argparse.Namespace) -> Iterator[str]:
    """Search an index, a file of documents, or an engine."""
    if options.engine is not None:
        yield from _search_engine(options)
        return
    index, encoder = _opened(options)
    queries = _queries(options)
    asked: Sequence[str] | SparseVectors = (
        queries if encoder is None else encoder.encode_queries(queries)
    )
    ids = None if options.ids is None else [line for _, _, line in read_lines(options.ids)]
    found = index.search_many(
        asked,
        options.k,
        lexical=options.lexical,
        min_score=options.min_score,
        where=_where(options.where),
        ids=ids,
    )
    is_narrowed = options.where is not None or ids is not None or options.min_score > 0
    vectors: Iterable[str | SparseVector] = asked
    for query, vector, hits in zip(queries, vectors, found, strict=True):
        parts = None
        if options.snippets:
            explainer = Explainer(index, encoder, vector, lexical=options.lexical)
            parts = explainer.snippets([hit.number for hit in hits])
        if options.json:
            yield display.as_json(_told(hits, parts))
            continue
        if len(queries) > 1:
            yield _asked(query)
        yield display.hits(hits, "that may be found " if is_narrowed else "", parts)


def _told(hits: Sequence[Hit], snippets: Sequence[Snippet] | None) -> list[dict[str, Any]]:
    told = [hit.to_dict() for hit in hits]
    if snippets is None:
        return told
    pairs = zip(told, snippets, strict=True)
    return [hit | {"snippet": asdict(snippet)} for hit, snippet in pairs]


def _opened(options: argparse.Namespace) -> tuple[Index, Encoder | None]:
    """Open or make the index, and load the model unless words alone are asked."""
    index = Index.open(options.index) if is_index(options.index) else None
    if options.lexical == "only" or (index is not None and index.has_words_alone):
        return (indexing.build_words(options.index) if index is None else index), None
    encoder = load_encoder(options)
    return (indexing.build(encoder, options.index, options) if index is None else index), encoder


def _where(text: str | None) -> Where | None:
    try:
        where: Where | None = None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"--where is {text!r:.60}, which is no JSON ({error}). Give an object such as "
            """'{"year": {"gte": 2020}}'."""
        ) from error
    return where


def _search_engine(options: argparse.Namespace) -> Iterator[str]:
    if options.where is not None or options.ids or options.min_score or options.snippets:
        raise InputError(
            "--where, --ids, --min-score and --snippets are for an index; an engine has its own."
        )
    engine, encoder = handing_over.search_engine(options)
    queries = _queries(options)
    asked: Iterable[SparseVector | str] = queries
    if encoder is not None:
        asked = encoder.encode_queries(queries)
    for query, vector in zip(queries, asked, strict=True):
        found = engine.search(vector, options.k, lexical=options.lexical)
        if options.json:
            yield display.as_json([asdict(hit) for hit in found])
            continue
        if len(queries) > 1:
            yield _asked(query)
        yield display.hits(found)


def run_explain(options: argparse.Namespace) -> str:
    """Take a score apart: of two texts, or of a query and a document of an index."""
    if options.index is None:
        result = _explain_texts(load_encoder(options), options.query, options.document)
    else:
        result = _explain_hit(Index.open(options.index), options)
    return (
        display.as_json(asdict(result))
        if options.json
        else display.explanation(result, options.top)
    )


def _explain_texts(encoder: Encoder, query: str, document: str) -> Explanation:
    why = encoder.explain(query, document)
    if not encoder.can_trace:
        return why
    return why.with_sources(encoder.sources(query, side="query"), encoder.sources(document))


def _explain_hit(index: Index, options: argparse.Namespace) -> Explanation:
    """Explain the score that the index gives: by the vector that it has, not by one made anew."""
    number = index.find(options.document)
    if number is None:
        raise InputError(f"the index has no document with id {options.document!r:.80}.")
    if index.has_words_alone or options.lexical == "only":
        explainer = Explainer(index, None, options.query, lexical=options.lexical)
    else:
        encoder = load_encoder(options)
        query = encoder.encode_query(options.query)
        explainer = Explainer(index, encoder, query, lexical=options.lexical)
    return explainer.explain(number)


def _asked(query: str) -> str:
    return f"? {field(query)}"


def _queries(options: argparse.Namespace) -> list[str]:
    return [d.text for d in _texts(["-"])] if options.query == "-" else [options.query]


def _texts(given: list[str]) -> Iterator[Document]:
    """Read the texts of the command line; of standard input where none or "-" is given."""
    if given in ([], ["-"]):
        return read_documents(standard_input())
    return (Document(str(number), text) for number, text in enumerate(given, start=1))


def _add_demo(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "question", nargs="*", type=readable, help="your question (default: a few of ours)"
    )
    command.add_argument("-k", type=whole, default=1, help="hits a question (default: 1)")


def _add_encode(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "text", nargs="*", type=readable, help="texts (default: documents on standard input)"
    )
    command.add_argument("--side", choices=("query", "document"), default="document")
    command.add_argument(
        "--why", action="store_true", help="say for which word of the text each term is there"
    )
    add_top(command)
    add_pruning(command)


def _add_search(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "index", type=Path, metavar="INDEX", help="an index, or a file of documents to index first"
    )
    command.add_argument(
        "query", type=readable, metavar="QUERY", help="or - for one a line on standard input"
    )
    command.add_argument("-k", type=whole, default=10, help="hits a query (default: 10)")
    add_lexical(command)
    command.add_argument(
        "--min-score", type=finite, default=0.0, metavar="S", help="leave out what scores less"
    )
    command.add_argument(
        "--where", type=readable, metavar="JSON", help="""such as '{"year": {"gte": 2020}}'"""
    )
    command.add_argument(
        "--snippets", action="store_true", help="show the passage that each hit's score comes from"
    )
    command.add_argument("--ids", type=Path, metavar="FILE", help="find only these; one id a line")
    command.add_argument(
        "--engine", choices=sorted(engines()), help="search there; INDEX is its collection"
    )
    handing_over.add_address(command)
    add_pruning(command)


def _add_explain(command: argparse.ArgumentParser) -> None:
    command.add_argument("query", type=readable, metavar="QUERY")
    command.add_argument(
        "document", type=readable, metavar="DOCUMENT", help="a text, or an id with --index"
    )
    command.add_argument("--index", metavar="FOLDER", help="look the document up here")
    add_lexical(command)
    add_top(command)


FIRST_STEPS = (
    Command("demo", run_demo, _add_demo, "answer questions from a small built-in corpus"),
    Command("encode", run_encode, _add_encode, "show the weighted terms of texts"),
)
SEARCHING = (
    Command("search", run_search, _add_search, "find the documents that answer a query"),
    Command("explain", run_explain, _add_explain, "show why a document matches a query"),
)
