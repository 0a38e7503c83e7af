"""The report's plots, as SVG text. Needs matplotlib (extra `evaluate`); touches no global state."""

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelet import extras
from spladelet.evaluation.experiment import Outcome
from spladelet.evaluation.grades import Qrels
from spladelet.evaluation.runs import Run, ranking
from spladelet.evaluation.tables import measure_name

_OURS, _THEIRS, _WORSE = "#2f6fab", "#9aa0a6", "#c4572e"
_OTHERS = ("#5b8c5a", "#8e6bb0", "#c49a2e", "#4a9c9c", "#b0567a")
_STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
    "svg.hashsalt": "spladelet",  # the same figures give the same file
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
}


def measures_plot(outcome: Outcome) -> str:
    """Draw each system's means, one group of bars a measure."""
    names = list(outcome.model.values)
    systems = list(outcome.systems.values())
    width = 0.8 / len(systems)

    def draw(axes: Any) -> None:  # noqa: ANN401
        for i, system in enumerate(systems):
            figures = list(system.figures().values())
            places = np.arange(len(names)) + (i - (len(systems) - 1) / 2) * width
            color = _colors(outcome)[i]
            bars = axes.bar(places, figures, width * 0.92, color=color, label=_label(system.name))
            if len(systems) <= 3:
                axes.bar_label(bars, fmt="%.2f", fontsize=8, color="#444")
        axes.set_xticks(np.arange(len(names)), [measure_name(name) for name in names])
        axes.set_ylim(0, 1.05)
        axes.legend(frameon=False, ncols=3, fontsize=9, loc="upper left", bbox_to_anchor=(0, 1.16))

    return _svg(draw, (8.4, 3.2))


def differences_plot(outcome: Outcome) -> str:
    """Draw the first measure's difference from the baseline, one bar a query, sorted."""
    first = next(iter(outcome.model.values))
    ours = np.array(list(outcome.model.values[first].values()))
    baseline = outcome.systems[outcome.baseline or ""]
    gaps = np.sort(
        ours - np.array([baseline.values[first][q] for q in outcome.model.values[first]])
    )
    gaps = gaps[::-1]
    better, worse = int((gaps > 0).sum()), int((gaps < 0).sum())

    def draw(axes: Any) -> None:  # noqa: ANN401
        places = np.arange(len(gaps))
        axes.fill_between(places, np.maximum(gaps, 0), step="mid", color=_OURS, linewidth=0)
        axes.fill_between(places, np.minimum(gaps, 0), step="mid", color=_WORSE, linewidth=0)
        axes.axhline(0, color="#444", linewidth=0.8)
        axes.axhline(gaps.mean(), color="#222", linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            f"mean {gaps.mean():+.3f}",
            (len(gaps), gaps.mean()),
            (-4, 4),
            textcoords="offset points",
            ha="right",
            fontsize=9,
        )
        axes.set_ylim(-1.05, 1.05)
        axes.set_xlim(-0.5, max(len(gaps), 1))
        axes.set_xlabel(
            f"queries: {better} better, {len(gaps) - better - worse} equal, {worse} worse"
        )
        axes.set_ylabel(f"{measure_name(first)}, difference")

    return _svg(draw, (8.4, 3.0))


def recall_plot(outcome: Outcome) -> str:
    """Draw the share of relevant documents among the first k, for every k."""
    deepest = max(
        (len(found) for s in outcome.systems.values() for found in s.run.values()), default=1
    )
    depths = np.unique(np.geomspace(1, max(deepest, 2), 60).astype(int))

    def draw(axes: Any) -> None:  # noqa: ANN401
        for system, color in zip(outcome.systems.values(), _colors(outcome), strict=True):
            curve = _recall(system.run, outcome.collection.qrels, depths)
            axes.plot(depths, curve, color=color, label=_label(system.name), linewidth=1.8)
        axes.set_xscale("log")
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("first k documents")
        axes.set_ylabel("recall")
        axes.grid(color="#eee")
        axes.legend(frameon=False, fontsize=9)

    return _svg(draw, (4.1, 3.0))


def active_dims_plot(outcome: Outcome) -> str:
    """Draw how many terms documents have."""
    dims = outcome.document_dims
    mean = float(dims.mean()) if len(dims) else 0.0

    def draw(axes: Any) -> None:  # noqa: ANN401
        axes.hist(dims, bins=40, color=_OURS)
        axes.axvline(mean, color="#222", linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlabel(f"active dims a document (mean {mean:.0f})")
        axes.set_ylabel("documents")

    return _svg(draw, (4.1, 3.0))


def _recall(run: Run, qrels: Qrels, depths: NDArray[np.int64]) -> NDArray[np.float64]:
    total = np.zeros(len(depths))
    for query, grades in qrels.items():
        relevant = {document for document, grade in grades.items() if grade > 0}
        if relevant:
            found = np.array([d in relevant for d in ranking(run.get(query, {}))] or [False])
            hits = np.cumsum(found)[np.minimum(depths, len(found)) - 1]
            total += hits / len(relevant)
    return total / max(len(qrels), 1)


def _colors(outcome: Outcome) -> Sequence[str]:
    others = iter(_OTHERS * len(outcome.systems))
    return [
        _OURS if i == 0 else _THEIRS if name == outcome.baseline else next(others)
        for i, name in enumerate(outcome.systems)
    ]


def _label(name: str) -> str:
    """Keep matplotlib from reading a name as a formula, or hiding it."""
    escaped = name.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def _svg(draw: Any, size: tuple[float, float]) -> str:  # noqa: ANN401
    matplotlib = extras.load("matplotlib", "evaluate", "a report with plots")
    figures = extras.load("matplotlib.figure", "evaluate", "a report with plots")
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser has it; text stays text
        figure = figures.Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None}, transparent=True)
    text = target.getvalue()
    return text[text.index("<svg") :]
