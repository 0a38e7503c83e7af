"""How fast is exact search, beside the plain ways to write it?

Documents are synthetic: about 120 terms each of 30522, drawn by a Zipf-like popularity within 200
topics, so that posting lists have the lengths of real SPLADE indexes; queries are cut from
documents, 32 terms each. All ways run in one process, query by query in turn, and must return the
same hits.

    python benchmarks/search.py                  100,000 documents
    python benchmarks/search.py --quick          a check that it runs
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import machine, markdown_table, peak_rss_mb, save
from scipy.sparse import csr_array

from spladelet import Index, SparseVector, SparseVectors

VOCAB_SIZE = 30522
DOCUMENT_TERMS = 120
QUERY_TERMS = 32
TOPICS = 200
K = 10
OURS = "spladelet Index.search"


def main() -> None:
    """Parse arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.documents, options.queries = 5_000, 5
    result = measure(options.documents, options.queries)
    save("search", options.quick, result)
    print(json.dumps(result, indent=1) if options.json else table(result))


def measure(documents: int, queries: int) -> dict[str, Any]:
    """Build the index and run every way on every query."""
    rng = np.random.default_rng(0)
    matrix = synthetic_documents(documents, rng)
    vectors = SparseVectors.from_csr(matrix)
    start = time.perf_counter()
    index = Index.build(vectors)
    build_seconds = time.perf_counter() - start
    ways = _ways(index, matrix)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for row in rng.choice(documents, queries, replace=False).tolist():
        query = vectors[row].prune(max_active_dims=QUERY_TERMS)
        found = {}
        for name, way in ways.items():
            start = time.perf_counter()
            found[name] = way(query)
            times[name].append(time.perf_counter() - start)
        _check_equal(found)
    return {
        "machine": machine(),
        "documents": documents,
        "postings": int(matrix.nnz),
        "queries": queries,
        "build_seconds": build_seconds,
        "peak_memory_mb": peak_rss_mb(),
        "median_ms": {name: 1000 * statistics.median(t) for name, t in times.items()},
        "ratios": {
            name: statistics.median(t / o for t, o in zip(times[name], times[OURS], strict=True))
            for name in ways
        },
    }


def synthetic_documents(documents: int, rng: np.random.Generator) -> csr_array:
    """Draw documents: each of one topic, two thirds of its terms from the topic's own terms."""
    popularity = 1.0 / (np.arange(VOCAB_SIZE) + 50.0)
    topics = rng.permuted(np.tile(np.arange(VOCAB_SIZE), (TOPICS, 1)), axis=1)[:, :1500]
    own = DOCUMENT_TERMS * 2 // 3
    of_topic = topics[rng.integers(TOPICS, size=documents)]
    places = (rng.random((documents, own)) ** 2 * 1500).astype(np.int64)
    specific = np.take_along_axis(of_topic, places, axis=1)
    general = rng.choice(
        VOCAB_SIZE, (documents, DOCUMENT_TERMS - own), p=popularity / popularity.sum()
    )
    terms = np.concatenate([specific, general], axis=1)
    weights = rng.gamma(2.0, 0.4, terms.shape).astype(np.float32)
    offsets = np.arange(0, terms.size + 1, DOCUMENT_TERMS)
    matrix = csr_array((weights.ravel(), terms.ravel(), offsets), shape=(documents, VOCAB_SIZE))
    matrix.sum_duplicates()
    return matrix


def table(result: dict[str, Any]) -> str:
    """Draw the medians and how many times as long each way takes."""
    rows = [
        [name, f"{result['median_ms'][name]:.2f}", f"{ratio:.1f}"]
        for name, ratio in result["ratios"].items()
    ]
    title = f"top {K} of {result['documents']} documents"
    return markdown_table([title, "ms a query, median", "times ours"], rows)


def _ways(index: Index, matrix: csr_array) -> dict[str, Callable[[SparseVector], list[int]]]:
    by_document = matrix.tocsr()
    by_term = matrix.tocsc()

    def ours(query: SparseVector) -> list[int]:
        return [hit.number for hit in index.search(query, K)]

    def sparse_product(query: SparseVector) -> list[int]:
        return _best((query_row(query) @ by_document.T).toarray().ravel())

    def forward_scan(query: SparseVector) -> list[int]:
        dense = np.zeros(VOCAB_SIZE, np.float32)
        dense[query.term_ids] = query.weights
        return _best(by_document @ dense)

    def columns(query: SparseVector) -> list[int]:
        return _best(by_term[:, query.term_ids] @ query.weights)

    return {
        OURS: ours,
        "csc[:, terms] @ weights": columns,
        "D @ q, dense q": forward_scan,
        "q @ D.T, sparse": sparse_product,
    }


def query_row(query: SparseVector) -> csr_array:
    """Make a query a matrix of one row."""
    return SparseVectors.from_rows([query], query.vocab_size).to_csr()


def _best(scores: np.ndarray[Any, np.dtype[np.float32]]) -> list[int]:
    best = np.argpartition(-scores, K)[:K]
    return [int(i) for i in best[np.argsort(-scores[best], kind="stable")]]


def _check_equal(found: dict[str, list[int]]) -> None:
    """Ways may order documents of nearly equal score differently, but find the same ones."""
    for name, numbers in found.items():
        if len(set(numbers) & set(found[OURS])) < K - 1:
            raise SystemExit(f"{name} found {numbers}, {OURS} found {found[OURS]}")


if __name__ == "__main__":
    main()
