"""An experiment: a model on a test collection, beside a baseline, other runs, and their fusion.

The model is searched as its users have it, with the words of the texts beside its terms, and alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spladelet.errors import InputError, RunError
from spladelet.evaluation.collection import Collection
from spladelet.evaluation.fusion import reciprocal_rank_fusion, weighted_fusion
from spladelet.evaluation.measures import (
    MEASURES,
    Comparison,
    Values,
    check_measures,
    compare,
    cutoff,
    mean,
    measure,
)
from spladelet.evaluation.runs import Run, ranking, without_self_matches
from spladelet.evaluation.searches import bm25_run, index_run
from spladelet.evaluation.vector_cache import VectorCache
from spladelet.index.index import Index
from spladelet.lexical.words import Words, as_words
from spladelet.parameters import as_count

BM25 = "bm25"
FUSIONS = ("rrf", "weighted")


@dataclass(frozen=True, slots=True)
class Settings:
    """How an experiment is done.

    Attributes:
        baseline: What the others are compared with: "bm25", the name of a run, or None.
        fusion: "rrf" or "weighted" fuses the model alone with each other run; None does not.
        share: The model's weight in a fusion, from 0 to 1; the other run has the rest.
        depth: Documents found a query.
        keep_same_ids: Keep a document whose id is the query's own; BEIR drops it.
        measures: By ir_measures' names; the first one decides and is compared.
        words: How words are counted beside the model's terms: see `Index.build`.

    Raises:
        InputError: A value makes no sense.
    """

    baseline: str | None = BM25
    fusion: str | None = None
    share: float = 0.5
    depth: int = 1000
    keep_same_ids: bool = False
    measures: Sequence[str] = MEASURES
    words: Words | Literal["auto"] | None = "auto"

    def __post_init__(self) -> None:
        if self.fusion not in (None, *FUSIONS):
            raise InputError(f"fusion is {self.fusion!r}; expected {' or '.join(FUSIONS)}.")
        if not 0 <= self.share <= 1:
            raise InputError(f"share is {self.share}; expected a number from 0 to 1.")
        as_count(self.depth, "depth")
        if not self.measures:
            raise InputError("measures is empty; name at least one, such as nDCG@10.")
        as_words(self.words, None)


@dataclass(frozen=True, slots=True)
class System:
    """What one system did on a collection.

    Attributes:
        name: What people call it.
        run: What it found.
        values: Measure to query id to value.
        comparison: With the baseline, by the first measure; None for the baseline itself.
    """

    name: str
    run: Run
    values: Values
    comparison: Comparison | None = None

    def figures(self) -> dict[str, float]:
        """Return the mean over queries of each measure."""
        return {name: mean(values) for name, values in self.values.items()}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out on one collection.

    Attributes:
        collection: The collection.
        systems: The model first; alone, if words count, too; then the baseline and runs, then
            fusions.
        baseline: The baseline's name, if there was one.
        active_dims: Mean terms of a "query" and of a "document".
        document_dims: Terms of each document, int64[documents].
        notes: What a reader should know.
        index: The documents, as they were searched.
    """

    collection: Collection
    systems: Mapping[str, System]
    baseline: str | None
    active_dims: Mapping[str, float]
    document_dims: NDArray[np.int64] = field(repr=False)
    notes: tuple[str, ...] = ()
    index: Index | None = field(default=None, repr=False, compare=False)

    @property
    def model(self) -> System:
        """The model's own system."""
        return next(iter(self.systems.values()))


