"""How fast, small and exact is the index, beside the plain ways and the peers?

Every system is built in one process and searched in another, on the same vectors; there, each query
is also searched by ours, in turn, so that a ratio holds when the machine's speed drifts. Vectors
are those of real passages (an index that benchmarks/vectors.py made), and synthetic.

    python benchmarks/index.py --passages INDEX --queries FILE     all of it, an hour
    python benchmarks/index.py --synthetic 100000                  one size, no passages
    python benchmarks/index.py --quick                             a check that it runs
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, machine, markdown_table, peak_rss_mb, run_worker, save, seconds
from scipy.sparse import csr_array, load_npz, save_npz
from stores import (
    OURS,
    PLAIN,
    SYSTEMS,
    Opened,
    best,
    disk_bytes,
    read_queries,
    resident_mb,
    write_queries,
)
from vectors import VOCAB_SIZE, synthetic_documents

from spladelet import (
    Document,
    Encoder,
    Index,
    IndexWriter,
    SparseVector,
    SparseVectors,
    read_documents,
)

QUERY_TERMS = 32
QUERIES = 100
SIZES = (100_000, 500_000, 1_000_000)
CURVE_TERMS = (2, 4, 8, 16, 32, 64)
CURVE_STEPS = 6  # sizes of the curve, each half of the next
THREADS = 2
_BATCH = 20_000
_BUILDS, _ENOUGH_S = 9, 5.0  # a build is repeated so often, or until it took so many seconds
# Lets glibc keep the memory that a query frees. As it comes, ways that make large arrays for each
# query give it back and get it anew, page by page, which can take most of their time.
_HEAP = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 30)}
_ARRAYS = {"indptr": np.int64, "indices": np.int32, "data": np.float32}
PARTS = ("systems", "change", "stream", "curves")
_TEXT = "word " * 60  # as long as a passage


def main() -> None:
    """Parse arguments and measure, or be a worker."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passages", type=Path, help="an index of real passages")
    parser.add_argument("--queries", help="texts, one a line or JSONL, for the passages")
    parser.add_argument("--synthetic", type=int, nargs="*", default=list(SIZES), metavar="N")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        help="measure only these anew; the rest is taken from the last result",
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    parser.add_argument("--system", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(WORKERS[options.worker](options.system, options.folder)))
        return
    if options.quick:
        options.synthetic = [3000]
    result = _joined(measure(options), options)
    save("index", options.quick, result)
    if not options.quick:
        plot(result, RESULTS / "index.png")
    print(json.dumps(result, indent=1) if options.json else table(result))


