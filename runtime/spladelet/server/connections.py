"""Connections that neither ask nor read are closed, whatever they sent before.

uvicorn closes one that says nothing after an answer. One that begins to ask and stops, or that asks
and does not read, it would keep for ever.
"""

import asyncio
import os
from typing import Any

from spladelet import extras

PATIENCE = (
    "SPLADELET_SERVE_PATIENCE"  # in the environment, for worker processes make this class anew
)

_module = extras.load("uvicorn.protocols.http.httptools_impl", "serve", "serving")
_Base: Any = _module.HttpToolsProtocol


class Connection(_Base):  # type: ignore[misc]
    """uvicorn's HTTP connection, with an end to each wait for the head of a request."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to wait for the head of a request."""
        super().connection_made(transport)
        self._seconds = float(os.environ.get(PATIENCE, "30"))
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """End waiting."""
        self._patience.cancel()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """End waiting: there is a request."""
        self._patience.cancel()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Begin to wait for the next one, and for this answer to be read."""
        super().on_response_complete()
        self._patience.cancel()
        self._wait()

    def _wait(self) -> None:
        unread = self.transport.get_write_buffer_size()
        self._patience = self.loop.call_later(self._seconds, self._end, unread)

    def _end(self, unread: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left >= unread > 0:
            self.transport.abort()  # closing would wait until the rest is read
        elif left:
            self._wait()
        elif not self.transport.is_closing():
            self.transport.close()
