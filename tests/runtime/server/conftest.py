"""Servers for tests: in process, and as processes of their own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import pytest

pytest.importorskip("starlette", reason="needs the extra `serve`")
pytest.importorskip("httpx2", reason="needs httpx2 (extra `test`)")

from starlette.testclient import TestClient

from spladelet import Document, Index
from spladelet.server import Limits, create_app

DOCUMENTS = [
    Document("cats", "They purr when they are content.", "Cats", {"year": 2020}),
    Document("snow", "Snow falls in winter and covers the roofs.", "", {"year": 2021}),
    Document("dough/1", "Yeast makes bread dough rise.", "", {"year": 2022}),
]


def plain(value):
    """Return a value as JSON brings it."""
    return json.loads(json.dumps(value))


@pytest.fixture(scope="session")
def saved(encoder, tmp_path_factory):
    """Return the folder of an index of the documents, which nobody changes."""
    folder = tmp_path_factory.mktemp("server") / "index"
    Index.build(encoder.encode_documents(DOCUMENTS), DOCUMENTS, model_name="default").save(folder)
    return folder


@pytest.fixture
def index(saved):
    """Return the index of the documents, as the library has it."""
    return Index.open(saved)


@pytest.fixture
def growing(encoder, tmp_path):
    """Return the folder of an index that may be changed."""
    Index.build(encoder.encode_documents(DOCUMENTS), DOCUMENTS, model_name="default").save(
        tmp_path / "growing"
    )
    return tmp_path / "growing"


@contextlib.contextmanager
def client_of(app):
    """Start an application, and wait until it is ready."""
    with TestClient(app, raise_server_exceptions=False) as client:
        for _ in range(500):
            if client.get("/health").status_code == 200:
                break
            time.sleep(0.01)
        yield client


@pytest.fixture
def serve(encoder):
    """Return a function that starts an application in this process and returns a client of it."""
    with contextlib.ExitStack() as stack:
        yield lambda index=None, model=encoder, **options: stack.enter_context(
            client_of(create_app(model, index, **options))
        )


@pytest.fixture(scope="module")
def client(encoder, saved):
    """Return a client of the model and the index, which is read only."""
    with client_of(create_app(encoder, saved, limits=Limits(texts=8, body_bytes=1 << 20))) as found:
        yield found


class Process:
    """`spladelet serve` in a process of its own."""

    def __init__(self, *arguments, env=None, prefix=(), python=sys.executable):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [
            *prefix,
            str(python),
            "-m",
            "spladelet.cli",
            "serve",
            "--port",
            str(self.port),
        ]
        # A file, for a pipe that nobody reads is full after a thousand requests, and all waits.
        self._log = tempfile.TemporaryFile()
        self.child = subprocess.Popen(
            [*command, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=os.environ | (env or {}),
            start_new_session=True,  # so that its workers can be ended with it
        )
        self.url = f"http://127.0.0.1:{self.port}"

    def wait(self, seconds=60):
        """Wait until it is ready."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(OSError, urllib.error.URLError):
                if self.ask("/health")[0] == 200:
                    return self
            if self.child.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(self.kill())

    def ask(self, path, body=None, method=None, token=None):
        """Ask; returns status and JSON."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        asked = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                raw = answer.read()
                return answer.status, json.loads(raw) if raw[:1] in (b"{", b"[") else raw
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def resident_mb(self):
        """Return how much memory it holds."""
        with open(f"/proc/{self.child.pid}/status") as status:
            line = next(line for line in status if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def kill(self):
        """Kill it and its workers; returns what they logged."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.communicate(timeout=60)
        return self.log()

    def close(self):
        """Kill it, if it still is there, and forget what it logged."""
        self.kill()
        self._log.close()

    def log(self):
        """Return what was logged until now."""
        return os.pread(self._log.fileno(), 1 << 30, 0).decode()

    def end(self):
        """End it, and return its exit status and what it logged."""
        if self.child.poll() is None:
            self.child.terminate()
        self.child.communicate(timeout=60)
        return self.child.returncode, self.log()


@pytest.fixture
def start():
    """Return a function that starts a server process, which is ended with the test."""
    started = []

    def begin(*arguments, **options):
        started.append(Process(*arguments, **options))
        return started[-1].wait()

    yield begin
    for process in started:
        process.close()
