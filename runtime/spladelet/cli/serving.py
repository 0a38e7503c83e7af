"""The command `spladelet serve`; see `cli` for the others."""

import argparse
import json
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spladelet import extras
from spladelet.bundle.find import find_bundle
from spladelet.cli.options import Command, finite, load_encoder, positive, readable
from spladelet.encoder.cpus import thread_count
from spladelet.errors import InputError
from spladelet.index.generations import is_index
from spladelet.index.index import Index

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from spladelet.server.limits import Limits

_TOKEN = "SPLADELET_TOKEN"  # in the environment, for command lines are seen by all
_SETTINGS = "SPLADELET_SERVE"  # how worker processes are told what to serve
_GRACE = 30  # seconds that requests have to end after SIGTERM


def run_serve(options: argparse.Namespace) -> Iterator[str]:
    """Serve until a signal ends it; requests that were accepted are answered first."""
    uvicorn = extras.load("uvicorn", "serve", "serving")
    shared = extras.load("spladelet.server.metering", "serve", "serving").SHARED_FOLDER
    settings = _settings(options)
    application(settings)  # a slip is said here, not by each worker
    where = f"http://{options.host}:{options.port}"
    told = f"{where} is a page to explore with; {where}/openapi.json says what programs ask"
    yield json.dumps({"url": where}) if options.json else told
    extras.load("spladelet.server.process", "serve", "serving").serve_alone()
    with ExitStack() as stack:
        how = _how(options)
        if options.workers == 1:
            uvicorn.run(application(settings), **how)
            return
        # Each worker counts in a folder that all of them share.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="spladelet-metrics-"))
        os.environ |= {shared: folder, _SETTINGS: json.dumps(settings)}
        uvicorn.run("spladelet.cli.serving:worker", factory=True, workers=options.workers, **how)


def _how(options: argparse.Namespace) -> dict[str, Any]:
    limits = _limits(_settings(options))
    connections = extras.load("spladelet.server.connections", "serve", "serving")
    os.environ[connections.PATIENCE] = str(limits.idle_seconds)
    return {
        "host": options.host,
        "port": options.port,
        "http": connections.Connection,
        "ws": "none",
        "access_log": False,  # ours has no query strings
        "log_config": None,
        "server_header": False,
        "timeout_keep_alive": max(1, int(limits.idle_seconds)),
        "timeout_graceful_shutdown": _GRACE,
        "limit_concurrency": limits.connections,
    }


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    if options.index is not None and not is_index(options.index):
        raise InputError(f"{options.index} holds no index. Make one with `spladelet index`.")
    # Workers share the processors.
    threads = options.threads or max(1, thread_count(None) // options.workers)
    return {
        "index": None if options.index is None else str(options.index.absolute()),
        "model": options.model,
        "revision": options.revision,
        "threads": threads,
        "writable": options.writable,
        "origins": options.cors,
        "limits": dict(options.limit) | {"auto_truncate": options.auto_truncate},
    }


def _limits(settings: dict[str, Any]) -> "Limits":
    kind = extras.load("spladelet.server", "serve", "serving").Limits
    known = {item.name: item.default for item in fields(kind)}
    given = settings["limits"]
    if unknown := next((name for name in given if name not in known), None):
        raise InputError(f"--limit {unknown!r:.60} is none of {', '.join(known)}.")
    made = {name: _alike(value, known[name]) for name, value in given.items()}
    found: Limits = kind(**made)
    return found


def _alike(value: float, usual: object) -> float:
    """Return a number as what it usually is: how many things, or seconds."""
    is_whole = isinstance(usual, int) and float(value).is_integer()
    return int(value) if is_whole and not isinstance(value, bool) else value


def application(settings: dict[str, Any]) -> "Starlette":
    """Make the application that settings describe."""
    server = extras.load("spladelet.server", "serve", "serving")
    index = settings["index"]
    without_model = index is not None and Index.open(index).has_words_alone
    names = argparse.Namespace(**{n: settings[n] for n in ("model", "revision", "threads")})
    if not without_model:
        find_bundle(settings["model"], settings["revision"])  # what is not there is said at once
    app: Starlette = server.create_app(
        None if without_model else lambda: load_encoder(names),
        index,
        writable=settings["writable"],
        token=os.environ.get(_TOKEN),
        limits=_limits(settings),
        origins=settings["origins"],
    )
    return app


def worker() -> "Starlette":
    """Make the application of one of several worker processes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    extras.load("spladelet.server.process", "serve", "serving").serve_alone()
    return application(json.loads(os.environ[_SETTINGS]))


def _end_with_parent() -> None:
    """End this process as if asked to, once its parent is gone, which may have been killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _add_serve(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "index", nargs="?", type=Path, metavar="INDEX", help="an index to search (default: none)"
    )
    command.add_argument("--host", default="127.0.0.1", type=readable, help="default: 127.0.0.1")
    command.add_argument("--port", type=positive, default=8080, help="default: 8080")
    command.add_argument(
        "--writable", action="store_true", help="let requests change the index, too"
    )
    command.add_argument(
        "--workers", type=positive, default=1, metavar="N", help="processes (default: 1)"
    )
    command.add_argument(
        "--limit",
        action="append",
        default=[],
        type=_limit,
        metavar="NAME=N",
        help="what is taken, such as texts=64 or request_seconds=30; may be repeated",
    )
    command.add_argument(
        "--auto-truncate", action="store_true", help="cut what is too long, unless a request says"
    )
    command.add_argument(
        "--cors",
        action="append",
        default=[],
        type=readable,
        metavar="ORIGIN",
        help="a web page of which browsers may ask, such as https://example.org",
    )


def _limit(given: str) -> tuple[str, float]:
    name, _, value = given.partition("=")
    return name, finite(value)


SERVING = (
    Command("serve", run_serve, _add_serve, "serve the model and an index over HTTP", ends=False),
)
