"""The report: one HTML file with tables, plots, and queries to look at. Opens without a network."""

import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from spladelet import extras
from spladelet._version import __version__
from spladelet.encoder.encoder import Encoder
from spladelet.evaluation import plots, tables
from spladelet.evaluation.examples import Example, wins_and_losses
from spladelet.evaluation.experiment import Outcome
from spladelet.explain import TermScore, WeightedTerm, WordScore
from spladelet.explaining.snippets import Snippet, pieces
from spladelet.files import replacing
from spladelet.printable import clean, field, snippet

_TERMS = 14
_WORDS = 6
_SNIPPET = 260
_QUERY = 1000


def write_report(
    path: str | os.PathLike[str],
    outcomes: Sequence[Outcome],
    encoder: Encoder,
    *,
    examples: int = 5,
    name: str = "",
) -> None:
    """Write an HTML file, whole or not at all.

    Args:
        path: The file; its folder must exist.
        outcomes: What came out, one a collection.
        encoder: The model that was evaluated, to show how it reads queries.
        examples: How many of the largest wins, and of the largest losses.
        name: What the model is called.

    Raises:
        MissingDependencyError: The extra `evaluate` is not installed.
        OSError: The file cannot be written.
    """
    jinja2 = extras.load("jinja2", "evaluate", "a report")
    # Texts of collections are others': escaped, always. An undefined name is an error of ours.
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    source = (files("spladelet") / "evaluation" / "report.html").read_text(encoding="utf-8")
    page = environment.from_string(source).render(
        name=clean(name or encoder.description.name),
        fingerprint=encoder.fingerprint[:16],
        version=__version__,
        sections=[_section(outcome, encoder, examples) for outcome in outcomes],
        means=_means(outcomes),
        sources={entry.system: entry.url for entry in tables.published()},
    )
    with replacing(Path(path)) as file:
        # Half of a surrogate pair in somebody's text must not cost the whole report.
        file.write(page.encode("utf-8", "replace"))


def _means(outcomes: Sequence[Outcome]) -> Mapping[str, Any] | None:
    if len(outcomes) < 2:
        return None
    means = tables.averages(outcomes)
    measures = [tables.measure_name(m) for m in outcomes[0].model.values]
    first = next(iter(outcomes[0].model.values))
    return {
        "measures": measures,
        "rows": {n: list(v.values()) for n, v in means.items()},
        "published": tables.published_means(outcomes, first),
    }


def _section(outcome: Outcome, encoder: Encoder, examples: int) -> Mapping[str, Any]:
    collection, measures = outcome.collection, list(outcome.model.values)
    wins, losses = wins_and_losses(encoder, outcome, examples)
    return {
        "label": clean(collection.label),
        "documents": len(collection.documents),
        "queries": len(collection.queries),
        "measure": tables.measure_name(measures[0]),
        "measures": [tables.measure_name(measure) for measure in measures],
        "baseline": outcome.baseline,
        "systems": [
            {
                "name": system.name,
                "figures": list(system.figures().values()),
                "against": tables.against(system.comparison),
            }
            for system in outcome.systems.values()
        ],
        "published": tables.published_for(collection.label, measures[0], collection.split),
        "active_dims": outcome.active_dims,
        "notes": [clean(note) for note in outcome.notes],
        "measures_plot": plots.measures_plot(outcome),
        "differences_plot": plots.differences_plot(outcome) if outcome.baseline else "",
        "recall_plot": plots.recall_plot(outcome),
        "dims_plot": plots.active_dims_plot(outcome),
        "groups": [
            {"title": title, "kind": kind, "examples": [_example(e) for e in found]}
            for title, kind, found in (
                (f"Where the model is better than {outcome.baseline}", "win", wins),
                (f"Where the model is worse than {outcome.baseline}", "loss", losses),
            )
            if found
        ],
    }


def _example(example: Example) -> Mapping[str, Any]:
    heaviest = max((term.weight for term in example.terms), default=1.0)
    return {
        "query": field(example.query, _QUERY),
        "id": field(example.query_id),
        "ours": example.ours,
        "theirs": example.theirs,
        "terms": [
            {
                "term": t.term,
                "weight": t.weight,
                "share": t.weight / heaviest,
                "added": not t.in_text,
                "why": _why(t),
            }
            for t in example.terms[:_TERMS]
        ],
        "more": max(0, len(example.terms) - _TERMS),
        "relevant": _document(example.relevant),
        "passage": _passage(example.passage),
        "our_rank": example.our_rank,
        "their_rank": example.their_rank,
        "words": [
            {"term": w.called, "score": w.score, "kind": _kind(w)} for w in example.words[:_WORDS]
        ],
        "our_first": _document(example.our_first),
        "their_first": _document(example.their_first),
    }


def _why(term: WeightedTerm) -> str:
    """Say for which word of the query the model added a term."""
    if term.in_text or term.source is None:
        return ""
    return "for the text as a whole" if term.source.special else f"for {field(term.source.word)}"


def _passage(found: Snippet | None) -> list[Mapping[str, str]]:
    """Return the parts of a passage, each with the class by which the page draws it."""
    if found is None:
        return []
    ends = ["… " if found.cut_before else "", " …" if found.cut_after else ""]
    parts = [
        {
            "text": clean(" ".join(text.split("\n"))),
            "kind": "" if mark is None else "behind" if mark.added else "matched",
            "why": "" if mark is None else field(", ".join(mark.terms)),
        }
        for text, mark in pieces(found.text, found.marks)
    ]
    plain = {"kind": "", "why": ""}
    return [{"text": ends[0], **plain}, *parts, {"text": ends[1], **plain}]


def _kind(part: TermScore | WordScore) -> str:
    """Return the class by which the page draws what a term or word adds."""
    if isinstance(part, WordScore):
        return "word"
    return "" if part.in_query and part.in_document else "added"


def _document(document: Any) -> Mapping[str, str] | None:  # noqa: ANN401
    if document is None:
        return None
    return {"id": field(document.id), "text": snippet(document.title, document.text, _SNIPPET)}
