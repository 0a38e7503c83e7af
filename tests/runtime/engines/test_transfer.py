"""Pushes that are interrupted, refused in part, or meet a busy engine; real client, HTTP server."""

import json
import random
import re
import ssl

import pytest
from runtime.engines.test_contract import random_index, small_index, vector

from spladelet import Document, Index, SparseVectors
from spladelet.engines import TermNames, connect, push
from spladelet.errors import (
    EngineError,
    EngineMismatchError,
    EngineUnavailableError,
    InputError,
)


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Do not wait, and remember how long it would have been."""
    found = []
    monkeypatch.setattr("spladelet.engines.transfer.time.sleep", found.append)
    return found


@pytest.fixture
def engine(elasticsearch_server):
    return _engine(elasticsearch_server)


def _engine(server):
    engine = connect("elasticsearch", "test", names=TermNames(lambda i: f"term{i}"), url=server.url)
    engine.client = engine.client.options(max_retries=0)  # so that every fault is ours to mend
    return engine


def state(server):
    stored = server.indices["test"]
    text = json.dumps([stored["mappings"], dict(sorted(stored["documents"].items()))])
    return re.sub('"made": "[0-9a-f]{16}"', "", text)  # which is another every time


@pytest.fixture
def clean_state(elasticsearch_server):
    """Return what one push without interruption leaves, and how many requests it takes."""
    push(_engine(elasticsearch_server), random_index(14), batch_size=4)
    left, count = state(elasticsearch_server), len(elasticsearch_server.requests)
    elasticsearch_server.indices.clear()
    elasticsearch_server.requests.clear()
    return left, count


class Killed(BaseException):
    """Ends a push as a signal would, past every `except Exception`."""


@pytest.mark.parametrize("carried_out", [False, True])
@pytest.mark.parametrize("with_journal", [False, True])
def test_a_push_killed_at_any_request_and_repeated_ends_as_a_clean_one(
    elasticsearch_server, clean_state, tmp_path, monkeypatch, carried_out, with_journal
):
    server, (expected, requests) = elasticsearch_server, clean_state
    journal = tmp_path / "push.json" if with_journal else None
    for moment in range(requests):
        server.indices.clear()
        engine = _engine(server)
        _kill_at(monkeypatch, engine, moment, carried_out)
        with pytest.raises(Killed):
            push(engine, random_index(14), batch_size=4, journal=journal)
        report = push(_engine(server), random_index(14), batch_size=4, journal=journal)
        assert state(server) == expected
        assert report.failed == {}
        assert journal is None or not journal.exists()


def _kill_at(monkeypatch, engine, moment, carried_out):
    transport = engine.client.transport
    original, seen = transport.perform_request, [0]

    def perform_request(*args, **kwargs):
        seen[0] += 1
        if seen[0] - 1 != moment:
            return original(*args, **kwargs)
        if carried_out:
            original(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(transport, "perform_request", perform_request)


def test_a_repeated_push_sends_only_what_was_not_taken(engine, elasticsearch_server, tmp_path):
    journal = tmp_path / "push.json"
    elasticsearch_server.faults += [None] * 6 + [400]
    original, bulks = engine._write, []
    engine._write = lambda batch: (
        bulks.append(len(batch)) or (original(batch) if len(bulks) < 3 else _kill())
    )
    with pytest.raises(Killed):
        push(engine, random_index(30), batch_size=4, journal=journal)
    elasticsearch_server.faults.clear()
    report = push(_engine(elasticsearch_server), random_index(30), batch_size=4, journal=journal)
    assert (report.documents, report.sent) == (30, 22)
    assert len(elasticsearch_server.indices["test"]["documents"]) == 30


def _kill():
    raise Killed


def test_a_journal_of_another_index_or_a_damaged_one_is_not_followed(
    engine, elasticsearch_server, tmp_path
):
    journal = tmp_path / "push.json"
    for text in ('{"identity": "other", "done": 20, "failed": {}}', "{", "[]", "null", '{"a": 1}'):
        journal.write_text(text)
        assert push(engine, random_index(10), journal=journal).sent == 10
    assert len(elasticsearch_server.indices["test"]["documents"]) == 10


def test_a_journal_is_not_believed_when_the_documents_are_gone(
    engine, elasticsearch_server, tmp_path
):
    journal = tmp_path / "push.json"
    original, bulks = engine._write, []
    engine._write = lambda batch: (
        bulks.append(1) or (original(batch) if len(bulks) < 4 else _kill())
    )
    with pytest.raises(Killed):
        push(engine, random_index(30), batch_size=4, journal=journal)
    elasticsearch_server.indices["test"]["documents"].clear()
    report = push(_engine(elasticsearch_server), random_index(30), batch_size=4, journal=journal)
    assert report.sent == 30


@pytest.mark.parametrize("fault", [429, 503, 502, "cut", "cut after"])
def test_a_busy_or_dropped_engine_is_tried_again(elasticsearch_server, clean_state, waits, fault):
    rng = random.Random(0)
    for _ in range(5):
        elasticsearch_server.indices.clear()
        faults = [fault if rng.random() < 0.3 else None for _ in range(14)]
        elasticsearch_server.faults[:] = [None, None, None, *faults]  # the first contact is brief
        push(_engine(elasticsearch_server), random_index(14), batch_size=4)
        assert state(elasticsearch_server) == clean_state[0]
    assert waits
    assert max(waits) <= 30


def test_an_engine_that_never_answers_is_given_up_with_a_clear_message(
    engine, elasticsearch_server
):
    elasticsearch_server.faults += [503] * 100
    with pytest.raises(EngineUnavailableError, match="does not answer, or is busy"):
        push(engine, random_index(3))


def test_nobody_listens():
    pytest.importorskip("elasticsearch", reason="needs elasticsearch (extra `dev`)")
    engine = connect("elasticsearch", "test", url="http://127.0.0.1:9")
    engine.client = engine.client.options(max_retries=0)
    with pytest.raises(EngineUnavailableError, match="See that it runs"):
        push(engine, random_index(3))


def test_single_documents_that_a_busy_engine_left_are_sent_again(engine, elasticsearch_server):
    original, calls = elasticsearch_server.bulk, []

    def bulk(lines):
        calls.append(len(lines) // 2)
        answer = original(lines)
        if len(calls) == 1:
            for item in answer["items"][1::2]:
                identity = item["index"]["_id"]
                del elasticsearch_server.indices["test"]["documents"][identity]
                item["index"] |= {"status": 429, "error": {"type": "busy", "reason": "queue"}}
        return answer

    elasticsearch_server.bulk = bulk
    report = push(engine, random_index(10))
    assert report.failed == {}
    assert calls == [10, 5]
    assert len(elasticsearch_server.indices["test"]["documents"]) == 10


def test_refused_documents_are_named_and_the_others_taken(engine, elasticsearch_server):
    original = elasticsearch_server.check_document

    def check(identity, source):
        from runtime.engines.servers import Refused

        if identity in ("d3", "d7"):
            raise Refused(400, "document_parsing_exception", f"no place for {identity}")
        original(identity, source)

    elasticsearch_server.check_document = check
    report = push(engine, random_index(10), batch_size=4)
    assert list(report.failed) == ["d3", "d7"]
    assert "no place for d3" in report.failed["d3"]
    assert len(elasticsearch_server.indices["test"]["documents"]) == 8


def test_a_batch_refused_as_a_whole_is_halved_until_the_document_is_found(
    engine, elasticsearch_server
):
    original = engine._write

    def write(batch):
        if any(record.document.id == "d5" for record in batch):
            with engine._translated():
                engine.client.indices.create(index="test", mappings={"properties": {"splade": 1}})
        return original(batch)

    engine._write = write
    report = push(engine, random_index(9))
    assert list(report.failed) == ["d5"]
    assert len(elasticsearch_server.indices["test"]["documents"]) == 8


def test_an_index_of_somebody_else_is_left_alone(engine, elasticsearch_server):
    theirs = {"mappings": {"properties": {"splade": {"type": "sparse_vector"}}}, "documents": {}}
    elasticsearch_server.indices["test"] = theirs
    with pytest.raises(EngineMismatchError, match="was not made by spladelet"):
        push(engine, random_index(3))
    assert theirs["documents"] == {}


def test_terms_called_otherwise_are_another_collection(engine, elasticsearch_server):
    push(engine, random_index(3))
    by_id = connect("elasticsearch", "test", url=elasticsearch_server.url)
    with pytest.raises(EngineMismatchError, match="called by terms, dots id; these are"):
        push(by_id, random_index(3))
    with pytest.raises(EngineMismatchError, match="with the names it was pushed with"):
        by_id.search(vector({1: 1.0}))


def test_batch_size_is_checked(engine):
    with pytest.raises(InputError, match="batch_size is 0"):
        push(engine, random_index(3), batch_size=0)
    with pytest.raises(InputError, match=r"batch_size is 2\.0 .*give 2"):
        push(engine, random_index(3), batch_size=2.0)


def test_an_older_elasticsearch_gets_no_index_options(elasticsearch_server):
    elasticsearch_server.version = "8.15.0"
    push(_engine(elasticsearch_server), random_index(2))
    field = elasticsearch_server.indices["test"]["mappings"]["properties"]["splade"]
    assert field == {"type": "sparse_vector"}


def test_opensearch_scales_heavy_queries_down_and_scores_back(opensearch_server):
    engine = connect("opensearch", "test", url=opensearch_server.url)
    push(engine, small_index([{1: 1.0, 2: 0.5}]))
    (hit,) = engine.search(vector({1: 300.0, 2: 1.0}))
    assert hit.score == pytest.approx(300.5, rel=2**-8)


def test_opensearch_takes_no_names_with_dots(opensearch_server):
    def opened(dots):
        names = TermNames({1: "u.s.", 2: "cat"}.__getitem__, dots)
        return connect("opensearch", f"test-{dots}", names=names, url=opensearch_server.url)

    index = small_index([{1: 1.0, 2: 0.5}])
    with pytest.raises(InputError, match="takes no dots in names"):
        opened("keep")
    push(opened("id"), index)
    stored = opensearch_server.indices["test-id"]["documents"]["d0"]["splade"]
    assert stored == {"[1]": 1.0, "cat": 0.5}
    assert opened("id").search(vector({1: 1.0}))[0].id == "d0"
    push(opened("drop"), index)
    stored = opensearch_server.indices["test-drop"]["documents"]["d0"]["splade"]
    assert stored == {"cat": 0.5}
    with pytest.raises(InputError, match="takes no dots"):
        push(opened("error"), index)


@pytest.mark.parametrize("name", ["elasticsearch", "opensearch"])
def test_a_query_of_more_terms_than_lucene_takes_keeps_the_heaviest(request, name):
    server = request.getfixturevalue(f"{name}_server")
    engine = connect(name, "test", url=server.url)
    rows = SparseVectors.from_rows([_many(1500)], 2000)
    push(engine, Index.build(rows, [Document("d", "")]))
    (hit,) = engine.search(_many(1500))
    expected = sum((i + 1) ** 2 / 1e6 for i in range(1500 - 1024, 1500))
    assert hit.score == pytest.approx(expected, rel=2**-8)


def _many(count):
    from spladelet import SparseVector

    return SparseVector(range(count), [(i + 1) / 1000 for i in range(count)], 2000)


def test_what_milvus_lite_cannot_take_is_named(milvus_path):
    """Its embedded store breaks on a single quote in an id; the server does not."""
    engine = connect("milvus", "test", url=milvus_path)
    rows = SparseVectors.from_rows([vector({1: 1.0})] * 3, 100)
    report = push(engine, Index.build(rows, [Document(i, "") for i in ("a", "it's", "b")]))
    assert set(report.failed) == {"it's"}
    assert engine.count() == 2


def test_a_path_milvus_cannot_open_is_an_error(tmp_path):
    pytest.importorskip("milvus_lite", reason="needs milvus-lite (extra `dev`)")
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="milvus"):
        connect("milvus", "test", url=str(tmp_path / "file" / "no.db"))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_that_is_not_about_documents_ends_the_push_and_keeps_the_journal(
    engine, elasticsearch_server, tmp_path, status
):
    journal = tmp_path / "push.json"
    elasticsearch_server.faults += [None, None, None, None, status]
    with pytest.raises(EngineError, match="refuses"):
        push(engine, random_index(30), batch_size=4, journal=journal)
    assert json.loads(journal.read_text())["done"] == 4
    report = push(_engine(elasticsearch_server), random_index(30), batch_size=4, journal=journal)
    assert (report.sent, report.failed) == (26, {})


def test_a_journal_of_another_server_is_not_followed(tmp_path):
    pytest.importorskip("elasticsearch", reason="needs elasticsearch (extra `dev`)")
    from runtime.engines.servers import ElasticsearchServer

    journal = tmp_path / "push.json"
    with ElasticsearchServer().running() as first, ElasticsearchServer().running() as second:
        push(_engine(second), small_index([{1: 9.0}] * 30))
        engine = _engine(first)
        original, bulks = engine._write, []
        engine._write = lambda batch: (
            bulks.append(1) or (original(batch) if len(bulks) < 4 else _kill())
        )
        with pytest.raises(Killed):
            push(engine, random_index(30), batch_size=4, journal=journal)
        assert push(_engine(second), random_index(30), journal=journal).sent == 30


@pytest.mark.parametrize("name", ["elasticsearch", "opensearch", "qdrant"])
@pytest.mark.parametrize("fault", [429, 503, 500])
def test_every_engine_is_tried_again_when_busy(request, name, fault):
    server = request.getfixturevalue(f"{name}_server")
    engine = connect(name, "test", url=server.url)
    server.faults += [None, None, fault, fault]
    assert push(engine, random_index(10)).failed == {}
    assert engine.count() == 10


@pytest.mark.parametrize("name", ["elasticsearch", "opensearch", "qdrant"])
def test_answers_of_something_else_are_an_error(request, monkeypatch, name):
    from spladelet.engines import Facts

    server = request.getfixturevalue(f"{name}_server")
    monkeypatch.setattr(server, "answer", lambda *_: (200, {}))
    engine = connect(name, "test", url=server.url)
    with pytest.raises(EngineError):
        engine.create(Facts(100))
    with pytest.raises(EngineError):
        engine.search(vector({1: 1.0}))


def test_a_bulk_that_answers_for_fewer_documents_than_were_sent(engine, elasticsearch_server):
    elasticsearch_server.bulk = lambda lines: {"errors": False, "items": []}
    with pytest.raises(EngineError, match="3 documents were sent, and 0 answered for"):
        push(engine, random_index(3))


def test_a_name_that_stands_for_two_indices(engine, elasticsearch_server):
    push(engine, random_index(3))
    original = elasticsearch_server.answer

    def answer(method, path, body):
        status, value = original(method, path, body)
        return status, {"a": value["test"], "b": value["test"]} if "_mapping" in path else value

    elasticsearch_server.answer = answer
    with pytest.raises(EngineMismatchError, match="stands for 2 indices"):
        _engine(elasticsearch_server).search(vector({1: 1.0}))


def test_what_spladelet_did_not_make_is_not_deleted(engine, elasticsearch_server):
    elasticsearch_server.indices["test"] = {"mappings": {}, "documents": {}}
    with pytest.raises(EngineMismatchError, match="was not made by spladelet"):
        engine.delete()
    assert "test" in elasticsearch_server.indices


def test_long_texts_make_batches_smaller(engine, elasticsearch_server):
    rows = SparseVectors.from_rows([vector({1: 1.0})] * 6, 100)
    documents = [Document(f"d{i}", "x" * (3 << 20)) for i in range(6)]
    assert push(engine, Index.build(rows, documents)).failed == {}
    bulks = [len(b) for _, path, b in elasticsearch_server.requests if path == "/_bulk"]
    assert len(bulks) == 3
    assert max(bulks) < elasticsearch_server.largest


def test_a_request_too_large_for_the_engine_is_halved(engine, elasticsearch_server):
    elasticsearch_server.largest = 3000
    report = push(engine, random_index(30), batch_size=30)
    assert report.failed == {}
    assert len(elasticsearch_server.indices["test"]["documents"]) == 30


def test_an_old_elasticsearch_is_refused(engine, elasticsearch_server):
    elasticsearch_server.version = "8.10.2"
    with pytest.raises(EngineError, match=r"is 8\.10\.2; its sparse vectors need 8\.15"):
        push(engine, random_index(3))


@pytest.mark.parametrize("name", ["elasticsearch", "opensearch", "qdrant"])
def test_an_engine_that_cannot_be_trusted_is_not_waited_for(request, name, waits, tmp_path):
    server = request.getfixturevalue(f"{name}_server")
    _certify(server, tmp_path)
    url = server.url.replace("http:", "https:").replace("127.0.0.1", "localhost")
    with pytest.raises(EngineError, match=r"cannot be trusted.*--ca-certs"):
        push(connect(name, "test", url=url), random_index(3))
    assert waits == []
    trusted = connect(name, "test", url=url, ca_certs=str(tmp_path / "cert.pem"))
    assert push(trusted, random_index(3)).failed == {}


def _certify(server, folder):
    """Have a server speak TLS with a certificate that nobody signed."""
    import shutil
    import subprocess

    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
