"""Encoding over HTTP: the contract of text-embeddings-inference, ours, and what engines expect."""

import numpy as np
import pytest

from spladelet.engines import TermNames, term_keyed
from spladelet.server import Limits

TEXTS = ["Cats purr when they are content.", "", "Yeast makes bread dough rise. U.S. 3.5"]


def rows(answer):
    return [{v["index"]: v["value"] for v in row} for row in answer.json()]


@pytest.mark.parametrize("side", ["query", "document"])
def test_vectors_are_the_librarys_to_the_bit(client, encoder, side):
    answer = client.post(f"/embed_sparse?side={side}", json={"inputs": TEXTS})

    encode = encoder.encode_queries if side == "query" else encoder.encode_documents
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    expected = [dict(sorted(vector.to_dict().items())) for vector in encode(TEXTS)]
    assert [{i: float(np.float32(w)) for i, w in row.items()} for row in rows(answer)] == expected
    assert rows(answer) == expected  # each weight is written so that it is read as the same


def test_one_text_gives_one_row(client):
    assert rows(client.post("/embed_sparse", json={"inputs": TEXTS[0]})) == rows(
        client.post("/embed_sparse", json={"inputs": TEXTS[:1]})
    )
    assert client.post("/embed_sparse", json={"inputs": []}).json() == []


def test_sides_are_documents_unless_said_otherwise(client):
    by_default = client.post("/embed_sparse", json={"inputs": TEXTS[0]}).json()
    for path, body in [
        ("/embed_sparse?side=document", {}),
        ("/embed_sparse", {"prompt_name": "document"}),
        ("/embed_sparse", {"prompt_name": None}),
    ]:
        assert client.post(path, json={"inputs": TEXTS[0], **body}).json() == by_default
    queries = [
        client.post(path, json={"inputs": TEXTS[0], **body}).json()
        for path, body in [
            ("/embed_sparse?side=query", {}),
            ("/embed_sparse", {"prompt_name": "query"}),
        ]
    ]
    assert queries[0] == queries[1]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"inputs": ["x"] * 9}, 413, "Validation"),
        ({}, 422, "Validation"),
        ({"inputs": 5}, 422, "Validation"),
        ({"inputs": [1, 2]}, 422, "Validation"),
        ({"inputs": "x", "truncate": "yes"}, 422, "Validation"),
        ({"inputs": "x", "truncation_direction": "up"}, 422, "Validation"),
        ({"inputs": "x", "prompt_name": "passage"}, 422, "Validation"),
        ({"inputs": "word " * 600}, 413, "Validation"),
        ({"inputs": ["x", "word " * 600], "truncate": False}, 413, "Validation"),
        ({"inputs": "x" * (1 << 20)}, 413, "Validation"),
    ],
)
def test_what_is_refused_is_refused_as_the_contract_says(client, body, status, kind):
    answer = client.post("/embed_sparse", json=body)

    assert (answer.status_code, answer.json()["error_type"]) == (status, kind)
    assert set(answer.json()) == {"error", "error_type"}
    assert len(answer.json()["error"]) < 300


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"inputs": NaN}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"inputs=x", "application/x-www-form-urlencoded", 415),
        (b"{}", "", 415),
        (b'"x"', "application/json", 422),
    ],
)
def test_bodies_that_are_none(client, content, kind, status):
    answer = client.post("/embed_sparse", content=content, headers={"content-type": kind})

    assert (answer.status_code, answer.json()["error_type"]) == (status, "Validation")


def test_what_is_too_long_is_cut_where_it_is_asked_for(client, serve, encoder):
    long = "word " * 600 + "ending"
    head = rows(client.post("/embed_sparse", json={"inputs": long, "truncate": True}))[0]
    tail = rows(
        client.post(
            "/embed_sparse",
            json={"inputs": long, "truncate": True, "truncation_direction": "left"},
        )
    )[0]
    (beginning,) = encoder.encode_tokenized(encoder.tokenize([long]))
    (end,) = encoder.encode_tokenized(encoder.tokenize([long], keep="end"))
    assert head == beginning.to_dict()
    assert tail == end.to_dict()
    cutting = serve(limits=Limits(auto_truncate=True))
    assert rows(cutting.post("/embed_sparse", json={"inputs": long}))[0] == head
    assert cutting.get("/info").json()["auto_truncate"] is True
    assert (
        cutting.post("/embed_sparse", json={"inputs": long, "truncate": False}).status_code == 413
    )


