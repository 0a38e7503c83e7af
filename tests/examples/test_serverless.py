"""Serverless functions: what they answer, what they fetch, and one as AWS Lambda runs it."""

import base64
import importlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from spladelet import Document, Encoder, Index

ROOT = Path(__file__).parents[2]
SERVERLESS = ROOT / "examples" / "serverless"
if not SERVERLESS.is_dir():
    pytest.skip("needs a checkout: the examples are not in the wheel", allow_module_level=True)

DOCUMENTS = [
    Document("cats", "They purr when they are content.", "Cats", {"year": 2020}),
    Document("snow", "Snow falls in winter and covers the roofs.", "", {"year": 2021}),
]
QUERY = "why do kittens purr"
# What a caller may get wrong, and a word of what it is told.
WRONG = {
    "null": "query",
    "[]": "query",
    '{"query": 7}': "query",
    '{"k": 3}': "query",
    '{"query": "a", "k": 0}': "from 1 to 100",
    '{"query": "a", "k": 101}': "from 1 to 100",
    '{"query": "a", "k": true}': "from 1 to 100",
    '{"query": "a", "k": "ten"}': "from 1 to 100",
    '{"query": "a", "top": 3}': "'top' is unknown",
    '{"query": "a", "where": 3}': "where",
    '{"query": "a", "where": {"\\ud800": {"nope": 1}}}': "nope",
    json.dumps({"query": "a" * 2001}): "2001 characters",
    '{"query": "a"': "no JSON",
    "[" * 60_000: "no JSON",
    " " * 70_000: "bytes",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of an index of two documents."""
    place = tmp_path_factory.mktemp("serverless") / "index"
    encoder = Encoder.load(threads=1)
    Index.build(encoder.encode_documents(DOCUMENTS), DOCUMENTS).save(place)
    return place


@pytest.fixture(scope="module")
def load(folder):
    """Return a function that imports a module of the example, with that index."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPLADELET_INDEX", str(folder))
        patch.syspath_prepend(str(SERVERLESS))
        yield importlib.import_module
    for name in ("handler", "search", "fetching", "main", "function_app"):
        if name not in before:
            sys.modules.pop(name, None)


@pytest.fixture
def aws(load):
    """Return a function that asks Lambda's entry as a function URL does."""
    handler = load("handler").handler

    def ask(body=None, query=None):
        event = {"version": "2.0", "requestContext": {"http": {"method": "POST"}}, "body": body}
        answer = handler(event | ({"queryStringParameters": query} if query else {}), None)
        return answer["statusCode"], json.loads(answer["body"])

    return ask


@pytest.fixture
def google(load):
    """Return a function that asks Google's entry through its functions framework."""
    framework = pytest.importorskip("functions_framework", reason="needs it (extra `dev`)")
    load("search")
    client = framework.create_app("answer_http", str(SERVERLESS / "main.py")).test_client()

    def ask(body=None, query=None):
        answer = client.post("/", data=body) if body else client.get("/", query_string=query)
        return answer.status_code, answer.get_json()

    return ask


@pytest.fixture(scope="module")
def azures_entry(load):
    """Return Azure's entry, which its application gives out once."""
    pytest.importorskip("azure.functions", reason="needs it (extra `dev`)")
    (function,) = load("function_app").app.get_functions()
    return function.get_user_function()


@pytest.fixture
def azure(azures_entry):
    """Return a function that asks Azure's entry with its own requests."""
    functions = importlib.import_module("azure.functions")

    def ask(body=None, query=None):
        method = "POST" if body else "GET"
        body = (body or "").encode()
        asked = functions.HttpRequest(method, "/api/search", body=body, params=query or {})
        answer = azures_entry(asked)
        return answer.status_code, json.loads(answer.get_body())

    return ask


@pytest.fixture(params=["aws", "google", "azure"])
def ask(request):
    """Return a function that asks one of the three."""
    return request.getfixturevalue(request.param)


def found(folder, query=QUERY, **options):
    """Return what a search in this process finds, as JSON brings it."""
    hits = Index.open(folder).search(Encoder.load(threads=1).encode_query(query), **options)
    return json.loads(json.dumps([hit.to_dict() for hit in hits]))


