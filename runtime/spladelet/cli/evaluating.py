"""The commands `spladelet evaluate` and `spladelet fuse`; see `cli` for the others."""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from spladelet.cli.options import (
    Command,
    add_pruning,
    add_words,
    chosen_words,
    finite,
    load_encoder,
    whole,
)
from spladelet.errors import InputError, RunError
from spladelet.evaluation.collection import Collection, read_collections
from spladelet.evaluation.experiment import (
    BM25,
    FUSIONS,
    Outcome,
    Settings,
    check_experiment,
    evaluate,
)
from spladelet.evaluation.fusion import reciprocal_rank_fusion, weighted_fusion
from spladelet.evaluation.measures import MEASURES
from spladelet.evaluation.report import write_report
from spladelet.evaluation.runs import Run, check_ids, read_run, write_run
from spladelet.evaluation.tables import to_dict, to_markdown
from spladelet.evaluation.vector_cache import VectorCache, default_folder
from spladelet.printable import clean


def run_evaluate(options: argparse.Namespace) -> str:
    """Evaluate a model on collections; returns what is to be printed."""
    settings = Settings(
        baseline=None if options.baseline == "none" else options.baseline,
        fusion=options.fusion,
        share=options.share,
        depth=options.depth,
        keep_same_ids=options.keep_same_ids,
        measures=options.measure or MEASURES,
        words=chosen_words(options),
    )
    encoder = load_encoder(options)
    name = encoder.description.name
    vectors = VectorCache(
        encoder,
        None if options.no_cache else options.cache or default_folder(),
        max_active_dims=options.max_active_dims,
        min_weight=options.min_weight,
    )
    asked = _experiments(options, settings, name)
    outcomes = []
    for collection, runs in asked:
        outcome = evaluate(vectors, collection, settings, name=name, runs=runs)
        if options.save_runs is not None:
            _save_runs(options.save_runs, outcome)
        outcomes.append(outcome)
    if options.report is not None:
        write_report(options.report, outcomes, encoder, examples=options.examples, name=name)
    if options.json:
        return json.dumps(to_dict(outcomes, per_query=options.per_query))
    text = to_markdown(outcomes)
    return text if options.report is None else f"{text}\n\nReport: {clean(str(options.report))}"


def _experiments(
    options: argparse.Namespace, settings: Settings, name: str
) -> list[tuple[Collection, Mapping[str, Run]]]:
    """Read everything and check it, before hours go into encoding."""
    collections = [
        c for source in options.collection for c in read_collections(source, options.split)
    ]
    names = [_file_name(collection) for collection in collections]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InputError(f"two collections are named {twice[0]!r}. Rename a folder.")
    found = []
    for collection in collections:
        runs = _runs(options.run_file, collection)
        check_experiment(collection, settings, name=name, runs=runs)
        found.append((collection, runs))
    if options.save_runs is not None:
        options.save_runs.mkdir(parents=True, exist_ok=True)
        for collection in collections:
            check_ids([*collection.queries, *(document.id for document in collection.documents)])
    report = options.report
    if report is not None and (report.is_dir() or not report.parent.is_dir()):
        raise InputError(f"a report cannot be written to {report}: it is a folder, or in none.")
    return found


