"""The command `spladelet`: one function per subcommand, each a thin twin of a method.

A subcommand returns what is to be printed, or yields it piece by piece; `main` prints it.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from spladelet import (
    Document,
    Encoder,
    Index,
    SparseVector,
    SparseVectors,
    changes,
    console,
    display,
    inspection,
    read_documents,
)
from spladelet._version import __version__
from spladelet.console import Parser, standard_input
from spladelet.encoder import TruncationWarning
from spladelet.engines import command as handover
from spladelet.engines import engines
from spladelet.errors import InputError
from spladelet.evaluation import command as evaluation
from spladelet.filters import Where
from spladelet.generations import is_index
from spladelet.hits import Hit
from spladelet.options import (
    add_model,
    add_progress,
    add_pruning,
    add_top,
    finite,
    load_encoder,
    readable,
    whole,
)
from spladelet.plain import field
from spladelet.progress import Progress, showing
from spladelet.segment import KINDS
from spladelet.sources import read_lines

# Each shares few words, or none, with the document that answers it.
_QUESTIONS = (
    "Why does my kitten make a vibrating noise?",
    "Why does foliage go red in the fall?",
    "Who determines if a defendant committed the crime?",
    "Why does plumbing crack in winter?",
)
_WITHOUT_MODEL = ("info", "verify", "fuse", "delete", "compact")
_MOST_AT_ONCE = 2048  # texts of `encode` that are encoded together, when there are many

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
_Command: TypeAlias = Callable[[argparse.Namespace], str | Iterable[str]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status, see `console.run`."""

    def run() -> None:
        options = _parser().parse_args(arguments)
        with showing(options.progress, options.command):
            result = options.run(options)
            for text in [result] if isinstance(result, str) else result:
                console.show(text)

    return console.run(run)


def _demo(options: argparse.Namespace) -> Iterator[str]:
    encoder = load_encoder(options)
    documents = list(read_documents(str(files("spladelet") / "data" / "demo.jsonl")))
    start = time.perf_counter()
    index = Index.build(encoder.encode_documents(documents), documents)
    seconds = time.perf_counter() - start
    questions = [" ".join(options.question)] if options.question else list(_QUESTIONS)
    answers = [(q, index.search(encoder.encode_query(q), options.k)) for q in questions]
    if options.json:
        yield display.as_json(
            [{"question": q, "hits": [_hit_json(hit) for hit in found]} for q, found in answers]
        )
        return
    yield f"{len(documents)} short documents on everyday subjects, indexed in {seconds:.1f} s."
    yield "In brackets: whose word it is; the model added it to the other text."
    for question, found in answers:
        yield f"\n{_asked(question)}"
        yield display.hits(found)
        if found:
            words = encoder.explain(question, index.document(found[0].number)).words
            yield f"        matched: {display.matched(words, top=4)}"
    if not options.question:
        yield '\nAsk your own: spladelet demo "…"    Search your own: spladelet search FILE "…"'


def _encode(options: argparse.Namespace) -> Iterator[str]:
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
                if options.json:
                    yield display.as_json({"id": document.id, "vector": encoder.decode(vector)})
                    continue
                if not is_one:
                    yield f"{field(document.id)}: {display.snippet('', document.content, 80)}"
                yield display.bars(
                    *_weights_and_notes(encoder, document.content, vector), options.top
                )
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


def _search(options: argparse.Namespace) -> Iterator[str]:
    encoder = load_encoder(options)
    if options.engine is not None:
        yield from _search_engine(options, encoder)
        return
    if is_index(options.index):
        index = Index.open(options.index)
    else:
        index = changes.build(encoder, options.index, options)
    queries = _queries(options)
    ids = None if options.ids is None else [line for _, _, line in read_lines(options.ids)]
    found = index.search_many(
        encoder.encode_queries(queries),
        options.k,
        min_score=options.min_score,
        where=_where(options.where),
        ids=ids,
    )
    is_narrowed = options.where is not None or ids is not None or options.min_score > 0
    for query, hits in zip(queries, found, strict=True):
        if options.json:
            yield display.as_json([_hit_json(hit) for hit in hits])
            continue
        if len(queries) > 1:
            yield _asked(query)
        yield display.hits(hits, "that may be found " if is_narrowed else "")


def _where(text: str | None) -> Where | None:
    try:
        where: Where | None = None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"--where is {text!r:.60}, which is no JSON ({error}). Give an object such as "
            """'{"year": {"gte": 2020}}'."""
        ) from error
    return where


def _search_engine(options: argparse.Namespace, encoder: Encoder) -> Iterator[str]:
    if options.where is not None or options.ids is not None or options.min_score:
        raise InputError(
            "--where, --ids and --min-score are for an index; an engine has filters of its own."
        )
    engine = handover.search_engine(options, encoder)
    queries = _queries(options)
    for query, vector in zip(queries, encoder.encode_queries(queries), strict=True):
        found = engine.search(vector, options.k)
        if options.json:
            yield display.as_json([asdict(hit) for hit in found])
            continue
        if len(queries) > 1:
            yield _asked(query)
        yield display.hits(found)


def _explain(options: argparse.Namespace) -> str:
    document: str | Document = options.document
    encoder = load_encoder(options)
    if options.index is not None:
        index = Index.open(options.index)
        index.check_model(encoder.encode_query(options.query))
        document = _find(index, options.document)
    result = encoder.explain(options.query, document)
    return (
        display.as_json(asdict(result))
        if options.json
        else display.explanation(result, options.top)
    )


def _asked(query: str) -> str:
    return f"? {field(query)}"


