"""The command `spladelet explore`; see `cli` for the others."""

import argparse
import json
import socket
import threading
import time
import webbrowser
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from spladelet import extras
from spladelet.cli import indexing
from spladelet.cli.options import Command, load_encoder, whole
from spladelet.encoder.encoder import Encoder
from spladelet.errors import InputError
from spladelet.index.generations import is_index
from spladelet.index.index import Index

_HOST = "127.0.0.1"
_LAST_PORT = 65_535


def run_explore(options: argparse.Namespace) -> Iterator[str]:
    """Serve the page to this machine alone, and open the browser."""
    uvicorn = extras.load("uvicorn", "serve", "exploring")
    hosts = extras.load("starlette.middleware.trustedhost", "serve", "exploring")
    server = extras.load("spladelet.server", "serve", "exploring")
    encoder, index = _opened(options)
    app = server.create_app(encoder, index)
    # A page of somebody else's, whose name was made to lead here, is not to read what is found.
    app.add_middleware(hosts.TrustedHostMiddleware, allowed_hosts=[_HOST, "localhost"])
    with _listening(options.port) as listener:
        where = f"http://{_HOST}:{listener.getsockname()[1]}/"
        yield json.dumps({"url": where}) if options.json else f"{where} (Ctrl-C ends it)"
        running = uvicorn.Server(
            uvicorn.Config(app, log_config=None, access_log=False, server_header=False, ws="none")
        )
        if options.browser:
            threading.Thread(target=_open, args=(running, where), daemon=True).start()
        running.run(sockets=[listener])


def _opened(options: argparse.Namespace) -> tuple[Encoder | None, Index]:
    """Open the index, or make one of a file, or of the documents that come with the package."""
    source = options.index or Path(str(files("spladelet") / "data" / "demo.jsonl"))
    if not is_index(source):
        encoder = load_encoder(options)
        return encoder, indexing.build(encoder, source, options)
    index = Index.open(source)
    return None if index.has_words_alone else load_encoder(options), index


def _listening(port: int) -> socket.socket:
    if port > _LAST_PORT:
        raise InputError(f"--port {port} cannot be used: there are {_LAST_PORT}. Leave it out.")
    try:
        return socket.create_server((_HOST, port))
    except OSError as error:
        raise InputError(
            f"--port {port} cannot be used: {error.strerror or error}. Leave it out."
        ) from error


def _open(running: Any, where: str) -> None:  # noqa: ANN401 - uvicorn's
    """Open the browser once there is somebody to answer it."""
    while not running.started:
        time.sleep(0.01)
    webbrowser.open(where)


def _add_explore(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "index",
        nargs="?",
        type=Path,
        metavar="INDEX",
        help="an index, or a file of documents (default: those that come with the package)",
    )
    command.add_argument("--port", type=whole, default=0, help="default: one that is free")
    command.add_argument(
        "--browser",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="open the browser, or only say where the page is",
    )


EXPLORING = (
    Command(
        "explore",
        run_explore,
        _add_explore,
        "search and see why, on a page in the browser",
        ends=False,
    ),
)
