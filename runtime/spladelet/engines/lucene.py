"""What Elasticsearch and OpenSearch do alike: the index, bulk requests, hits, errors.

Both keep weights in Lucene's FeatureField, in 9 significant bits, cut, not rounded. Their clients
differ in little more than the names of arguments, which is what the two subclasses are about.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

from spladelet.engines.base import (
    CONTENT_STATUSES,
    METADATA,
    TEXT,
    TITLE,
    TRANSIENT_STATUSES,
    VECTOR,
    Engine,
    EngineHit,
    Record,
    Written,
)
from spladelet.engines.facts import Facts
from spladelet.engines.payload import TermNames, Weights, all_named
from spladelet.errors import EngineError, EngineMismatchError


class LuceneEngine(Engine):
    """An index in an engine that is built on Lucene."""

    is_term_keyed: ClassVar[bool] = True
    max_query_terms: ClassVar[int | None] = 1024  # Lucene's clauses

    @abstractmethod
    def _vector_field(self) -> dict[str, Any]: ...
    @abstractmethod
    def _create_index(self, mappings: Mapping[str, Any]) -> None: ...
    @abstractmethod
    def _bulk(self, lines: Sequence[Mapping[str, Any]]) -> Any: ...  # noqa: ANN401
    @abstractmethod
    def _search_terms(self, weights: Mapping[str, float], k: int) -> list[EngineHit]: ...

    def _create(self, facts: Facts) -> None:
        text = {"type": "text"}
        kept = {"type": "object", "enabled": False}  # in whatever shape they come
        properties = {VECTOR: self._vector_field(), TITLE: text, TEXT: text, METADATA: kept}
        self._create_index({"dynamic": False, "_meta": facts.to_dict(), "properties": properties})

    def _facts(self) -> Facts | None:
        return _stored_facts(self.client.indices.get_mapping(index=self.collection))

    def _exists(self) -> bool:
        return bool(self.client.indices.exists(index=self.collection))

    def _write(self, batch: Sequence[Record]) -> Written:
        lines = _bulk_lines(self.collection, batch, self.names)
        return _bulk_outcome(self._bulk(lines), len(batch))

    def _search(self, query: Weights, k: int) -> list[EngineHit]:
        # A query loses its terms here where all their names have dots, and `dots` is "drop".
        weights = all_named(query, self.names)
        return self._search_terms(weights, k) if weights else []

    def _count(self) -> int:
        return int(self.client.count(index=self.collection)["count"])

    def _delete(self) -> None:
        self.client.indices.delete(index=self.collection)

    def _refresh(self) -> None:
        self.client.indices.refresh(index=self.collection)

    @classmethod
    def _is_about_content(cls, error: Exception) -> bool:
        return getattr(error, "status_code", None) in CONTENT_STATUSES


def with_port(url: str) -> str:
    """Return an address with its port in it, which Elasticsearch's client insists on."""
    parts = urlsplit(url)
    if parts.port is not None:
        return url
    port = 443 if parts.scheme == "https" else 9200
    return parts._replace(netloc=f"{parts.netloc}:{port}").geturl()


def hits(response: Any) -> list[EngineHit]:  # noqa: ANN401
    """Read the hits of a search."""
    return [
        EngineHit(
            hit["_id"],
            float(hit["_score"]),
            hit.get("_source", {}).get(TITLE, ""),
            hit.get("_source", {}).get(TEXT, ""),
            hit.get("_source", {}).get(METADATA, {}),
        )
        for hit in response["hits"]["hits"]
    ]


def _bulk_lines(collection: str, batch: Sequence[Record], names: TermNames) -> list[dict[str, Any]]:
    """Return the action and source lines of a bulk request.

    A document without terms gets no vector field: it is stored, and never found.
    """
    lines: list[dict[str, Any]] = []
    for record in batch:
        document = record.document
        source: dict[str, Any] = {TITLE: document.title, TEXT: document.text}
        if document.metadata:
            source[METADATA] = dict(document.metadata)
        if weights := all_named(record.weights, names):
            source[VECTOR] = weights
        lines += [{"index": {"_index": collection, "_id": document.id}}, source]
    return lines


def _bulk_outcome(response: Any, sent: int) -> Written:  # noqa: ANN401
    """Read what a bulk request did, item by item: it may half fail and still answer 200.

    Raises:
        EngineError: A document was refused for a reason that is not about it, or some have no
            answer.
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
        if result["status"] in TRANSIENT_STATUSES:
            again.append(position)
        elif result["status"] in CONTENT_STATUSES:
            failed[position] = reason
        else:  # such as 401 or 403: all that follow would be refused, too
            raise EngineError(f"a document was refused with status {result['status']}: {reason}")
    return Written(failed, again)


def _stored_facts(mapping: Any) -> Facts | None:  # noqa: ANN401
    """Read the facts from the answer to get_mapping; an alias may stand for one index.

    Raises:
        EngineMismatchError: It stands for several.
    """
    if len(mapping) != 1:
        raise EngineMismatchError(
            f"the name stands for {len(mapping)} indices ({', '.join(mapping)}). Choose one."
        )
    (index,) = mapping.values()
    return Facts.from_dict(index["mappings"].get("_meta"))