def _joined(new: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Put what was measured into the last result."""
    path = RESULTS / "index.json"
    if options.quick or not path.exists():
        return new
    sets = json.loads(path.read_text())["sets"]
    for name, found in new["sets"].items():
        systems = sets.get(name, {}).get("systems", {}) | found.get("systems", {})
        sets[name] = sets.get(name, {}) | found | {"systems": systems}
    return new | {"sets": dict(sorted(sets.items(), key=lambda item: item[1]["documents"]))}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every system on every set of vectors."""
    sets: dict[str, Any] = {}
    if options.passages is not None:
        matrix = Index.open(options.passages).vectors().to_csr()
        queries = _encoded_queries(options.queries)
        sets["real passages"] = _measure_set(_with_short_indices(matrix), queries, options)
    for size in options.synthetic:
        matrix = synthetic_documents(size, np.random.default_rng(0))
        sets[f"{size:,} synthetic"] = _measure_set(matrix, _cut_queries(matrix), options)
    return {"machine": machine(), "sets": sets}


def _measure_set(
    matrix: csr_array, queries: Sequence[SparseVector], options: argparse.Namespace
) -> dict[str, Any]:
    count = matrix.shape[0]
    result: dict[str, Any] = {
        "documents": count,
        "postings": int(matrix.nnz),
        "queries": len(queries),
        "query_terms": statistics.mean(q.active_dims for q in queries),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_npz(folder / "documents.npz", matrix, compressed=False)
        for part, dtype in _ARRAYS.items():
            getattr(matrix, part).astype(dtype).tofile(folder / part)
        write_queries(folder / "queries.json", queries)
        del matrix
        if "systems" in options.parts:
            result["systems"] = _measure_systems(folder, count, options.systems)
        for part in ("change", "stream", "curves"):
            if part in options.parts:
                print(f"{count} documents: {part} …", file=sys.stderr)
                work = ["--system", OURS, "--folder", name]
                result[part] = run_worker(["--worker", part, *work], **_HEAP)
    return result


def _measure_systems(folder: Path, count: int, systems: Sequence[str]) -> dict[str, Any]:
    """Build and search each; ours first, for the others are searched in turn with it."""
    found = {}
    for system in [OURS, *(s for s in systems if s != OURS)]:
        most = SYSTEMS[system].most
        if most is not None and count > most:
            continue
        print(f"{count} documents: {system} …", file=sys.stderr)
        work = ["--system", system, "--folder", str(folder)]
        built = run_worker(["--worker", "build", *work])
        found[system] = built | run_worker(["--worker", "search", *work], **_HEAP)
    return found


def build(system: str, folder: Path) -> dict[str, Any]:
    """Build a system's files; several times if that is quick, for the median."""
    matrix = load_npz(folder / "documents.npz")
    place = _place(folder, system)
    place.mkdir()
    make = SYSTEMS[system].build
    taken = seconds(lambda: make(matrix, place))
    while sum(taken) < _ENOUGH_S and len(taken) < _BUILDS:
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as other:
            taken += seconds(lambda: make(matrix, Path(other)))
    return {"build_s": statistics.median(taken), "disk_bytes": disk_bytes(place)}


def search(system: str, folder: Path) -> dict[str, Any]:
    """Open a system and search it, and ours in turn."""
    queries = read_queries(folder / "queries.json")
    before = resident_mb()
    start = time.perf_counter()
    opened = SYSTEMS[system].open(_place(folder, system))
    open_s = time.perf_counter() - start
    taken = [opened.take(query) for query in queries]
    for query in taken:
        opened.search(query, 10)
    figures = {"open_ms": 1000 * open_s, "resident_mb": resident_mb() - before}
    exact = SYSTEMS[OURS].open(_place(folder, OURS))
    for query in queries:
        exact.search(query, 10)
    for k in (10, 1000):
        theirs, own, kept = _in_turn(opened, taken, exact, queries, k)
        figures |= {
            f"median_ms_{k}": 1000 * statistics.median(theirs),
            f"p99_ms_{k}": 1000 * float(np.percentile(theirs, 99)),
            f"ratio_{k}": statistics.median(t / o for t, o in zip(theirs, own, strict=True)),
            f"kept_{k}": kept,
        }
    with ThreadPoolExecutor(THREADS) as pool:
        start = time.perf_counter()
        list(pool.map(lambda query: opened.search(query, 10), taken))
        figures["queries_per_s"] = len(taken) / (time.perf_counter() - start)
    return figures


def _in_turn(
    opened: Opened, taken: Sequence[Any], exact: Opened, queries: Sequence[SparseVector], k: int
) -> tuple[list[float], list[float], float]:
    """Time both on each query; returns the times, and the share of the exact hits that is found."""
    theirs, own, shares = [], [], []
    for number, (native, query) in enumerate(zip(taken, queries, strict=True)):
        pair: dict[bool, tuple[float, set[int]]] = {}
        for is_ours in (True, False) if number % 2 else (False, True):
            start = time.perf_counter()
            found = exact.search(query, k) if is_ours else opened.search(native, k)
            pair[is_ours] = (time.perf_counter() - start, set(found))
        own.append(pair[True][0])
        theirs.append(pair[False][0])
        shares.append(len(pair[True][1] & pair[False][1]) / max(len(pair[True][1]), 1))
    return theirs, own, statistics.mean(shares)


def change(system: str, folder: Path) -> dict[str, Any]:
    """Add to, and delete from, a copy of our index."""
    del system
    matrix = load_npz(folder / "documents.npz")
    count = min(10_000, matrix.shape[0] // 2)
    path = folder / "changing"
    first = SparseVectors.from_csr(matrix[:-count])
    Index.build(first, [Document(f"old {n}", "") for n in range(len(first))]).save(path)
    new = SparseVectors.from_csr(matrix[-count:])
    documents = [Document(f"new {n}", "") for n in range(count)]
    start = time.perf_counter()
    with IndexWriter(path) as writer:
        writer.add(new, documents)
    added = time.perf_counter()
    with IndexWriter(path) as writer:
        writer.delete(f"new {n}" for n in range(0, count, 2))
    deleted = time.perf_counter()
    singles = 50
    with IndexWriter(path) as writer:
        for n in range(singles):
            one = SparseVectors.from_rows([new[2 * n]], new.vocab_size)
            writer.upsert(one, [documents[2 * n]])
            writer.commit()
    committed = time.perf_counter()
    return {
        "documents": count,
        "added_per_s": count / (added - start),
        "deleted_per_s": (count + 1) // 2 / (deleted - added),
        "commits_per_s": singles / (committed - deleted),
    }


def stream(system: str, folder: Path) -> dict[str, Any]:
    """Build an index of as many documents, with texts, that are not in memory before."""
    del system
    before = peak_rss_mb()
    start = time.perf_counter()
    with IndexWriter(folder / "stream", weight_type="uint8") as writer:
        for vectors in _read_batches(folder):
            first = len(writer)
            texts = [Document(str(first + n), f"{n} {_TEXT}") for n in range(len(vectors))]
            writer.add(vectors, texts)
    taken = time.perf_counter() - start
    start = time.perf_counter()
    index = Index.open(folder / "stream")
    return {
        "documents": len(index),
        "segments": index.segments,
        "seconds": taken,
        "peak_mb": peak_rss_mb() - before,
        "open_ms": 1000 * (time.perf_counter() - start),
        "bytes_per_posting": index.bytes_per_posting,
    }


def _read_batches(folder: Path) -> Iterator[SparseVectors]:
    """Read the vectors from disk a batch at a time; mapped files would count as memory."""
    offsets = np.fromfile(folder / "indptr", np.int64)
    with (folder / "indices").open("rb") as indices, (folder / "data").open("rb") as data:
        for first in range(0, len(offsets) - 1, _BATCH):
            part = offsets[first : first + _BATCH + 1]
            count = int(part[-1] - part[0])
            ids, weights = (
                np.fromfile(indices, np.int32, count),
                np.fromfile(data, np.float32, count),
            )
            yield SparseVectors(part - part[0], ids, weights, VOCAB_SIZE)


def curves(system: str, folder: Path) -> dict[str, Any]:
    """Measure how time grows with documents, and with query terms: ours and the plain way."""
    del system
    matrix = load_npz(folder / "documents.npz")
    queries = read_queries(folder / "queries.json")[:40]
    sizes = [matrix.shape[0] >> step for step in reversed(range(CURVE_STEPS))]
    points: dict[str, Any] = {"documents": sizes, "terms": list(CURVE_TERMS)}
    points["by_documents"] = {OURS: [], PLAIN: []}
    for size in sizes:
        _curve_point(matrix[:size], queries, points["by_documents"])
    points["by_terms"] = {OURS: [], PLAIN: []}
    rows = np.random.default_rng(1).choice(matrix.shape[0], 40, replace=False)
    whole = SparseVectors.from_csr(matrix[rows])
    index, by_term = Index.build(SparseVectors.from_csr(matrix)), matrix.tocsc()
    for terms in CURVE_TERMS:
        cut = [row.prune(max_active_dims=terms) for row in whole]
        _time_both(index, by_term, cut, points["by_terms"])
    return points


def _curve_point(
    matrix: csr_array, queries: Sequence[SparseVector], points: dict[str, list[float]]
) -> None:
    _time_both(Index.build(SparseVectors.from_csr(matrix)), matrix.tocsc(), queries, points)


def _time_both(
    index: Index,
    by_term: Any,  # noqa: ANN401
    queries: Sequence[SparseVector],
    points: dict[str, list[float]],
) -> None:
    ways: dict[str, Callable[[SparseVector], object]] = {
        OURS: lambda q: index.search(q),
        PLAIN: lambda q: best(by_term[:, q.term_ids] @ q.weights, 10),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for query in [queries[0], *queries]:
        for name, way in ways.items():
            start = time.perf_counter()
            way(query)
            times[name].append(1000 * (time.perf_counter() - start))
    for name in ways:
        points[name].append(statistics.median(times[name][1:]))


def table(result: dict[str, Any]) -> str:
    """Draw one table a set."""
    header = (
        "build, s",
        "bytes a posting",
        "open, ms",
        "resident, MB",
        "top 10, ms",
        "times ours",
        "p99, ms",
        "top 1000, ms",
        "times ours",
        "queries/s, 2 threads",
        "top 10 kept",
    )
    parts = []
    for name, found in result["sets"].items():
        rows = [_row(system, f, found["postings"]) for system, f in found["systems"].items()]
        title = f"{found['documents']:,} documents" if name == "real passages" else name
        about = (
            f"{name.capitalize()}: {found['postings'] / found['documents']:.0f} postings a "
            f"document, {found['query_terms']:.0f} terms a query. "
            f"Ours takes {found['change']['added_per_s']:,.0f} new documents a second, "
            f"{found['change']['deleted_per_s']:,.0f} deletions, "
            f"{found['change']['commits_per_s']:.0f} commits of one document; as a stream, uint8, "
            f"with texts, all of it in {found['stream']['seconds']:.0f} s and "
            f"{found['stream']['peak_mb']:.0f} MB."
        )
        parts.append(f"{markdown_table([title, *header], rows)}\n\n{about}")
    return "\n\n".join(parts)


def _row(system: str, figures: dict[str, Any], postings: int) -> list[str]:
    note = SYSTEMS[system].note
    return [
        system + (f" ({note})" if note else ""),
        short_seconds(figures["build_s"]),
        f"{figures['disk_bytes'] / postings:.2f}",
        f"{figures['open_ms']:.0f}",
        f"{figures['resident_mb']:.0f}",
        f"{figures['median_ms_10']:.2f}",
        f"{figures['ratio_10']:.2f}",
        f"{figures['p99_ms_10']:.2f}",
        f"{figures['median_ms_1000']:.2f}",
        f"{figures['ratio_1000']:.2f}",
        f"{figures['queries_per_s']:.0f}",
        f"{100 * figures['kept_10']:.1f} %",
    ]


def short_seconds(value: float) -> str:
    """Write seconds with two digits that count."""
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw the cost of a query against documents and against terms, for the largest set."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    largest = max(result["sets"].values(), key=lambda found: found["documents"])
    points = largest["curves"]
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), constrained_layout=True)
    for axis, key, by, title in (
        (axes[0], "documents", "by_documents", "documents"),
        (axes[1], "terms", "by_terms", f"query terms ({largest['documents']:,} documents)"),
    ):
        for name, times in points[by].items():
            axis.plot(points[key], times, marker="o", label=name)
        axis.set(xlabel=title, ylabel="ms a query, median", xscale="log", ylim=(0, None))
        axis.set_xticks(points[key], [f"{x:,}" for x in points[key]], rotation=20)
        axis.minorticks_off()
        axis.grid(visible=True, alpha=0.2)
        axis.legend()
    figure.savefig(path, dpi=110)


def _with_short_indices(matrix: csr_array) -> csr_array:
    """Return the matrix with int32 throughout, which scipy takes less time for."""
    indices, offsets = (a.astype(np.int32) for a in (matrix.indices, matrix.indptr))
    return csr_array((matrix.data, indices, offsets), shape=matrix.shape)


def _encoded_queries(source: str) -> list[SparseVector]:
    texts = [document.text for document in read_documents(source)]
    rows = np.random.default_rng(0).choice(len(texts), min(QUERIES, len(texts)), replace=False)
    return list(Encoder.load().encode_queries([texts[row] for row in rows.tolist()]))


def _cut_queries(matrix: csr_array) -> list[SparseVector]:
    """Cut queries from documents: their heaviest terms."""
    rows = np.random.default_rng(1).choice(matrix.shape[0], QUERIES, replace=False)
    vectors = SparseVectors.from_csr(matrix[rows])
    return [vector.prune(max_active_dims=QUERY_TERMS) for vector in vectors]


def _place(folder: Path, system: str) -> Path:
    return folder / f"system-{list(SYSTEMS).index(system)}"


WORKERS: dict[str, Callable[[str, Path], dict[str, Any]]] = {
    "build": build,
    "search": search,
    "change": change,
    "stream": stream,
    "curves": curves,
}

if __name__ == "__main__":
    main()