def evaluate(
    vectors: VectorCache,
    collection: Collection,
    settings: Settings | None = None,
    *,
    name: str = "spladelet",
    runs: Mapping[str, Run] | None = None,
) -> Outcome:
    """Evaluate a model on a collection.

    Documents are encoded as title and text, searched exactly, and measured as BEIR does.

    Args:
        vectors: The model, with what it encoded before.
        collection: The collection.
        settings: What to compare and how.
        name: What the model is called.
        runs: Other systems' runs, by name.

    Raises:
        InputError: Two systems share a name, or one has a name that no file can have; the baseline
            is not among them; a measure is unknown; the collection's queries are not those it
            judges.
        RunError: A run is of other queries.
        MissingDependencyError: The extra `evaluate` is not installed.

    Source: Thakur et al. 2021, https://arxiv.org/abs/2104.08663
    """
    settings, others = settings or Settings(), dict(runs or {})
    check_experiment(collection, settings, name=name, runs=others)
    words = as_words(settings.words, vectors.language)
    # One document more than wanted, for a query's own may be dropped below.
    own, facts = _search(vectors, collection, settings.depth + 1, name, words)
    if settings.baseline == BM25 and BM25 not in others:
        others = {
            BM25: _bm25(collection, facts.index, vectors.language, settings.depth + 1),
            **others,
        }
    found = {**own, **others}
    if not settings.keep_same_ids:
        found = {label: without_self_matches(run) for label, run in found.items()}
    found = {label: _cut(run, settings.depth) for label, run in found.items()}
    found |= _fuse(list(own), found, settings)
    notes = (
        *collection.notes,
        *facts.notes,
        *_same_ids(collection, settings),
        *_shallow(settings),
        *(note for label, run in others.items() for note in _gaps(label, run, collection)),
    )
    systems = _measure(found, collection, settings)
    about = (settings.baseline, facts.active_dims, facts.dims, notes, facts.index)
    return Outcome(collection, systems, *about)


def check_experiment(
    collection: Collection, settings: Settings, *, name: str, runs: Mapping[str, Run]
) -> None:
    """Check all that can be checked before anything is encoded; see `evaluate`.

    Raises:
        InputError: What `evaluate` raises.
        RunError: Likewise.
        MissingDependencyError: Likewise.
    """
    check_measures(settings.measures)
    if not collection.queries or collection.queries.keys() != collection.qrels.keys():
        raise InputError(
            f"{collection.label} has {len(collection.queries)} queries and judgements of "
            f"{len(collection.qrels)}; expected the same, and at least one."
        )
    systems = _all_names(name, runs, settings)
    for system in systems:
        # Each system's run may be written to a file of its name.
        if not system.isprintable() or Path(system).name != system or system in ("", ".", ".."):
            raise InputError(f"a system is named {system!r}; expected a name that a file can have.")
        if systems.count(system) > 1:
            raise InputError(f"two systems are named {system!r}. Name a run: NAME=PATH.")
    if settings.baseline is not None and settings.baseline not in systems[1:]:
        raise InputError(
            f"baseline {settings.baseline!r} is none of the runs ({', '.join(runs) or 'none'})."
        )
    for label, run in runs.items():
        _check_run(label, run, collection)


def _all_names(name: str, runs: Mapping[str, Run], settings: Settings) -> list[str]:
    """Return what the systems are called, those too that there may turn out not to be."""
    others = [*runs, *([BM25] if settings.baseline == BM25 and BM25 not in runs else [])]
    own = [name] if settings.words is None else [name, _alone(name)]
    if settings.fusion is None:
        return [*own, *others]
    if not others:
        raise InputError("there is nothing to fuse with. Give a baseline, or a run.")
    return [*own, *others, *(_fused(fused, other) for fused in own for other in others)]


@dataclass(frozen=True, slots=True)
class _Facts:
    active_dims: dict[str, float]
    dims: NDArray[np.int64]
    notes: list[str]
    index: Index


def _search(
    vectors: VectorCache, collection: Collection, depth: int, name: str, words: Words | None
) -> tuple[dict[str, Run], _Facts]:
    encoded = vectors.encode_documents(collection.documents, collection.label)
    asked = vectors.encode_queries(list(collection.queries.values()))
    index = Index.build(encoded, collection.documents, words=words)
    runs: dict[str, Run] = {name: index_run(index, collection.queries, asked, depth)}
    if words is not None:
        runs[_alone(name)] = index_run(index, collection.queries, asked, depth, 0)
    cut = len(encoded.truncated)
    notes = [f"documents longer than the model reads, and cut: {cut}"] if cut else []
    dims = {"query": _mean(asked.active_dims), "document": _mean(encoded.active_dims)}
    return runs, _Facts(dims, encoded.active_dims, notes, index)


