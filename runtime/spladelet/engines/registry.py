"""The engines that there are, by name, and the way to one of their collections."""

import os
import re
from pathlib import Path

from spladelet.engines.base import Engine
from spladelet.engines.payload import TermNames
from spladelet.errors import InputError, SpladeletError

_ENGINES: dict[str, type[Engine]] = {}


def register(engine: type[Engine]) -> type[Engine]:
    """Add an engine to those that `connect` knows; may be used as a decorator."""
    _ENGINES[engine.name] = engine
    return engine


def engines() -> dict[str, type[Engine]]:
    """Return the engines by name."""
    return dict(_ENGINES)


def connect(
    engine: str,
    collection: str,
    *,
    names: TermNames | None = None,
    url: str | None = None,
    ca_certs: str | None = None,
) -> Engine:
    """Open a collection in an engine.

    Credentials come from the environment, never from the address: ELASTICSEARCH_API_KEY, or
    ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD; OPENSEARCH_USERNAME and OPENSEARCH_PASSWORD;
    QDRANT_API_KEY; MILVUS_TOKEN. Certificates are verified.

    Args:
        engine: "elasticsearch", "opensearch", "qdrant" or "milvus".
        collection: The collection's (index's) name there.
        names: What term-keyed engines call terms; None calls them by id.
        url: Its address; None means ELASTICSEARCH_URL and so on, or else the default port here.
        ca_certs: A file of certificates to trust, in place of the usual ones.

    Raises:
        InputError: There is no such engine, or a name or the address cannot be used.
        MissingDependencyError: Its client is not installed.
        EngineError: Its client does not come up; some connect at once.
    """
    if engine not in _ENGINES:
        raise InputError(f"engine is {engine!r}; expected one of {', '.join(sorted(_ENGINES))}.")
    kind = _ENGINES[engine]
    if not re.fullmatch(r"[^\W_][\w.-]*", collection):
        raise InputError(
            f"collection is {collection!r}; expected a name of letters, digits, '_', '-' and '.', "
            "a letter or digit first."
        )
    address = url or os.environ.get(f"{engine.upper()}_URL") or kind.default_url
    kind.check_address(address)
    if ca_certs is not None and not Path(ca_certs).is_file():
        raise InputError(f"there is no file {ca_certs!r} with certificates.")
    with kind._translated():
        try:
            return kind.connect(collection, names or TermNames(), address, ca_certs)
        except (ValueError, TypeError) as error:  # what clients raise for an address or a file
            if isinstance(error, SpladeletError):
                raise
            raise InputError(f"{engine} cannot be reached at {address!r}: {error}.") from error
