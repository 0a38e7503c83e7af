"""The index over HTTP: search, and documents."""

from typing import Any

from starlette.requests import Request

from spladelet.documents import Document
from spladelet.metadata import plain_metadata
from spladelet.server import explaining_over_http, schemas
from spladelet.server.endpoints import Endpoint
from spladelet.server.explaining_over_http import explainer_of, missing, snippets
from spladelet.server.limits import Limits
from spladelet.server.served import Served
from spladelet.server.served_index import vector_of
from spladelet.vector import SparseVector

_READING = (404, 413, 422, 424, 429)
_WRITING = (403, 413, 422, 424)


def endpoints(limits: Limits) -> list[Endpoint]:
    """Return the endpoints of an index."""
    document = "/v1/documents/{id:whole}"
    ids = schemas.ids_of(limits)
    return [
        Endpoint(
            "POST", "/v1/search", "Search", _search, schemas.HITS, schemas.search(limits), _READING
        ),
        *explaining_over_http.of_index(),
        Endpoint(
            "POST",
            "/v1/documents/get",
            "Return documents by their ids; what is not there is left out",
            _get,
            schemas.DOCUMENTS,
            ids,
            (404, 413, 422),
        ),
        Endpoint(
            "POST",
            "/v1/documents",
            "Put documents into the index, each in place of the one with its id: all or none",
            _upsert,
            schemas.UPSERTED,
            schemas.upsert(limits),
            _WRITING,
        ),
        Endpoint(
            "POST",
            "/v1/documents/delete",
            "Delete documents by their ids: all or none",
            _delete,
            schemas.DELETED,
            ids,
            _WRITING,
        ),
        Endpoint("GET", document, "Return a document", _get_one, schemas.DOCUMENT, None, (404,)),
        Endpoint(
            "DELETE", document, "Delete a document", _delete_one, schemas.DELETED, None, _WRITING
        ),
        Endpoint("GET", "/v1/index", "Say what the index is", _facts, schemas.OBJECT, None, (404,)),
    ]


async def _search(request: Request, body: Any, served: Served) -> Any:  # noqa: ANN401
    index = served.index.snapshot()
    query, vector = body.get("query"), body.get("vector")
    lexical = body.get("lexical")
    asked: SparseVector | str
    if vector is not None:
        asked = vector_of(index, vector["ids"], vector["weights"], query)
    elif lexical == "only" or index.has_words_alone:
        asked = query
    else:
        asked = await served.model.encode_query(query, request)
    k = int(body["k"])  # 10.0 is a whole number, too

    def search() -> tuple[list[int], list[dict[str, Any]]]:
        hits = index.search(
            asked,
            k,
            lexical=lexical,
            min_score=body.get("min_score", 0.0),
            where=body.get("where"),
            ids=body.get("ids"),
        )
        return [hit.number for hit in hits], [hit.to_dict() for hit in hits]

    numbers, hits = await served.in_thread(search)
    if body.get("snippets"):
        explainer = explainer_of(served, index, asked, lexical)
        made = await snippets(request, served, explainer, numbers)
        hits = [hit | {"snippet": part} for hit, part in zip(hits, made, strict=True)]
    return {"hits": hits}


async def _get(request: Request, body: Any, served: Served) -> Any:  # noqa: ANN401
    del request
    found = await served.in_thread(served.index.documents, body["ids"])
    return {"documents": [_told(document) for document in found]}


async def _get_one(request: Request, body: Any, served: Served) -> Any:  # noqa: ANN401
    del body
    identity = request.path_params["id"]
    found = await served.in_thread(served.index.documents, [identity])
    if not found:
        raise missing(identity)
    return _told(found[0])


async def _upsert(request: Request, body: Any, served: Served) -> Any:  # noqa: ANN401
    del request
    documents = [
        Document(
            given["id"],
            given["text"],
            given.get("title", ""),
            plain_metadata(given.get("metadata", {}), given["id"]),
        )
        for given in body["documents"]
    ]
    replaced, count = await served.upsert(documents)
    return {"documents": count, "replaced": replaced}


async def _delete(request: Request, body: Any, served: Served) -> Any:  # noqa: ANN401
    del request
    ids = body["ids"]
    deleted, count = await served.delete(ids)
    return {"documents": count, "deleted": deleted}


async def _delete_one(request: Request, body: Any, served: Served) -> Any:  # noqa: ANN401
    return await _delete(request, {"ids": [request.path_params["id"]]}, served)


async def _facts(request: Request, body: Any, served: Served) -> Any:  # noqa: ANN401
    del request, body
    return await served.in_thread(served.index.snapshot().facts)


def _told(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "text": document.text,
        "title": document.title,
        "metadata": dict(document.metadata),
    }
