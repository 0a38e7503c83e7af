"""What a function does, whichever cloud runs it: loads at import, then answers a call a question.

Importing this loads all of it and answers one question, so that the platform's start pays for what
the first caller would. Knows nothing of HTTP or of a cloud: `handler.py`, `main.py` and
`function_app.py` differ in their entries alone. The environment says the rest:

SPLADELET_INDEX    a folder beside this file ("index"), another one, or the https address of a .zip
                   or .tar of one, which is copied to /tmp, or $SPLADELET_CACHE, once a start
SPLADELET_MODEL    a bundle's folder; the model that comes with the package
SPLADELET_THREADS  1: a function has one processor, or a part of one
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spladelet import Encoder, Index
from spladelet.errors import InputError

MAX_CHARACTERS = 2000  # of a query, of which the model reads 512 tokens
MAX_HITS = 100
MAX_BYTES = 64 << 10  # of a request: a filter may be longer than its query
FIELDS = ("query", "k", "where")

Answer = tuple[int, dict[str, Any]]


def answer(asked: object) -> Answer:
    """Answer one question.

    Args:
        asked: A mapping of `query`, and if need be `k` and `where`, as `Index.search` has them.

    Returns:
        A status of HTTP, 200 or 400, and what is to be sent as JSON.
    """
    try:
        query, k, where = _checked(asked)
        hits = INDEX.search(ENCODER.encode_query(query), k, where=where)
    except InputError as error:  # the caller's; what else is raised is ours, and is logged
        return 400, {"error": str(error)}
    return 200, {"hits": [hit.to_dict() for hit in hits]}


def answer_text(body: str | bytes | None) -> Answer:
    """Answer a request whose body is JSON; see `answer`."""
    body = body or "null"
    if len(body) > MAX_BYTES:
        return 400, {"error": f"the body has {len(body)} bytes; at most {MAX_BYTES} are read."}
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        return 400, {"error": f"the body is no JSON: {error}."}
    return answer(asked)


def from_query_string(given: Mapping[str, str]) -> dict[str, Any]:
    """Return the question that a query string asks; `where` takes a body."""
    asked: dict[str, Any] = {name: given[name] for name in given}  # Flask's may have several
    if asked.get("k", "").isdecimal():
        asked["k"] = int(asked["k"][:9])
    return asked


def as_json(content: Mapping[str, Any]) -> str:
    """Write an answer, whose floats read back as the same ones."""
    return json.dumps(content, separators=(",", ":"))  # ASCII: half a surrogate pair has no UTF-8


def _checked(asked: object) -> tuple[str, int, Any]:
    if not isinstance(asked, dict) or not isinstance(asked.get("query"), str):
        raise InputError('expected a JSON object with a text as query, {"query": "...", "k": 10}.')
    if unknown := sorted(asked.keys() - set(FIELDS)):
        raise InputError(f"{unknown[0]!r:.100} is unknown; expected {', '.join(FIELDS)}.")
    query, k = asked["query"], asked.get("k", 10)
    if len(query) > MAX_CHARACTERS:
        raise InputError(
            f"query has {len(query)} characters; at most {MAX_CHARACTERS} are answered. Shorten it."
        )
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MAX_HITS:
        raise InputError(f"k is {k!r:.100}; expected a whole number from 1 to {MAX_HITS}.")
    return query, k, asked.get("where")


def _index_folder() -> Path:
    place = os.environ.get("SPLADELET_INDEX", "index")
    if place.startswith(("https://", "http://")):
        # Here, because HTTP and TLS take 30 ms to import, which no other start needs.
        from fetching import fetched

        return fetched(place)
    return Path(__file__).parent / place  # of which an absolute one stays what it is


ENCODER = Encoder.load(
    os.environ.get("SPLADELET_MODEL"), threads=int(os.environ.get("SPLADELET_THREADS", "1"))
)
INDEX = Index.open(_index_folder())
answer({"query": "warm up"})  # reads the graph, and the index's pages that every search needs
