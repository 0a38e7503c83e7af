"""The commands `push`, `preview` and `convert`, and searching an engine; `cli` has the others."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

from spladelet import Encoder, Index, SparseVectors, read_documents
from spladelet.cli import display
from spladelet.cli.console import standard_input
from spladelet.cli.options import Command, load_encoder, whole
from spladelet.engines.base import Engine, Record
from spladelet.engines.formats import convert, format_names, seismic_mapping, write_topics
from spladelet.engines.payload import DOTS, Dots, TermNames
from spladelet.engines.registry import connect, engines
from spladelet.engines.simulation import Preview, preview, simulations
from spladelet.engines.transfer import PushReport, push
from spladelet.errors import EngineError, InputError, ModelMismatchError
from spladelet.evaluation.collection import read_collections
from spladelet.evaluation.grades import Qrels
from spladelet.index.generations import is_index
from spladelet.printable import clean, field, one_line
from spladelet.vector_arguments import no_vectors

_SHOWN_FAILURES = 10
_ALL = "all"


def run_push(options: argparse.Namespace) -> Iterator[str]:
    """Send an index, or a file of documents, to an engine; yields what is to be printed.

    Raises:
        EngineError: Documents were refused; the report comes first.
    """
    kind = engines()[options.engine]
    send = _push_index if is_index(options.index) else _push_documents
    report, engine = send(options, kind)
    if options.failures is not None:
        lines = [json.dumps({"id": i, "reason": why}) for i, why in report.failed.items()]
        options.failures.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    yield json.dumps(asdict(report)) if options.json else _report(report, engine)
    if report.failed:
        raise EngineError(
            f"{len(report.failed)} of {report.documents} documents were refused; the others are in "
            f"{options.collection!r}. Mend them and push again."
        )


def _push_index(options: argparse.Namespace, kind: type[Engine]) -> tuple[PushReport, Engine]:
    index = Index.open(options.index)
    names = (
        _names(options, index, options.dots or kind.default_dots) if kind.is_term_keyed else None
    )
    engine = _connect(options, names)
    journal = options.journal or Path(f"{options.engine}-{options.collection}.push.json")
    report = push(
        engine,
        index,
        batch_size=options.batch_size,
        texts=not options.without_texts,
        journal=None if options.no_journal else journal,
    )
    return report, engine


def _push_documents(options: argparse.Namespace, kind: type[Engine]) -> tuple[PushReport, Engine]:
    """Encode a file of documents and send them as they come, however many they are."""
    encoder = load_encoder(options)
    dots = options.dots or kind.default_dots
    names = TermNames(encoder.term, dots) if options.names == "terms" else None
    engine = _connect(options, names if kind.is_term_keyed else None)

    def records() -> Iterator[Record]:
        documents = read_documents(standard_input() if str(options.index) == "-" else options.index)
        for vectors, batch in encoder.encode_batches(documents):
            yield from map(Record, batch, vectors)

    report = push(engine, records(), batch_size=options.batch_size, texts=not options.without_texts)
    return report, engine


def _connect(options: argparse.Namespace, names: TermNames | None) -> Engine:
    engine = connect(
        options.engine,
        options.collection,
        names=names,
        url=options.url,
        ca_certs=options.ca_certs,
    )
    if options.replace:
        engine.delete()
    return engine


def search_engine(options: argparse.Namespace) -> tuple[Engine, Encoder | None]:
    """Open the collection that is searched, with the names that it was pushed with, and the model.

    Returns:
        The collection, and the model; None where words alone are asked.
    """
    engine = connect(options.engine, str(options.index), url=options.url, ca_certs=options.ca_certs)
    facts = engine.facts()
    if options.lexical == "only" or (facts is not None and not facts.vocab_size):
        encoder = None
    else:
        encoder = load_encoder(options)
    if facts is not None and engine.is_term_keyed:
        term = encoder.term if encoder is not None and facts.keys == "terms" else None
        engine.names = TermNames(term, cast(Dots, facts.dots))
    return engine, encoder


def run_preview(options: argparse.Namespace) -> str:
    """Simulate engines on an index and queries; returns what is to be printed."""
    index = Index.open(options.index)
    texts, qrels = _queries(options.queries, options.split)
    if not texts:
        raise InputError(f"{options.queries} has no queries. Give a file with one a line.")
    if index.has_words_alone:
        vectors = replace(no_vectors(len(texts)), texts=tuple(texts))
    else:
        vectors = load_encoder(options).encode_queries(texts)
    if vectors.model and index.model and vectors.model != index.model:
        raise ModelMismatchError(
            f"{options.index} was encoded by model {index.model[:12]}, this one is "
            f"{vectors.model[:12]}. Give the index's model with --model."
        )
    chosen = simulations(index.vectors()) if options.engine == _ALL else [options.engine]
    found = [preview(name, index, vectors, k=options.k, qrels=qrels) for name in chosen]
    if options.json:
        return json.dumps([asdict(item) for item in found])
    return "\n\n".join(_preview(item, options.k) for item in found)


def run_convert(options: argparse.Namespace) -> str:
    """Write an index as a file for another engine; returns what is to be printed."""
    index = Index.open(options.index)
    names = _names(options, index, options.dots or "keep")
    count = convert(index, options.format, options.output, names)
    facts: dict[str, object] = {"output": str(options.output), "documents": count}
    if options.format == "opensearch-seismic":
        body = options.output.with_name(f"{options.output.name}.index.json")
        body.write_text(json.dumps(seismic_mapping(index.vectors())), encoding="utf-8")
        facts["index_body"] = str(body)
    if options.topics is not None:
        encoder = load_encoder(options)
        asked = list(read_documents(options.topics))
        vectors = encoder.encode_queries(query.text for query in asked)
        target = options.output.with_name(f"{options.output.name}.topics.tsv")
        pairs = zip((query.id for query in asked), vectors, strict=True)
        facts["queries_without_terms"] = write_topics(target, pairs, names, index.words)
        facts["topics"] = str(target)
    if options.json:
        return json.dumps(facts)
    lines = [f"{clean(str(options.output))}: {count} documents for {options.format}"]
    if "index_body" in facts:
        lines.append(f"{clean(str(facts['index_body']))}: the body that makes the index")
    if "topics" in facts:
        left_out = facts["queries_without_terms"]
        lines.append(
            f"{clean(str(facts['topics']))}: {len(asked)} queries, without terms: "
            f"{clean(str(left_out or 'none'))}"
        )
    return "\n".join(lines)


def _add_push(command: argparse.ArgumentParser) -> None:
    command.add_argument("engine", choices=sorted(engines()), help="which engine")
    command.add_argument(
        "index", type=Path, metavar="INDEX", help="a saved index, or a file of documents to encode"
    )
    command.add_argument(
        "--collection", required=True, metavar="NAME", help="the collection or index there"
    )
    add_address(command)
    _add_names(command)
    command.add_argument(
        "--batch-size", type=whole, default=500, metavar="N", help="documents a request (500)"
    )
    command.add_argument("--without-texts", action="store_true", help="send ids and vectors only")
    command.add_argument(
        "--replace", action="store_true", help="delete the collection first, if it is there"
    )
    command.add_argument(
        "--journal", type=Path, metavar="FILE", help="how far the push came (a file here)"
    )
    command.add_argument("--no-journal", action="store_true", help="keep none")
    command.add_argument(
        "--failures", type=Path, metavar="FILE", help="write refused documents as JSONL"
    )


def _add_preview(command: argparse.ArgumentParser) -> None:
    known = [*simulations(SparseVectors.from_rows([], 1)), _ALL]
    command.add_argument("engine", choices=known, help="what is simulated")
    command.add_argument("index", type=Path, metavar="INDEX", help="a saved index")
    command.add_argument(
        "queries", metavar="QUERIES", help="a file of queries, or a collection with judgements"
    )
    command.add_argument("-k", type=whole, default=10, help="hits compared (default: 10)")
    command.add_argument("--split", default="test", help="which judgements (default: test)")


def _add_convert(command: argparse.ArgumentParser) -> None:
    command.add_argument("format", choices=format_names(), help="for which engine")
    command.add_argument("index", type=Path, metavar="INDEX", help="a saved index")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    command.add_argument(
        "--topics", type=Path, metavar="QUERIES", help="also write these as Anserini's topics"
    )
    _add_names(command)


def add_address(command: argparse.ArgumentParser) -> None:
    """Add where an engine is."""
    command.add_argument("--url", help="its address (default: ENGINE_URL, or its port here)")
    command.add_argument(
        "--ca-certs", metavar="FILE", help="certificates to trust, not the usual ones"
    )


def _add_names(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--names", choices=("terms", "ids"), default="terms", help="what terms are called"
    )
    command.add_argument(
        "--dots", choices=DOTS, help="what becomes of names with a dot (default: what fits)"
    )


def _names(options: argparse.Namespace, index: Index, dots: Dots) -> TermNames:
    if options.names == "ids" or index.has_words_alone:
        return TermNames(dots=dots)
    encoder = load_encoder(options)
    if index.model and encoder.fingerprint != index.model:
        raise ModelMismatchError(
            f"{options.index} was encoded by model {index.model[:12]}, this one is "
            f"{encoder.fingerprint[:12]}. Give the index's model with --model, or --names ids."
        )
    return TermNames(encoder.term, dots)


def _queries(source: str, split: str) -> tuple[list[str], Qrels | None]:
    path = Path(source)
    if path.is_file() and path.suffix != ".zip":
        return [document.text for document in read_documents(path)], None
    collections = read_collections(source, split)
    if len(collections) != 1:
        raise InputError(f"{source} has {len(collections)} parts. Give one of them.")
    return list(collections[0].queries.values()), collections[0].qrels


def _report(report: PushReport, engine: Engine) -> str:
    lines = [
        f"{clean(engine.collection)} in {engine.name}: {report.documents - len(report.failed)} of "
        f"{report.documents} documents"
        + (f", {report.sent} sent now" if report.sent < report.documents else "")
    ]
    if report.others:
        lines.append(f"{report.others} other documents are there, too; --replace removes them")
    if report.words_sharing:
        lines.append(
            f"{report.words_sharing} of {report.words} words share their number with another"
        )
    if report.without_terms:
        lines.append(f"{report.without_terms} have no terms, so nothing finds them")
    shown = list(report.failed.items())[:_SHOWN_FAILURES]
    lines += [f"  refused: {field(identity)}: {one_line(reason)}" for identity, reason in shown]
    if len(report.failed) > len(shown):
        lines.append(f"  … and {len(report.failed) - len(shown)} more (--failures FILE has all)")
    return "\n".join(lines)


def _preview(item: Preview, k: int) -> str:
    rows: list[tuple[str, object]] = [
        (item.engine, item.about),
        ("queries", item.queries),
        (f"top {k} kept", f"{item.overlap:.1%}; in the same order {item.same_order:.1%}"),
        ("weights", f"{item.clipped:.2%} clipped, {item.lost:.2%} lost, {item.change:.2%} changed"),
        ("query weights", f"{item.lost_query:.2%} lost"),
    ]
    if item.ndcg is not None and item.ndcg_exact is not None:
        change = item.ndcg - item.ndcg_exact
        rows.append(("nDCG@10", f"{item.ndcg:.4f} for {item.ndcg_exact:.4f} ({change:+.4f})"))
    return display.table(rows)


HANDING_OVER = (
    Command("push", run_push, _add_push, "send an index to a search engine"),
    Command("preview", run_preview, _add_preview, "say what an engine would do to the ranking"),
    Command("convert", run_convert, _add_convert, "write an index as a file for another engine"),
)
