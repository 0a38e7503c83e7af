"""OpenSearch: a `rank_features` field, asked by `neural_sparse` with raw tokens. 2.14 or newer.

Names must not have dots, and a query's weights must not exceed 64: a heavier query is scaled down,
and its scores are scaled back up. For the approximate `sparse_vector` field of 3.3 see
`spladelet convert`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from spladelet import extras
from spladelet.engines.base import METADATA, TEXT, TITLE, TRANSIENT_STATUSES, VECTOR, EngineHit
from spladelet.engines.lucene import LuceneEngine, hits, with_port
from spladelet.engines.payload import Dots, TermNames
from spladelet.engines.registry import register
from spladelet.errors import InputError

_HEAVIEST = 64.0  # Lucene's FeatureField refuses a heavier query


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

    def _vector_field(self) -> dict[str, Any]:
        return {"type": "rank_features"}

    def _create_index(self, mappings: Mapping[str, Any]) -> None:
        self.client.indices.create(index=self.collection, body={"mappings": mappings})

    def _bulk(self, lines: Sequence[Mapping[str, Any]]) -> Any:  # noqa: ANN401
        return self.client.bulk(body=lines)

    def _search_terms(self, weights: Mapping[str, float], k: int) -> list[EngineHit]:
        scale = max(1.0, max(weights.values()) / _HEAVIEST)
        tokens = {name: weight / scale for name, weight in weights.items()}
        body = {
            "size": k,
            "query": {"neural_sparse": {VECTOR: {"query_tokens": tokens}}},
            "_source": [TITLE, TEXT, METADATA],
        }
        found = hits(self.client.search(index=self.collection, body=body))
        return [replace(hit, score=hit.score * scale) for hit in found]

    @classmethod
    def _client_errors(cls) -> tuple[type[Exception], ...]:
        return (extras.load("opensearchpy", cls.name, "OpenSearch").OpenSearchException,)

    @classmethod
    def _is_transient(cls, error: Exception) -> bool:
        # Where nothing answered, this client has a word in place of the status.
        status = getattr(error, "status_code", None)
        return status in ("N/A", "TIMEOUT", *TRANSIENT_STATUSES)
