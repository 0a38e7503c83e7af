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
_PATIENCE = 30.0  # seconds; who forks in the midst of an import could wait for itself otherwise
_forking = threading.local()


@contextmanager
def unforked() -> Iterator[None]:
    """Let no other thread fork this process until the block ends."""
    with _loading:
        yield


def _wait() -> None:
    _forking.has_waited = _loading.acquire(timeout=_PATIENCE)


def _go_on() -> None:
    if _forking.has_waited:
        _loading.release()


def _renew() -> None:
    # A child's own: its parent's is held by the thread that forked, and may be by one that is gone.
    global _loading
    _loading = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_wait,
        after_in_parent=_go_on,
        after_in_child=_renew,
    )
