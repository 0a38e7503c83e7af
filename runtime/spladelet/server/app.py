"""The application: endpoints behind a guard, and what is opened when it starts."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from spladelet._version import __version__
from spladelet.encoder import Encoder
from spladelet.errors import InputError
from spladelet.index.index import Index
from spladelet.server import explaining_over_http, searching_over_http, vectors_over_http
from spladelet.server.endpoints import Endpoint, describe
from spladelet.server.explorer import page
from spladelet.server.guards import Guard
from spladelet.server.limits import Limits
from spladelet.server.refusals import Refusal
from spladelet.server.served import Served

# Asked by who has no token: load balancers, probes, and a browser for the page, which then asks.
_OPEN = ("/health", "/")


def create_app(
    encoder: Encoder | Callable[[], Encoder] | None = None,
    index: str | os.PathLike[str] | Index | None = None,
    *,
    writable: bool = False,
    token: str | None = None,
    limits: Limits | None = None,
    origins: Sequence[str] = (),
) -> Starlette:
    """Make an ASGI application that serves a model, an index, or both.

    Args:
        encoder: The model, or what loads it when the application starts; None serves none, which
            does for an index of words alone.
        index: The index's folder, or an index in memory; None serves none.
        writable: Whether requests may change the index, which must be a folder then.
        token: What every request must bear, but for `/health` and the page; None asks for none.
        limits: What is taken; None takes the defaults.
        origins: Web pages of which browsers may ask (CORS), such as "https://example.org"; none by
            default.

    Raises:
        InputError: There is nothing to serve, or an argument makes no sense.
        MissingDependencyError: The extra `serve` is not installed.
    """
    if encoder is None and index is None:
        raise InputError("there is neither a model nor an index to serve.")
    if writable and (index is None or isinstance(index, Index)):
        raise InputError("only an index in a folder can be changed: give its path.")
    if token is not None and not token.strip():
        raise InputError("the token is empty, which would let nobody in. Give one, or None.")
    kept = limits or Limits()
    load = (lambda: encoder) if isinstance(encoder, Encoder) else encoder
    served = Served(load, index, kept, is_writable=writable)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        await served.start()
        try:
            yield
        finally:
            await served.stop()

    guard = Middleware(
        Guard,
        meters=served.meters,
        token=None if token is None else token.strip(),  # files end in a new line
        open_paths=_OPEN,
        seconds=kept.request_seconds,
    )
    app = Starlette(
        routes=_routes(served, has_token=token is not None),
        middleware=[*_cross_origin(origins), guard],
        lifespan=lifespan,
        exception_handlers={404: _unknown, 405: _unknown},
    )
    app.router.redirect_slashes = False  # to wherever the header Host says
    app.state.served = served
    return app


def _cross_origin(origins: Sequence[str]) -> list[Middleware]:
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["*"],
            allow_headers=["authorization", "content-type"],
        )
    ]


def _routes(served: Served, *, has_token: bool) -> list[Route]:
    """Return the routes of all endpoints, and of what describes them."""
    endpoints = _endpoints(served)
    described = describe(endpoints, __version__, has_token=has_token)

    async def openapi(request: Request, body: Any, served: Served) -> Any:  # noqa: ANN401
        del request, body, served
        return described

    async def explorer(request: Request, body: Any, served: Served) -> Response:  # noqa: ANN401
        del request, body, served
        return page()

    about = [
        Endpoint("GET", "/openapi.json", "This", openapi, {"type": "object"}, needs_ready=False),
        Endpoint("GET", "/", "A page to search and explore with", explorer, {}, needs_ready=False),
    ]
    return [route for endpoint in (*endpoints, *about) for route in endpoint.routes(served)]


def _endpoints(served: Served) -> list[Endpoint]:
    found = [
        Endpoint(
            "GET",
            "/health",
            "Answer once everything is loaded",
            _health,
            {},
            None,
            (503,),
            needs_ready=False,
        ),
        Endpoint(
            "GET", "/metrics", "What is counted, for Prometheus", _metrics, {}, needs_ready=False
        ),
    ]
    if served.has_model:
        found += vectors_over_http.endpoints(served.limits) + explaining_over_http.of_model()
    if served.has_index:
        found += searching_over_http.endpoints(served.limits)
    return found


async def _health(request: Request, body: Any, served: Served) -> Response:  # noqa: ANN401
    del request, body
    served.check_ready()
    return Response(status_code=200)


async def _metrics(request: Request, body: Any, served: Served) -> Response:  # noqa: ANN401
    del request, body
    return Response(served.meters.text(), media_type=served.meters.content_type)


async def _unknown(request: Request, error: Exception) -> JSONResponse:
    status = int(getattr(error, "status_code", 404))
    what = "there is no such path" if status == 404 else f"{request.method} is not for this path"
    headers = getattr(error, "headers", None)
    return Refusal(status, "Validation", f"{what}; see /openapi.json.", headers).answer()
