"""Queries that tell two systems apart: where the model wins, where it loses, and why."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spladelet.documents import Document
from spladelet.encoder.encoder import Encoder
from spladelet.encoder.notices import TruncationWarning
from spladelet.evaluation.experiment import Outcome, System
from spladelet.evaluation.runs import Run, ranking
from spladelet.explain import TermScore, WeightedTerm, WordScore
from spladelet.explaining import Explainer, Snippet

_PASSAGE = 260  # characters


@dataclass(frozen=True, slots=True)
class Example:
    """One query, as the model and the baseline answered it.

    Attributes:
        query_id: The query's id.
        query: Its text.
        ours: The model's value of the first measure.
        theirs: The baseline's.
        terms: The query as the model reads it, the heaviest terms first, with their sources if the
            model can tell.
        relevant: The best judged of its relevant documents, of equals the one the model ranks
            highest; None if none is there.
        our_rank: Where the model ranks it, from 1; None if not at all.
        their_rank: Where the baseline does.
        words: Why it scores as it does: terms and words, the largest share first.
        passage: Where its score comes from; None if it is in no index.
        our_first: What the model ranks first; None if nothing was found.
        their_first: What the baseline does.
    """

    query_id: str
    query: str
    ours: float
    theirs: float
    terms: Sequence[WeightedTerm]
    relevant: Document | None
    our_rank: int | None
    their_rank: int | None
    words: Sequence[TermScore | WordScore]
    passage: Snippet | None
    our_first: Document | None
    their_first: Document | None


def wins_and_losses(
    encoder: Encoder, outcome: Outcome, count: int = 5
) -> tuple[list[Example], list[Example]]:
    """Return the queries with the largest differences from the baseline, either way.

    Args:
        encoder: The model that was evaluated.
        outcome: What came out; one without baseline has no such queries.
        count: How many at most, of each kind.
    """
    if outcome.baseline is None:
        return [], []
    ours = next(iter(outcome.model.values.values()))
    baseline = outcome.systems[outcome.baseline]
    theirs = next(iter(baseline.values.values()))
    order = sorted(ours, key=lambda query: ours[query] - theirs[query], reverse=True)
    wins = [query for query in order[:count] if ours[query] > theirs[query]]
    losses = [query for query in order[: -count - 1 : -1] if ours[query] < theirs[query]]
    documents = {document.id: document for document in outcome.collection.documents}

    def example(query: str) -> Example:
        return _example(encoder, outcome, baseline, query, documents)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # the outcome's notes have the count
        return [example(query) for query in wins], [example(query) for query in losses]


def _example(
    encoder: Encoder,
    outcome: Outcome,
    baseline: System,
    query: str,
    documents: Mapping[str, Document],
) -> Example:
    text = outcome.collection.queries[query]
    measure = next(iter(outcome.model.values))
    our_ranks, their_ranks = _ranks(outcome.model.run, query), _ranks(baseline.run, query)
    grades = outcome.collection.qrels[query]
    found = [d for d, grade in grades.items() if grade > 0 and d in documents]
    last = len(documents)
    best = min(found, key=lambda d: (-grades[d], our_ranks.get(d, last)), default=None)
    relevant = documents[best] if best is not None else None
    words, passage = _why(encoder, outcome, text, relevant)
    return Example(
        query,
        text,
        outcome.model.values[measure][query],
        baseline.values[measure][query],
        _terms(encoder, text),
        relevant,
        our_ranks.get(best) if best is not None else None,
        their_ranks.get(best) if best is not None else None,
        words,
        passage,
        _first(our_ranks, documents),
        _first(their_ranks, documents),
    )


def _why(
    encoder: Encoder, outcome: Outcome, query: str, document: Document | None
) -> tuple[Sequence[TermScore | WordScore], Snippet | None]:
    if document is None:
        return (), None
    index = outcome.index
    number = None if index is None else index.find(document.id)
    if index is None or number is None:
        return encoder.explain(query, document).parts, None
    explainer = Explainer(index, encoder, encoder.encode_query(query))
    why = explainer.explain(number)
    return why.parts, explainer.marks(number, why, width=_PASSAGE)


def _ranks(run: Run, query: str) -> dict[str, int]:
    return {document: rank for rank, document in enumerate(ranking(run.get(query, {})), start=1)}


def _first(ranks: Mapping[str, int], documents: Mapping[str, Document]) -> Document | None:
    return documents.get(next(iter(ranks), ""))


def _terms(encoder: Encoder, text: str) -> Sequence[WeightedTerm]:
    if encoder.can_trace:
        return encoder.explain_terms(text, side="query")
    return encoder.terms(text, encoder.encode_query(text), side="query")
