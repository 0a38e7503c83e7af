"""A fork waits for what must not be cut in two by it.

While one thread imports a module or a library makes itself ready, it holds locks that are not ours;
a process forked by another thread just then would have them locked for ever, and hang at its own
first use. So whoever loads something late does it in `unforked`, and forks wait for the end of it.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_loading = threading.RLock()


@contextmanager
def unforked() -> Iterator[None]:
    """Let no other thread fork this process until the block ends."""
    with _loading:
        yield


def _renew() -> None:
    global _loading
    _loading = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _loading.acquire(),
        after_in_parent=lambda: _loading.release(),
        after_in_child=_renew,
    )
