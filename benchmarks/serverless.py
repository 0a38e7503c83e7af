"""What does a search as a function take: to start, to answer, in memory and in money?

The function of examples/serverless is built and run by AWS's emulator, in a room like Lambda's (see
examples/serverless/emulate.py), in turn with a plain process that imports the same handler in the
same room. Needs root on Linux, SPLADELET_LAMBDA_RIE (the emulator), and a network for the build.

    python benchmarks/serverless.py            half a minute, and as much for the build
    python benchmarks/serverless.py --quick    a check that it runs
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import machine, markdown_table, median_ratio, save

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "serverless"
sys.path.insert(0, str(EXAMPLE))

import emulate  # noqa: E402 - an example, not a package

WHOLE = 1769  # MB, with which Lambda gives one processor; less memory gives less of it
SMALL = 512
PLAIN, LAMBDA = "a plain process", "as Lambda runs it"
BARE, PART = "the same without bytecode", f"the same with {SMALL} MB's share of a processor"
QUERIES = [
    "who decides if a person is guilty",
    "why do cats purr",
    "How does a puppy cool off in hot weather?",
    "how long do goldfish live",
    "strong password",
]


def main() -> None:
    """Parse arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warm", type=int, default=100, help="queries after the first")
    parser.add_argument(
        "--gb-second", type=float, default=0.0000166667, help="$; x86, the first tier"
    )
    parser.add_argument("--million", type=float, default=0.20, help="$ for a million requests")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.warm = 1, 5
    rie = os.environ.get("SPLADELET_LAMBDA_RIE", "")
    if lacking := emulate.missing(rie):
        print(f"skipped: {lacking}")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _build(folder)
        result = {
            "machine": machine(),
            "sizes": _sizes(folder),
            "prices": {"gb_second": options.gb_second, "million": options.million},
            "runs": _measure(_rooms(folder, rie), options.rounds, options.warm),
        }
    save("serverless", options.quick, result)
    print(json.dumps(result, indent=1) if options.json else table(result))


def _build(folder: Path) -> None:
    documents = ROOT / "runtime" / "spladelet" / "data" / "demo.jsonl"
    for command in (
        [EXAMPLE / "build.py", documents, "-o", folder],
        ["-m", "pip", "install", "-q", "--target", folder / "runtime", "awslambdaric"],
    ):
        done = subprocess.run(
            [sys.executable, *map(str, command)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"the function could not be built:\n{done.stdout}{done.stderr}")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(folder / "function", folder / "bare", ignore=ignored)


def _sizes(folder: Path) -> dict[str, int]:
    files = [path for path in (folder / "function").rglob("*") if path.is_file()]
    return {
        "unpacked": sum(path.stat().st_size for path in files),
        "bytecode": sum(path.stat().st_size for path in files if path.suffix == ".pyc"),
        "packed": (folder / "function.zip").stat().st_size,
    }


def _rooms(folder: Path, rie: str) -> dict[str, emulate.Room]:
    python = emulate.python_for_others() or sys.executable
    room = emulate.Room(str(folder / "function"), str(folder / "runtime"), rie, python, SMALL)
    return {
        PLAIN: room,
        LAMBDA: room,
        BARE: replace(room, task=str(folder / "bare")),
        PART: replace(room, share=SMALL / WHOLE),
    }


def _measure(
    rooms: dict[str, emulate.Room], rounds: int, warm: int
) -> dict[str, list[dict[str, float]]]:
    """Run each in turn, so that a machine whose speed drifts is as slow for all."""
    events = [{"query": QUERIES[n % len(QUERIES)]} for n in range(warm + 1)]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in rooms}
    for _ in range(rounds):
        for name, room in rooms.items():
            report = emulate.run(room, events, plain=name == PLAIN)
            if len(report.ms) < len(events) or any("hits" not in a for a in report.answers):
                raise SystemExit(f"{name}: not every question was answered\n{report.log}")
            billed = report.billed_ms[1:]
            runs[name].append(
                {
                    "cold_ms": report.ms[0],
                    "warm_ms": statistics.median(report.ms[1:]),
                    "peak_mb": report.peak_mb,
                    "billed_ms": statistics.mean(billed) if billed else 0.0,
                }
            )
    return runs


def table(result: dict[str, Any]) -> str:
    """Draw one row a way of running it, and what it costs."""
    runs, prices = result["runs"], result["prices"]
    plain = [run["cold_ms"] for run in runs[PLAIN]]
    rows = []
    for name, found in runs.items():
        cold, warm, peak, billed = (
            statistics.median(run[key] for run in found)
            for key in ("cold_ms", "warm_ms", "peak_mb", "billed_ms")
        )
        gigabytes = (SMALL if name == PART else WHOLE) / 1024
        dollars = 1e3 * billed * gigabytes * prices["gb_second"] + prices["million"]
        ratio = median_ratio([run["cold_ms"] for run in found], plain)
        money = "" if name == PLAIN else f"{dollars:.2f}"
        starts = "" if name == PLAIN else f"{cold * gigabytes * prices['gb_second']:.3f}"
        rows.append([name, f"{cold / 1e3:.2f} ({ratio:.2f})", f"{warm:.1f}", f"{peak:.0f}"])
        rows[-1] += [money, starts]
    header = ["one processor", "cold start to the first answer, s (ratio)", "warm, ms", "peak, MB"]
    header += ["a million queries, $", "a thousand starts, $"]
    sizes = {name: size / 1e6 for name, size in result["sizes"].items()}
    return (
        f"{markdown_table(header, rows)}\n\n"
        f"Unpacked {sizes['unpacked']:.0f} MB, of which bytecode {sizes['bytecode']:.0f}; packed "
        f"{sizes['packed']:.0f} MB. At ${prices['gb_second']:.10f} a GB-second and "
        f"${prices['million']:.2f} a million requests, with {WHOLE} MB, which is one processor, "
        f"and {SMALL} in the last row."
    )


if __name__ == "__main__":
    main()
