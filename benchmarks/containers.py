"""Which file should hold the documents of a segment: lines of JSON, or SQLite?

Both are read in place, a document at a time, from a file that never changes: as an index does for
its hits, and as it does for all of them when segments are merged.

    python benchmarks/containers.py            200,000 documents
    python benchmarks/containers.py --quick    a check that it runs
"""

import argparse
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, markdown_table, save

from spladelet import Document, Index, SparseVectors
from spladelet.documents import to_record

ROUNDS = 5
HITS = 10

Get = Callable[[int], Document]


def main() -> None:
    """Parse arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.documents = 2000
    documents = [
        Document(f"document {n}", f"{n} " + "a word or two " * 25, f"Title {n}", {"year": n % 50})
        for n in range(options.documents)
    ]
    with tempfile.TemporaryDirectory() as name:
        ways = {
            "JSON lines": _lines(documents, Path(name)),
            "SQLite": _sqlite(documents, Path(name)),
        }
        result = {
            "machine": machine(),
            "documents": len(documents),
            "ways": _measure(ways, documents),
        }
    save("containers", options.quick, result)
    print(json.dumps(result, indent=1) if options.json else table(result))


def _measure(
    ways: dict[str, tuple[Get, float, int]], documents: list[Document]
) -> dict[str, dict[str, float]]:
    random = np.random.default_rng(0)
    times: dict[str, list[list[float]]] = {name: [[], []] for name in ways}
    for _ in range(ROUNDS):
        hits = random.choice(len(documents), 100 * HITS).tolist()
        for name, (get, _, _) in ways.items():
            for kind, numbers in enumerate((hits, range(len(documents)))):
                start = time.perf_counter()
                for number in numbers:
                    assert get(number).id == documents[number].id
                times[name][kind].append(1e6 * (time.perf_counter() - start) / len(numbers))
    return {
        name: {
            "write_s": write,
            "bytes_per_document": size / len(documents),
            "hit_us": statistics.median(times[name][0]),
            "all_us": statistics.median(times[name][1]),
        }
        for name, (_, write, size) in ways.items()
    }


def _lines(documents: list[Document], folder: Path) -> tuple[Get, float, int]:
    """What a segment has: written with the whole index, so only its size and reading count."""
    from spladelet.index import segment_files

    path = folder / "documents.jsonl"
    start = time.perf_counter()
    with path.open("wb") as file:
        segment_files.write_documents(file, documents)
    taken = time.perf_counter() - start
    none = SparseVectors(np.zeros(len(documents) + 1, np.int64), *_empty(), 1)
    Index.build(none, documents).save(folder / "index")
    return Index.open(folder / "index").document, taken, path.stat().st_size


def _empty() -> tuple[Any, Any]:
    return np.empty(0, np.int32), np.empty(0, np.float32)


def _sqlite(documents: list[Document], folder: Path) -> tuple[Get, float, int]:
    """One table, the record as JSON beside what a search shows."""
    path = folder / "documents.sqlite"
    start = time.perf_counter()
    made = sqlite3.connect(path)
    made.execute("create table documents (number integer primary key, record text)")
    rows = ((n, json.dumps(to_record(document))) for n, document in enumerate(documents))
    made.executemany("insert into documents values (?, ?)", rows)
    made.commit()
    made.close()
    taken = time.perf_counter() - start
    opened = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)

    def get(number: int) -> Document:
        query = "select record from documents where number = ?"
        ((record,),) = opened.execute(query, (number,))
        return Document(**json.loads(record))

    return get, taken, path.stat().st_size


def table(result: dict[str, Any]) -> str:
    """Draw one row a container."""
    header = ("write, s", "bytes a document", "one at random, µs", "one of all in turn, µs")
    rows = [
        [
            name,
            f"{f['write_s']:.1f}",
            f"{f['bytes_per_document']:.0f}",
            f"{f['hit_us']:.1f}",
            f"{f['all_us']:.1f}",
        ]
        for name, f in result["ways"].items()
    ]
    return markdown_table([f"{result['documents']:,} documents", *header], rows)


if __name__ == "__main__":
    main()
