"""The collection and the engines that other tests have, for the commands on them."""

from runtime.engines.conftest import (  # noqa: F401
    elasticsearch_server,
    milvus_path,
    opensearch_server,
    qdrant_server,
)
from runtime.evaluation.conftest import collection_folder  # noqa: F401
