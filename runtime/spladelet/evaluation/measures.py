"""How good a run is, query by query, and whether one run is better than another.

The measures are trec_eval's, by way of `ir_measures` (extra `evaluate`): nDCG has linear gains,
equal scores are ranked by falling document id, and a query for which nothing was found counts as 0.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spladelet import extras
from spladelet.errors import InputError
from spladelet.evaluation.grades import Qrels, check_grades
from spladelet.evaluation.runs import Run, ranking
from spladelet.text import shown

# BEIR's, by ir_measures' names: RR is reciprocal rank (MRR), R recall, AP average precision (MAP).
MEASURES = ("nDCG@10", "RR@10", "R@100", "R@1000", "AP")

Values = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One system against another over the same queries.

    Attributes:
        difference: Mean of ours minus theirs.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p_value: Two-sided, of a paired t-test.
        wins: Queries on which ours is better.
        losses: Queries on which theirs is.
        ties: The others.
    """

    difference: float
    low: float
    high: float
    p_value: float
    wins: int
    losses: int
    ties: int


def measure(run: Run, qrels: Qrels, measures: Sequence[str] = MEASURES) -> Values:
    """Measure a run: measure to query id to value, for every judged query.

    Args:
        run: Query id to document id to score.
        qrels: Query id to document id to grade.
        measures: By ir_measures' names.

    Raises:
        InputError: A measure has no such name, or cannot be computed here; or a grade is too large.
        MissingDependencyError: The extra `evaluate` is not installed.

    Source: MacAvaney et al. 2022, https://arxiv.org/abs/2111.13466
    """
    ir_measures = extras.load("ir_measures", "evaluate", "measuring a run")
    by_measure = check_measures(measures)
    values = {name: dict.fromkeys(qrels, 0.0) for name in measures}
    # A grade below 0 is no worse than 0, and the C code underneath counts up to the highest.
    judged = {
        query: {document: max(0, grade) for document, grade in grades.items()}
        for query, grades in check_grades(qrels).items()
    }
    # Some of the measures rank equal scores by rising id: with ranks for scores there are none.
    found = {query: _ranks(run.get(query, {})) for query in qrels}
    try:
        for metric in ir_measures.iter_calc(list(by_measure), judged, found):
            values[by_measure[metric.measure]][metric.query_id] = float(metric.value)
    except Exception as error:  # the C code underneath has errors of many kinds
        raise InputError(
            f"one of {', '.join(measures)} cannot be computed here: {error}. Choose measures such "
            "as nDCG@10, RR@10, R@100 or AP."
        ) from error
    return values


def check_measures(measures: Sequence[str]) -> dict[Any, str]:
    """Return ir_measures' objects, each with the name that was given for it.

    Raises:
        InputError: A measure has no such name, a cutoff of 0, or is given twice.
        MissingDependencyError: The extra `evaluate` is not installed.
    """
    ir_measures = extras.load("ir_measures", "evaluate", "measuring a run")
    by_measure: dict[Any, str] = {}
    for name in measures:
        try:
            parsed = ir_measures.parse_measure(name)
        except (NameError, ValueError, SyntaxError, TypeError) as error:
            raise _unknown(name) from error
        if parsed.params.get("cutoff", 1) < 1:
            raise _unknown(name)
        if parsed in by_measure:
            raise InputError(f"measures {by_measure[parsed]} and {name} are the same. Keep one.")
        by_measure[parsed] = name
    return by_measure


def cutoff(measure: str) -> int | None:
    """Return how many documents a measure looks at; None for all."""
    number = measure.rpartition("@")[2]
    return int(number) if number.isdecimal() else None


def _unknown(name: str) -> InputError:
    return InputError(
        f"measure {shown(name)} is unknown; expected one such as nDCG@10, RR@10, R@100 or AP."
    )


def _ranks(found: Mapping[str, float]) -> dict[str, float]:
    return {document: -float(rank) for rank, document in enumerate(ranking(found))}


def mean(values: Mapping[str, float]) -> float:
    """Return the mean over queries."""
    return float(np.mean(list(values.values()))) if values else 0.0


def compare(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Comparison:
    """Compare two systems by one measure, in pairs by query.

    Args:
        ours: Query id to value.
        theirs: Likewise, of the same queries.

    Raises:
        InputError: The queries differ.

    Source: Smucker et al. 2007, https://doi.org/10.1145/1321440.1321528 (the t-test serves)
    """
    if ours.keys() != theirs.keys():
        raise InputError(f"{len(ours)} and {len(theirs)} queries, not the same ones. Use one set.")
    left = np.array(list(ours.values()))
    right = np.array([theirs[query] for query in ours])
    gap = left - right
    counts = int((gap > 0).sum()), int((gap < 0).sum()), int((gap == 0).sum())
    difference = float(gap.mean()) if len(gap) else 0.0
    if not gap.any():
        return Comparison(difference, difference, difference, 1.0, *counts)
    if len(gap) < 2:  # one query says nothing of others
        return Comparison(difference, -1.0, 1.0, 1.0, *counts)
    stats = extras.required("scipy.stats", "scipy", "comparing two runs by a t-test")

    with warnings.catch_warnings():
        # Of equal differences: the interval has no width then, and is right.
        warnings.simplefilter("ignore")
        test = stats.ttest_rel(left, right)
        interval = test.confidence_interval(0.95)
    low, high = float(interval.low), float(interval.high)
    return Comparison(difference, low, high, float(test.pvalue), *counts)
