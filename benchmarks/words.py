"""What do words cost beside the model's terms, and what does BM25 alone beside bm25s?

Every system is built in one process and searched in another; there, the ways of one index are asked
in turn, query by query, so that a ratio holds when the machine's speed drifts. Documents are real
passages (an index that benchmarks/vectors.py made), and synthetic: words are drawn so that queries
have a quarter as many postings of words as of terms, which is the mean of scifact, qed, med and
cran (.38, .11, .21 and .28).

    python benchmarks/words.py --passages INDEX --queries FILE     all of it
    python benchmarks/words.py --synthetic 100000                  one size, no passages
    python benchmarks/words.py --quick                             a check that it runs
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, markdown_table, peak_rss_mb, run_worker, save
from stores import disk_bytes, resident_mb
from vectors import synthetic_documents

from spladelet import (
    Document,
    Encoder,
    Index,
    IndexWriter,
    SparseVector,
    SparseVectors,
    Words,
    read_documents,
)

QUERIES, QUERY_TERMS, QUERY_WORDS, ROUNDS = 100, 32, 5, 5
SIZES = (500_000,)
BOTH, ALONE, OURS = "terms and words", "terms alone", "spladelet"
BM25S = ("bm25s", "bm25s, numba")
_BATCH = 50_000
_WORDS, _FLATTENED = 300_000, 300  # how many there are, and how many are about as frequent
_MEDIAN_LENGTH, _SPREAD = 65, 0.5  # of a document in words, log-normal


def main() -> None:
    """Parse arguments and measure, or be a worker."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passages", type=Path, help="an index of real passages, with texts")
    parser.add_argument("--queries", help="texts, one a line or JSONL, for the passages")
    parser.add_argument("--synthetic", type=int, nargs="*", default=list(SIZES), metavar="N")
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
    result = {"machine": machine(), "sets": measure(options)}
    save("words", options.quick, result)
    print(json.dumps(result, indent=1) if options.json else table(result))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure on every set of documents."""
    sets = {}
    with tempfile.TemporaryDirectory() as name:
        if options.passages is not None:
            folder = Path(name) / "passages"
            folder.mkdir()
            write_passages(folder, options.passages, options.queries)
            sets["real passages"] = _measure_set(folder)
        for size in options.synthetic:
            folder = Path(name) / str(size)
            folder.mkdir()
            run_worker(["--worker", "synthetic", "--system", str(size), "--folder", str(folder)])
            sets[f"{size:,} synthetic"] = _measure_set(folder)
    return sets


def _measure_set(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for system in (BOTH, ALONE, OURS, *BM25S):
        print(f"{folder.name}: {system} …", file=sys.stderr)
        work = ["--system", system, "--folder", str(folder)]
        found[system] = run_worker(["--worker", "build", *work])
    print(f"{folder.name}: searching …", file=sys.stderr)
    found["families"] = run_worker(["--worker", "families", "--folder", str(folder)])
    for system in (OURS, *BM25S):
        work = ["--system", system, "--folder", str(folder)]
        found[system] |= run_worker(["--worker", "search", *work])
    return found


def write_passages(folder: Path, passages: Path, queries: str) -> None:
    """Write the documents, vectors and queries of an index of real passages."""
    index = Index.open(passages)
    documents = [index.document(number) for number in range(len(index))]
    texts = [document.content for document in read_documents(queries)]
    encoded = Encoder.load().encode_queries(texts[:: max(1, len(texts) // QUERIES)][:QUERIES])
    _write(folder, documents, index.vectors(), encoded, "english")


def write_synthetic(system: str, folder: Path) -> dict[str, Any]:
    """Draw documents, vectors and queries."""
    count, rng = int(system), np.random.default_rng(0)
    popularity = 1.0 / (np.arange(_WORDS) + float(_FLATTENED))
    lengths = np.clip(rng.lognormal(np.log(_MEDIAN_LENGTH), _SPREAD, count), 3, 600).astype(int)
    drawn = rng.choice(_WORDS, int(lengths.sum()), p=popularity / popularity.sum())
    starts = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    bags = [drawn[start:end].tolist() for start, end in pairwise(starts)]
    documents = [
        Document(str(number), " ".join(f"w{word}x" for word in bag))
        for number, bag in enumerate(bags)
    ]
    vectors = SparseVectors.from_csr(synthetic_documents(count, rng))
    queries = []
    for number in rng.integers(0, count, QUERIES).tolist():
        vector = vectors[number].prune(max_active_dims=QUERY_TERMS)
        words = rng.choice(bags[number], min(QUERY_WORDS, len(bags[number])), replace=False)
        text = " ".join(f"w{word}x" for word in words)
        queries.append(SparseVector(vector.term_ids, vector.weights, vector.vocab_size, text=text))
    _write(folder, documents, vectors, queries, "none")
    return {}


def _write(
    folder: Path,
    documents: Sequence[Document],
    vectors: SparseVectors,
    queries: Sequence[SparseVector],
    language: str,
) -> None:
    with (folder / "documents.jsonl").open("w") as file:
        file.writelines(json.dumps([d.id, d.content]) + "\n" for d in documents)
    np.savez(
        folder / "vectors.npz",
        offsets=vectors.row_offsets,
        ids=vectors.term_ids,
        weights=vectors.weights,
    )
    about = {
        "language": language,
        "vocab_size": vectors.vocab_size,
        "queries": [[q.text, q.term_ids.tolist(), q.weights.tolist()] for q in queries],
    }
    (folder / "about.json").write_text(json.dumps(about))


def _about(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "about.json").read_text())
    return found


def _documents(folder: Path) -> list[Document]:
    with (folder / "documents.jsonl").open() as lines:
        return [Document(*json.loads(line)) for line in lines]


def _batches(folder: Path, system: str) -> Iterator[tuple[SparseVectors | None, list[Document]]]:
    documents, size = _documents(folder), _about(folder)["vocab_size"]
    with np.load(folder / "vectors.npz") as stored:
        offsets, ids, weights = (stored[name] for name in ("offsets", "ids", "weights"))
    for start in range(0, len(documents), _BATCH):
        part = documents[start : start + _BATCH]
        ends = offsets[start : start + len(part) + 1]
        span = slice(int(ends[0]), int(ends[-1]))
        rows = SparseVectors(ends - ends[0], ids[span], weights[span], size)
        yield None if system == OURS else rows, part


def build(system: str, folder: Path) -> dict[str, Any]:
    """Build an index, texts analyzed and files written."""
    place = folder / system
    place.mkdir()
    about = _about(folder)
    if system in BM25S:
        make = _bm25s_builder(system, about["language"], _documents(folder), place)
    else:
        batches = list(_batches(folder, system))
        words = None if system == ALONE else Words(about["language"])

        def make() -> None:
            with IndexWriter(place, words=words) as writer:
                for vectors, documents in batches:
                    writer.add(vectors, documents)

    before, start = resident_mb(), time.perf_counter()
    make()
    return {
        "build_s": time.perf_counter() - start,
        "build_mb": peak_rss_mb() - before,
        "disk_bytes": disk_bytes(place),
    }


def _bm25s_builder(
    system: str, language: str, documents: Sequence[Document], place: Path
) -> Callable[[], None]:
    import bm25s

    def make() -> None:
        texts = [document.content for document in documents]
        tokens = bm25s.tokenize(texts, **_tokenizing(language))
        made = bm25s.BM25(method="lucene", k1=1.2, b=0.75, backend=_backend(system))
        made.index(tokens, show_progress=False)
        made.save(place, corpus=texts)

    return make


def _tokenizing(language: str) -> dict[str, Any]:
    import Stemmer

    stemmer = None if language == "none" else Stemmer.Stemmer(language)
    stop_words = None if language == "none" else "en"
    return {"stemmer": stemmer, "stopwords": stop_words, "show_progress": False}


def _backend(system: str) -> str:
    return "numba" if system.endswith("numba") else "numpy"


def families(system: str, folder: Path) -> dict[str, Any]:
    """Ask one index for terms, words and both, in turn."""
    del system
    index, about = Index.open(folder / BOTH), _about(folder)
    queries = [
        SparseVector(ids, weights, about["vocab_size"], text=text)
        for text, ids, weights in about["queries"]
    ]
    lengths = index.list_lengths()
    words, documents = _mean_words(index, [q.text or "" for q in queries]), len(index)
    times: dict[str, list[float]] = {"0": [], "0.8": [], "only": []}
    for turn in range(ROUNDS + 1):
        for number, query in enumerate(queries):
            names = list(times) if number % 2 else list(times)[::-1]
            for name in names:
                lexical: Any = name if name == "only" else float(name)
                start = time.perf_counter()
                index.search(query, 10, lexical=lexical)
                if turn:
                    times[name].append(1000 * (time.perf_counter() - start))
    return {
        "documents": documents,
        "queries": len(queries),
        "postings_of_terms": statistics.mean(int(lengths[q.term_ids].sum()) for q in queries),
        "postings_of_words": words,
        "median_ms": {name: statistics.median(found) for name, found in times.items()},
        "ratio": {
            name: statistics.median(a / b for a, b in zip(found, times["0"], strict=True))
            for name, found in times.items()
        },
    }


def _mean_words(index: Index, texts: Sequence[str]) -> float:
    """Return how many postings of words a query has, on average."""
    impacts, settings = index.word_impacts(), index.words
    assert impacts is not None
    assert settings is not None
    from spladelet.lexical.analyzer import Analyzer

    having = dict(zip(impacts.words, np.bincount(impacts.vectors.term_ids).tolist(), strict=True))
    split = Analyzer(settings.language).words
    return float(np.mean([sum(having.get(w, 0) for w in set(split(text))) for text in texts]))


def search(system: str, folder: Path) -> dict[str, Any]:
    """Open a system and ask it, from text to documents."""
    about = _about(folder)
    texts = [text for text, _, _ in about["queries"]]
    before, start = resident_mb(), time.perf_counter()
    ask = _opened(system, folder / system, about["language"])
    opened = time.perf_counter() - start
    found: dict[str, list[float]] = {"10": [], "1000": []}
    for turn in range(ROUNDS + 1):
        for name, times in found.items():
            for text in texts:
                start = time.perf_counter()
                ask(text, int(name))
                if turn:
                    times.append(1000 * (time.perf_counter() - start))
    return {
        "open_ms": 1000 * opened,
        "resident_mb": resident_mb() - before,
        "median_ms": {name: statistics.median(times) for name, times in found.items()},
    }


def _opened(system: str, place: Path, language: str) -> Callable[[str, int], object]:
    if system == OURS:
        index = Index.open(place)
        return lambda text, k: [hit.id for hit in index.search(text, k)]
    import bm25s

    made = bm25s.BM25.load(place, mmap=True)
    if system.endswith("numba"):
        made.backend = "numba"
        made.activate_numba_scorer()
    how = _tokenizing(language)

    def ask(text: str, k: int) -> object:
        most = min(k, made.scores["num_docs"])
        return made.retrieve(bm25s.tokenize([text], **how), k=most, show_progress=False)

    return ask


def table(result: dict[str, Any]) -> str:
    """Draw what words cost, and BM25 alone, for each set."""
    parts = []
    for name, found in result["sets"].items():
        asked = found["families"]
        rows = [
            [BOTH, *_family(found, "0.8", BOTH)],
            [ALONE, *_family(found, "0", ALONE)],
            ["words alone", *_family(found, "only", OURS)],
        ]
        title = f"{name}, {asked['documents']:,} documents" if name[0] == "r" else name
        header = [title, "top 10, ms", "times terms alone", "build, s", "disk, MB"]
        parts.append(markdown_table(header, rows))
        parts.append(
            f"{asked['queries']} queries, with {asked['postings_of_terms']:,.0f} postings of terms "
            f"and {asked['postings_of_words']:,.0f} of words."
        )
        header = ["BM25 alone", "top 10, ms", "top 1000, ms", "build, s", "building, MB"]
        header += ["open, ms", "resident, MB", "disk, MB"]
        rows = [[system, *_bm25_row(found[system])] for system in (OURS, *BM25S)]
        parts.append(markdown_table(header, rows))
    return "\n\n".join(parts)


def _family(found: dict[str, Any], name: str, built: str) -> list[str]:
    asked, made = found["families"], found[built]
    return [
        f"{asked['median_ms'][name]:.2f}",
        f"{asked['ratio'][name]:.2f}",
        f"{made['build_s']:.1f}",
        f"{made['disk_bytes'] / 1e6:.0f}",
    ]


def _bm25_row(figures: dict[str, Any]) -> list[str]:
    return [
        f"{figures['median_ms']['10']:.2f}",
        f"{figures['median_ms']['1000']:.2f}",
        f"{figures['build_s']:.1f}",
        f"{figures['build_mb']:.0f}",
        f"{figures['open_ms']:.0f}",
        f"{figures['resident_mb']:.0f}",
        f"{figures['disk_bytes'] / 1e6:.0f}",
    ]


WORKERS: dict[str, Callable[[str, Path], dict[str, Any]]] = {
    "synthetic": write_synthetic,
    "build": build,
    "families": families,
    "search": search,
}

if __name__ == "__main__":
    main()
