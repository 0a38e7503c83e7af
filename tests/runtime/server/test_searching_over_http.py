"""The index over HTTP: what the library finds, says and changes, and nothing else."""

import json
import time
from urllib.parse import quote

import pytest
from runtime.server.conftest import DOCUMENTS, plain

from spladelet import Index, Words
from spladelet.errors import InputError, MissingDependencyError
from spladelet.server import Limits, create_app

QUERY = "why do kittens purr"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 1},
        {"lexical": 0},
        {"lexical": 2.5},
        {"lexical": "only"},
        {"lexical": None},
        {"where": {"year": {"gte": 2021}}},
        {"where": [{"year": 2020}, {"year": 2022}]},
        {"ids": ["cats", "none"]},
        {"min_score": 1.0},
    ],
)
def test_hits_are_the_librarys(client, encoder, index, options):
    answer = client.post("/v1/search", json={"query": QUERY, **options})

    hits = index.search(encoder.encode_query(QUERY), **options)
    assert answer.status_code == 200
    assert answer.json() == {"hits": plain([hit.to_dict() for hit in hits])}


def test_a_vector_may_be_sent_with_or_without_its_text(client, encoder, index):
    query = encoder.encode_query(QUERY)
    vector = {"ids": query.term_ids.tolist(), "weights": query.weights.tolist()}

    with_text = client.post("/v1/search", json={"vector": vector, "query": QUERY}).json()
    without = client.post("/v1/search", json={"vector": vector}).json()
    assert with_text == {"hits": plain([hit.to_dict() for hit in index.search(query)])}
    assert without == {"hits": plain([h.to_dict() for h in index.search(query, lexical=0)])}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "A query, a vector, or both"),
        ({"query": 5}, "query must be string"),
        ({"query": "x", "k": 0}, "k must be"),
        ({"query": "x", "k": 10**6}, "k must be"),
        ({"query": "x", "lexical": -1}, "lexical"),
        ({"query": "x", "where": {"year": {"near": 1}}}, "near"),
        ({"query": "x", "where": 5}, "where"),
        ({"query": "x", "ids": "cats"}, "ids must be array"),
        ({"query": "x", "min_score": -1}, "min_score"),
        ({"query": "x", "vectors": {}}, "must not contain"),
        ({"vector": {"ids": [1], "weights": []}}, "two flat arrays of one length"),
        ({"vector": {"ids": [1, 1], "weights": [1, 1]}}, "given twice"),
        ({"vector": {"ids": [30522], "weights": [1]}}, "outside the vocabulary"),
        ({"vector": {"ids": [1], "weights": [1e300]}}, "smaller than"),
        ({"vector": {"ids": [1], "weights": [10**400]}}, "smaller than"),
        ({"vector": {"ids": [1], "weights": [1]}, "lexical": 1}, "no text"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(client, body, said):
    answer = client.post("/v1/search", json=body)

    assert (answer.status_code, answer.json()["error_type"]) == (422, "Validation")
    assert said in answer.json()["error"]


def test_explanations_are_the_librarys(client, encoder, index):
    answer = client.post("/v1/explain", json={"query": QUERY, "id": "cats"}).json()

    query = encoder.encode_query(QUERY)
    assert answer["score"] == pytest.approx(index.search(query, 1)[0].score, rel=1e-5)
    assert [word["spelled"] for word in answer["lexical"]] == ["purr"]
    missing = client.post("/v1/explain", json={"query": QUERY, "id": "none"})
    assert (missing.status_code, "no document with id 'none'" in missing.text) == (404, True)
    only = client.post("/v1/explain", json={"query": QUERY, "id": "cats", "lexical": "only"}).json()
    assert (only["terms"], only["lexical_share"]) == ([], 1.0)


def test_documents_come_by_their_ids(client):
    one = client.get(f"/v1/documents/{quote('dough/1', safe='')}")
    assert one.json() == {
        "id": "dough/1",
        "text": "Yeast makes bread dough rise.",
        "title": "",
        "metadata": {"year": 2022},
    }
    several = client.post("/v1/documents/get", json={"ids": ["snow", "none", "cats", "snow"]})
    assert [document["id"] for document in several.json()["documents"]] == ["snow", "cats"]
    assert client.get("/v1/documents/none").status_code == 404
    assert client.get("/v1/index").json()["documents"] == 3


def test_a_read_only_index_is_changed_by_nobody(client):
    for ask in (
        lambda: client.post("/v1/documents", json={"documents": [{"id": "x", "text": "x"}]}),
        lambda: client.post("/v1/documents/delete", json={"ids": ["cats"]}),
        lambda: client.delete("/v1/documents/cats"),
    ):
        assert (ask().status_code, ask().json()["error_type"]) == (403, "Validation")
    assert client.get("/v1/index").json()["documents"] == 3


def test_documents_are_put_and_deleted(serve, growing):
    client = serve(growing, writable=True)
    salt = {"id": "salt", "text": "Salt is a mineral.", "title": "Salt", "metadata": {"year": 1}}

    put = client.post("/v1/documents", json={"documents": [salt, {"id": "cats", "text": "Cats."}]})
    assert put.json() == {"documents": 4, "replaced": 1}
    hits = client.post("/v1/search", json={"query": "mineral", "k": 1}).json()["hits"]
    assert (hits[0]["id"], hits[0]["metadata"]) == ("salt", {"year": 1})
    assert client.get("/v1/documents/cats").json()["text"] == "Cats."
    assert client.delete("/v1/documents/salt").json() == {"documents": 3, "deleted": 1}
    gone = client.post("/v1/documents/delete", json={"ids": ["salt", "cats"]}).json()
    assert gone == {"documents": 2, "deleted": 1}
    assert len(Index.open(growing)) == 2


@pytest.mark.parametrize(
    "documents",
    [
        [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}],
        [{"id": "a", "text": "x"}, {"id": "b"}],
        [{"id": "a", "text": "x"}, {"id": "", "text": "x"}],
        [{"id": "a", "text": "x"}, {"id": "b", "text": "x", "metadata": {"n": [[1]], "m": 1e400}}],
        [{"id": "a", "text": "x"}, {"id": "b" * 3000, "text": "x"}],
    ],
)
def test_a_request_changes_all_or_nothing(serve, growing, documents):
    client = serve(growing, writable=True)
    raw = json.dumps({"documents": documents}).replace("Infinity", "1e400")

    answer = client.post("/v1/documents", content=raw, headers={"content-type": "application/json"})

    assert answer.status_code == 422
    assert len(Index.open(growing)) == 3
    assert client.get("/v1/documents/a").status_code == 404


