"""Elasticsearch: a `sparse_vector` field, asked by the query of that name. 8.15 or newer.

Weights keep 9 significant bits there (Lucene's FeatureField), cut, not rounded. Pruning, which new
versions have on by default, is switched off in the mapping and in every query.
"""

import os
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from spladelet import extras
from spladelet.engines.base import (
    TEXT,
    TITLE,
    VECTOR,
    Engine,
    EngineHit,
    Facts,
    Record,
    Written,
    register,
)
from spladelet.engines.payload import TermNames, term_keyed
from spladelet.vector import SparseVector

_PRUNES = ((8, 19), (9, 1))  # versions with pruning in the mapping


@register
class Elasticsearch(Engine):
    """An index in Elasticsearch."""

    name: ClassVar[str] = "elasticsearch"
    module: ClassVar[str] = "elasticsearch"
    default_url: ClassVar[str] = "http://localhost:9200"
    is_term_keyed: ClassVar[bool] = True
    max_query_terms: ClassVar[int | None] = 1024

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
        return cls(module.Elasticsearch(url, **settings), collection, names)

    def _create(self, facts: Facts) -> None:
        vector: dict[str, Any] = {"type": "sparse_vector"}
        if _prunes(self.client.info()["version"]["number"]):
            vector["index_options"] = {"prune": False}
        properties = {VECTOR: vector, TITLE: {"type": "text"}, TEXT: {"type": "text"}}
        mappings = {"dynamic": False, "_meta": facts.to_dict(), "properties": properties}
        self.client.indices.create(index=self.collection, mappings=mappings)

    def _facts(self) -> Facts | None:
        return stored_facts(self.client.indices.get_mapping(index=self.collection))

    def _exists(self) -> bool:
        return bool(self.client.indices.exists(index=self.collection))

    def _write(self, batch: Sequence[Record]) -> Written:
        lines = bulk_lines(self.collection, batch, self.names)
        return bulk_outcome(self.client.bulk(operations=lines))

    def _search(self, query: SparseVector, k: int) -> list[EngineHit]:
        weights = term_keyed(query, self.names)
        asked = {"field": VECTOR, "query_vector": weights, "prune": False}
        found = self.client.search(
            index=self.collection,
            query={"sparse_vector": asked},
            size=k,
            source=[TITLE, TEXT],
        )
        return hits(found)

    def _count(self) -> int:
        return int(self.client.count(index=self.collection)["count"])

    def _delete(self) -> None:
        self.client.indices.delete(index=self.collection)

    def _refresh(self) -> None:
        self.client.indices.refresh(index=self.collection)

    @classmethod
    def _client_errors(cls) -> tuple[type[Exception], ...]:
        module = extras.load("elasticsearch", cls.name, "Elasticsearch")
        return (module.ApiError, module.TransportError)

    @classmethod
    def _is_transient(cls, error: Exception) -> bool:
        status = getattr(error, "status_code", None)
        return status is None or status in (408, 429, 502, 503, 504)


def bulk_lines(collection: str, batch: Sequence[Record], names: TermNames) -> list[dict[str, Any]]:
    """Return the action and source lines of a bulk request.

    A document without terms has no vector field, so it is there and is never found.
    """
    lines: list[dict[str, Any]] = []
    for record in batch:
        document = record.document
        source: dict[str, Any] = {TITLE: document.title, TEXT: document.text}
        if weights := term_keyed(record.vector, names):
            source[VECTOR] = weights
        lines += [{"index": {"_index": collection, "_id": document.id}}, source]
    return lines


def bulk_outcome(response: Any) -> Written:  # noqa: ANN401
    """Read item by item what a bulk request did: a bulk may half fail and still answer 200."""
    failed, again = {}, []
    for position, item in enumerate(response["items"]):
        (result,) = item.values()
        if result["status"] in (429, 503):
            again.append(position)
        elif result["status"] >= 300:
            error = result.get("error") or {}
            cause = error.get("caused_by") or {}
            reason = f"{error.get('type', result['status'])}: {error.get('reason', '')}"
            failed[position] = f"{reason} {cause.get('reason', '')}".strip()
    return Written(failed, again)


def hits(response: Any) -> list[EngineHit]:  # noqa: ANN401
    """Read the hits of a search."""
    return [
        EngineHit(
            hit["_id"],
            float(hit["_score"]),
            hit.get("_source", {}).get(TITLE, ""),
            hit.get("_source", {}).get(TEXT, ""),
        )
        for hit in response["hits"]["hits"]
    ]


def stored_facts(mapping: Any) -> Facts | None:  # noqa: ANN401
    """Read the facts from what get_mapping answers; an alias may stand for the index."""
    (index,) = mapping.values()
    return Facts.from_dict(index["mappings"].get("_meta"))


def _prunes(version: str) -> bool:
    major, minor = (int(part) for part in version.split(".")[:2])
    return any(major == known and minor >= least for known, least in _PRUNES) or major > 9
