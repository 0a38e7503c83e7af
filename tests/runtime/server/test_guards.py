"""Who may ask, how long it may take, and what is noted: before any route is reached."""

import logging
import re
import threading
import time

import pytest
from starlette.testclient import TestClient

from spladelet.server import Limits, create_app


def health_of(client):
    """Wait until all is loaded, or cannot be; returns the answer."""
    for _ in range(500):
        answer = client.get("/health")
        if "being loaded" not in answer.text:
            return answer
        time.sleep(0.02)
    raise AssertionError(answer.text)


def test_a_token_is_wanted_everywhere_but_for_the_health(serve):
    client = serve(token="secret")

    assert client.get("/health").status_code == 200
    for given in (None, "Bearer wrong", "Bearer ", "secret", "Basic secret", "Bearer s\xe9cret"):
        headers = {} if given is None else {"authorization": given.encode("latin-1")}
        for path in ("/info", "/metrics", "/openapi.json", "/none"):
            answer = client.get(path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
    allowed = {"authorization": "bearer secret"}
    assert client.get("/info", headers=allowed).status_code == 200
    assert client.get("/none", headers=allowed).status_code == 404
    assert client.get("/openapi.json", headers=allowed).json()["security"] == [{"bearer": []}]


def test_pages_of_others_may_not_ask_unless_said(serve):
    asked = {"origin": "https://example.org", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in serve().options("/info", headers=asked).headers
    open_ = serve(origins=["https://example.org"], token="secret")
    answer = open_.options("/embed_sparse", headers=asked)
    assert answer.headers["access-control-allow-origin"] == "https://example.org"
    other = open_.options("/embed_sparse", headers=asked | {"origin": "https://other.org"})
    assert "access-control-allow-origin" not in other.headers
    assert open_.post("/embed_sparse", json={"inputs": "x"}).status_code == 401


def test_the_log_has_routes_and_no_texts(serve, saved, caplog):
    client = serve(saved)
    with caplog.at_level(logging.INFO, "spladelet.access"):
        client.post("/embed_sparse?side=query&x=private", json={"inputs": "private"})
        client.get("/v1/documents/private")
        client.get("/private")
    lines = [r.getMessage() for r in caplog.records if r.name == "spladelet.access"]
    assert re.fullmatch(r"POST /embed_sparse 200 \d+\.\d ms", lines[-3])
    assert re.fullmatch(r"GET /v1/documents/\{id\} 404 \d+\.\d ms", lines[-2])
    assert re.fullmatch(r"GET none 404 \d+\.\d ms", lines[-1])
    assert not any("private" in line for line in lines)


def test_what_takes_too_long_is_ended(serve, encoder, monkeypatch):
    client = serve(limits=Limits(request_seconds=0.2))
    encode = type(encoder).encode_tokenized

    def slowly(self, *arguments, **options):
        time.sleep(1)
        return encode(self, *arguments, **options)

    monkeypatch.setattr(type(encoder), "encode_tokenized", slowly)
    start = time.monotonic()
    answer = client.post("/embed_sparse", json={"inputs": "x"})
    assert (answer.status_code, answer.json()["error_type"]) == (503, "Overloaded")
    assert answer.headers["retry-after"] == "1"
    assert time.monotonic() - start < 0.9


def test_a_bug_is_logged_and_not_told(serve, saved, monkeypatch, caplog):
    client = serve(saved)
    monkeypatch.setattr("spladelet.index.index.Index.facts", lambda self: 1 / 0)
    answer = client.get("/v1/index")
    assert (answer.status_code, answer.json()["error_type"]) == (500, "Backend")
    assert "division" not in answer.text
    assert "ZeroDivisionError" in caplog.text


def test_a_model_that_fails_is_424(serve, encoder, monkeypatch):
    from spladelet.errors import BundleGraphError

    client = serve()

    def fail(self, *arguments, **options):
        raise BundleGraphError("the graph failed.")

    monkeypatch.setattr(type(encoder), "encode_tokenized", fail)
    answer = client.post("/embed_sparse", json={"inputs": "x"})
    assert (answer.status_code, answer.json()) == (
        424,
        {"error": "the graph failed.", "error_type": "Backend"},
    )


def test_the_health_is_bad_until_all_is_loaded_and_where_it_cannot_be(encoder, tmp_path):
    go = threading.Event()

    def load():
        go.wait(10)
        return encoder

    with TestClient(create_app(load)) as client:
        assert client.get("/health").json()["error_type"] == "Unhealthy"
        early = client.post("/embed_sparse", json={"inputs": "x"})
        assert (early.status_code, early.headers["retry-after"]) == (503, "1")
        assert client.get("/metrics").status_code == 200
        go.set()
        for _ in range(200):
            if client.get("/health").status_code == 200:
                break
            time.sleep(0.01)
        assert client.post("/embed_sparse", json={"inputs": "x"}).status_code == 200
    with TestClient(create_app(encoder, tmp_path / "none")) as client:
        answer = health_of(client)
        assert (answer.status_code, "holds no index" in answer.text) == (503, True)


def test_another_models_index_is_no_health(serve, encoder, tmp_path):
    from spladelet import Index, SparseVector, SparseVectors

    other = SparseVectors.from_rows([SparseVector([1], [1.0], 30522, "f" * 64)], 30522)
    Index.build(other, model_name="other").save(tmp_path / "other")
    with TestClient(create_app(encoder, tmp_path / "other")) as client:
        answer = health_of(client)
        assert (answer.status_code, "model 'other'" in answer.text) == (503, True)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "BREW"])
