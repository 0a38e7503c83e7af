"""Does a quantized model still find the same documents?

Weights that differ a little are no harm if the ranking stays; so the gate is retrieval itself:
the same queries over the same documents, once with the float32 bundle and once with the other.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from spladelet import Index
from spladelet.evaluation import Collection, Run, VectorCache, measure

_K = 10
_NDCG = "nDCG@10"
_TINY = 1e-9
_RESAMPLES = 2000


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


class Gate:
    """Compares models with one reference, whose retrieval is done once.

    Args:
        reference: The float32 model, maybe with what it encoded before.
        collections: What to ask; queries are pooled over collections.
    """

    def __init__(self, reference: VectorCache, collections: Sequence[Collection]) -> None:
        self._collections = collections
        self._runs, self._active_dims = _retrieve(reference, collections)

    def measure(self, model: VectorCache) -> Agreement:
        """Run all queries with a model and compare.

        Raises:
            MissingDependencyError: ir-measures is not installed.
        """
        runs, active_dims = _retrieve(model, self._collections)
        overlaps: list[float] = []
        ours: list[float] = []
        theirs: list[float] = []
        for collection, run, reference in zip(self._collections, runs, self._runs, strict=True):
            overlaps += [
                len(run[query].keys() & expected.keys()) / max(1, len(expected))
                for query, expected in reference.items()
            ]
            ours += measure(run, collection.qrels, [_NDCG])[_NDCG].values()
            theirs += measure(reference, collection.qrels, [_NDCG])[_NDCG].values()
        low, high = _bootstrap_ratio(np.array(ours), np.array(theirs))
        return Agreement(
            len(overlaps),
            float(np.mean(overlaps)),
            float(np.mean(theirs)),
            float(np.mean(ours)),
            float(_ratio(np.array(ours), np.array(theirs))),
            low,
            high,
            self._active_dims,
            active_dims,
        )


def _retrieve(model: VectorCache, collections: Sequence[Collection]) -> tuple[list[Run], float]:
    runs: list[Run] = []
    active_dims: list[NDArray[np.int64]] = []
    for collection in collections:
        vectors = model.encode_documents(collection.documents, collection.label)
        active_dims.append(vectors.active_dims)
        index = Index.build(vectors, collection.documents, words=None)
        hits = index.search_many(model.encode_queries(list(collection.queries.values())), _K)
        found = [{hit.id: hit.score for hit in top} for top in hits]
        runs.append(dict(zip(collection.queries, found, strict=True)))
    return runs, float(np.concatenate(active_dims).mean())


def _ratio(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], axis: int = -1
) -> NDArray[np.float64]:
    """Return the ratio of means; where neither has a right answer, they are equal."""
    ratio: NDArray[np.float64] = (ours.sum(axis) + _TINY) / (theirs.sum(axis) + _TINY)
    return ratio


def _bootstrap_ratio(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of the ratio of means, resampling queries in pairs."""
    if len(ours) < 2:  # one query drawn again and again is always itself
        return float(_ratio(ours, theirs)), float(_ratio(ours, theirs))
    from scipy.stats import bootstrap

    interval = bootstrap(
        (ours, theirs),
        _ratio,
        paired=True,
        n_resamples=_RESAMPLES,
        method="percentile",  # its ends are among the ratios that were drawn, however few queries
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)
