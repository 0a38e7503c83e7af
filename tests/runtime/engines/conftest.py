import importlib.util
import time
import warnings
from pathlib import Path

import pytest
from runtime.engines.servers import ElasticsearchServer, OpenSearchServer, QdrantServer

from spladelet.engines import TermNames, connect

WORDS = ["", "cat", "purr", "u.s.", "brake", "heat", "."]


def _needs(*modules):
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module} (extra `dev`)")


@pytest.fixture
def elasticsearch_server():
    _needs("elasticsearch")
    with ElasticsearchServer().running() as server:
        yield server


@pytest.fixture
def opensearch_server():
    _needs("opensearchpy")
    with OpenSearchServer().running() as server:
        yield server


@pytest.fixture
def qdrant_server(tmp_path):
    _needs("qdrant_client", "qdrant_edge")
    folder = tmp_path / "qdrant"
    folder.mkdir()
    with QdrantServer(folder).running() as server:
        yield server


@pytest.fixture(scope="session")
def milvus_lite(tmp_path_factory):
    """Return the path of a database of Milvus Lite, whose process takes half a second to start."""
    _needs("pymilvus", "milvus_lite")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Milvus Lite reads its version by pkg_resources
        import milvus_lite  # noqa: F401
    return str(tmp_path_factory.mktemp("milvus") / "milvus.db")


class _Impatient:
    """The module `time` for who waits half a second each time before asking again."""

    def __getattr__(self, name):
        return getattr(time, name)

    def sleep(self, seconds):
        time.sleep(seconds / 50)


@pytest.fixture
def milvus_path(milvus_lite, monkeypatch):
    """Return the path of a database without collections."""
    from pymilvus import MilvusClient
    from pymilvus.client import grpc_handler

    monkeypatch.setattr(grpc_handler, "time", _Impatient())
    monkeypatch.setenv("TMPDIR", str(Path(milvus_lite).parent))  # for its log, when it starts
    yield milvus_lite
    client = MilvusClient(milvus_lite)
    for name in client.list_collections():
        client.drop_collection(name)


@pytest.fixture(params=["elasticsearch", "opensearch", "qdrant", "milvus"])
def open_engine(request, monkeypatch):
    """Return a function that opens a collection of one engine, each in turn."""
    name = request.param
    if name == "milvus":
        url = request.getfixturevalue("milvus_path")
    else:
        url = request.getfixturevalue(f"{name}_server").url

    def opened(collection="test", dots=None, term=lambda i: f"term{i}"):
        default = "id" if name == "opensearch" else "keep"
        names = (
            TermNames(term, dots or default) if name in ("elasticsearch", "opensearch") else None
        )
        return connect(name, collection, names=names, url=url)

    return opened
