"""Endpoints: paths with what they take and give; server and description are made from them."""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from spladelet.server import schemas
from spladelet.server.batching import SIDES, Side
from spladelet.server.bodies import Check, checker, json_of
from spladelet.server.guards import ROUTE
from spladelet.server.refusals import Refusal
from spladelet.server.schemas import TEXT, Schema
from spladelet.server.served import Served

# What is asked, the body, checked, and what is served.
Handler = Callable[[Request, Any, Served], Awaitable[Any]]

_MEANINGS = {
    400: "The body is no JSON",
    401: "The token is missing or wrong",
    403: "The index is served to be read only",
    404: "There is no such thing",
    413: "More than the server takes",
    415: "The body is of another type",
    422: "A value makes no sense",
    424: "The model failed, or there is none",
    429: "Too much waits already",
    503: "Not ready, or it took too long",
}
SIDE: Schema = {
    "name": "side",
    "in": "query",
    "description": "As what texts are encoded; /query or /document before the path says it, too",
    "schema": {"enum": list(SIDES), "default": "document"},
}


class _Whole(PathConvertor):
    """The rest of a path, new lines and all, which Starlette's "path" is not."""

    regex = "(?s:.*)"


register_url_convertor("whole", _Whole())
_PLACE = "spladelet.side"  # where a request's scope has the side that its path begins with


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path and method.

    Attributes:
        method: Of HTTP.
        path: The path, with parameters as Starlette has them; "whole" ones reach to its end.
        summary: What it does.
        handle: Does it; returns JSON's types, or a response.
        gives: Schema of the answer.
        takes: Schema of the body; None without one.
        refuses: Statuses that it may answer with besides those that all have.
        queries: Parameters in the query string.
        needs_ready: Whether it is refused until everything is loaded.
    """

    method: str
    path: str
    summary: str
    handle: Handler
    gives: Schema
    takes: Schema | None = None
    refuses: Sequence[int] = ()
    queries: Sequence[Schema] = ()
    needs_ready: bool = True

    @property
    def shown_path(self) -> str:
        """The path as people read it."""
        return self.path.replace(":whole", "")

    def routes(self, served: Served) -> list[Route]:
        """Return the routes that serve it.

        Where texts are encoded, they have the side before the path, too: for clients that know a
        server by its address alone.
        """
        check = None if self.takes is None else checker(self.takes)

        def route(side: Side | None) -> Route:
            async def endpoint(request: Request) -> Response:
                request.scope[ROUTE], request.scope[_PLACE] = self.shown_path, side
                return await self._serve(request, check, served)

            path = self.path if side is None else f"/{side}{self.path}"
            return Route(path, endpoint, methods=[self.method])

        return [route(side) for side in (None, *(SIDES if SIDE in self.queries else ()))]

    async def _serve(self, request: Request, check: Check | None, served: Served) -> Response:
        if self.needs_ready:
            served.check_ready()
        if check is None:
            return _answer(await self.handle(request, None, served))
        async with json_of(request, served.room) as given:
            return _answer(await self.handle(request, check(given), served))


def _answer(found: Any) -> Response:  # noqa: ANN401
    if isinstance(found, Response):
        return found
    # In ASCII, for documents may hold halves of characters, which UTF-8 cannot.
    text = json.dumps(found, allow_nan=False, separators=(",", ":"))
    return Response(text, media_type="application/json")


def side_of(request: Request, given: str | None = None) -> Side:
    """Return as what texts are to be encoded.

    Raises:
        Refusal: It is no side.
    """
    side = request.query_params.get("side", request.scope.get(_PLACE) or given or "document")
    if side not in SIDES:
        raise Refusal(422, "Validation", f"side is {side!r:.40}; expected query or document.")
    return side


def describe(endpoints: Sequence[Endpoint], version: str, *, has_token: bool) -> dict[str, Any]:
    """Return the description of endpoints, as OpenAPI 3.1 has it."""
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.shown_path, {})[endpoint.method.lower()] = _operation(endpoint)
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "spladelet", "version": version},
        "paths": paths,
    }
    if has_token:
        scheme = {"bearer": {"type": "http", "scheme": "bearer"}}
        described |= {"components": {"securitySchemes": scheme}, "security": [{"bearer": []}]}
    return described


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    """Return what OpenAPI says of one path and method."""
    answers: dict[str, Any] = {"200": {"description": "Done", **_content(endpoint.gives)}}
    refused = {*endpoint.refuses, 401, 503, *((400, 413, 415, 422) if endpoint.takes else ())}
    refused |= {422} if endpoint.queries else set()
    for status in sorted(refused):
        answers[str(status)] = {"description": _MEANINGS[status], **_content(schemas.ERROR)}
    found: dict[str, Any] = {"summary": endpoint.summary, "responses": answers}
    parameters = [dict(query) for query in endpoint.queries]
    if "{id}" in endpoint.shown_path:
        parameters.append({"name": "id", "in": "path", "required": True, "schema": TEXT})
    if parameters:
        found["parameters"] = parameters
    if endpoint.takes is not None:
        found["requestBody"] = {"required": True, **_content(endpoint.takes)}
    return found


def _content(schema: Schema) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}} if schema else {}
