"""How fast, and with how much memory, does the server answer?

Beside it the plain alternative: a Starlette application around fastembed, and around
sentence-transformers, with the same checkpoint, one request at a time. Servers and clients are
processes of their own on this machine; a request has one text, and a client sends the next one
when it has the answer. A ratio is the median over rounds of the two figures of one round.

    python benchmarks/serve.py                          a random checkpoint of the default's shape
    python benchmarks/serve.py --checkpoint FOLDER      a real one
    python benchmarks/serve.py --quick                  a check that it runs, in about two minutes
"""

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import encode
from common import machine, markdown_table, median_ratio, run_worker, save

OURS, FASTEMBED, TORCH = "spladelet serve", "fastembed", "sentence-transformers"
KINDS = {"short queries": "query", "documents of 128 tokens": "document"}
CLIENTS = (1, 8, 32)
PREPARE, LIBRARY, CLIENT, MANY = "prepare", "library", "client", "many"
ENDURANCE = 20_000  # requests, over which memory is looked at
LOOKS = 20


def main() -> None:
    """Parse arguments and measure, or be a worker."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="a SPLADE checkpoint's folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of load, for each figure")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    parser.add_argument("--clients", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--requests", type=int, default=ENDURANCE, help=argparse.SUPPRESS)
    parser.add_argument("--server", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker in PLAIN:
        serve_plainly(options.worker, options.folder, options.port)
        return
    if options.worker:
        print(json.dumps(WORKERS[options.worker](options)))
        return
    if options.quick:
        options.rounds, options.seconds, options.requests = 1, 0.5, 400
    result = measure(options)
    save("serve", options.quick, result)
    print(json.dumps(result, indent=1) if options.json else table(result))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Prepare checkpoint and texts, then load the servers in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = options.checkpoint or encode.random_checkpoint(folder / "random")
        print("every system's form of the checkpoint …", file=sys.stderr)
        run_worker(["--worker", PREPARE, "--folder", name, "--checkpoint", str(checkpoint)])
        documents = encode.texts(64)["128 tokens"]
        texts = dict(zip(KINDS, (_questions(), documents), strict=True))
        (folder / "texts.json").write_text(json.dumps(texts))
        rounds = [_round(folder, options, number + 1) for number in range(options.rounds)]
        print(f"memory over {options.requests} requests …", file=sys.stderr)
        with running(OURS, folder) as (port, process):
            given = ["--port", str(port), "--server", str(process), "--folder", name]
            memory = run_worker(["--worker", MANY, "--requests", str(options.requests), *given])[
                "memory"
            ]
    return {
        "machine": machine(),
        "checkpoint": checkpoint.name if options.checkpoint else "random, BERT 6 x 384",
        "rounds": rounds,
        "memory": memory,
        "requests": options.requests,
        "ratios": ratios(rounds),
    }


def _round(folder: Path, options: argparse.Namespace, number: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for system in (OURS, *PLAIN):
        print(f"round {number}: {system} …", file=sys.stderr)
        with running(system, folder) as (port, process):
            given = ["--port", str(port), "--folder", str(folder)]
            given += ["--seconds", str(options.seconds)]
            found[system] = {kind: _loaded(kind, given) for kind in KINDS}
            found[system]["peak memory, MB"] = _memory_mb(process, "VmHWM")
    print(f"round {number}: the library …", file=sys.stderr)
    found[LIBRARY] = run_worker(["--worker", LIBRARY, "--folder", str(folder)])
    return found


def _loaded(kind: str, given: Sequence[str]) -> dict[str, Any]:
    worker = ["--worker", CLIENT, "--kind", kind, *given]
    return {str(count): run_worker([*worker, "--clients", str(count)]) for count in CLIENTS}


def ratios(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return ours over the library's batches, and over the plain servers, at most clients."""
    most = str(CLIENTS[-1])

    def ours(kind: str) -> list[float]:
        return [one[OURS][kind][most]["texts/s"] for one in rounds]

    return {
        kind: {
            name: median_ratio(ours(kind), [one[LIBRARY][kind][name] for one in rounds])
            for name in rounds[0][LIBRARY][kind]
        }
        | {
            system: median_ratio(ours(kind), [one[system][kind][most]["texts/s"] for one in rounds])
            for system in PLAIN
        }
        for kind in KINDS
    }


