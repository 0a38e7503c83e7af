"""OpenSearch: a `rank_features` field, asked by `neural_sparse` with raw tokens. 2.14 or newer.

Weights keep 9 significant bits there (Lucene's FeatureField), cut, not rounded. Names must not have
dots, and a query's weights must not exceed 64: a heavier query is scaled down and its scores back.
For the approximate `sparse_vector` field of 3.3 see `spladelet convert`.
"""

import os
from collections.abc import Sequence
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from spladelet import extras
from spladelet.engines.base import TEXT, TITLE, VECTOR, EngineHit, Facts, Record, Written, register
from spladelet.engines.elasticsearch import (
    TRANSIENT,
    LuceneEngine,
    bulk_lines,
    bulk_outcome,
    hits,
    with_port,
)
from spladelet.engines.payload import Dots, TermNames, term_keyed
from spladelet.errors import InputError
from spladelet.vector import SparseVector

_HEAVIEST = 64.0


@register
class OpenSearch(LuceneEngine):
    """An index in OpenSearch."""

    name: ClassVar[str] = "opensearch"
    default_url: ClassVar[str] = "http://localhost:9200"
    default_dots: ClassVar[Dots] = "id"

    @classmethod
    def connect(cls, collection: str, names: TermNames, url: str, ca_certs: str | None) -> Self:
        """Make a client; see `spladelet.engines.connect`.

        Raises:
            InputError: Names with dots are to be kept, which `rank_features` refuses.
        """
        if names.term is not None and names.dots == "keep":
            raise InputError(
                "OpenSearch's rank_features takes no dots in names. Choose dots='id' or 'drop'."
            )
        module = extras.load("opensearchpy", cls.name, "pushing to OpenSearch")
        settings: dict[str, Any] = {
            "timeout": 60,
            "verify_certs": True,
            "use_ssl": urlsplit(url).scheme == "https",
        }
        if ca_certs:
            settings["ca_certs"] = ca_certs
        if user := os.environ.get("OPENSEARCH_USERNAME"):
            settings["http_auth"] = (user, os.environ.get("OPENSEARCH_PASSWORD", ""))
        return cls(module.OpenSearch([with_port(url)], **settings), collection, names)

    def _create(self, facts: Facts) -> None:
        properties = {
            VECTOR: {"type": "rank_features"},
            TITLE: {"type": "text"},
            TEXT: {"type": "text"},
        }
        mappings = {"dynamic": False, "_meta": facts.to_dict(), "properties": properties}
        self.client.indices.create(index=self.collection, body={"mappings": mappings})

    def _write(self, batch: Sequence[Record]) -> Written:
        lines = bulk_lines(self.collection, batch, self.names)
        return bulk_outcome(self.client.bulk(body=lines), len(batch))

    def _search(self, query: SparseVector, k: int) -> list[EngineHit]:
        weights = term_keyed(query, self.names)
        if not weights:
            return []
        scale = max(1.0, max(weights.values()) / _HEAVIEST)
        tokens = {name: weight / scale for name, weight in weights.items()}
        body = {
            "size": k,
            "query": {"neural_sparse": {VECTOR: {"query_tokens": tokens}}},
            "_source": [TITLE, TEXT],
        }
        found = hits(self.client.search(index=self.collection, body=body))
        return [EngineHit(hit.id, hit.score * scale, hit.title, hit.text) for hit in found]

    @classmethod
    def _client_errors(cls) -> tuple[type[Exception], ...]:
        return (extras.load("opensearchpy", cls.name, "OpenSearch").OpenSearchException,)

    @classmethod
    def _is_transient(cls, error: Exception) -> bool:
        status = getattr(error, "status_code", None)
        return status in ("N/A", "TIMEOUT", *TRANSIENT)
