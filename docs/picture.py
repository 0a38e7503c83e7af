"""Take the README's picture of the explorer: of the real page, over the demo's documents.

    python docs/picture.py

Needs the extra `dev`, and Chromium.
"""

import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from json import loads
from pathlib import Path
from time import sleep

from playwright.sync_api import Page, sync_playwright

PICTURE = Path(__file__).with_name("explorer.png")
QUERY = "Why does my kitten make a vibrating noise?"
POINTED_AT = "cat"
_SIZE = {"width": 1200, "height": 660}


def main() -> None:
    """Serve the page, and take the picture."""
    command = [sys.executable, "-m", "spladelet.cli", "explore", "--no-browser", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            url = loads(server.stdout.readline())["url"]
            _wait_for(f"{url}health")
            _take(url)
        finally:
            server.terminate()


def _take(url: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport=_SIZE, color_scheme="light", reduced_motion="reduce")
        page.goto(url)
        _search(page)
        page.screenshot(path=PICTURE)
        browser.close()


def _search(page: Page) -> None:
    """Ask, and point at a term, so that the word that brought it is shown."""
    for query in (QUERY.split()[0], QUERY):  # what the first one waits for is not the page's
        page.get_by_role("searchbox").fill(query)
        page.wait_for_timeout(1000)
        page.locator(".hit mark").first.wait_for()
    term = page.locator("#query-terms ol button", has_text=POINTED_AT).first
    page.evaluate("document.activeElement.blur()")
    term.hover()


def _wait_for(url: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=10).close()
            return
        except urllib.error.HTTPError as error:  # until the model is loaded
            error.close()
        sleep(0.05)


if __name__ == "__main__":
    main()
