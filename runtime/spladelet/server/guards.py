"""What stands before every route: who may ask, how long it may take, and what is noted of it.

Plain ASGI, for each layer of it costs time. The access log has method, route, status and time,
never a text, an id or a query string.
"""

import asyncio
import hmac
import logging
import time
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spladelet.server.metering import Meters
from spladelet.server.refusals import Refusal, refusal_of

ROUTE = "spladelet.route"  # where a request's scope has it
ACCESS = logging.getLogger("spladelet.access")
_ERRORS = logging.getLogger("spladelet.error")


class Guard:
    """Lets requests through that may ask, ends those that take too long, and answers for errors.

    Args:
        app: The routes.
        meters: What is counted.
        token: What requests must bear; None asks for none.
        open_paths: Paths that need no token.
        seconds: How long a request may take.
    """

    def __init__(
        self,
        app: ASGIApp,
        meters: Meters,
        token: str | None,
        open_paths: Sequence[str],
        seconds: float,
    ) -> None:
        self._app, self._meters = app, meters
        self._token = None if token is None else token.encode()
        self._open, self._seconds = frozenset(open_paths), seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._serve(scope, receive, noting)
        except Exception as error:
            refused = refusal_of(error)
            if refused is None:
                _ERRORS.exception("a request to %s failed", _route(scope), exc_info=error)
                refused = Refusal(500, "Backend", "this is a bug of the server; its log says more.")
            if status:
                raise  # half an answer is out: the connection ends
            await refused.answer()(scope, receive, noting)
        finally:
            seconds = time.perf_counter() - start
            route = _route(scope)
            self._meters.seconds.labels(route, status).observe(seconds)
            ACCESS.info("%s %s %s %.1f ms", scope["method"], route, status, 1000 * seconds)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if self._token is not None and path not in self._open:
            given = Headers(scope=scope).get("authorization", "")
            kind, _, token = given.partition(" ")
            # Compared in constant time, so that how long it takes tells nothing of the token.
            same = hmac.compare_digest(token.strip().encode("latin-1", "replace"), self._token)
            if kind.lower() != "bearer" or not same:
                raise Refusal(
                    401,
                    "Validation",
                    "this server wants a bearer token.",
                    {"WWW-Authenticate": "Bearer"},
                )
        try:
            async with asyncio.timeout(self._seconds):
                await self._app(scope, receive, send)
        except TimeoutError as error:
            message = (
                f"the request took more than {self._seconds:g} s and is waited for no longer; a "
                "change that was begun is made."
            )
            raise Refusal(503, "Overloaded", message, {"Retry-After": "1"}) from error


def _route(scope: Scope) -> str:
    """Return a request's route, not its path, which may have an id in it."""
    return str(scope.get(ROUTE, "none"))
