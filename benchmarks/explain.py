"""What does it cost to say why: where terms come from, and which passage matters?

The plain alternative is not to ask: to encode the same text, to search without snippets. Both are
timed in turn in one process, after the second graph has been loaded; how long that takes, and how
much memory, is said beside.

    python benchmarks/explain.py            20 rounds
    python benchmarks/explain.py --quick    a check that it runs
"""

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from typing import Any, Literal

from common import machine, markdown_table, save

from spladelet import Document, Encoder, Explainer, Index, read_documents
from spladelet.bundle.description import EXPLAIN
from spladelet.bundle.find import find_bundle

QUERY = "Why does my kitten make a vibrating noise?"
HITS = 10

Side = Literal["query", "document"]


def main() -> None:
    """Parse arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 2
    documents = list(read_documents(str(files("spladelet") / "data" / "demo.jsonl")))
    encoder = Encoder.load(threads=2)
    encoder.encode_query(QUERY)
    before = _resident_mb()
    start = time.perf_counter()
    encoder.sources(QUERY, side="query")
    load = time.perf_counter() - start
    result = {
        "machine": machine(),
        "load_ms": 1e3 * load,
        "memory_mb": _resident_mb() - before,
        "file_kb": find_bundle(None).description.auxiliary[EXPLAIN].size / 1e3,
        "pairs": _pairs(encoder, documents, options.rounds),
    }
    save("explain", options.quick, result)
    print(json.dumps(result, indent=1) if options.json else table(result))


def _pairs(encoder: Encoder, documents: list[Document], rounds: int) -> dict[str, dict[str, float]]:
    index = Index.build(encoder.encode_documents(documents, progress=False), documents)
    long_text = " ".join(document.content for document in documents)[:4000]
    texts: dict[str, tuple[str, Side]] = {
        "a query of 11 tokens": (QUERY, "query"),
        "a document of 50 tokens": (documents[0].content, "document"),
        "one of 512 tokens": (long_text, "document"),
    }
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {}
    for name, (text, side) in texts.items():
        encode = encoder.encode_query if side == "query" else encoder.encode_document
        pairs[name] = partial(_quietly, encode, text), partial(encoder.sources, text, side=side)
    pairs[f"a search for {HITS} hits"] = (
        lambda: index.search(encoder.encode_query(QUERY), HITS),
        partial(_snippets, encoder, index),
    )
    return {name: _timed(*both, rounds) for name, both in pairs.items()}


def _quietly(encode: Callable[[str], object], text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is cut is meant
        encode(text)


def _snippets(encoder: Encoder, index: Index) -> None:
    query = encoder.encode_query(QUERY)
    explainer = Explainer(index, encoder, query)
    explainer.snippets([hit.number for hit in index.search(query, HITS)])


def _timed(
    plain: Callable[[], object], asked: Callable[[], object], rounds: int
) -> dict[str, float]:
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for kind, work in enumerate((plain, asked)):
            start = time.perf_counter()
            work()
            times[kind].append(1e3 * (time.perf_counter() - start))
    return {"plain_ms": statistics.median(times[0]), "asked_ms": statistics.median(times[1])}


def _resident_mb() -> float:
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def table(result: dict[str, Any]) -> str:
    """Draw one row a pair."""
    header = ["", "not asked, ms", "why, ms", "ratio"]
    rows = [
        [
            name,
            f"{pair['plain_ms']:.1f}",
            f"{pair['asked_ms']:.1f}",
            f"{pair['asked_ms'] / pair['plain_ms']:.2f}",
        ]
        for name, pair in result["pairs"].items()
    ]
    return markdown_table(header, rows)


if __name__ == "__main__":
    main()
