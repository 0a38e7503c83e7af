"""What an engine would do to the weights, computed here, before anything is sent.

Each engine's arithmetic is a pair of functions on vectors; the ranking with them is compared with
the exact one. Does not talk to any engine, and does not model sharding or segment merging.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spladelet import extras
from spladelet.engines.joined import join_documents, join_queries
from spladelet.errors import InputError
from spladelet.evaluation.grades import Qrels
from spladelet.evaluation.measures import mean, measure
from spladelet.index.index import Index
from spladelet.vector import SparseVectors
from spladelet.vector_arguments import as_vectors

_NDCG = "nDCG@10"
_SEISMIC_FOLD = 32_768
_SEISMIC_CEILINGS = (3.0, 16.0)  # OpenSearch's defaults for documents and queries
_SEISMIC_TOP = 10
_LARGEST_HALF = 65_504.0
_WITHOUT_WORDS = ("opensearch-seismic", "opensearch-seismic-fitted")  # ids below 32,768
_PRUNE_FREQUENCY, _PRUNE_WEIGHT = 5.0, 0.4  # Elasticsearch's defaults

Change = Callable[[SparseVectors], SparseVectors]


@dataclass(frozen=True, slots=True)
class Simulation:
    """What an engine does to weights.

    Attributes:
        about: What that is, for people.
        documents: Documents' vectors as stored.
        queries: Queries' vectors as asked.
        ceiling: Heavier weights of documents are clipped.
    """

    about: str
    documents: Change
    queries: Change
    ceiling: float = np.inf


@dataclass(frozen=True, slots=True)
class Preview:
    """How a ranking with an engine's arithmetic compares with the exact one.

    Attributes:
        engine: Which engine's.
        about: What it does to weights.
        queries: How many queries were asked.
        overlap: Mean share of the exact top k that is found.
        same_order: Share of queries whose top k is the same in the same order.
        clipped: Share of the documents' weights that were cut off at a ceiling.
        lost: Share of the documents' weights that became 0 or were dropped.
        lost_query: Likewise of the queries'.
        change: What all of that and rounding change of the documents' weights: the sum of the
            changes over the sum of the weights.
        ndcg_exact: nDCG@10 of the exact ranking; None without judgements.
        ndcg: nDCG@10 with the engine's arithmetic; likewise.
    """

    engine: str
    about: str
    queries: int
    overlap: float
    same_order: float
    clipped: float
    lost: float
    lost_query: float
    change: float
    ndcg_exact: float | None = None
    ndcg: float | None = None


def simulations(documents: SparseVectors) -> dict[str, Simulation]:
    """Return what can be simulated, by name; ceilings and statistics are taken from `documents`."""
    largest = float(documents.weights.max(initial=0.0))
    ingest, search = _SEISMIC_CEILINGS
    seismic = (
        "one byte a weight up to {:g} (documents) and {:g} (queries), terms modulo 32,768, the 10 "
        "heaviest of a query; from 1,000,000 documents a segment on, its approximation left out"
    )
    return {
        "elasticsearch": Simulation("9 significant bits", _nine_bits, _same),
        "elasticsearch-pruned": Simulation(
            "9 significant bits, and its default pruning of frequent light query terms",
            _nine_bits,
            _pruned_like(documents),
        ),
        "opensearch": Simulation("9 significant bits, query weights up to 64", _nine_bits, _same),
        "opensearch-seismic": Simulation(
            f"{seismic.format(ingest, search)}, its defaults",
            _bytes(ingest, fold=True),
            _top_terms(search),
            ingest,
        ),
        "opensearch-seismic-fitted": Simulation(
            f"{seismic.format(largest, search)}; the documents' ceiling is their maximum",
            _bytes(largest, fold=True),
            _top_terms(search),
        ),
        "qdrant": Simulation("float32 as it is", _same, _same),
        "qdrant-float16": Simulation("float16", _half, _same, _LARGEST_HALF),
        "milvus": Simulation("float32 as it is", _same, _same),
        "vespa": Simulation("bfloat16, documents and queries", _bfloat16, _bfloat16),
        "anserini": Simulation("whole hundredths", _hundredths, _hundredths),
        "ciff": Simulation("whole numbers up to 255, the maximum", _impacts, _hundredths),
        "pgvector": Simulation("float32, at most 1,000 terms (HNSW)", _heaviest(1000), _same),
    }


def preview(
    engine: str, index: Index, queries: SparseVectors, *, k: int = 10, qrels: Qrels | None = None
) -> Preview:
    """Simulate an engine on an index and some queries.

    Args:
        engine: A name of `simulations`.
        index: The documents; with their words, if it has some and the engine takes them.
        queries: The queries' vectors, with their texts.
        k: Hits that are compared.
        qrels: Judgements, if there are any: query id to document id to grade, with the queries in
            the order of `queries`.

    Raises:
        InputError: There is no such simulation; `queries` are no vectors; or judgements are of
            more or fewer queries.
    """
    queries, exact = as_vectors(queries, index.vocab_size), index.vectors()
    if index.words is not None and queries.texts is not None and engine not in _WITHOUT_WORDS:
        exact, words = join_documents(index)
        queries = join_queries(queries, words, index.words, index.vocab_size)
    if qrels is not None and len(qrels) != len(queries):
        raise InputError(f"{len(queries)} queries came with judgements of {len(qrels)}.")
    known = simulations(exact)
    if engine not in known:
        raise InputError(f"engine is {engine!r}; expected one of {', '.join(sorted(known))}.")
    simulation = known[engine]
    stored, asked = simulation.documents(exact), simulation.queries(queries)
    ids = [index.document(number).id for number in range(len(index))]
    wanted, found = _top(exact, queries, ids, k), _top(stored, asked, ids, k)
    lost, change = _damage(exact, stored)
    clipped = float((exact.weights > simulation.ceiling).mean()) if exact.weights.size else 0.0
    shares = [len({*w} & {*f}) / len(w) if w else 1.0 for w, f in zip(wanted, found, strict=True)]
    same = [list(w) == list(f) for w, f in zip(wanted, found, strict=True)]
    result = Preview(
        engine,
        simulation.about,
        len(queries),
        float(np.mean(shares)) if shares else 1.0,
        float(np.mean(same)) if same else 1.0,
        clipped,
        lost,
        1 - len(asked.weights) / max(1, len(queries.weights)),
        change,
    )
    if qrels is None:
        return result
    before, after = (
        mean(measure(dict(zip(qrels, run, strict=True)), qrels, [_NDCG])[_NDCG])
        for run in (wanted, found)
    )
    return replace(result, ndcg_exact=before, ndcg=after)


def _top(
    documents: SparseVectors, queries: SparseVectors, ids: Sequence[str], k: int
) -> list[Mapping[str, float]]:
    index = Index.build(documents)
    return [{ids[hit.number]: hit.score for hit in hits} for hits in index.search_many(queries, k)]


def _damage(exact: SparseVectors, stored: SparseVectors) -> tuple[float, float]:
    """Return the share of weights lost, and the relative change of all weights."""
    before, after = exact.to_csr(), stored.to_csr()
    kept = after.multiply(before.astype(bool)).tocsr()  # of the terms that were there before
    loss = (before - kept).tocsr()
    count = max(1, exact.weights.size)
    total = max(float(exact.weights.sum()), 1e-9)  # of no weights, nothing is lost
    return 1 - kept.nnz / count, float(np.abs(loss.data).sum()) / total


def _changed(
    vectors: SparseVectors,
    weights: NDArray[np.float32],
    term_ids: NDArray[np.int32] | None = None,
) -> SparseVectors:
    """Return the vectors with other weights; zeros go, and terms that meet keep the heavier."""
    sparse = extras.required("scipy.sparse", "scipy", "simulating an engine")

    ids = vectors.term_ids if term_ids is None else term_ids
    rows = np.repeat(np.arange(len(vectors)), vectors.active_dims)
    # By row, by term, the heaviest first: of terms that meet in a row, the others follow it.
    order = np.lexsort((-weights, ids, rows))
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(rows[order]) != 0) | (np.diff(ids[order]) != 0)
    kept = order[first]
    matrix = sparse.csr_array(
        (weights[kept], (rows[kept], ids[kept])), shape=(len(vectors), vectors.vocab_size)
    )
    return SparseVectors.from_csr(matrix, vectors.model)


def _same(vectors: SparseVectors) -> SparseVectors:
    return vectors


def _nine_bits(vectors: SparseVectors) -> SparseVectors:
    """Lucene's FeatureField keeps the upper 17 of a float's 32 bits."""
    bits = vectors.weights.view(np.uint32)
    return _changed(vectors, (bits >> 15 << 15).view(np.float32))


def _half(vectors: SparseVectors) -> SparseVectors:
    weights = np.minimum(vectors.weights, np.float32(_LARGEST_HALF))
    return _changed(vectors, weights.astype(np.float16).astype(np.float32))


def _bfloat16(vectors: SparseVectors) -> SparseVectors:
    bits = vectors.weights.view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16  # to the nearest, ties to even
    return _changed(vectors, rounded.view(np.float32))


def _hundredths(vectors: SparseVectors) -> SparseVectors:
    rounded = np.rint(vectors.weights * 100) / np.float32(100)
    return _changed(vectors, rounded.astype(np.float32))


def _impacts(vectors: SparseVectors) -> SparseVectors:
    largest = vectors.weights.max(initial=np.float32(1.0))
    rounded = np.rint(vectors.weights / largest * 255) * largest / np.float32(255)
    return _changed(vectors, rounded.astype(np.float32))


def _bytes(ceiling: float, *, fold: bool) -> Change:
    """One byte a weight, rounded, after cutting at the ceiling; term ids may be folded."""

    def change(vectors: SparseVectors) -> SparseVectors:
        top = np.float32(max(ceiling, 1e-6))
        weights = np.rint(np.minimum(vectors.weights, top) / top * 255) * top / np.float32(255)
        ids = vectors.term_ids % _SEISMIC_FOLD if fold else None
        return _changed(vectors, weights.astype(np.float32), ids)

    return change


def _top_terms(ceiling: float) -> Change:
    """A query's ten heaviest terms, one byte each."""
    kept, rounded = _heaviest(_SEISMIC_TOP), _bytes(ceiling, fold=True)
    return lambda vectors: rounded(kept(vectors))


def _heaviest(count: int) -> Change:
    def change(vectors: SparseVectors) -> SparseVectors:
        rows = [row.prune(max_active_dims=count) for row in vectors]
        return SparseVectors.from_rows(rows, vectors.vocab_size, vectors.model)

    return change


def _pruned_like(documents: SparseVectors) -> Change:
    """Drop query terms that are both much more frequent than the average and light."""
    frequency = np.bincount(documents.term_ids, minlength=documents.vocab_size)
    average = frequency.sum() / max(1, np.count_nonzero(frequency))
    frequent = frequency >= _PRUNE_FREQUENCY * average

    def change(queries: SparseVectors) -> SparseVectors:
        rows = np.repeat(np.arange(len(queries)), queries.active_dims)
        best = np.zeros(len(queries), np.float32)
        np.maximum.at(best, rows, queries.weights)
        light = queries.weights <= np.float32(_PRUNE_WEIGHT) * best[rows]
        dropped = frequent[queries.term_ids] & light
        weights = queries.weights.copy()
        weights[dropped] = 0
        return _changed(queries, weights)

    return change
