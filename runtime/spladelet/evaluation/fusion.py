"""Fusion: several runs over the same queries made into one."""

from collections.abc import Callable, Sequence

from spladelet.errors import InputError
from spladelet.evaluation.runs import Run, ranking

_LARGEST = 1e6


def reciprocal_rank_fusion(
    runs: Sequence[Run], *, weights: Sequence[float] | None = None, constant: float = 60.0
) -> dict[str, dict[str, float]]:
    """Score a document by the sum over runs of weight / (constant + rank).

    Only ranks count, so the runs' scores need not be comparable; a run that did not find a
    document adds nothing.

    >>> reciprocal_rank_fusion([{"q": {"a": 9.0, "b": 1.0}}, {"q": {"b": 0.2}}], constant=1)
    {'q': {'a': 0.5, 'b': 0.8333333333333333}}

    Args:
        runs: Query id to document id to score, each.
        weights: One a run, 0 or above; None gives each 1.
        constant: The larger, the less the first ranks stand out; above 0.

    Raises:
        InputError: There is no run, or a number makes no sense.

    Source: Cormack et al. 2009, https://doi.org/10.1145/1571941.1572114
    """
    if not constant > 0:
        raise InputError(f"constant is {constant}; expected a number above 0.")

    def by_rank(found: dict[str, float]) -> dict[str, float]:
        ranks = enumerate(ranking(found), start=1)
        return {document: 1 / (constant + rank) for rank, document in ranks}

    return _sum(runs, weights, by_rank)


def weighted_fusion(
    runs: Sequence[Run], *, weights: Sequence[float] | None = None
) -> dict[str, dict[str, float]]:
    """Score a document by the weighted sum of its scores, each run scaled to 0..1 a query.

    The best document of a query gets 1, and the last one found gets 0, like any that was not found.

    >>> weighted_fusion([{"q": {"a": 9.0, "b": 1.0}}, {"q": {"b": 0.2}}], weights=[0.75, 0.25])
    {'q': {'a': 0.75, 'b': 0.25}}

    Args:
        runs: Query id to document id to score, each.
        weights: One a run, 0 or above; None gives each the same.

    Raises:
        InputError: There is no run, or a weight makes no sense.

    Source: Bruch et al. 2023, https://arxiv.org/abs/2210.11934 (convex combination, min-max)
    """
    return _sum(runs, weights, _min_max)


def _min_max(found: dict[str, float]) -> dict[str, float]:
    low, high = min(found.values(), default=0.0), max(found.values(), default=0.0)
    if high == low:
        return dict.fromkeys(found, 1.0)  # all are the best; 0 would be as good as not found
    # Halved before the difference is taken, which might be too large for a float.
    width = high / 2 - low / 2
    return {document: (score / 2 - low / 2) / width for document, score in found.items()}


def _sum(
    runs: Sequence[Run],
    weights: Sequence[float] | None,
    scale: Callable[[dict[str, float]], dict[str, float]],
) -> dict[str, dict[str, float]]:
    shares = [1.0] * len(runs) if weights is None else list(weights)
    if not runs or len(shares) != len(runs):
        raise InputError(f"{len(runs)} runs came with {len(shares)} weights; give one for each.")
    if not all(0 <= share <= _LARGEST for share in shares) or not sum(shares):
        raise InputError(
            f"weights are {shares}; expected numbers from 0 to {_LARGEST:g}, not all 0."
        )
    fused: dict[str, dict[str, float]] = {}
    for run, share in zip(runs, shares, strict=True):
        for query, found in run.items():
            total = fused.setdefault(query, {})
            for document, score in scale(dict(found)).items():
                total[document] = total.get(document, 0.0) + share * score
    return fused
