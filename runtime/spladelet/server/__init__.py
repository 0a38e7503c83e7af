"""The model and an index over HTTP, for programs in any language.

    import uvicorn
    from spladelet import Encoder
    from spladelet.server import create_app

    uvicorn.run(create_app(Encoder.load(), "my-index"), port=8080)

The command `spladelet serve` does that. Needs the extra `serve`. Speaks the contract of Hugging
Face's text-embeddings-inference for sparse vectors, and one of its own for searching;
`/openapi.json` describes both. Does not encrypt: put a proxy before it in networks of others.
"""

from spladelet import extras

extras.load("starlette", "serve", "the server")  # with a clear message, before what is built on it

from spladelet.server.app import create_app  # noqa: E402
from spladelet.server.limits import Limits  # noqa: E402

__all__ = ["Limits", "create_app"]
