"""Outcomes as data, and as Markdown tables, with published figures beside the measured ones."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files

from spladelet.evaluation.experiment import Outcome, System
from spladelet.evaluation.measures import Comparison
from spladelet.printable import clean

# The sets of BEIR that anybody may download, which most papers take the mean of.
BEIR_13 = (
    "arguana",
    "climate-fever",
    "dbpedia-entity",
    "fever",
    "fiqa",
    "hotpotqa",
    "nfcorpus",
    "nq",
    "quora",
    "scidocs",
    "scifact",
    "trec-covid",
    "webis-touche2020",
)
_MEAN_OF_13 = "BEIR-13"
_NAMES = {"RR": "MRR", "R": "Recall", "AP": "MAP"}


@dataclass(frozen=True, slots=True)
class Published:
    """Figures that a source gives for a system.

    Attributes:
        system: What people call it.
        checkpoint: Its name on the hub; None for BM25.
        measure: By ir_measures' name.
        source: Paper or project.
        url: Where it stands.
        values: BEIR's name of a collection to the figure.
    """

    system: str
    checkpoint: str | None
    measure: str
    source: str
    url: str
    values: Mapping[str, float]


def published() -> list[Published]:
    """Return the published figures that come with the package."""
    text = (files("spladelet") / "data" / "published.json").read_text(encoding="utf-8")
    return [Published(**entry) for entry in json.loads(text)["figures"]]


def published_for(collection: str, measure: str, split: str = "test") -> dict[str, float]:
    """Return system to published figure for a collection; of two sources the first."""
    if split != "test":
        return {}
    name = collection.casefold().removeprefix("beir-").removesuffix("-test")
    name = name.replace("cqadupstack-", "cqadupstack/")
    found: dict[str, float] = {}
    for entry in published():
        if entry.measure == measure and name in entry.values:
            found.setdefault(entry.system, entry.values[name])
    return found


def published_means(outcomes: Sequence[Outcome], measure: str) -> dict[str, float]:
    """Return system to published mean over BEIR's 13 public sets, if the outcomes are of those.

    A mean that no source states is taken of the 13 figures.
    """
    names = {o.collection.label.casefold() for o in outcomes if o.collection.split == "test"}
    if names != set(BEIR_13):
        return {}
    found: dict[str, float] = {}
    for entry in published():
        if entry.measure == measure:
            single = [entry.values[name] for name in BEIR_13 if name in entry.values]
            mean = entry.values.get(_MEAN_OF_13)
            if mean is None and len(single) == len(BEIR_13):
                mean = _mean(single)
            if mean is not None:
                found.setdefault(entry.system, mean)
    return found


def measure_name(measure: str) -> str:
    """Return what people call a measure.

    >>> measure_name("RR@10"), measure_name("nDCG@10"), measure_name("AP")
    ('MRR@10', 'nDCG@10', 'MAP')
    """
    name, at, cutoff = measure.partition("@")
    return _NAMES.get(name, name) + at + cutoff


def averages(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """Return system to measure to mean over collections, parts of one averaged first, as in BEIR.

    Only systems that ran on every collection are in it.
    """
    if not outcomes:
        return {}
    # A slash, which no name of a whole has, keeps a collection from being taken for its parts.
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        collection = outcome.collection
        groups.setdefault(collection.part_of or f"{collection.name}/", []).append(outcome)
    everywhere = [name for name in outcomes[0].systems if all(name in o.systems for o in outcomes)]
    return {
        name: {
            measure: _mean(
                _mean(o.systems[name].figures()[measure] for o in group)
                for group in groups.values()
            )
            for measure in outcomes[0].systems[name].values
        }
        for name in everywhere
    }


def to_dict(outcomes: Sequence[Outcome], *, per_query: bool = False) -> dict[str, object]:
    """Return everything as JSON's types; `per_query` adds each query's values."""
    measures = list(outcomes[0].model.values) if outcomes else [""]
    return {
        "collections": [_outcome_dict(outcome, per_query) for outcome in outcomes],
        "mean": averages(outcomes),
        "published_mean": published_means(outcomes, measures[0]),
        "sources": {entry.system: entry.url for entry in published()},
    }


def to_markdown(outcomes: Sequence[Outcome]) -> str:
    """Return one table a collection, and one of means if there are several."""
    blocks = [_outcome_markdown(outcome) for outcome in outcomes]
    if len(outcomes) > 1:
        means = averages(outcomes)
        measures = list(outcomes[0].model.values)
        rows = [[name, *(f"{means[name][m]:.4f}" for m in measures)] for name in means]
        several = f"mean of {_count(outcomes)} collections"
        blocks.append(_table([several, *map(measure_name, measures)], rows))
        if figures := published_means(outcomes, measures[0]):
            blocks.append(f"Published mean {measure_name(measures[0])}: {_listed(figures)}.")
    return "\n\n".join(blocks)


def against(comparison: Comparison | None) -> str:
    """Say in one cell how a system compares with the baseline."""
    if comparison is None:
        return ""
    c = comparison
    surely = "" if c.p_value < 0.05 else ", not significant"
    return (
        f"{c.difference:+.4f} ({c.low:+.3f} to {c.high:+.3f}), p {_p(c.p_value)}{surely}; "
        f"{c.wins} better, {c.losses} worse"
    )


def _outcome_dict(outcome: Outcome, per_query: bool) -> dict[str, object]:  # noqa: FBT001
    collection = outcome.collection
    first = next(iter(outcome.model.values))
    return {
        "name": collection.label,
        "documents": len(collection.documents),
        "queries": len(collection.queries),
        "baseline": outcome.baseline,
        "active_dims": dict(outcome.active_dims),
        "notes": list(outcome.notes),
        "systems": {
            name: _system_dict(system, per_query) for name, system in outcome.systems.items()
        },
        "published": published_for(collection.label, first, collection.split),
    }


def _system_dict(system: System, per_query: bool) -> dict[str, object]:  # noqa: FBT001
    result: dict[str, object] = dict(system.figures())
    if system.comparison is not None:
        result["comparison"] = asdict(system.comparison)
    if per_query:
        result["queries"] = {name: dict(values) for name, values in system.values.items()}
    return result


def _outcome_markdown(outcome: Outcome) -> str:
    collection, measures = outcome.collection, list(outcome.model.values)
    first = measure_name(measures[0])
    header = ["", *map(measure_name, measures)]
    header += [f"{first} against {outcome.baseline}"] if outcome.baseline else []
    rows = []
    for name, system in outcome.systems.items():
        row = [name, *(f"{value:.4f}" for value in system.figures().values())]
        rows.append(row + ([against(system.comparison)] if outcome.baseline else []))
    dims = outcome.active_dims
    lines = [
        f"**{clean(collection.label)}**: {len(collection.documents)} documents, "
        f"{len(collection.queries)} queries; active dims {dims['query']:.0f} a query, "
        f"{dims['document']:.0f} a document",
        "",
        _table(header, rows),
    ]
    figures = published_for(collection.label, measures[0], collection.split)
    if figures:
        lines += ["", f"Published {first}: {_listed(figures)}."]
    lines += [f"\nNote: {clean(note)}." for note in outcome.notes]
    return "\n".join(lines)


def _listed(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in figures.items())


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Draw a Markdown table whose columns line up in a terminal too."""
    cells = [[_cell(text) for text in row] for row in (header, *rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [_pad(cells[0], widths), rule, *(_pad(row, widths) for row in cells[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _pad(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.ljust(width) if i == 0 or len(cell) > 12 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def _cell(text: str) -> str:
    """Return a text that is one cell, whatever it holds."""
    return clean(text).replace("|", "\\|")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _count(outcomes: Sequence[Outcome]) -> int:
    return len({o.collection.part_of or f"{o.collection.name}/" for o in outcomes})


def _mean(values: Iterable[float]) -> float:
    kept = list(values)
    return sum(kept) / len(kept)