def test_each_entry_answers_as_a_search_in_process_does(ask, folder):
    expected = found(folder)

    assert expected[0]["id"] == "cats"
    assert ask(json.dumps({"query": QUERY})) == (200, {"hits": expected})
    assert ask(query={"query": QUERY, "k": "1"}) == (200, {"hits": expected[:1]})
    where = {"year": {"gt": 2020}}
    told = ask(json.dumps({"query": QUERY, "k": 5, "where": where}))
    assert told == (200, {"hits": found(folder, k=5, where=where)})


def test_each_entry_says_what_is_wrong(ask):
    for body, word in WRONG.items():
        status, content = ask(body)
        assert status == 400, body[:80]
        assert word in content["error"], body[:80]
    assert ask(query={"k": "3"})[0] == ask(query={"query": "a", "k": "x"})[0] == 400
    assert ask()[0] == 400


def test_lambda_is_asked_directly_and_in_base64(aws, load, folder):
    handler = load("handler").handler
    packed = base64.b64encode(json.dumps({"query": QUERY}).encode()).decode()
    over_http = {"requestContext": {}, "body": packed, "isBase64Encoded": True}

    assert handler({"query": QUERY}) == {"statusCode": 200, "hits": found(folder)}
    assert json.loads(handler(over_http)["body"]) == {"hits": found(folder)}
    assert handler(over_http | {"body": "é"})["statusCode"] == 400
    assert handler(None)["statusCode"] == handler([1])["statusCode"] == 400


# Fetching.


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """Return a folder, and the address at which a local server shows it."""
    (tmp_path / "shown").mkdir()
    monkeypatch.setenv("SPLADELET_CACHE", str(tmp_path / "cache"))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def send_header(self, name, value):
            longer = "cut" in self.path and name == "Content-Length"  # as if it broke off
            super().send_header(name, "99999" if longer else value)

    handler = partial(Quiet, directory=tmp_path / "shown")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield tmp_path / "shown", f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def tar_of(path, *members):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            info.size = len(content or b"")
            archive.addfile(info, io.BytesIO(content or b""))


@pytest.mark.parametrize(("kind", "below"), [("zip", None), ("tar", None), ("gztar", "index")])
def test_an_index_is_fetched_once(load, shared, folder, kind, below):
    place, address = shared
    packed = Path(
        shutil.make_archive(str(place / "it"), kind, folder.parent if below else folder, below)
    )
    fetched = load("fetching").fetched

    opened = Index.open(fetched(f"{address}/{packed.name}"))
    packed.unlink()

    assert [opened.document(n).id for n in range(len(opened))] == ["cats", "snow"]
    assert fetched(f"{address}/{packed.name}").is_dir()


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out"])
def test_nothing_is_written_outside_or_half(load, shared, tmp_path, name):
    place, address = shared
    fetching = load("fetching")
    tar_of(place / "bad.tar", ("good", b"1"), (name, b"2"))
    with zipfile.ZipFile(place / "bad.zip", "w") as archive:
        archive.writestr("good", b"1")
        archive.writestr(name, b"2")

    for packed in ("bad.tar", "bad.zip"):
        with pytest.raises(fetching.FetchError, match="outside"):
            fetching.fetched(f"{address}/{packed}")
    assert list((tmp_path / "cache" / "indexes").iterdir()) == []
    assert not list(tmp_path.rglob("out"))


