"""Does a quantized model still find the same documents?

Weights that differ a little are no harm if the ranking stays; so the gate is retrieval itself:
the same queries over the same documents, once with the float32 bundle and once with the other.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spladelet import Document, Encoder, Index, read_documents
from spladelet_export.errors import ExportError

_K = 10
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Documents, queries, and which documents are right.

    Attributes:
        name: What people call it.
        documents: All documents.
        queries: Query id to text.
        relevant: Query id to document id to grade; may be empty.
    """

    name: str
    documents: Sequence[Document]
    queries: Mapping[str, str]
    relevant: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a quantized model must reach.

    Attributes:
        overlap: Mean share of the float32 top ten that it also finds.
        ndcg_ratio: Its nDCG@10 over float32's; it fails when the whole 95 % interval is lower.
    """

    overlap: float = 0.97
    ndcg_ratio: float = 0.995


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a model's retrieval compares with its float32 reference.

    Attributes:
        queries: How many queries were asked.
        top10_overlap: Mean share of the reference's top ten that the model also finds.
        ndcg_reference: Mean nDCG@10 of the reference.
        ndcg: Mean nDCG@10 of the model.
        ndcg_ratio: The one over the other.
        ndcg_ratio_low: Lower end of the ratio's 95 % interval, by paired bootstrap over queries.
        ndcg_ratio_high: Upper end.
        active_dims_reference: Mean terms a document has in the reference.
        active_dims: Mean terms a document has.
    """

    queries: int
    top10_overlap: float
    ndcg_reference: float
    ndcg: float
    ndcg_ratio: float
    ndcg_ratio_low: float
    ndcg_ratio_high: float
    active_dims_reference: float
    active_dims: float

    def passes(self, limits: Limits) -> bool:
        """Say whether the limits are kept."""
        return self.top10_overlap >= limits.overlap and self.ndcg_ratio_high >= limits.ndcg_ratio

    def to_dict(self) -> dict[str, float]:
        """Return the figures by name, to four digits."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def built_in_set() -> EvaluationSet:
    """Return the demo's 200 documents with 40 questions, each with one right answer."""
    folder = files("spladelet") / "data"
    questions = (folder / "demo-questions.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in questions]
    return EvaluationSet(
        "built-in",
        list(read_documents(str(folder / "demo.jsonl"))),
        {str(i): record["question"] for i, record in enumerate(records)},
        {str(i): {record["id"]: 1} for i, record in enumerate(records)},
    )


def read_set(folder: Path) -> EvaluationSet:
    """Read a folder in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/test.tsv.

    Raises:
        ExportError: A file is missing or not of that layout.
    """
    try:
        relevant: dict[str, dict[str, int]] = {}
        with (folder / "qrels" / "test.tsv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                grades = relevant.setdefault(row["query-id"], {})
                grades[row["corpus-id"]] = int(row["score"])
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ExportError(
            f"{folder} is no evaluation set ({type(error).__name__}: {error}). Expected BEIR's "
            "layout: corpus.jsonl, queries.jsonl, qrels/test.tsv."
        ) from error
    texts = {query.id: query.text for query in read_documents(folder / "queries.jsonl")}
    queries = {query: texts[query] for query in relevant if query in texts}
    if not queries:
        raise ExportError(
            f"{folder}: no query of queries.jsonl is in qrels/test.tsv. Their ids must be the same."
        )
    return EvaluationSet(
        folder.name, list(read_documents(folder / "corpus.jsonl")), queries, relevant
    )


class Gate:
    """Compares models with one reference, whose retrieval is done once.

    Args:
        reference: The float32 model.
        sets: What to ask; queries are pooled over sets.
    """

    def __init__(self, reference: Encoder, sets: Sequence[EvaluationSet]) -> None:
        self._sets = sets
        self._runs, self._active_dims = _retrieve(reference, sets)

    def measure(self, model: Encoder) -> Agreement:
        """Run all queries with a model and compare."""
        runs, active_dims = _retrieve(model, self._sets)
        overlaps, ours, theirs = [], [], []
        for asked, run, reference in zip(self._sets, runs, self._runs, strict=True):
            for query, found in run.items():
                expected = reference[query]
                overlaps.append(len(set(found) & set(expected)) / max(1, len(expected)))
                if asked.relevant.get(query):
                    ours.append(ndcg(found, asked.relevant[query]))
                    theirs.append(ndcg(expected, asked.relevant[query]))
        low, high = _bootstrap_ratio(np.array(ours), np.array(theirs))
        return Agreement(
            len(overlaps),
            float(np.mean(overlaps)),
            float(np.mean(theirs)),
            float(np.mean(ours)),
            _ratio(np.array(ours), np.array(theirs)),
            low,
            high,
            self._active_dims,
            active_dims,
        )


def ndcg(found: Sequence[str], relevant: Mapping[str, int]) -> float:
    """Return nDCG@10 with linear gains, as trec_eval has it.

    >>> ndcg(["a", "b"], {"b": 1})
    0.6309297535714575
    """
    best = sorted((grade for grade in relevant.values() if grade > 0), reverse=True)
    return _dcg([max(0, relevant.get(document, 0)) for document in found]) / max(_dcg(best), 1e-9)


def _dcg(gains: Sequence[float]) -> float:
    kept = np.array(gains[:_K], float)
    return float((kept / np.log2(np.arange(2, len(kept) + 2))).sum())


def _retrieve(
    encoder: Encoder, sets: Sequence[EvaluationSet]
) -> tuple[list[dict[str, list[str]]], float]:
    runs = []
    active_dims: list[NDArray[np.int64]] = []
    for asked in sets:
        vectors = encoder.encode_documents(asked.documents)
        active_dims.append(vectors.active_dims)
        index = Index.build(vectors, asked.documents)
        hits = index.search_many(encoder.encode_queries(asked.queries.values()), _K)
        found = [[hit.id for hit in top] for top in hits]
        runs.append(dict(zip(asked.queries, found, strict=True)))
    return runs, float(np.concatenate(active_dims).mean())


def _ratio(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    return float(ours.sum() / max(theirs.sum(), 1e-9)) if len(theirs) else 1.0


def _bootstrap_ratio(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of the ratio of means, resampling queries in pairs."""
    if not len(ours):
        return 1.0, 1.0
    picks = np.random.default_rng(0).integers(len(ours), size=(_RESAMPLES, len(ours)))
    # Where a sample holds no right answer of either, they are equal.
    ratios = (ours[picks].sum(1) + 1e-9) / (theirs[picks].sum(1) + 1e-9)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)
