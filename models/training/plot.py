"""Draw a run's curves from its log: held-out ranks, loss, active dims.

python models/training/plot.py STATE/log.jsonl -o curves.svg
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_SMOOTH = 8  # logged steps that are averaged


def main() -> None:
    """Read the log and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.log.read_text(encoding="utf-8").splitlines()]
    steps = [row for row in rows if row["kind"] == "step"]
    points = [row for row in rows if "mrr" in row]
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    ranks, loss, dims = figure.subplots(1, 3)
    for name in points[0]["sources"] if points else ():
        values = [row["sources"][name] for row in points]
        ranks.plot([row["step"] for row in points], values, label=name, linewidth=1)
    ranks.plot(
        [row["step"] for row in points],
        [row["mrr"] for row in points],
        color="black",
        label="mean",
        linewidth=2,
    )
    _finish(ranks, "reciprocal rank, held-out pairs", 1.0)
    _curve(loss, steps, "divergence", "from the teacher")
    _finish(loss, "KL divergence from the teacher")
    _curve(dims, steps, "query_dims", "query")
    _curve(dims, steps, "document_dims", "document")
    _finish(dims, "active dims, mean of a batch", 400)
    figure.savefig(options.output)


def _curve(axes: Axes, rows: Sequence[dict[str, Any]], key: str, label: str) -> None:
    """Draw a running mean, for every batch is of one source and differs from the last."""
    values = [row[key] for row in rows]
    means = [
        sum(part) / len(part)
        for part in (values[max(0, i - _SMOOTH) : i + 1] for i in range(len(values)))
    ]
    axes.plot([row["step"] for row in rows], means, label=label)


def _finish(axes: Axes, title: str, top: float | None = None) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("step")
    axes.set_ylim(0, top)
    axes.grid(color="#eee")
    axes.legend(fontsize=8, frameon=False)


if __name__ == "__main__":
    main()
