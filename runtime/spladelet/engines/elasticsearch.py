"""Elasticsearch: a `sparse_vector` field, asked by the query of that name. 8.15 or newer.

Pruning, which new versions have on by default, is switched off in the mapping and in every query.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from spladelet import extras
from spladelet.engines.base import METADATA, TEXT, TITLE, TRANSIENT_STATUSES, VECTOR, EngineHit
from spladelet.engines.lucene import LuceneEngine, hits, with_port
from spladelet.engines.payload import TermNames
from spladelet.engines.registry import register
from spladelet.errors import EngineError

_OLDEST = (8, 15)
_PRUNES = ((8, 19), (9, 1))  # where pruning came to the mapping, which older versions refuse


@register
class Elasticsearch(LuceneEngine):
    """An index in Elasticsearch."""

    name: ClassVar[str] = "elasticsearch"
    default_url: ClassVar[str] = "http://localhost:9200"

    @classmethod
    def connect(cls, collection: str, names: TermNames, url: str, ca_certs: str | None) -> Self:
        """Make a client; see `spladelet.engines.connect`."""
        module = extras.load("elasticsearch", cls.name, "pushing to Elasticsearch")
        settings: dict[str, Any] = {"request_timeout": 60}
        if ca_certs:
            settings["ca_certs"] = ca_certs
        if key := os.environ.get("ELASTICSEARCH_API_KEY"):
            settings["api_key"] = key
        elif user := os.environ.get("ELASTICSEARCH_USERNAME"):
            settings["basic_auth"] = (user, os.environ.get("ELASTICSEARCH_PASSWORD", ""))
        return cls(module.Elasticsearch(with_port(url), **settings), collection, names)

    def _vector_field(self) -> dict[str, Any]:
        number = self.client.info()["version"]["number"]
        version = tuple(int(part) for part in number.split(".")[:2])
        if version < _OLDEST:
            raise EngineError(f"this Elasticsearch is {number}; its sparse vectors need 8.15.")
        prune = {"index_options": {"prune": False}} if _prunes(*version) else {}
        return {"type": "sparse_vector", **prune}

    def _create_index(self, mappings: Mapping[str, Any]) -> None:
        self.client.indices.create(index=self.collection, mappings=mappings)

    def _bulk(self, lines: Sequence[Mapping[str, Any]]) -> Any:  # noqa: ANN401
        return self.client.bulk(operations=lines)

    def _search_terms(self, weights: Mapping[str, float], k: int) -> list[EngineHit]:
        asked = {"field": VECTOR, "query_vector": weights, "prune": False}
        found = self.client.search(
            index=self.collection,
            query={"sparse_vector": asked},
            size=k,
            source=[TITLE, TEXT, METADATA],
        )
        return hits(found)

    @classmethod
    def _client_errors(cls) -> tuple[type[Exception], ...]:
        module = extras.load("elasticsearch", cls.name, "Elasticsearch")
        return (module.ApiError, module.TransportError)

    @classmethod
    def _is_transient(cls, error: Exception) -> bool:
        # An error of the connection has no status: nothing answered.
        status = getattr(error, "status_code", None)
        return status is None or status in TRANSIENT_STATUSES


def _prunes(major: int, minor: int) -> bool:
    return any(major == known and minor >= least for known, least in _PRUNES) or major > 9
