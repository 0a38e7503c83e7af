"""Milvus: a SPARSE_FLOAT_VECTOR field with an exact inverted index and inner product.

Ids are text, titles and texts at most 65,535 bytes each. A path instead of an address opens Milvus
Lite there.
"""

import json
import os
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from spladelet import extras
from spladelet.engines.base import (
    ID,
    METADATA,
    TEXT,
    TITLE,
    VECTOR,
    Engine,
    EngineHit,
    Record,
    Written,
)
from spladelet.engines.facts import Facts
from spladelet.engines.payload import TermNames, Weights, all_numbered
from spladelet.engines.registry import register
from spladelet.lazy import lazy

_LONGEST = 65_535
_TRANSIENT = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED")
_BUSY = (2, 8)  # pymilvus's CONNECT_FAILED and RATE_LIMIT
_CONTENT = (1, 5, 1100, 1801, 1804)  # unexpected, internal, and invalid parameters and rows


@register
class Milvus(Engine):
    """A collection in Milvus."""

    name: ClassVar[str] = "milvus"
    default_url: ClassVar[str] = "http://localhost:19530"
    max_id_bytes: ClassVar[int] = 65_535
    max_text_bytes: ClassVar[int | None] = _LONGEST

    @classmethod
    def check_address(cls, address: str) -> None:
        """Raise InputError unless a client can use an address; a path is Milvus Lite's."""
        if "://" in address or "@" in address:
            super().check_address(address)

    @classmethod
    def connect(cls, collection: str, names: TermNames, url: str, ca_certs: str | None) -> Self:
        """Make a client; see `spladelet.engines.connect`."""
        module = extras.load("pymilvus", cls.name, "pushing to Milvus")
        settings: dict[str, Any] = {"timeout": 60}
        if token := os.environ.get("MILVUS_TOKEN"):
            settings["token"] = token
        if ca_certs:
            settings |= {"secure": True, "server_pem_path": ca_certs}
        return cls(module.MilvusClient(url, **settings), collection, names)

    def _create(self, facts: Facts) -> None:
        self.__dict__.pop("_has_metadata", None)  # of one that was there before
        kind = extras.load("pymilvus", self.name, "Milvus").DataType
        schema = self.client.create_schema(
            auto_id=False, enable_dynamic_field=False, description=json.dumps(facts.to_dict())
        )
        schema.add_field(ID, kind.VARCHAR, is_primary=True, max_length=_LONGEST)
        schema.add_field(VECTOR, kind.SPARSE_FLOAT_VECTOR)
        schema.add_field(TITLE, kind.VARCHAR, max_length=_LONGEST)
        schema.add_field(TEXT, kind.VARCHAR, max_length=_LONGEST)
        schema.add_field(METADATA, kind.JSON)
        self.client.create_collection(self.collection, schema=schema, consistency_level="Strong")

    def _complete(self) -> None:
        # A collection without its index, of a push that ended early, could not be loaded.
        if VECTOR not in self.client.list_indexes(self.collection):
            index = self.client.prepare_index_params()
            index.add_index(
                VECTOR,
                index_name=VECTOR,
                index_type="SPARSE_INVERTED_INDEX",
                metric_type="IP",
                params={"inverted_index_algo": "DAAT_MAXSCORE"},
            )
            self.client.create_index(self.collection, index)
        self.client.load_collection(self.collection)

    def _facts(self) -> Facts | None:
        return Facts.from_text(self.client.describe_collection(self.collection)["description"])

    def _exists(self) -> bool:
        return bool(self.client.has_collection(self.collection))

    def _write(self, batch: Sequence[Record]) -> Written:
        rows = []
        for record in batch:
            indices, values = all_numbered(record.weights)
            document = record.document
            rows.append(
                {
                    ID: document.id,
                    VECTOR: dict(zip(indices, values, strict=True)),
                    TITLE: document.title,
                    TEXT: document.text,
                    **({METADATA: dict(document.metadata)} if self._has_metadata else {}),
                }
            )
        self.client.upsert(self.collection, rows)
        return Written()

    def _search(self, query: Weights, k: int) -> list[EngineHit]:
        indices, values = all_numbered(query)
        (found,) = self.client.search(
            self.collection,
            [dict(zip(indices, values, strict=True))],
            anns_field=VECTOR,
            limit=k,
            output_fields=[TITLE, TEXT, *([METADATA] if self._has_metadata else [])],
            search_params={"metric_type": "IP", "params": {"drop_ratio_search": 0.0}},
        )
        return [
            EngineHit(
                hit[ID] if ID in hit else hit["id"],
                float(hit["distance"]),
                hit["entity"][TITLE],
                hit["entity"][TEXT],
                hit["entity"].get(METADATA) or {},
            )
            for hit in found
            if hit["distance"] > 0
        ]

    @lazy
    def _has_metadata(self) -> bool:
        """Whether the collection has a field for them; one that was made before has none."""
        described = self.client.describe_collection(self.collection)
        return any(described_field["name"] == METADATA for described_field in described["fields"])

    def _count(self) -> int:
        (row,) = self.client.query(self.collection, filter="", output_fields=["count(*)"])
        return int(row["count(*)"])

    def _delete(self) -> None:
        self.client.drop_collection(self.collection)

    @classmethod
    def _client_errors(cls) -> tuple[type[Exception], ...]:
        grpc = extras.load("grpc", cls.name, "Milvus")
        return (extras.load("pymilvus", cls.name, "Milvus").MilvusException, grpc.RpcError)

    @classmethod
    def _is_transient(cls, error: Exception) -> bool:
        if getattr(error, "retriable", False) or getattr(error, "code", None) in _BUSY:
            return True
        return _grpc_code(error) in _TRANSIENT

    @classmethod
    def _is_about_content(cls, error: Exception) -> bool:
        code = getattr(error, "code", None)
        too_large = _grpc_code(error) == "RESOURCE_EXHAUSTED"
        return too_large or getattr(error, "is_input_error", False) or code in _CONTENT


def _grpc_code(error: BaseException | None) -> str:
    """Return the name of gRPC's status, of the error or its cause; empty if there is none."""
    for candidate in (error, getattr(error, "__cause__", None)):
        code = getattr(candidate, "code", None)
        if callable(code):
            return str(getattr(code(), "name", ""))
    return ""