def test_what_is_no_index_is_refused(load, shared, tmp_path, monkeypatch):
    place, address = shared
    fetching = load("fetching")
    tar_of(place / "link.tar", ("link", None))
    tar_of(place / "large.tar", ("zeros", bytes(1 << 20)))
    with zipfile.ZipFile(place / "large.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(1 << 20))
    shutil.copy(place / "large.zip", place / "cut.zip")
    (place / "text.zip").write_text("not found")
    monkeypatch.setattr(fetching, "MAX_BYTES", 1 << 16)

    expected = {
        "link.tar": "link",
        "large.tar": "more than",
        "large.zip": "more than",
        "cut.zip": "ended after",
        "text.zip": "no .zip",
    }
    for packed, word in expected.items():
        with pytest.raises(fetching.FetchError, match=word):
            fetching.fetched(f"{address}/{packed}")
    assert list((tmp_path / "cache" / "indexes").iterdir()) == []


# As AWS Lambda runs it.


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Build a function by its script, once, and bring what Lambda brings; returns its room."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SERVERLESS))
        emulate = importlib.import_module("emulate")
    rie = os.environ.get("SPLADELET_LAMBDA_RIE")
    if lacking := emulate.missing(rie):
        pytest.skip(lacking)
    place = tmp_path_factory.mktemp("function")
    documents = ROOT / "tests" / "data" / "eight-documents.jsonl"
    commands = [
        [SERVERLESS / "build.py", documents, "-o", place],
        ["-m", "pip", "install", "-q", "--target", place / "runtime", "awslambdaric"],
    ]
    for command in commands:
        done = subprocess.run(
            [sys.executable, *map(str, command)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    paths = str(place / "function"), str(place / "runtime"), rie
    return emulate, partial(emulate.Room, *paths, python=emulate.python_for_others())


def test_the_folder_has_bytecode_and_nothing_unused(built):
    task = Path(built[1]().task)
    packages = {path.name for path in task.iterdir()}

    sources = [path for path in task.rglob("*.py") if "__pycache__" not in path.parts]
    lacking = [path for path in sources if not list(path.parent.glob(f"__pycache__/{path.stem}.*"))]
    assert lacking == []
    kept = (task / "__pycache__").glob("handler.*.pyc")
    assert [path.read_bytes()[4:8] for path in kept] == [b"\1\0\0\0"]  # by hash, unchecked
    assert {"scipy", "huggingface_hub", "spladelet_export", "google"} & packages == set()
    with zipfile.ZipFile(task.parent / "function.zip") as archive:
        assert len(archive.namelist()) == sum(path.is_file() for path in task.rglob("*"))


def test_as_lambda_runs_it_it_answers_as_a_search_in_process(built, record_property):
    emulate, room = built
    queries = ["why do cats purr", "how do animals keep warm", ""]
    http = {"requestContext": {}, "body": json.dumps({"query": queries[1]})}
    events = [*({"query": query, "k": 5} for query in queries), http, {"k": 1}]

    report = emulate.run(room(), events)

    index = Path(room().task) / "index"
    for query, answer in zip(queries, report.answers, strict=False):
        assert answer == {"statusCode": 200, "hits": found(index, query, k=5)}, report.log
    assert json.loads(report.answers[3]["body"]) == {"hits": found(index, queries[1])}
    assert report.answers[4]["statusCode"] == 400
    assert len(report.billed_ms) == len(events)
    assert 0 < report.peak_mb < 512
    assert (report.written, report.unreachable) == ([], 0)
    record_property("peak", f"{report.peak_mb:.0f} MB at most, bounded by {report.bounded_by}")
    assert emulate.run(room(), events, plain=True).answers == report.answers


def test_as_lambda_runs_it_it_fetches_an_index(built, tmp_path):
    emulate, room = built
    index = Path(room().task) / "index"
    shutil.make_archive(str(tmp_path / "it"), "zip", index)
    fetching = {"SPLADELET_INDEX": "http://127.0.0.1:8000/it.zip"}

    report = emulate.run(
        room(served=str(tmp_path), environment=fetching), [{"query": QUERY, "k": 3}]
    )

    assert report.answers == [{"statusCode": 200, "hits": found(index, QUERY, k=3)}], report.log
    assert report.written
    assert all(path.startswith("/tmp/spladelet-indexes-65534/") for path in report.written)
    assert report.unreachable == 0


def test_the_room_bounds_memory_and_tells_of_a_network(built):
    """What the tests above rest on: less memory ends it, and a way out that is sought is seen."""
    emulate, room = built
    small = emulate.run(room(memory_mb=64), [{"query": QUERY}])
    away = emulate.run(room(environment={"SPLADELET_INDEX": "https://192.0.2.1/"}), [{}])

    assert "hits" not in json.dumps(small.answers)
    assert "unreachable" in away.answers[0]["errorMessage"]
    assert away.unreachable > 0
