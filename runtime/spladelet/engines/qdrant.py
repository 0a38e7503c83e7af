"""Qdrant: a named sparse vector without modifier, so that its scores are dot products.

Its points have numbers or UUIDs, so a document's id becomes a UUID (version 5, always the same) and
stands whole in the payload.
"""

import os
import ssl
import uuid
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from spladelet import extras
from spladelet.engines.base import (
    CONTENT_STATUSES,
    ID,
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
from spladelet.engines.payload import TermNames, Weights, all_numbered
from spladelet.engines.registry import register
from spladelet.forks import unforked

_NAMESPACE = uuid.UUID("6a1e7f0c-5b0e-5d0a-9a53-0f1c8a4f5d11")


@register
class Qdrant(Engine):
    """A collection in Qdrant."""

    name: ClassVar[str] = "qdrant"
    default_url: ClassVar[str] = "http://localhost:6333"
    max_id_bytes: ClassVar[int] = 65536

    @classmethod
    def connect(cls, collection: str, names: TermNames, url: str, ca_certs: str | None) -> Self:
        """Make a client; see `spladelet.engines.connect`."""
        module = extras.load("qdrant_client", cls.name, "pushing to Qdrant")
        client = module.QdrantClient(
            url=url,
            api_key=os.environ.get("QDRANT_API_KEY"),
            timeout=60,
            verify=ssl.create_default_context(cafile=ca_certs) if ca_certs else True,
            check_compatibility=False,
        )
        return cls(client, collection, names)

    def _create(self, facts: Facts) -> None:
        self.client.create_collection(
            self.collection,
            vectors_config={},
            sparse_vectors_config={VECTOR: self._models().SparseVectorParams()},
            metadata=facts.to_dict(),
        )

    def _facts(self) -> Facts | None:
        return Facts.from_dict(self.client.get_collection(self.collection).config.metadata)

    def _exists(self) -> bool:
        return bool(self.client.collection_exists(self.collection))

    def _write(self, batch: Sequence[Record]) -> Written:
        models = self._models()
        points = []
        for record in batch:
            indices, values = all_numbered(record.weights)
            document = record.document
            points.append(
                models.PointStruct(
                    id=str(uuid.uuid5(_NAMESPACE, document.id)),
                    vector={VECTOR: models.SparseVector(indices=indices, values=values)},
                    payload={
                        ID: document.id,
                        TITLE: document.title,
                        TEXT: document.text,
                        **({METADATA: dict(document.metadata)} if document.metadata else {}),
                    },
                )
            )
        self.client.upsert(self.collection, points, wait=True)
        return Written()

    def _search(self, query: Weights, k: int) -> list[EngineHit]:
        indices, values = all_numbered(query)
        found = self.client.query_points(
            self.collection,
            query=self._models().SparseVector(indices=indices, values=values),
            using=VECTOR,
            limit=k,
            with_payload=True,
        )
        # Before a segment has its index, Qdrant also lists documents that share no term.
        return [
            EngineHit(
                p.payload[ID],
                float(p.score),
                p.payload[TITLE],
                p.payload[TEXT],
                p.payload.get(METADATA, {}),
            )
            for p in found.points
            if p.score > 0
        ]

    def _count(self) -> int:
        return int(self.client.count(self.collection, exact=True).count)

    def _delete(self) -> None:
        self.client.delete_collection(self.collection)

    def _models(self) -> Any:  # noqa: ANN401
        return extras.load("qdrant_client", self.name, "Qdrant").models

    @classmethod
    def _client_errors(cls) -> tuple[type[Exception], ...]:
        extras.load("qdrant_client", cls.name, "Qdrant")
        with unforked():
            from qdrant_client.common.client_exceptions import QdrantException
            from qdrant_client.http.exceptions import ApiException

        return (ApiException, QdrantException)

    @classmethod
    def _is_transient(cls, error: Exception) -> bool:
        # An error of the connection has no status: nothing answered.
        status = getattr(error, "status_code", None)
        return status is None or status in TRANSIENT_STATUSES

    @classmethod
    def _is_about_content(cls, error: Exception) -> bool:
        return getattr(error, "status_code", None) in CONTENT_STATUSES