def test_other_methods_are_refused(serve, method):
    answer = serve().request(method, "/embed_sparse", json={"inputs": "x"})
    assert (answer.status_code, answer.json()["error_type"]) == (405, "Validation")
    assert "POST" in answer.headers["allow"]


def test_what_is_counted(serve, saved):
    client = serve(saved)
    client.post("/embed_sparse", json={"inputs": ["x", "word " * 600], "truncate": True})
    client.get("/none")
    text = client.get("/metrics").text
    assert 'spladelet_request_seconds_count{route="/embed_sparse",status="200"} 1.0' in text
    assert 'spladelet_request_seconds_count{route="none",status="404"} 1.0' in text
    assert 'spladelet_tokens_total{side="document"} 515.0' in text
    assert 'spladelet_truncated_texts_total{side="document"} 1.0' in text
    assert 'spladelet_batch_texts_sum{side="document"} 2.0' in text
    assert "spladelet_index_documents 3.0" in text
    assert "spladelet_index_generation 1.0" in text
    for _ in range(100):
        if "spladelet_queue_texts 0.0" in client.get("/metrics").text:
            break
        time.sleep(0.05)
    else:
        raise AssertionError("texts wait at rest")


def test_a_token_from_a_file_has_a_new_line(serve):
    client = serve(token="secret\n")
    assert client.get("/info", headers={"Authorization": "Bearer secret"}).status_code == 200


def test_bodies_of_all_requests_together_are_bounded(serve):
    client = serve(limits=Limits(held_bytes=200))
    for _ in range(3):  # what was held is given back
        assert client.post("/embed_sparse", json={"inputs": "x" * 100}).status_code == 200
        answer = client.post("/embed_sparse", json={"inputs": "x" * 300})
        assert (answer.status_code, answer.json()["error_type"]) == (429, "Overloaded")


def test_nothing_is_sent_to_where_the_header_says(serve):
    answer = serve().get("/health/", headers={"Host": "evil.example"}, follow_redirects=False)
    assert answer.status_code == 404


def test_mounted_in_another_application_it_is_the_same(encoder, saved):
    from starlette.applications import Starlette
    from starlette.routing import Mount

    app = create_app(encoder, saved, token="secret")
    outer = Starlette(routes=[Mount("/m", app)], lifespan=app.router.lifespan_context)
    with TestClient(outer) as client:
        for _ in range(200):
            if client.get("/m/health").status_code == 200:
                break
            time.sleep(0.02)
        allowed = {"Authorization": "Bearer secret"}
        assert client.get("/m/v1/documents/dough/1", headers=allowed).json()["id"] == "dough/1"
        assert client.get("/m/info").status_code == 401


def test_what_cannot_be_loaded_is_told_to_all_and_noted(encoder, tmp_path, caplog):
    with TestClient(create_app(encoder, tmp_path / "none")) as client:
        health_of(client)
        answer = client.post("/embed_sparse", json={"inputs": "x"})
    assert (answer.status_code, "holds no index" in answer.text) == (503, True)
    assert "nothing can be served" in caplog.text


def test_an_index_that_is_replaced_by_another_models_is_no_health(serve, growing):
    from spladelet import Index, SparseVector, SparseVectors

    client = serve(growing, limits=Limits(refresh_seconds=0.05))
    assert client.get("/health").status_code == 200
    other = SparseVectors.from_rows([SparseVector([1], [1.0], 30522, "f" * 64)], 30522)
    Index.build(other, model_name="other").save(growing)
    for _ in range(100):
        if client.get("/health").status_code == 503:
            break
        time.sleep(0.05)
    assert "model 'other'" in client.get("/health").text
