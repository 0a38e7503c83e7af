"""A browser for tests of the explorer: Chromium, and pages that note what must not happen."""

import contextlib
import shutil
import threading
import time
import urllib.error
import urllib.request

import pytest

pytest.importorskip("playwright", reason="needs playwright (extra `dev`)")

import uvicorn
from playwright.sync_api import sync_playwright
from starlette.applications import Starlette
from starlette.routing import Mount

from spladelet.server import create_app

CHROMIUM = shutil.which("chromium")
_QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_NOTE_VIOLATIONS = """
    window.violations = [];
    addEventListener("securitypolicyviolation",
        (event) => violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@contextlib.contextmanager
def chromium():
    """Run the browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_QUIET)
        yield browser
        browser.close()


@contextlib.contextmanager
def serving(model, index, prefix="", **options):
    """Serve in a thread of this process, maybe below a prefix; gives the page's address."""
    app = create_app(model, index, **options)
    if prefix:
        lifespan = app.router.lifespan_context
        app = Starlette(routes=[Mount(prefix, app)], lifespan=lifespan)
    config = uvicorn.Config(app, port=0, log_level="error", ws="none", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}{prefix}/"
        _wait_until_ready(url)
        yield url
    finally:
        server.should_exit = True
        thread.join(20)


def _wait_until_ready(url):
    for _ in range(1000):
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(f"{url}health", timeout=20).close()
            return
        time.sleep(0.01)


class Visit:
    """A page that is visited, and what it did that it should not."""

    def __init__(self, browser, url, **options):
        options = {"viewport": {"width": 1200, "height": 800}, "reduced_motion": "reduce"} | options
        self.url, self.context = url, browser.new_context(**options)
        self.context.set_default_timeout(8000)
        self.page = self.context.new_page()
        self.requests, self.dialogs, self.errors = [], [], []
        self.page.add_init_script(_NOTE_VIOLATIONS)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note)
        self.page.on("dialog", self._dismiss)

    def _note(self, message):
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _dismiss(self, dialog):
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def go(self, fragment=""):
        """Open the page anew at a fragment."""
        self.page.goto("about:blank")
        self.page.goto(self.url + (f"#{fragment}" if fragment else ""))
        return self.page

    def check(self):
        """Fail if anything was wrong, or asked of anybody else."""
        assert not self.errors, self.errors
        assert self.dialogs == []
        assert self.page.evaluate("window.violations ?? []") == []
        strangers = [
            url for url in self.requests if not url.startswith((self.url, "about:", "data:"))
        ]
        assert strangers == []