def _bm25(collection: Collection, index: Index, language: str | None, depth: int) -> Run:
    """Search with BM25; in the model's own index, where that has words."""
    queries = collection.queries
    if index.words is None:
        return bm25_run(collection.documents, queries, depth, as_words("auto", language))
    return index_run(index, queries, queries.values(), depth, "only")


def _measure(
    found: Mapping[str, Run], collection: Collection, settings: Settings
) -> dict[str, System]:
    systems = {
        label: System(label, run, measure(run, collection.qrels, settings.measures))
        for label, run in found.items()
    }
    if settings.baseline is None:
        return systems
    first = settings.measures[0]
    against = systems[settings.baseline].values[first]
    return {
        label: replace(system, comparison=compare(system.values[first], against))
        if label != settings.baseline
        else system
        for label, system in systems.items()
    }


def _fuse(own: Sequence[str], found: Mapping[str, Run], settings: Settings) -> dict[str, Run]:
    """Fuse the model, alone if there is such a run, with each run of others."""
    if settings.fusion is None:
        return {}
    fuse = reciprocal_rank_fusion if settings.fusion == "rrf" else weighted_fusion
    weights = [settings.share, 1 - settings.share]
    return {
        _fused(own[-1], other): _cut(fuse([found[own[-1]], run], weights=weights), settings.depth)
        for other, run in found.items()
        if other not in own
    }


def _alone(name: str) -> str:
    return f"{name} alone"


def _fused(name: str, other: str) -> str:
    return f"{name} + {other}"


def _cut(run: Run, depth: int) -> dict[str, dict[str, float]]:
    """Keep the best, as many as are measured."""
    return {
        query: {document: found[document] for document in ranking(found)[:depth]}
        for query, found in run.items()
    }


def _check_run(label: str, run: Run, collection: Collection) -> None:
    if not any(query in run for query in collection.queries):
        theirs, ours = next(iter(run), None), next(iter(collection.queries))
        raise RunError(
            f"run {label!r} has none of the queries of {collection.label} (it has {theirs!r}, the "
            f"collection {ours!r}). Give the run of this collection and split."
        )


def _gaps(label: str, run: Run, collection: Collection) -> Iterator[str]:
    """Say what a run lacks, and what it has that the collection does not."""
    lacking = sum(query not in run for query in collection.queries)
    if lacking:
        yield f"queries that run {label!r} does not have, counted as 0: {lacking}"
    known = {document.id for document in collection.documents}
    strange = {d for q in collection.queries for d in run.get(q, ()) if d not in known}
    if strange:
        yield f"documents of run {label!r} that are not in the collection: {len(strange)}"


def _shallow(settings: Settings) -> Iterator[str]:
    """Say where fewer documents are found than a measure looks at."""
    deeper = [m for m in settings.measures if (cutoff(m) or 0) > settings.depth]
    if deeper:
        yield f"only {settings.depth} documents a query were found, so {', '.join(deeper)} is lower"


def _same_ids(collection: Collection, settings: Settings) -> list[str]:
    """Say so where the convention may drop documents that only happen to share an id."""
    if settings.keep_same_ids:
        return []
    lost = sum(collection.qrels[q].get(q, 0) > 0 for q in collection.queries)
    if not lost:
        return []
    return [
        f"queries with the id of a relevant document, which BEIR's convention drops: {lost}; if "
        "these ids are numbers of their own, keep them with --keep-same-ids"
    ]


def _mean(counts: NDArray[np.int64]) -> float:
    return float(counts.mean()) if len(counts) else 0.0