def _queries(options: argparse.Namespace) -> list[str]:
    return [d.text for d in _texts(["-"])] if options.query == "-" else [options.query]


def _texts(given: list[str]) -> Iterator[Document]:
    """Read the texts of the command line; of standard input where none or "-" is options."""
    if given in ([], ["-"]):
        return read_documents(standard_input())
    return (Document(str(number), text) for number, text in enumerate(given, start=1))


def _find(index: Index, identity: str) -> Document:
    number = index.find(identity)
    if number is not None:
        return index.document(number)
    raise InputError(f"the index has no document with id {identity!r}.")


def _weights_and_notes(
    encoder: Encoder, text: str, vector: SparseVector
) -> tuple[dict[str, float], dict[str, str]]:
    own = {i for _, ids in encoder.document_words(text) for i in ids}
    added = [encoder.term(i) for i in vector.term_ids.tolist() if i not in own]
    return encoder.decode(vector), dict.fromkeys(added, "added by the model")


def _hit_json(hit: Hit) -> dict[str, object]:
    return {
        "id": hit.id,
        "score": hit.score,
        "error": hit.error,
        "title": hit.title,
        "text": hit.text,
        "metadata": dict(hit.metadata),
    }


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = Parser(
        prog="spladelet",
        description="Learned sparse search without PyTorch: encode, search and explain.",
    )
    parser.add_argument("--version", action="version", version=f"spladelet {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (_add_first_steps, _add_index, _add_search, _add_measuring_and_engines, _add_checks):
        add(commands)
    return parser


def _add_first_steps(commands: _Commands) -> None:
    demo = _command(commands, "demo", _demo, "answer questions from a small built-in corpus")
    demo.add_argument(
        "question", nargs="*", type=readable, help="your question (default: a few of ours)"
    )
    demo.add_argument("-k", type=whole, default=1, help="hits a question (default: 1)")

    encode = _command(commands, "encode", _encode, "show the weighted terms of texts")
    encode.add_argument(
        "text", nargs="*", type=readable, help="texts (default: documents on standard input)"
    )
    encode.add_argument("--side", choices=("query", "document"), default="document")
    add_top(encode)
    add_pruning(encode)


def _add_index(commands: _Commands) -> None:
    index = _command(commands, "index", changes.run_index, "encode documents and save an index")
    changes.add_index(index)
    add_pruning(index)
    text = "make an index of vectors that are there already"
    changes.add_import(_command(commands, "import", changes.run_import, text))

    grow = _command(commands, "add", changes.run_add, "encode documents and add them to an index")
    changes.add_add(grow)
    add_pruning(grow, None)
    changes.add_delete(
        _command(commands, "delete", changes.run_delete, "delete documents of an index")
    )
    text = "rewrite an index without what was deleted"
    changes.add_compact(_command(commands, "compact", changes.run_compact, text))


def _add_search(commands: _Commands) -> None:
    search = _command(commands, "search", _search, "find the documents that answer a query")
    search.add_argument(
        "index", type=Path, metavar="INDEX", help="an index, or a file of documents to index first"
    )
    search.add_argument(
        "query", type=readable, metavar="QUERY", help="or - for one a line on standard input"
    )
    search.add_argument("-k", type=whole, default=10, help="hits a query (default: 10)")
    search.add_argument(
        "--min-score", type=finite, default=0.0, metavar="S", help="leave out what scores less"
    )
    search.add_argument(
        "--where", type=readable, metavar="JSON", help="""such as '{"year": {"gte": 2020}}'"""
    )
    search.add_argument("--ids", type=Path, metavar="FILE", help="find only these; one id a line")
    search.add_argument(
        "--engine", choices=sorted(engines()), help="search there; INDEX is its collection"
    )
    handover.add_address(search)
    add_pruning(search)

    explain = _command(commands, "explain", _explain, "show why a document matches a query")
    explain.add_argument("query", type=readable, metavar="QUERY")
    explain.add_argument(
        "document", type=readable, metavar="DOCUMENT", help="a text, or an id with --index"
    )
    explain.add_argument("--index", metavar="FOLDER", help="look the document up here")
    add_top(explain)


def _add_measuring_and_engines(commands: _Commands) -> None:
    evaluate = _command(
        commands, "evaluate", evaluation.run_evaluate, "measure retrieval on test collections"
    )
    evaluation.add_evaluate(evaluate)
    add_pruning(evaluate)

    fuse = _command(commands, "fuse", evaluation.run_fuse, "make one run file of several")
    evaluation.add_fuse(fuse)

    for name, run, add, text in (
        ("push", handover.run_push, handover.add_push, "send an index to a search engine"),
        (
            "preview",
            handover.run_preview,
            handover.add_preview,
            "say what an engine would do to the ranking",
        ),
        (
            "convert",
            handover.run_convert,
            handover.add_convert,
            "write an index as a file for another engine",
        ),
    ):
        add(_command(commands, name, run, text))


def _add_checks(commands: _Commands) -> None:
    for name, run, text in (
        ("info", inspection.run_info, "say what a model or index is"),
        ("verify", inspection.run_verify, "check every file of a model or index by its hash"),
    ):
        command = _command(commands, name, run, text)
        command.add_argument(
            "path", nargs="?", metavar="PATH", help="a bundle or an index (default: our model)"
        )


def _command(commands: _Commands, name: str, run: _Command, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text.capitalize() + ".")
    command.set_defaults(
        run=run,
        command=name,
        max_active_dims=None,
        min_weight=0.0,
        weights=KINDS[0],
        long_texts="cut",
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    add_progress(command)
    if name not in _WITHOUT_MODEL:
        add_model(command)
    return command


if __name__ == "__main__":
    sys.exit(main())
