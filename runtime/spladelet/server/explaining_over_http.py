"""Why, over HTTP: a score taken apart, a text's terms and where they come from, and snippets."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from starlette.requests import Request

from spladelet.batches import batched
from spladelet.encoder.encoder import Encoder
from spladelet.errors import BundleError
from spladelet.explain import WeightedTerm
from spladelet.explaining import Explainer
from spladelet.index.index import Index
from spladelet.index.queries import Lexical
from spladelet.server import schemas
from spladelet.server.batching import Side
from spladelet.server.endpoints import SIDE, Endpoint, side_of
from spladelet.server.refusals import Refusal
from spladelet.server.served import Served
from spladelet.vector import SparseVector

_AT_ONCE = 5  # snippets
_PATIENCE = 5  # seconds after which no more are begun


def of_index() -> list[Endpoint]:
    """Return the endpoints that need an index."""
    return [
        Endpoint(
            "POST",
            "/v1/explain",
            "Take the score of a document for a query apart",
            _explain,
            schemas.EXPLANATION,
            schemas.EXPLAIN,
            (404, 413, 422, 424, 429),
        )
    ]


def of_model() -> list[Endpoint]:
    """Return the endpoints that need a model."""
    return [
        Endpoint(
            "POST",
            "/v1/terms",
            "Return a text's terms, heaviest first, each with the word that it comes from",
            _terms,
            schemas.TERMS,
            schemas.TERMS_OF,
            (413, 422, 424, 429),
            [SIDE],
        )
    ]


async def snippets(
    request: Request, served: Served, explainer: Explainer, numbers: Sequence[int]
) -> list[dict[str, Any] | None]:
    """Return a snippet of each document, as JSON; None beyond those that one search gets.

    Few at a time are made, and none when it has taken long: hits are worth more than reasons. So
    are they where the model cannot give any.
    """
    found: list[dict[str, Any] | None] = []
    start = time.monotonic()
    for some in batched(numbers[: served.limits.snippets], _AT_ONCE):
        try:
            made = await served.explaining(request, explainer.snippets, some)
        except (BundleError, Refusal):
            break
        found += map(asdict, made)
        if time.monotonic() - start > _PATIENCE:
            break
    return found + [None] * (len(numbers) - len(found))


def explainer_of(
    served: Served, index: Index, asked: SparseVector | str, lexical: Lexical
) -> Explainer:
    """Return what explains the hits of a query."""
    is_model_asked = served.has_model and not isinstance(asked, str)
    encoder = served.model.encoder if is_model_asked else None
    return Explainer(index, encoder, asked, lexical=lexical)


async def _explain(request: Request, body: Any, served: Served) -> Any:  # noqa: ANN401
    index, query, lexical = served.index.snapshot(), body["query"], body.get("lexical")
    number = await served.in_thread(index.find, body["id"])
    if number is None:
        raise missing(body["id"])
    if lexical == "only" or index.has_words_alone:
        explainer = explainer_of(served, index, query, lexical)
        return await served.in_thread(_told, explainer, number)
    asked = await served.model.encode_query(query, request)
    explainer = explainer_of(served, index, asked, lexical)
    return await served.explaining(request, _told, explainer, number)


def _told(explainer: Explainer, number: int) -> dict[str, Any]:
    why = explainer.explain(number)
    marks = explainer.marks(number, why)
    return asdict(why) | {
        "marks": [asdict(mark) for mark in marks.marks],
        "title_marks": [asdict(mark) for mark in marks.title_marks],
    }


async def _terms(request: Request, body: Any, served: Served) -> Any:  # noqa: ANN401
    terms, truncated = await served.explaining(
        request, _terms_of, served.model.encoder, body["text"], side_of(request)
    )
    return {"terms": [asdict(term) for term in terms], "truncated": truncated}


def _terms_of(encoder: Encoder, text: str, side: Side) -> tuple[Sequence[WeightedTerm], bool]:
    (tokens,) = encoder.tokenize([text], side=side)
    if encoder.can_trace:
        return encoder.explain_terms(text, side=side), tokens.truncated
    vector = encoder.encode_tokenized([tokens], side=side)[0]
    return encoder.terms(text, vector, side=side), tokens.truncated


def missing(identity: str) -> Refusal:
    """Return what is answered where there is no such document."""
    return Refusal(404, "Validation", f"the index has no document with id {identity!r:.80}.")