def run_fuse(options: argparse.Namespace) -> str:
    """Fuse run files; returns what is to be printed."""
    runs = [read_run(path) for path in options.file]
    fuse = reciprocal_rank_fusion if options.method == "rrf" else weighted_fusion
    fused = fuse(runs, weights=options.weight)
    write_run(options.output, fused, "spladelet")
    facts = {"output": str(options.output), "runs": len(runs), "queries": len(fused)}
    if options.json:
        return json.dumps(facts)
    output = clean(str(options.output))
    return f"{output}: {len(fused)} queries, {len(runs)} runs fused by {options.method}"


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "collection",
        nargs="+",
        metavar="COLLECTION",
        help="BEIR's layout, a folder or .zip; or a name of ir_datasets",
    )
    command.add_argument(
        "--baseline",
        default=BM25,
        metavar="NAME",
        help='what to compare with: "bm25" (default), "none", or the name of a --run',
    )
    command.add_argument(
        "--run",
        dest="run_file",
        action="append",
        default=[],
        type=_named_path,
        metavar="[NAME=]PATH",
        help="another system's TREC run, or a folder of them, COLLECTION.trec each",
    )
    command.add_argument(
        "--fusion", choices=FUSIONS, help="also fuse the model alone with the baseline and each run"
    )
    command.add_argument(
        "--share",
        type=finite,
        default=0.5,
        metavar="S",
        help="the model's weight in a fusion, 0 to 1 (default: 0.5)",
    )
    command.add_argument("--split", default="test", help="which qrels (default: test)")
    command.add_argument(
        "--measure",
        action="append",
        metavar="M",
        help=f"by ir_measures' name, may be repeated (default: {' '.join(MEASURES)})",
    )
    command.add_argument(
        "--depth", type=whole, default=1000, metavar="N", help="documents a query (default: 1000)"
    )
    command.add_argument(
        "--keep-same-ids",
        action="store_true",
        help="keep documents whose id is the query's own, which BEIR leaves out",
    )
    _add_outputs(command)
    add_words(command)
    add_pruning(command)


def _add_outputs(command: argparse.ArgumentParser) -> None:
    command.add_argument("--report", type=Path, metavar="FILE", help="write an HTML report")
    command.add_argument(
        "--examples", type=_count, default=5, metavar="N", help="wins and losses in it (default: 5)"
    )
    command.add_argument(
        "--save-runs", type=Path, metavar="FOLDER", help="write each SYSTEM/COLLECTION.trec"
    )
    command.add_argument(
        "--per-query", action="store_true", help="with --json: every query's values too"
    )
    command.add_argument(
        "--cache", type=Path, metavar="FOLDER", help="where vectors are kept (default: yours)"
    )
    command.add_argument("--no-cache", action="store_true", help="keep no vectors")


def _add_fuse(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", nargs="+", type=Path, metavar="RUN", help="a TREC run file")
    command.add_argument("-o", "--output", required=True, type=Path, metavar="FILE")
    command.add_argument("--method", choices=FUSIONS, default="rrf", help="default: rrf")
    command.add_argument(
        "--weight", type=finite, action="append", metavar="W", help="one a run, in their order"
    )


def _count(value: str) -> int:
    if not value.isdecimal():
        raise argparse.ArgumentTypeError(f"{value!r}; expected 0 or more")
    return int(value)


def _named_path(value: str) -> tuple[str, Path]:
    name, equals, path = value.partition("=")
    if equals and name and os.sep not in name:
        return name, Path(path)
    return Path(value).resolve().name.removesuffix(".gz").removesuffix(".trec"), Path(value)


def _runs(given: Sequence[tuple[str, Path]], collection: Collection) -> Mapping[str, Run]:
    runs: dict[str, Run] = {}
    for name, path in given:
        if name in runs:
            raise InputError(f"two runs are named {name!r}. Name them: --run NAME=PATH.")
        runs[name] = read_run(_run_file(path, collection))
    return runs


def _run_file(path: Path, collection: Collection) -> Path:
    if not path.is_dir():
        return path
    name = f"{_file_name(collection)}.trec"
    for file in (path / name, path / f"{name}.gz"):
        if file.is_file():
            return file
    raise RunError(f"{path} has no {name}. A folder of runs has one file a collection.")


def _save_runs(folder: Path, outcome: Outcome) -> None:
    for system in outcome.systems.values():
        target = folder / system.name
        target.mkdir(parents=True, exist_ok=True)
        write_run(target / f"{_file_name(outcome.collection)}.trec", system.run, system.name)


def _file_name(collection: Collection) -> str:
    return collection.label.replace("/", "-")


EVALUATING = (
    Command("evaluate", run_evaluate, _add_evaluate, "measure retrieval on test collections"),
    Command("fuse", run_fuse, _add_fuse, "make one run file of several", has_model=False),
)
