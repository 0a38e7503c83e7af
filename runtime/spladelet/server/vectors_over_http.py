"""Texts to vectors over HTTP: text-embeddings-inference's contract, ours, and what engines expect.

Queries and documents are two sides of a model. `?side=query` or `?side=document` (the default) says
which, everywhere.

Source: https://github.com/huggingface/text-embeddings-inference, `docs/openapi.json`
"""

from itertools import pairwise
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from spladelet._version import __version__
from spladelet.engines.payload import TermNames, term_keyed
from spladelet.pruning import Pruning
from spladelet.server import schemas
from spladelet.server.batching import Wanted
from spladelet.server.endpoints import SIDE, Endpoint, side_of
from spladelet.server.limits import Limits
from spladelet.server.refusals import Refusal
from spladelet.server.served import Served
from spladelet.vector import SparseVector, SparseVectors

_ENCODING = (413, 422, 424, 429)
_AS = {
    "name": "as",
    "in": "query",
    "description": "How a vector is written: term ids and weights, or weights by term",
    "schema": {"enum": ["ids", "terms"], "default": "ids"},
}


def endpoints(limits: Limits) -> list[Endpoint]:
    """Return the endpoints that encode."""
    return [
        Endpoint(
            "POST",
            "/embed_sparse",
            "Encode texts, as text-embeddings-inference does",
            _embed_sparse,
            schemas.SPARSE_VALUES,
            schemas.embed_sparse(limits),
            _ENCODING,
            [SIDE],
        ),
        Endpoint(
            "GET", "/info", "Say what is served, likewise", _info, schemas.OBJECT, None, (424,)
        ),
        Endpoint(
            "POST",
            "/v1/encode",
            "Encode texts",
            _encode,
            {"anyOf": [schemas.ENCODED, schemas.ENCODED_TERMS]},
            schemas.encode(limits),
            _ENCODING,
            [SIDE, _AS],
        ),
        Endpoint(
            "POST",
            "/opensearch/sparse_encoding",
            "Encode for OpenSearch's remote connector: weights by term, dots as ids in brackets",
            _for_opensearch,
            schemas.OPENSEARCH_ANSWER,
            schemas.engine_input(limits),
            _ENCODING,
            [SIDE],
        ),
        Endpoint(
            "POST",
            "/elasticsearch/sparse_embedding",
            "Encode for Elasticsearch's custom inference service",
            _for_elasticsearch,
            schemas.ELASTICSEARCH_ANSWER,
            schemas.engine_input(limits),
            _ENCODING,
            [SIDE],
        ),
    ]


async def _embed_sparse(request: Request, body: Any, served: Served) -> Any:  # noqa: ANN401
    truncate = served.limits.auto_truncate if body["truncate"] is None else body["truncate"]
    is_left = body["truncation_direction"].lower() == "left"
    wanted = Wanted(
        _texts(body["inputs"]),
        side_of(request, body["prompt_name"]),
        "end" if is_left else "beginning",
        is_strict=not truncate,
    )
    found = await served.model.encode(wanted, request)
    return Response(_sparse_values(found.vectors), media_type="application/json")


async def _info(request: Request, body: Any, served: Served) -> Any:  # noqa: ANN401
    del request, body
    described = served.model.encoder.description
    return {
        "model_id": described.name,
        "model_sha": served.model.encoder.fingerprint,
        "model_dtype": "int8" if described.quantization else "float32",
        "model_type": {"embedding": {"pooling": "splade"}},
        "max_concurrent_requests": served.limits.connections,
        "max_input_length": described.document.max_length,
        "max_batch_tokens": served.limits.batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": served.limits.texts,
        "auto_truncate": served.limits.auto_truncate,
        "tokenization_workers": 1,
        "version": __version__,
        "sha": None,
        "docker_label": None,
    }


async def _encode(request: Request, body: Any, served: Served) -> Any:  # noqa: ANN401
    dims = body.get("max_active_dims")
    # 10.0 is a whole number, too.
    pruning = Pruning(None if dims is None else int(dims), body.get("min_weight", 0.0))
    side, shape = side_of(request), request.query_params.get("as", "ids")
    if shape not in ("ids", "terms"):
        raise Refusal(422, "Validation", f"as is {shape!r:.40}; expected ids or terms.")
    found = await served.model.encode(Wanted(_texts(body["texts"]), side), request)
    pruned = [
        vector.prune(max_active_dims=pruning.max_active_dims, min_weight=pruning.min_weight)
        for vector in found.vectors
    ]
    write = served.model.encoder.decode if shape == "terms" else _by_id
    return {
        "model": served.model.encoder.fingerprint,
        "vectors": [write(vector) for vector in pruned],
        "truncated": list(found.truncated),
    }


def _by_id(vector: SparseVector) -> dict[str, Any]:
    return {"ids": vector.term_ids.tolist(), "weights": vector.weights.tolist()}


async def _for_opensearch(request: Request, body: Any, served: Served) -> Response | Any:  # noqa: ANN401
    names = TermNames(served.model.encoder.term, "id")
    return [term_keyed(vector, names) for vector in await _plainly(request, body, served)]


async def _for_elasticsearch(request: Request, body: Any, served: Served) -> Any:  # noqa: ANN401
    names = TermNames(served.model.encoder.term, "keep")
    embeddings = [
        {
            "index": number,
            "embedding": [
                {"token": token, "weight": weight}
                for token, weight in term_keyed(vector, names).items()
            ],
        }
        for number, vector in enumerate(await _plainly(request, body, served))
    ]
    return {"result": {"sparse_embeddings": embeddings}}


async def _plainly(request: Request, body: Any, served: Served) -> SparseVectors:  # noqa: ANN401
    wanted = Wanted(_texts(body["input"]), side_of(request))
    return (await served.model.encode(wanted, request)).vectors


def _texts(given: str | list[str]) -> list[str]:
    return [given] if isinstance(given, str) else given


def _sparse_values(vectors: SparseVectors) -> str:
    """Write vectors as the contract has them; as text, for that takes half the time of objects."""
    ids, weights = vectors.term_ids.tolist(), vectors.weights.tolist()
    values = [f'{{"index":{i},"value":{w!r}}}' for i, w in zip(ids, weights, strict=True)]
    spans = pairwise(vectors.row_offsets.tolist())
    rows = (",".join(values[start:end]) for start, end in spans)
    return f"[{','.join(f'[{row}]' for row in rows)}]"