def test_info_has_what_the_contract_requires(client, encoder):
    info = client.get("/info").json()

    required = {
        "model_id": str, "model_dtype": str, "model_type": dict, "max_concurrent_requests": int,
        "max_input_length": int, "max_batch_tokens": int, "max_client_batch_size": int,
        "auto_truncate": bool, "tokenization_workers": int, "version": str,
    }  # fmt: skip
    assert {name: type(info[name]) for name in required} == required
    assert info["model_type"] == {"embedding": {"pooling": "splade"}}
    assert (info["model_sha"], info["max_client_batch_size"]) == (encoder.fingerprint, 8)


class TestOurs:
    def test_ids_and_weights(self, client, encoder):
        answer = client.post("/v1/encode", json={"texts": TEXTS}).json()
        vectors = encoder.encode_documents(TEXTS)
        assert answer["model"] == encoder.fingerprint
        assert answer["truncated"] == []
        assert answer["vectors"] == [
            {"ids": v.term_ids.tolist(), "weights": v.weights.tolist()} for v in vectors
        ]

    def test_terms(self, client, encoder):
        answer = client.post("/v1/encode?as=terms&side=query", json={"texts": TEXTS[0]}).json()
        assert answer["vectors"] == [encoder.decode(encoder.encode_query(TEXTS[0]))]

    def test_pruned(self, client, encoder):
        body = {"texts": TEXTS[0], "max_active_dims": 3, "min_weight": 0.5}
        (vector,) = client.post("/v1/encode?as=terms", json=body).json()["vectors"]
        expected = encoder.encode_document(TEXTS[0], max_active_dims=3, min_weight=0.5)
        assert vector == encoder.decode(expected)

    def test_what_was_cut_is_said(self, client):
        body = {"texts": ["x", "word " * 600, "y", "word " * 700]}
        assert client.post("/v1/encode", json=body).json()["truncated"] == [1, 3]

    @pytest.mark.parametrize("query", ["side=both", "as=dense", "side="])
    def test_what_is_no_choice_is_refused(self, client, query):
        answer = client.post(f"/v1/encode?{query}", json={"texts": "x"})
        assert answer.status_code == 422

    @pytest.mark.parametrize(
        "body",
        [
            {"texts": "x", "max_active_dims": 0},
            {"texts": "x", "min_weight": -1},
            {"texts": "x", "unknown": 1},
            {"texts": "x", "max_active_dims": 1.5},
            {"texts": "x", "max_active_dims": True},
        ],
    )
    def test_what_makes_no_sense_is_refused(self, client, body):
        assert client.post("/v1/encode", json=body).status_code == 422


class TestEngines:
    def test_opensearch_gets_weights_by_term_without_dots(self, client, encoder):
        answer = client.post("/opensearch/sparse_encoding", json={"input": TEXTS}).json()
        names = TermNames(encoder.term, "id")
        assert answer == [term_keyed(v, names) for v in encoder.encode_documents(TEXTS)]
        assert not any("." in name for row in answer for name in row)

    def test_elasticsearch_gets_tokens_and_weights(self, client, encoder):
        body = {"input": TEXTS[0], "input_type": "search"}
        answer = client.post("/elasticsearch/sparse_embedding?side=query", json=body).json()
        ((found,),) = (answer["result"]["sparse_embeddings"],)
        assert found["index"] == 0
        assert {e["token"]: e["weight"] for e in found["embedding"]} == encoder.decode(
            encoder.encode_query(TEXTS[0])
        )


@pytest.mark.parametrize("path", ["/embed_sparse", "/v1/encode"])
def test_the_side_may_be_said_before_the_path(serve, path):
    client, body = serve(), {"inputs": "x " * 80, "texts": "x " * 80, "truncate": True}
    body = {name: body[name] for name in (("texts",) if "v1" in path else ("inputs", "truncate"))}
    answers = {
        place: client.post(place, json=body).json()
        for place in (path, f"{path}?side=query", f"/query{path}", f"/document{path}")
    }
    assert answers[f"/query{path}"] == answers[f"{path}?side=query"]
    assert answers[f"/document{path}"] == answers[path]
    assert client.post(f"/other{path}", json=body).status_code == 404
