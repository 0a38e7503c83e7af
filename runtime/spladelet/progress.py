"""How far long work has come, on standard error: a bar of tqdm, or a line now and then.

A terminal gets a bar, as do notebooks that have widgets; anything else, such as a log, gets a line
every half minute. tqdm comes with tokenizers; it is loaded when there is something to draw.
"""

import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from threading import Event, RLock, Thread
from types import TracebackType
from typing import Any

from spladelet.forks import unforked
from spladelet.printable import field

_SECONDS_BEFORE_A_BAR = 0.5
_SECONDS_BETWEEN_LINES = 30.0

_shown: ContextVar[bool | None] = ContextVar("shown", default=None)
_last_line = [0.0]  # when the last one was written


@contextmanager
def showing(show: bool | None, label: str | None) -> Iterator[None]:  # noqa: FBT001
    """Say whether progress is shown where nothing else is said; None means as `Progress` does.

    What cannot be counted, or takes its time before it is, has a line now and then, too; without a
    label it has none.
    """
    token, ended = _shown.set(show), Event()
    waiting = Thread(None, _say_it_goes_on, "progress", (label or "", ended), daemon=True)
    try:
        if label is not None and show is not False and not _has_terminal():
            waiting.start()
        yield
    finally:
        _shown.reset(token)
        ended.set()
        if waiting.ident is not None:
            waiting.join()  # or what it is about to write would come after all else


class Progress:
    """Counts work and shows it; short work shows nothing.

    Args:
        label: What is done.
        total: How many steps there are; None if unknown.
        show: True draws a bar, False nothing; None draws a bar on a terminal, and writes a line
            every half minute elsewhere.
    """

    def __init__(self, label: str, total: int | None, *, show: bool | None = None) -> None:
        show = _shown.get() if show is None else show
        self._label, self._total, self._done = label, total, 0
        self._bar: Any = None
        self._start = time.monotonic()
        self._shows = show is not False
        self._is_bar = self._shows and (show or _has_terminal())
        pause = _SECONDS_BEFORE_A_BAR if self._is_bar else _SECONDS_BETWEEN_LINES
        self._next = self._start + pause

    def advance(self, steps: int) -> None:
        """Count steps as done."""
        self._done += steps
        if self._shows and time.monotonic() >= self._next:
            try:
                self._draw()
            except (OSError, ValueError, AttributeError, ImportError):
                # Standard error is full, closed or not there: the work goes on.
                self._shows = False

    def _draw(self) -> None:
        if self._is_bar:
            self._bar = self._bar or self._new_bar()
            self._bar.update(self._done - self._bar.n)
            return
        now = time.monotonic()
        self._next = now + _SECONDS_BETWEEN_LINES
        _last_line[0] = now
        line = _tqdm().format_meter(
            self._done, self._total, now - self._start, ncols=0, prefix=field(self._label), unit=""
        )
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def _new_bar(self) -> Any:  # noqa: ANN401 - tqdm has no types
        bar = _tqdm()(
            desc=field(self._label, 40),
            total=self._total,
            initial=self._done,
            unit="",
            leave=False,
            miniters=1,  # or one that was fast at first would stand still when it slows down
            dynamic_ncols=True,
            file=sys.stderr,
        )
        bar.initial, bar.start_t = 0, bar.start_t - (time.monotonic() - self._start)
        return bar

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None and self._shows:
            try:
                self._bar.close()
            except (OSError, ValueError):
                self._shows = False


def _has_terminal() -> bool:
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()


def _say_it_goes_on(label: str, ended: Event) -> None:
    start = time.monotonic()
    with suppress(OSError, ValueError, AttributeError):
        while not ended.wait(_SECONDS_BETWEEN_LINES):
            now = time.monotonic()
            if now - _last_line[0] >= _SECONDS_BETWEEN_LINES:
                sys.stderr.write(f"{label}: at work for {(now - start) / 60:.1f} min\n")
                sys.stderr.flush()


@cache
def _tqdm() -> Any:  # noqa: ANN401 - tqdm has no types
    with warnings.catch_warnings():
        # In notebooks it says that it is experimental, or that there are no widgets.
        warnings.simplefilter("ignore")
        with unforked():
            from tqdm.autonotebook import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0  # no thread that wakes up to look after bars

    def renew_lock() -> None:
        # Its own is a semaphore of the system's; and a child must not wait for a parent's thread.
        Bar.set_lock(RLock())

    renew_lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=renew_lock)
    return Bar
