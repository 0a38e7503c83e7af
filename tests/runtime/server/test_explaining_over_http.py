"""Why, over HTTP: the library's explanations, terms and snippets; and the page."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pytest
from runtime.server.conftest import DOCUMENTS, plain

from spladelet import Explainer, Index
from spladelet.errors import BundleGraphError
from spladelet.server import Limits

QUERY = "why do kittens purr"


@pytest.mark.parametrize("lexical", [None, 0, 2, "only"])
def test_explanations_and_snippets_are_the_librarys(client, encoder, index, lexical):
    explainer = Explainer(index, encoder, encoder.encode_query(QUERY), lexical=lexical)

    body = {"query": QUERY, "lexical": lexical, "snippets": True}
    hits = client.post("/v1/search", json=body).json()["hits"]
    assert hits
    for hit in hits:
        number = index.find(hit["id"])
        assert hit["snippet"] == plain(asdict(explainer.snippet(number)))
        asked = {"query": QUERY, "id": hit["id"], "lexical": lexical}
        told = client.post("/v1/explain", json=asked).json()
        why = explainer.explain(number)
        marks = explainer.marks(number, why)
        assert told.pop("marks") == plain([asdict(mark) for mark in marks.marks])
        assert told.pop("title_marks") == plain([asdict(mark) for mark in marks.title_marks])
        assert told == plain(asdict(why))
        assert told["score"] == pytest.approx(hit["score"], rel=1e-5)


def test_nothing_is_made_that_was_not_asked(client):
    hits = client.post("/v1/search", json={"query": QUERY}).json()["hits"]
    assert all("snippet" not in hit for hit in hits)


def test_a_search_gets_so_many_snippets_and_no_more(serve, saved):
    client = serve(saved, limits=Limits(snippets=1))
    body = {"query": "cats snow dough winter", "k": 3, "snippets": True}
    first, *others = client.post("/v1/search", json=body).json()["hits"]
    assert first["snippet"]["text"]
    assert others
    assert {hit["snippet"] for hit in others} == {None}


@pytest.mark.parametrize("side", ["query", "document"])
def test_terms_say_which_word_they_are_from(client, encoder, side):
    told = client.post(f"/v1/terms?side={side}", json={"text": QUERY}).json()
    assert told == {
        "terms": plain([asdict(t) for t in encoder.explain_terms(QUERY, side=side)]),
        "truncated": False,
    }
    prefixed = client.post(f"/{side}/v1/terms", json={"text": QUERY}).json()
    assert prefixed == told


def test_terms_of_odd_texts(client, encoder):
    assert client.post("/v1/terms", json={"text": ""}).json() == {"terms": [], "truncated": False}
    assert client.post("/v1/terms", json={"text": "cat " * 600}).json()["truncated"] is True
    assert client.post("/v1/terms", json={"text": 3}).status_code == 422
    assert client.post("/v1/terms?side=x", json={"text": "x"}).status_code == 422
    headers = {"content-type": "application/json"}
    half = client.post("/v1/terms", content=b'{"text": "\\ud83d cat"}', headers=headers)
    assert half.status_code == 200


def test_a_model_that_cannot_tell_leaves_sources_out(serve, saved, encoder, monkeypatch):
    monkeypatch.setattr(type(encoder), "can_trace", False)
    client = serve(saved)
    terms = client.post("/v1/terms", json={"text": QUERY}).json()["terms"]
    assert terms
    assert all(term["source"] is None for term in terms)
    told = client.post("/v1/explain", json={"query": QUERY, "id": "cats"}).json()
    assert all(term["query_source"] is None for term in told["words"])
    hits = client.post("/v1/search", json={"query": QUERY, "snippets": True}).json()["hits"]
    assert DOCUMENTS[0].text.startswith(hits[0]["snippet"]["text"][:20])


def test_who_asks_why_waits_in_a_bounded_queue(serve, saved):
    client = serve(saved, limits=Limits(queue_reasons=1))
    text = {"text": "snow in winter " * 100}
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: client.post("/v1/terms", json=text), range(8)))
    statuses = {answer.status_code for answer in answers}
    assert 200 in statuses <= {200, 429}
    assert all("retry-after" in a.headers for a in answers if a.status_code == 429)
    words = {"query": "snow", "id": "snow", "lexical": "only"}
    assert client.post("/v1/explain", json=words).status_code == 200


def test_hits_are_worth_more_than_reasons(serve, saved, monkeypatch):
    def fail(*arguments, **options):
        raise BundleGraphError("the graph is damaged")

    monkeypatch.setattr(Explainer, "snippets", fail)
    client = serve(saved)
    hits = client.post("/v1/search", json={"query": QUERY, "snippets": True}).json()["hits"]
    assert hits
    assert {hit["snippet"] for hit in hits} == {None}


def test_a_vector_needs_no_model_for_snippets(serve, saved, encoder):
    client = serve(saved, None)
    query = encoder.encode_query("snow")
    vector = {"ids": query.term_ids.tolist(), "weights": query.weights.tolist()}
    body = {"vector": vector, "lexical": 0, "snippets": True, "k": 1}
    (hit,) = client.post("/v1/search", json=body).json()["hits"]
    assert hit["snippet"]["text"].startswith("Snow falls")


def test_words_alone_are_explained_without_a_model(serve):
    client = serve(Index.build(None, DOCUMENTS), None)
    (hit,) = client.post("/v1/search", json={"query": "snow", "snippets": True}).json()["hits"]
    (mark,) = hit["snippet"]["marks"]
    assert hit["snippet"]["text"][mark["start"] : mark["end"]] == "Snow"
    assert client.post("/v1/terms", json={"text": "x"}).status_code == 404


def test_the_page_is_open_and_loads_nothing(serve, saved):
    client = serve(saved, token="secret")
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert len(page.content) < 100_000
    assert client.post("/v1/search", json={"query": "x"}).status_code == 401
    assert client.post("/", json={}).status_code == 405
