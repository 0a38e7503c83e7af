"""What is answered to requests that cannot be served, in the words of the contract.

A body has "error", one sentence, and "error_type", one of text-embeddings-inference's.
"""

from collections.abc import Mapping
from typing import Literal

from starlette.responses import JSONResponse

from spladelet.errors import (
    BundleError,
    IndexLockedError,
    IndexStoreError,
    InputError,
    ModelMismatchError,
    SpladeletError,
)
from spladelet.printable import one_line

Kind = Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer"]
KINDS: tuple[Kind, ...] = ("Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer")


class Refusal(Exception):
    """A request that is not served.

    Args:
        status: Of HTTP.
        kind: One of the contract's.
        message: One sentence for whoever sent it.
        headers: That go along.
    """

    def __init__(
        self, status: int, kind: Kind, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.headers = status, kind, dict(headers or {})

    def answer(self) -> JSONResponse:
        """Return what is answered."""
        body = {"error": one_line(str(self))[:2000], "error_type": self.kind}
        return JSONResponse(body, self.status, self.headers)


def overloaded(message: str) -> Refusal:
    """Refuse for now."""
    return Refusal(429, "Overloaded", message, {"Retry-After": "1"})


def refusal_of(error: Exception) -> Refusal | None:
    """Return what an error of the package means to whoever sent the request; None for a bug."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, (InputError, ModelMismatchError)):
        return Refusal(422, "Validation", str(error))
    if isinstance(error, IndexLockedError):
        return Refusal(503, "Overloaded", str(error), {"Retry-After": "1"})
    if isinstance(error, BundleError):
        return Refusal(424, "Backend", str(error))
    if isinstance(error, IndexStoreError):
        return Refusal(503, "Unhealthy", str(error))
    if isinstance(error, SpladeletError):
        return Refusal(424, "Backend", str(error))
    return None
