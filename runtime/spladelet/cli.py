"""The command `spladelet`: one function per subcommand, each a thin twin of a method."""

import argparse
import io
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import TypeAlias

from spladelet import (
    Document,
    Encoder,
    Index,
    SparseVector,
    changes,
    display,
    inspection,
    read_documents,
)
from spladelet._version import __version__
from spladelet.encoder import LanguageWarning, TruncationWarning
from spladelet.engines import command as handover
from spladelet.engines import engines
from spladelet.errors import InputError, SpladeletError
from spladelet.evaluation import command as evaluation
from spladelet.filters import Where
from spladelet.generations import is_index
from spladelet.hits import Hit
from spladelet.segment import KINDS
from spladelet.sources import read_lines

# Each shares few words, or none, with the document that answers it.
_QUESTIONS = (
    "Why does my kitten make a vibrating noise?",
    "Why does foliage go red in the fall?",
    "Who determines if a defendant committed the crime?",
    "Why does plumbing crack in winter?",
)

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 1 for an error, 2 for wrong usage."""
    for stream, errors in ((sys.stdin, "strict"), (sys.stdout, "replace")):
        # Windows would read and write files in its own code page.
        if os.name == "nt" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # texts hold what a terminal may lack
    options = _parser().parse_args(arguments)
    try:
        with _notes():
            options.run(options)
            sys.stdout.flush()
    except SpladeletError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader has gone, as with `| head`; keep Python from flushing into the pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"error: {error}. Mend that and try again.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _demo(options: argparse.Namespace) -> None:
    encoder = _encoder(options)
    documents = list(read_documents(str(files("spladelet") / "data" / "demo.jsonl")))
    start = time.perf_counter()
    index = Index.build(encoder.encode_documents(documents), documents)
    seconds = time.perf_counter() - start
    questions = [" ".join(options.question)] if options.question else list(_QUESTIONS)
    answers = [(q, index.search(encoder.encode_query(q), options.k)) for q in questions]
    if options.json:
        _print_json(
            [{"question": q, "hits": [_hit_json(hit) for hit in found]} for q, found in answers]
        )
        return
    print(f"{len(documents)} short documents on everyday subjects, indexed in {seconds:.1f} s.")
    print("In brackets: whose word it is; the model added it to the other text.")
    for question, found in answers:
        print(f"\n? {question}")
        print(display.hits(found))
        if found:
            words = encoder.explain(question, index.document(found[0].number)).words
            print(f"        matched: {display.matched(words, top=4)}")
    if not options.question:
        print('\nAsk your own: spladelet demo "…"    Search your own: spladelet search FILE "…"')


def _encode(options: argparse.Namespace) -> None:
    encoder = _encoder(options)
    documents = _texts(options.text)
    limits = {"max_active_dims": options.max_active_dims, "min_weight": options.min_weight}
    if options.side == "query":
        vectors = encoder.encode_queries((d.content for d in documents), **limits)
    else:
        vectors = encoder.encode_documents(documents, **limits)
    for document, vector in zip(documents, vectors, strict=True):
        if options.json:
            _print_json({"id": document.id, "vector": encoder.decode(vector)})
            continue
        if len(documents) > 1:
            print(f"{document.id}: {display.snippet('', document.content, 80)}")
        print(display.bars(*_weights_and_notes(encoder, document.content, vector), options.top))


def _index(options: argparse.Namespace) -> None:
    encoder = _encoder(options)
    start = time.perf_counter()
    index = _build(encoder, options.file, options)
    index.save(options.output)
    seconds = time.perf_counter() - start
    if options.json:
        _print_json({"documents": len(index), "postings": index.postings, "seconds": seconds})
    else:
        print(
            f"{options.output}: {len(index)} documents, {index.postings} postings, "
            f"in {seconds:.1f} s"
        )


def _import(options: argparse.Namespace) -> None:
    print(changes.run_import(options))


def _add(options: argparse.Namespace) -> None:
    print(changes.run_add(options))


def _delete(options: argparse.Namespace) -> None:
    print(changes.run_delete(options))


def _compact(options: argparse.Namespace) -> None:
    print(changes.run_compact(options))


def _search(options: argparse.Namespace) -> None:
    encoder = _encoder(options)
    if options.engine is not None:
        _search_engine(options, encoder)
        return
    if is_index(options.index):
        index = Index.open(options.index)
    else:
        index = _build(encoder, options.index, options)
    queries = [d.text for d in _texts(["-"])] if options.query == "-" else [options.query]
    vectors = encoder.encode_queries(queries)
    ids = None if options.ids is None else [line for _, _, line in read_lines(options.ids)]
    hits = index.search_many(
        vectors,
        options.k,
        min_score=options.min_score,
        where=_where(options.where),
        ids=ids,
    )
    for query, found in zip(queries, hits, strict=True):
        if options.json:
            _print_json([_hit_json(hit) for hit in found])
            continue
        if len(queries) > 1:
            print(f"? {query}")
        is_narrowed = options.where is not None or ids is not None or options.min_score > 0
        print(display.hits(found, "that may be found " if is_narrowed else ""))


def _where(text: str | None) -> Where | None:
    try:
        where: Where | None = None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"--where is {text!r:.60}, which is no JSON ({error}). Give an object such as "
            """'{"year": {"gte": 2020}}'."""
        ) from error
    return where


def _search_engine(options: argparse.Namespace, encoder: Encoder) -> None:
    if options.where is not None or options.ids is not None or options.min_score:
        raise InputError(
            "--where, --ids and --min-score are for an index; an engine has filters of its own."
        )
    engine = handover.search_engine(options, encoder)
    queries = [d.text for d in _texts(["-"])] if options.query == "-" else [options.query]
    for query, vector in zip(queries, encoder.encode_queries(queries), strict=True):
        found = engine.search(vector, options.k)
        if options.json:
            _print_json([asdict(hit) for hit in found])
            continue
        if len(queries) > 1:
            print(f"? {query}")
        width = max((len(hit.id) for hit in found), default=0)
        lines = [handover.hit_line(hit, width) for hit in found]
        print("\n".join(lines) or "no document shares a term with the query")


def _explain(options: argparse.Namespace) -> None:
    document: str | Document = options.document
    encoder = _encoder(options)
    if options.index is not None:
        index = Index.open(options.index)
        index.check_model(encoder.encode_query(options.query))
        document = _find(index, options.document)
    result = encoder.explain(options.query, document)
    if options.json:
        _print_json(asdict(result))
    else:
        print(display.explanation(result, options.top))


def _evaluate(options: argparse.Namespace) -> None:
    print(evaluation.run_evaluate(options))


def _fuse(options: argparse.Namespace) -> None:
    print(evaluation.run_fuse(options))


def _push(options: argparse.Namespace) -> None:
    print(handover.run_push(options))


def _preview(options: argparse.Namespace) -> None:
    print(handover.run_preview(options))


def _convert(options: argparse.Namespace) -> None:
    print(handover.run_convert(options))


def _info(options: argparse.Namespace) -> None:
    print(inspection.run_info(options))


def _verify(options: argparse.Namespace) -> None:
    print(inspection.run_verify(options))


def _encoder(options: argparse.Namespace) -> Encoder:
    return Encoder.load(options.model, threads=options.threads)


def _build(encoder: Encoder, source: str | Path, options: argparse.Namespace) -> Index:
    read = list(read_documents(sys.stdin if str(source) == "-" else source))
    vectors, documents = changes.encode(encoder, read, options)
    return Index.build(
        vectors,
        documents,
        model_name=encoder.description.name,
        weights=options.weights,
    )


def _texts(given: list[str]) -> list[Document]:
    """Return the texts of the command line; from standard input where none or "-" is given."""
    if given in ([], ["-"]):
        return list(read_documents(sys.stdin))
    return [Document(str(number), text) for number, text in enumerate(given, start=1)]


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


def _print_json(value: object) -> None:
    print(display.as_json(value))


@contextmanager
def _notes() -> Iterator[None]:
    """Show the package's warnings as plain notes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TruncationWarning)
        warnings.simplefilter("always", LanguageWarning)
        yield
    for note in caught:
        print(f"note: {note.message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
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
    demo.add_argument("question", nargs="*", help="your question (default: a few of ours)")
    demo.add_argument("-k", type=int, default=1, help="hits a question (default: 1)")

    encode = _command(commands, "encode", _encode, "show the weighted terms of texts")
    encode.add_argument("text", nargs="*", help="texts (default: documents on standard input)")
    encode.add_argument("--side", choices=("query", "document"), default="document")
    _add_top(encode)
    _add_pruning(encode)


def _add_index(commands: _Commands) -> None:
    index = _command(commands, "index", _index, "encode documents and save an index")
    index.add_argument("file", metavar="FILE", help=changes.FILE_HELP)
    index.add_argument("-o", "--output", required=True, metavar="FOLDER", help="the index")
    changes.add_weights(index)
    changes.add_long_texts(index)
    _add_pruning(index)
    text = "make an index of vectors that are there already"
    changes.add_import(_command(commands, "import", _import, text))

    grow = _command(commands, "add", _add, "encode documents and add them to an index")
    changes.add_add(grow)
    changes.add_long_texts(grow)
    _add_pruning(grow)
    changes.add_delete(_command(commands, "delete", _delete, "delete documents of an index"))
    text = "rewrite an index without what was deleted"
    changes.add_compact(_command(commands, "compact", _compact, text))


def _add_search(commands: _Commands) -> None:
    search = _command(commands, "search", _search, "find the documents that answer a query")
    search.add_argument(
        "index", type=Path, metavar="INDEX", help="an index, or a file of documents to index first"
    )
    search.add_argument("query", metavar="QUERY", help="or - for one a line on standard input")
    search.add_argument("-k", type=int, default=10, help="hits a query (default: 10)")
    search.add_argument(
        "--min-score", type=float, default=0.0, metavar="S", help="leave out what scores less"
    )
    search.add_argument("--where", metavar="JSON", help="""such as '{"year": {"gte": 2020}}'""")
    search.add_argument("--ids", type=Path, metavar="FILE", help="find only these; one id a line")
    search.add_argument(
        "--engine", choices=sorted(engines()), help="search there; INDEX is its collection"
    )
    handover.add_address(search)
    _add_pruning(search)

    explain = _command(commands, "explain", _explain, "show why a document matches a query")
    explain.add_argument("query", metavar="QUERY")
    explain.add_argument("document", metavar="DOCUMENT", help="a text, or an id with --index")
    explain.add_argument("--index", metavar="FOLDER", help="look the document up here")
    _add_top(explain)


def _add_measuring_and_engines(commands: _Commands) -> None:
    evaluate = _command(commands, "evaluate", _evaluate, "measure retrieval on test collections")
    evaluation.add_evaluate(evaluate)
    _add_pruning(evaluate)

    fuse = _command(commands, "fuse", _fuse, "make one run file of several")
    evaluation.add_fuse(fuse)

    for name, run, add, text in (
        ("push", _push, handover.add_push, "send an index to a search engine"),
        ("preview", _preview, handover.add_preview, "say what an engine would do to the ranking"),
        ("convert", _convert, handover.add_convert, "write an index as a file for another engine"),
    ):
        add(_command(commands, name, run, text))


def _add_checks(commands: _Commands) -> None:
    for name, run, text in (
        ("info", _info, "say what a model or index is"),
        ("verify", _verify, "check every file of a model or index by its hash"),
    ):
        command = _command(commands, name, run, text)
        command.add_argument(
            "path", nargs="?", metavar="PATH", help="a bundle or an index (default: our model)"
        )


def _command(
    commands: _Commands,
    name: str,
    run: Callable[[argparse.Namespace], None],
    text: str,
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text.capitalize() + ".")
    command.set_defaults(
        run=run, max_active_dims=None, min_weight=0.0, weights=KINDS[0], long_texts="cut"
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    if run not in (_info, _verify, _fuse, _delete, _compact):
        command.add_argument("--model", metavar="MODEL", help="a bundle or hub id (default: ours)")
        command.add_argument("--threads", type=int, metavar="N", help="threads (default: all)")
    return command


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _add_top(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--top", type=_positive, default=10, metavar="N", help="terms shown (default: 10)"
    )


def _add_pruning(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--max-active-dims", type=int, metavar="N", help="keep the N heaviest terms of each text"
    )
    command.add_argument(
        "--min-weight", type=float, default=0.0, metavar="W", help="drop terms that weigh less"
    )


if __name__ == "__main__":
    sys.exit(main())