def test_half_a_character_in_a_document_breaks_no_answer(serve, growing):
    client = serve(growing, writable=True)
    raw = b'{"documents": [{"id": "half", "text": "\\ud800 purr purr", "title": "\\udfff"}]}'
    kind = {"content-type": "application/json"}
    assert client.post("/v1/documents", content=raw, headers=kind).status_code == 200

    hits = client.post("/v1/search", json={"query": "purr"}).json()["hits"]
    assert {hit["id"] for hit in hits} >= {"cats", "half"}
    assert client.get("/v1/documents/half").json()["text"] == "\ud800 purr purr"


def test_an_id_is_taken_whole(serve, growing):
    client = serve(growing, writable=True)
    assert client.get("/v1/documents/cats%0A").status_code == 404
    assert client.delete("/v1/documents/cats%0A").json()["deleted"] == 0
    assert client.get("/v1/documents/cats").status_code == 200


def test_what_others_commit_is_taken_over(serve, growing, encoder):
    from spladelet import IndexWriter

    client = serve(growing, limits=Limits(refresh_seconds=0.05))
    with IndexWriter(growing) as writer:
        writer.delete(["cats"])
    for _ in range(100):
        if client.get("/v1/index").json()["documents"] == 2:
            break
        time.sleep(0.05)
    assert client.get("/v1/index").json()["documents"] == 2


def test_an_index_of_words_alone_needs_no_model(serve, tmp_path):
    Index.build(None, DOCUMENTS, words=Words()).save(tmp_path / "words")
    client = serve(tmp_path / "words", None, writable=True)

    assert client.post("/v1/search", json={"query": "purrs"}).json()["hits"][0]["id"] == "cats"
    put = {"documents": [{"id": "n", "text": "purr purr purr"}]}
    assert client.post("/v1/documents", json=put).json()["documents"] == 4
    assert client.post("/v1/search", json={"query": "purrs"}).json()["hits"][0]["id"] == "n"
    explained = client.post("/v1/explain", json={"query": "purr", "id": "n"}).json()
    assert explained["lexical_share"] == 1.0
    assert client.post("/embed_sparse", json={"inputs": "x"}).status_code == 404
    assert "/embed_sparse" not in client.get("/openapi.json").json()["paths"]


def test_without_an_index_there_is_nothing_to_search(serve):
    client = serve()
    assert client.post("/v1/search", json={"query": "x"}).status_code == 404
    assert client.get("/v1/index").status_code == 404


def test_what_cannot_be_served_is_said_at_once(encoder, saved):
    for arguments, said in [
        ((None, None), "neither a model nor an index"),
        ((encoder, None, "writable"), "only an index in a folder"),
        ((encoder, Index.open(saved), "writable"), "only an index in a folder"),
    ]:
        with pytest.raises(InputError, match=said):
            create_app(*arguments[:2], writable=len(arguments) > 2)
    with pytest.raises(InputError, match="the token is empty"):
        create_app(encoder, token=" ")
    with pytest.raises(InputError, match="texts is 0"):
        Limits(texts=0)
    with pytest.raises(InputError, match="request_seconds is"):
        Limits(request_seconds=float("nan"))


def test_without_the_extra_the_message_says_what_to_install(run_python):
    code = """
        import sys
        sys.modules["starlette"] = None
        try:
            import spladelet.server
        except Exception as error:
            print(type(error).__name__, error)
    """
    assert "MissingDependencyError the server needs starlette" in run_python(code).stdout
    assert MissingDependencyError
