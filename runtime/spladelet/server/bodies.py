"""Bodies of requests: read to a limit and in time, parsed, and checked against their schema."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import ClientDisconnect, Request

from spladelet import extras
from spladelet.server.refusals import Refusal, overloaded
from spladelet.server.schemas import Schema
from spladelet.text import shown

Check = Callable[[Any], Any]


def checker(schema: Schema) -> Check:
    """Return what checks values against a schema, and fills in defaults.

    Raises:
        MissingDependencyError: The extra `serve` is not installed.
    """
    library = extras.load("fastjsonschema", "serve", "checking requests")
    check: Check = library.compile(schema)
    wrong: type[Exception] = library.JsonSchemaValueException

    def checked(value: Any) -> Any:  # noqa: ANN401
        try:
            return check(value)
        except wrong as error:
            place = str(getattr(error, "name", "data")).removeprefix("data").lstrip(".")
            rule = getattr(error, "rule", "")
            said = str(getattr(error, "message", error)).partition(" ")[2]
            if rule == "anyOf":  # of which it does not say what they are
                meant = getattr(error, "definition", {}).get("description", "")
                said = f"must be one of what is described as {meant!r}"
            what = f"{place or 'the body'} {said}"
            status = 413 if rule == "maxItems" else 422
            raise Refusal(status, "Validation", f"{what}; got {shown(_value(error))}.") from error

    return checked


def _value(error: Exception) -> object:
    return getattr(error, "value", None)


class Room:
    """Memory for the bodies of requests, of all at a time.

    Args:
        one: Bytes that a body may have.
        all_of_them: Bytes that all may have together.
    """

    def __init__(self, one: int, all_of_them: int) -> None:
        self.one, self._left = one, all_of_them

    def take(self, size: int) -> None:
        """Take room for some bytes.

        Raises:
            Refusal: There is none.
        """
        if size > self._left:
            raise overloaded("other requests are too large at the moment; try again later.")
        self._left -= size

    def give(self, size: int) -> None:
        """Give room back."""
        self._left += size


@asynccontextmanager
async def json_of(request: Request, room: Room) -> AsyncIterator[Any]:
    """Read a request's body; yields it parsed.

    Args:
        request: The request.
        room: What it takes room of, until all is done.

    Raises:
        Refusal: It is too large, no JSON, or of another type.
    """
    raw = bytearray()
    try:
        await _read(request, raw, room)
        yield _parsed(raw)
    finally:
        room.give(len(raw))


def _check_kind(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Refusal(
            415, "Validation", f"the body is {kind or 'of no type'}; expected application/json."
        )


def _parsed(raw: bytearray) -> Any:  # noqa: ANN401
    try:
        value = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Refusal(400, "Validation", f"the body is no JSON: {reason}.") from error
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


async def _read(request: Request, raw: bytearray, room: Room) -> None:
    _check_kind(request)
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated[:20]) > room.one:
        raise _too_large(room.one)
    try:
        async for part in request.stream():
            if len(raw) + len(part) > room.one:
                raise _too_large(room.one)
            room.take(len(part))
            raw += part
    except ClientDisconnect as error:
        raise Refusal(400, "Validation", "the body ended early.") from error


def _too_large(most: int) -> Refusal:
    return Refusal(413, "Validation", f"the body is too large; expected at most {most} bytes.")
