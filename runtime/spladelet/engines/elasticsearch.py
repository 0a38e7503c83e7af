"""Elasticsearch: a `sparse_vector` field, asked by the query of that name. 8.15 or newer.

Weights keep 9 significant bits there (Lucene's FeatureField), cut, not rounded. Pruning, which new
versions have on by default, is switched off in the mapping and in every query.
"""

import os
from collections.abc import Sequence
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

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
from spladelet.errors import EngineError, EngineMismatchError
from spladelet.vector import SparseVector

TRANSIENT = (408, 429, 500, 502, 503, 504)
CONTENT = (400, 413, 422)  # what is about the documents that were sent
_OLDEST = (8, 15)
_PRUNES = ((8, 19), (9, 1))  # versions with pruning in the mapping


class LuceneEngine(Engine):
    """What Elasticsearch and OpenSearch, whose clients differ little, do alike."""

    is_term_keyed: ClassVar[bool] = True
    max_query_terms: ClassVar[int | None] = 1024  # Lucene's clauses

    def _facts(self) -> Facts | None:
        return stored_facts(self.client.indices.get_mapping(index=self.collection))

    def _exists(self) -> bool:
        return bool(self.client.indices.exists(index=self.collection))

    def _count(self) -> int:
        return int(self.client.count(index=self.collection)["count"])

    def _delete(self) -> None:
        self.client.indices.delete(index=self.collection)

    def _refresh(self) -> None:
        self.client.indices.refresh(index=self.collection)

    @classmethod
    def _is_about_content(cls, error: Exception) -> bool:
        return getattr(error, "status_code", None) in CONTENT


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

    def _create(self, facts: Facts) -> None:
        vector: dict[str, Any] = {"type": "sparse_vector"}
        number = self.client.info()["version"]["number"]
        version = tuple(int(part) for part in number.split(".")[:2])
        if version < _OLDEST:
            raise EngineError(f"this Elasticsearch is {number}; its sparse vectors need 8.15.")
        if _prunes(*version):
            vector["index_options"] = {"prune": False}
        properties = {VECTOR: vector, TITLE: {"type": "text"}, TEXT: {"type": "text"}}
        mappings = {"dynamic": False, "_meta": facts.to_dict(), "properties": properties}
        self.client.indices.create(index=self.collection, mappings=mappings)

    def _write(self, batch: Sequence[Record]) -> Written:
        lines = bulk_lines(self.collection, batch, self.names)
        return bulk_outcome(self.client.bulk(operations=lines), len(batch))

    def _search(self, query: SparseVector, k: int) -> list[EngineHit]:
        weights = term_keyed(query, self.names)
        if not weights:
            return []
        asked = {"field": VECTOR, "query_vector": weights, "prune": False}
        found = self.client.search(
            index=self.collection,
            query={"sparse_vector": asked},
            size=k,
            source=[TITLE, TEXT],
        )
        return hits(found)

    @classmethod
    def _client_errors(cls) -> tuple[type[Exception], ...]:
        module = extras.load("elasticsearch", cls.name, "Elasticsearch")
        return (module.ApiError, module.TransportError)

    @classmethod
    def _is_transient(cls, error: Exception) -> bool:
        status = getattr(error, "status_code", None)
        return status is None or status in TRANSIENT


def with_port(url: str) -> str:
    """Return an address that says its port, which the client wants."""
    parts = urlsplit(url)
    if parts.port is not None:
        return url
    port = 443 if parts.scheme == "https" else 9200
    return parts._replace(netloc=f"{parts.netloc}:{port}").geturl()


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


def bulk_outcome(response: Any, sent: int) -> Written:  # noqa: ANN401
    """Read item by item what a bulk request did: a bulk may half fail and still answer 200.

    Raises:
        EngineError: A document was refused for a reason that is not about it, or an answer lacks.
    """
    failed, again = {}, []
    if len(response["items"]) != sent:
        raise EngineError(f"{sent} documents were sent, and {len(response['items'])} answered for.")
    for position, item in enumerate(response["items"]):
        (result,) = item.values()
        if result["status"] < 300:
            continue
        error = result.get("error") or {}
        cause = (error.get("caused_by") or {}).get("reason", "")
        reason = f"{error.get('type', result['status'])}: {error.get('reason', '')} {cause}".strip()
        if result["status"] in TRANSIENT:
            again.append(position)
        elif result["status"] in CONTENT:
            failed[position] = reason
        else:
            raise EngineError(f"a document was refused with status {result['status']}: {reason}")
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
    """Read the facts from what get_mapping answers; an alias may stand for one index.

    Raises:
        EngineMismatchError: It stands for several.
    """
    if len(mapping) != 1:
        raise EngineMismatchError(
            f"the name stands for {len(mapping)} indices ({', '.join(mapping)}). Choose one."
        )
    (index,) = mapping.values()
    return Facts.from_dict(index["mappings"].get("_meta"))


def _prunes(major: int, minor: int) -> bool:
    return any(major == known and minor >= least for known, least in _PRUNES) or major > 9
