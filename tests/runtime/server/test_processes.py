"""`spladelet serve` as a process: signals, kills, several workers, hostile clients, memory."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from runtime.server.conftest import Process

from spladelet import Index
from spladelet.index.segment_files import verify_index


def raw(port, sent, is_half_closed=False):
    """Send bytes as they are; returns what comes back, until nothing comes for a while."""
    with socket.create_connection(("127.0.0.1", port), timeout=0.2) as connection:
        answer = b""
        with contextlib.suppress(OSError):
            connection.sendall(sent)
            if is_half_closed:
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answer += part
        return answer


def post(body, path="/embed_sparse", kind="application/json", length=None, method="POST"):
    size = len(body) if length is None else length
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nConnection: close\r\n"
    return f"{head}Content-Length: {size}\r\n\r\n".encode() + body


def test_it_serves_and_ends(start, saved):
    server = start(saved)
    status, hits = server.ask("/v1/search", {"query": "why do kittens purr"})
    assert (status, hits["hits"][0]["id"]) == (200, "cats")
    code, log = server.end()
    assert code in ENDED
    assert "POST /v1/search 200" in log
    assert "kittens" not in log
    assert "Traceback" not in log


def test_a_token_comes_from_the_environment(start):
    server = start(env={"SPLADELET_TOKEN": "secret"})
    assert server.ask("/info")[0] == 401
    assert server.ask("/info", token="secret")[0] == 200
    assert "secret" not in server.end()[1]


def test_sigterm_under_load_loses_no_accepted_request(start):
    server = start()
    found = []

    def ask():
        while True:
            try:
                found.append(server.ask("/embed_sparse", {"inputs": "cats purr " * 20}))
            except OSError:  # it does not take connections any more
                return

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(found) < 16 and threads[0].is_alive():
        time.sleep(0.01)
    server.child.terminate()
    for thread in threads:
        thread.join(30)
    code, log = server.end()
    assert code in ENDED
    # Each request of which it read the head is logged: all were answered, and arrived.
    noted = [line.split()[-3] for line in log.splitlines() if "POST /embed_sparse" in line]
    assert set(noted) == {"200"}
    assert len(noted) == len(found) > 8
    assert {status for status, _ in found} == {200}
    assert all(answer[0] for _, answer in found)


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_under_upserts_leaves_the_old_or_the_new(start, growing, seed):
    server = start(growing, "--writable")
    done = []

    def write():
        for number in range(1000):
            documents = [{"id": f"n{number}-{i}", "text": f"salt {number}"} for i in range(3)]
            try:
                status, _ = server.ask("/v1/documents", {"documents": documents})
            except OSError:
                return
            assert status == 200
            done.append(number)

    thread = threading.Thread(target=write)
    thread.start()
    while len(done) < 3 and thread.is_alive():
        time.sleep(0.01)
    time.sleep(random.Random(seed).random() * 0.4)
    server.child.kill()
    thread.join(30)
    verify_index(growing)
    index = Index.open(growing)
    ids = {index.document(number).id for number in range(len(index))}
    for number in done:  # what was answered is there, whole
        assert {f"n{number}-{i}" for i in range(3)} <= ids
    for number in range(
        max(done, default=-1) + 1, max(done, default=-1) + 3
    ):  # what was not, or is
        assert len({f"n{number}-{i}" for i in range(3)} & ids) in (0, 3)
    assert len(done) > 2


def test_several_workers_share_an_index_and_its_writing(start, growing):
    server = start(growing, "--writable", "--workers", 2)
    found = []

    def write(name):
        for number in range(5):
            body = {"documents": [{"id": f"{name}{number}", "text": "salt"}]}
            for _ in range(50):
                status, answer = server.ask("/v1/documents", body)
                if status != 503:
                    break
                time.sleep(0.05)
            found.append((status, answer))

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [answer for answer in found if answer[0] != 200] == []
    assert len(Index.open(growing)) == 3 + 15
    for _ in range(100):  # until both have taken over the last generation
        counts = {server.ask("/v1/index")[1]["documents"] for _ in range(10)}
        if counts == {18}:
            break
        time.sleep(0.1)
    assert counts == {18}
    _, metrics = server.ask("/metrics")
    total = sum(
        float(line.rpartition(b" ")[2])
        for line in metrics.splitlines()
        if line.startswith(b"spladelet_request_seconds_count")
    )
    assert total >= 25  # of both workers
    code, log = server.end()
    assert code in ENDED
    assert "Traceback" not in log


def test_workers_end_with_a_parent_that_is_killed(start, saved):
    server = start(saved, "--workers", 2)
    server.child.kill()
    server.child.communicate(timeout=20)  # which waits until nobody can write to it any more
    with pytest.raises(OSError, match="refused"):
        server.ask("/health")


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_a_worker_that_is_killed_is_replaced(start, saved):
    server = start(saved, "--workers", 2)
    family = Path(f"/proc/{server.child.pid}/task/{server.child.pid}/children").read_text().split()
    commands = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in family}
    workers = [int(child) for child, command in commands.items() if b"spawn_main" in command]
    os.kill(workers[0], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if b"spladelet_index_generation 1.0" in server.ask("/metrics")[1]:
                break
        time.sleep(0.1)
    assert {server.ask("/v1/index")[0] for _ in range(20)} <= {200, 503}
    assert server.ask("/embed_sparse", {"inputs": "cat"})[0] in (200, 503)
    assert server.end()[0] in ENDED


ENDED = (0, 128 + signal.SIGTERM)
HOSTILE = [
    b"",
    b"\x00" * 100,
    b"\x16\x03\x01\x02\x00\x01\x00",  # the beginning of TLS
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
    b"POST /embed_sparse HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    b"POST /embed_sparse HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
    b"POST /embed_sparse HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    post(b'{"inputs": "x"', length=1000),
    post(b'{"inputs": "x"}', length=3),
    post(b"[" * 50_000),
    post(b'{"inputs": ' + b"[" * 900 + b"]" * 900 + b"}"),
    post(b'{"inputs": "\\ud800"}'),
    post('{"inputs": "\u0000\u202e\U0001f389"}'.encode()),
    post(b'{"inputs": "' + "\u0301".encode() * 50_000 + b'"}'),
    post(b"\xff\xfe\x00"),
    post(json.dumps({"inputs": ["x"] * 10_000}).encode()),
    post(json.dumps({"inputs": {"a": 1}}).encode()),
    post(json.dumps({"inputs": "x", "truncate": 10**400}).encode()),
    post(b'{"inputs": "x"}', method="PUT"),
    post(b'{"inputs": "x"}', method="BREW"),
    post(b'{"inputs": "x"}', path="/embed_sparse?side=%00"),
    post(b'{"inputs": "x"}', path="/../../etc/passwd"),
    post(b'{"inputs": "x"}', path="/v1/documents/%2e%2e%2f%00"),
    post(b'{"inputs": "x"}', kind="text/plain"),
    post(json.dumps({"query": "x", "where": {"a": {"eq": [{}]}}}).encode(), "/v1/search"),
    post(json.dumps({"query": "x", "ids": [None]}).encode(), "/v1/search"),
    post(json.dumps({"vector": {"ids": [2**40], "weights": [1]}}).encode(), "/v1/search"),
    post(json.dumps({"query": "x" * 100_000, "lexical": "only"}).encode(), "/v1/search"),
    post(json.dumps({"query": "x", "id": "\u0000"}).encode(), "/v1/explain"),
    post(json.dumps({"documents": [{"id": "x", "text": "x"}]}).encode(), "/v1/documents"),
]


ATTACKS = 10_000 if os.environ.get("SPLADELET_THOROUGH") else 800


def test_hostile_requests_find_nothing(start, saved):
    server = start(saved)
    for _ in range(2):
        for sent in HOSTILE:
            raw(server.port, sent, is_half_closed=True)
    before = server.resident_mb()
    statuses = []

    def attack(seed):
        rng = random.Random(seed)
        for _ in range(ATTACKS // 8):
            sent = rng.choice(HOSTILE)
            if is_half_closed := rng.random() < 0.3:  # in the midst, or at the end
                sent = sent[: rng.randrange(len(sent) + 1)]
            statuses.append(raw(server.port, sent, is_half_closed)[9:12])

    threads = [threading.Thread(target=attack, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(statuses) == ATTACKS
    failed = [line for line in server.log().splitlines() if re.search(r" 5\d\d [\d.]+ ms$", line)]
    failed = [line for line in failed if "/health" not in line]  # 503 while it loads
    assert {status[:1] for status in statuses} <= {b"", b"2", b"4"}, failed
    assert sum(status != b"" for status in statuses) > ATTACKS / 2
    assert server.ask("/embed_sparse", {"inputs": "cat"})[0] == 200
    assert server.resident_mb() - before < 60
    code, log = server.end()
    assert "Traceback" not in log
    assert code in ENDED


def test_slow_and_silent_clients_keep_nobody_waiting(start):
    server = start("--limit", "idle_seconds=1")
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
    for connection in slow:
        connection.sendall(post(b'{"inputs": "x"}', length=10_000)[:-10])
    start_ = time.monotonic()
    assert server.ask("/embed_sparse", {"inputs": "cat"})[0] == 200
    assert time.monotonic() - start_ < 2
    for connection in silent:
        connection.settimeout(10)
        assert connection.recv(1) == b""  # closed
        connection.close()
    for connection in slow:
        connection.close()


def test_who_stalls_after_an_answer_is_not_waited_for(start):
    server = start("--limit", "idle_seconds=1")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        connection.sendall(b"G")
        assert connection.recv(1000) == b""  # closed


def test_who_does_not_read_is_not_waited_for(start, growing):
    server = start(growing, "--writable", "--limit", "idle_seconds=1")
    big = {"documents": [{"id": f"big{n}", "text": "salt " * 1_000_000} for n in range(1)]}
    for number in range(6):
        big["documents"][0]["id"] = f"big{number}"
        assert server.ask("/v1/documents", big)[0] == 200
    ids = json.dumps({"ids": [f"big{number}" for number in range(6)]}).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(post(ids, "/v1/documents/get").replace(b"Connection: close\r\n", b""))
        time.sleep(4)
        found = 0
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(1 << 20):
                found += len(part)
        assert found < 30_000_000
    assert server.end()[0] in ENDED


def test_a_model_that_is_not_there_is_said_at_once(saved):
    server = Process(saved, "--model", "no/such")
    server.child.wait(60)
    code, log = server.end()
    server.close()
    assert code not in (*ENDED, 0)
    assert "no/such" in log


def test_a_port_that_is_taken_is_said(start):
    server = start()
    second = Process("--port", server.port)
    second.child.wait(60)
    code, log = second.end()
    second.close()
    assert code not in ENDED
    assert "address already in use" in log
