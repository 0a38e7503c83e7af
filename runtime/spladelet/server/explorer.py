"""The explorer: one page that searches and shows why, made of what the server answers.

The page is a file of its own, without anything from elsewhere. Its policy names the very script and
style that it has, by their hashes, so that nothing a document says could run.
"""

import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files

from starlette.responses import Response

_INLINE = re.compile(r"<(script|style)\b[^>]*>(.*?)</\1>", re.DOTALL)


def page() -> Response:
    """Return the page with the headers that keep it from loading or running anything else."""
    html, policy = _page()
    return Response(
        html,
        headers={
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        },
        media_type="text/html",
    )


@cache
def _page() -> tuple[bytes, str]:
    # Line ends become \n here, whatever the file has: browsers hash them so.
    html = (files("spladelet") / "server" / "explorer.html").read_text(encoding="utf-8")
    hashes = {kind: _hash(text) for kind, text in _INLINE.findall(html)}
    rules = (
        "default-src 'none'",
        f"script-src '{hashes['script']}'",
        f"style-src '{hashes['style']}'",
        "connect-src 'self'",
        "img-src data:",  # the icon
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return html.encode(), "; ".join(rules)


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
