"""Write the tables of the pages from results/*.json, between their markers.

python benchmarks/report.py            write
python benchmarks/report.py --check    fail if a table is not what the results say
"""

import json
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import containers
import encode
import explain
import index
import int8
import quality
import rounding
import serve
import serverless
import stores
import words
from common import RESULTS, markdown_table

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "benchmarks/README.md",
    "docs/index.md",
    "docs/server.md",
    "examples/serverless/README.md",
)
_SHORT = {
    "128 tokens, texts/s": ("128-token texts a second", "{:.0f}"),
    "one query, ms": ("one short query", "{:.1f} ms"),
    "cold start, s": ("start to first query", "{:.1f} s"),
    "peak memory at 128 tokens, MB": ("peak memory", "{:.0f} MB"),
}


def main() -> None:
    """Write the tables, or check them."""
    stale = []
    for name in PAGES:
        path = ROOT / name
        text = path.read_text()
        fresh = fill(text)
        if "--check" not in sys.argv:
            path.write_text(fresh)
        elif fresh != text:
            stale.append(name)
    if stale:
        raise SystemExit(f"stale: {', '.join(stale)}; run `python benchmarks/report.py`")


def fill(text: str) -> str:
    """Put the tables between their markers."""

    def table(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- table: {name} -->\n{TABLES[name]()}\n<!-- end -->"

    return re.sub(r"<!-- table: ([\w-]+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def encode_short() -> str:
    """Ours and the plain alternative, four figures each."""
    result = _result("encode")
    rows = []
    for system in (encode.OURS, *encode.FASTEMBED, encode.TORCH):
        runs = result["runs"][system]
        rows.append(
            [system, *(f.format(encode.median(runs, key)) for key, (_, f) in _SHORT.items())]
        )
    header = ["same checkpoint, same texts", *(title for title, _ in _SHORT.values())]
    return f"{markdown_table(header, rows)}\n\n{_machine(result)}"


def quality_short() -> str:
    """The default model, alone and with words, beside BM25 and the dense model it learned from."""
    result = _result("quality")
    shown = {
        "BM25": quality.BM25,
        quality.DENSE: quality.DENSE,
        "the default model alone": quality.ALONE,
        "with words": quality.MODEL,
    }
    rows = [
        [name, *(f"{found['systems'][key][quality.NDCG]:.3f}" for key in shown.values())]
        for name, found in result["collections"].items()
    ]
    return f"{markdown_table(['nDCG@10', *shown], rows)}\n\n{_machine(result)}"


def index_short() -> str:
    """Ours and the peers on the largest set that all of them have."""
    result = _result("index")
    found = max(result["sets"].values(), key=lambda s: (len(s["systems"]), s["documents"]))
    rows = [
        [
            name + (f" ({stores.SYSTEMS[name].note})" if stores.SYSTEMS[name].note else ""),
            f"{figures['median_ms_10']:.2f}",
            f"{figures['ratio_10']:.1f}",
            index.short_seconds(figures["build_s"]),
            f"{figures['disk_bytes'] / 1e6:.0f}",
            f"{figures['open_ms']:.0f}",
        ]
        for name, figures in found["systems"].items()
    ]
    header = ["ms a query, median", "times ours", "build, s", "disk, MB", "open, ms"]
    title = f"top 10 of {found['documents']:,} documents"
    return f"{markdown_table([title, *header], rows)}\n\n{_machine(result)}"


def serve_short() -> str:
    """Ours and the plain servers with as many clients as there were."""
    result = _result("serve")
    most = str(serve.CLIENTS[-1])
    header = [f"{most} clients", "texts/s", "p50, ms", "p99, ms"]
    rows = [
        [f"{system}, {kind}"]
        + [
            f"{statistics.median(one[system][kind][most][name] for one in result['rounds']):.0f}"
            for name in header[1:]
        ]
        for kind in serve.KINDS
        for system in (serve.OURS, *serve.PLAIN)
    ]
    return f"{markdown_table(header, rows)}\n\n{_machine(result)}"


def full(name: str, draw: Callable[[dict[str, Any]], str]) -> str:
    """Draw all that a script measured."""
    result = _result(name)
    return f"{draw(result)}\n\n{_machine(result)}"


def _result(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return loaded


def _machine(result: dict[str, Any]) -> str:
    machine = result["machine"]
    packages = ", ".join(
        f"{name} {machine['packages'][name]}"
        for name in ("onnxruntime", "torch", "sentence-transformers")
        if name in machine["packages"]
    )
    return f"{machine['cpu']}, {machine['threads']} threads, {machine['date']}; {packages}."


TABLES: dict[str, Callable[[], str]] = {
    "quality": lambda: full("quality", quality.table),
    "quality-short": quality_short,
    "int8": lambda: full("int8", int8.table),
    "encode": encode_short,
    "encode-full": lambda: full("encode", encode.table),
    "index": index_short,
    "index-full": lambda: full("index", index.table),
    "words": lambda: full("words", words.table),
    "serve-short": serve_short,
    "serve": lambda: full("serve", serve.table),
    "explain": lambda: full("explain", explain.table),
    "rounding": lambda: full("rounding", rounding.table),
    "serverless": lambda: full("serverless", serverless.table),
    "containers": lambda: full("containers", containers.table),
}

if __name__ == "__main__":
    main()