def table(result: dict[str, Any]) -> str:
    """Draw a row for each server and kind of text, medians over the rounds."""
    header = ["", "texts"]
    for clients in CLIENTS:
        who = "1 client" if clients == 1 else f"{clients} clients"
        header += [f"{who}, texts/s", "p50, ms", "p99, ms"]
    rows = []
    for system in (OURS, *PLAIN):
        for kind in KINDS:
            row = [system, kind]
            for clients in CLIENTS:
                found = [one[system][kind][str(clients)] for one in result["rounds"]]
                row += [
                    encode.three_digits(statistics.median(one[name] for one in found))
                    for name in ("texts/s", "p50, ms", "p99, ms")
                ]
            rows.append(row)
    drawn = markdown_table([*header, "peak memory, MB"], _with_memory(rows, result))
    return f"{drawn}\n\n{_said(result)}"


def _said(result: dict[str, Any]) -> str:
    """Say the ratios at most clients, and what became of memory."""
    lines = [
        f"{kind.capitalize()}, {CLIENTS[-1]} clients: "
        + ", ".join(
            f"{ratio:.2f} of the {name}" for name, ratio in found.items() if LIBRARY in name
        )
        + "; "
        + ", ".join(f"{ratio:.1f} times {name}" for name, ratio in found.items() if name in PLAIN)
        + "."
        for kind, found in result["ratios"].items()
    ]
    memory = result["memory"]
    shown = ", ".join(f"{value:.0f}" for value in memory[:: max(1, len(memory) // 5)])
    lines.append(
        f"MB held over {result['requests']:,} requests of both kinds by 32 clients: {shown}, "
        f"{memory[-1]:.0f}."
    )
    return " ".join(lines)


def _with_memory(rows: list[list[str]], result: dict[str, Any]) -> list[list[str]]:
    peaks = {
        system: statistics.median(one[system]["peak memory, MB"] for one in result["rounds"])
        for system in (OURS, *PLAIN)
    }
    return [[*row, f"{peaks[row[0]]:.0f}"] for row in rows]


@contextlib.contextmanager
def running(system: str, folder: Path) -> Iterator[tuple[int, int]]:
    """Run a server; yields its port, and its process's number."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    if system == OURS:
        model = ["--model", str(folder / "int8"), "--port", str(port)]
        command = [sys.executable, "-m", "spladelet.cli", "serve", *model]
    else:
        worker = ["--worker", system, "--folder", str(folder), "--port", str(port)]
        command = [sys.executable, sys.argv[0], *worker]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    with subprocess.Popen(command, **quiet) as process:  # type: ignore[call-overload]
        try:
            _wait_for(port, process)
            yield port, process.pid
        finally:
            process.terminate()


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(1200):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"{process.args!r} does not answer")


def load(options: argparse.Namespace) -> dict[str, float]:
    """Ask as so many clients for so many seconds; returns texts a second and how long each took."""
    texts = json.loads((options.folder / "texts.json").read_text())[options.kind]
    requests = [_request(text, KINDS[options.kind]) for text in texts]
    asyncio.run(_ask(options.port, requests, options.clients, until=time.time() + 1))  # warm
    start = time.perf_counter()
    until = time.time() + options.seconds
    took = asyncio.run(_ask(options.port, requests, options.clients, until))
    spent = time.perf_counter() - start
    ordered = sorted(took)
    return {
        "texts/s": len(took) / spent,
        "p50, ms": 1000 * statistics.median(took),
        "p99, ms": 1000 * ordered[int(0.99 * len(ordered))],
    }


def endure(options: argparse.Namespace) -> dict[str, Any]:
    """Ask very often, and look at the server's memory from time to time."""
    texts = json.loads((options.folder / "texts.json").read_text())
    queries, documents = ([_request(text, KINDS[kind]) for text in texts[kind]] for kind in KINDS)
    mixed = [one for pair in zip(cycle(queries), documents, strict=False) for one in pair] + queries
    step = options.requests // LOOKS
    memory = []
    for _ in range(LOOKS):
        asyncio.run(_ask(options.port, list(islice(cycle(mixed), step)), 32))
        memory.append(round(_memory_mb(options.server, "VmRSS"), 1))
    return {"memory": memory}


def _request(text: str, side: str) -> bytes:
    body = json.dumps({"inputs": text, "truncate": True}).encode()
    head = f"POST /embed_sparse?side={side} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json"
    return f"{head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def _ask(
    port: int, requests: Sequence[bytes], clients: int, until: float | None = None
) -> list[float]:
    """Send requests, each client its share: again and again until then, or once; returns seconds.

    Bare sockets, for a client that takes a server's processors measures itself.
    """
    took: list[float] = []

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        mine = requests[number::clients]
        for request in mine if until is None else cycle(mine):
            if until is not None and time.time() > until:
                break
            start = time.perf_counter()
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if not head.startswith(b"http/1.1 200"):
                raise SystemExit(head.decode())
            await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r", 1)[0]))
            took.append(time.perf_counter() - start)
        writer.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return took


def encode_all(options: argparse.Namespace) -> dict[str, Any]:
    """Encode by the library: all texts in one call, and in calls of as many as clients ask."""
    from spladelet import Encoder

    encoder = Encoder.load(options.folder / "int8")
    texts = json.loads((options.folder / "texts.json").read_text())
    found = {}
    for kind, side in KINDS.items():
        call = encoder.encode_queries if side == "query" else encoder.encode_documents
        many = list(islice(cycle(texts[kind]), 1280 if side == "query" else 256))
        call(many[:64])
        at_once = _rate(call, many, len(many))
        found[kind] = {
            "library's one call": at_once,
            "library's calls of 32": _rate(call, many, CLIENTS[-1]),
        }
    return found


def _rate(call: Callable[[list[str]], object], texts: list[str], size: int) -> float:
    start = time.perf_counter()
    for first in range(0, len(texts), size):
        call(texts[first : first + size])
    return len(texts) / (time.perf_counter() - start)


def serve_plainly(system: str, folder: Path, port: int) -> None:
    """Serve what people write themselves: a route around a library, one request at a time."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    by_side = PLAIN[system](folder)
    lock = asyncio.Lock()

    async def embed_sparse(request: Request) -> Response:
        text = (await request.json())["inputs"]
        async with lock:
            ids, weights = await run_in_threadpool(by_side[request.query_params["side"]], text)
        values = [{"index": i, "value": w} for i, w in zip(ids, weights, strict=True)]
        return JSONResponse([values])

    async def health(request: Request) -> Response:
        del request
        return Response()

    routes = [Route("/embed_sparse", embed_sparse, methods=["POST"]), Route("/health", health)]
    uvicorn.run(Starlette(routes=routes), port=port, access_log=False, log_level="warning")


One = Callable[[str], tuple[list[int], list[float]]]


def _around_fastembed(folder: Path) -> dict[str, One]:
    query, document = encode.SYSTEMS[encode.FASTEMBED[1]](folder)

    def one(call: encode.Encode) -> One:
        def found(text: str) -> tuple[list[int], list[float]]:
            vector = call([text])[0]  # type: ignore[index]
            return vector.indices.tolist(), vector.values.tolist()

        return found

    return {"query": one(query), "document": one(document)}


def _around_sentence_transformers(folder: Path) -> dict[str, One]:
    query, document = encode.SYSTEMS[encode.TORCH](folder)

    def one(call: encode.Encode) -> One:
        def found(text: str) -> tuple[list[int], list[float]]:
            row = call([text])[0].coalesce()  # type: ignore[index]
            return row.indices()[0].tolist(), row.values().tolist()

        return found

    return {"query": one(query), "document": one(document)}


PLAIN: dict[str, Callable[[Path], dict[str, One]]] = {
    FASTEMBED: _around_fastembed,
    TORCH: _around_sentence_transformers,
}


def prepare(options: argparse.Namespace) -> dict[str, Any]:
    """Give every system the same checkpoint in its own form."""
    encode.link(options.checkpoint, options.folder)
    encode.export_bundles(options.checkpoint, None, options.folder)
    encode.export_logits(options.checkpoint, options.folder / "logits")
    return {}


WORKERS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    PREPARE: prepare,
    CLIENT: load,
    MANY: endure,
    LIBRARY: encode_all,
}


def _questions() -> list[str]:
    """Return the demo's questions."""
    lines = (files("spladelet") / "data" / "demo-questions.jsonl").read_text().splitlines()
    return [json.loads(line)["question"] for line in lines]


def _memory_mb(process: int, what: str) -> float:
    """Return the memory of a process, now (VmRSS) or at most (VmHWM), in MB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) / 1024


if __name__ == "__main__":
    main()
