"""Connecting: which engines there are, and what is no address, collection or certificate."""

import sys

import pytest
from runtime.engines.test_contract import random_index

from spladelet.engines import connect, push
from spladelet.errors import InputError, MissingDependencyError


def test_a_password_in_an_address_is_refused():
    for url in ("http://me:secret@localhost:9200", "me:secret@localhost:9200", "http://me@host"):
        for name in ("elasticsearch", "opensearch", "qdrant", "milvus"):
            with pytest.raises(InputError, match="holds a user or a password") as caught:
                connect(name, "test", url=url)
            assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["elasticsearch", "opensearch", "qdrant"])
@pytest.mark.parametrize(
    "url", ["localhost:9200", "ftp://localhost", "http://", "http://[::1", "http://localhost:99999"]
)
def test_addresses_that_no_client_can_use(name, url):
    with pytest.raises(InputError, match="expected one such as http"):
        connect(name, "test", url=url)


@pytest.mark.parametrize("name", ["*", "_all", "a,b", "a/b", "..", "", "-a", "a b", "a\nb"])
def test_names_that_stand_for_more_than_one_collection(name):
    with pytest.raises(InputError, match="expected a name of letters"):
        connect("elasticsearch", name)


def test_certificates_must_be_there(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        connect("elasticsearch", "test", ca_certs=str(tmp_path / "none.pem"))


def test_an_unknown_engine_is_named():
    with pytest.raises(
        InputError, match="expected one of elasticsearch, milvus, opensearch, qdrant"
    ):
        connect("solr", "test")


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("elasticsearch", "elasticsearch"),
        ("opensearch", "opensearchpy"),
        ("qdrant", "qdrant_client"),
        ("milvus", "pymilvus"),
    ],
)
def test_a_missing_client_names_its_extra(monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"spladelet\[{name}\]"):
        connect(name, "test")


def test_credentials_come_from_the_environment(elasticsearch_server, monkeypatch):
    monkeypatch.setenv("ELASTICSEARCH_API_KEY", "a2V5")
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_server.url)
    engine = connect("elasticsearch", "test")
    assert engine.client._headers["authorization"] == "ApiKey a2V5"
    push(engine, random_index(2))
    assert "test" in elasticsearch_server.indices
