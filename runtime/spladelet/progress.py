"""A progress bar on standard error, on terminals only."""

import sys
import time
from types import TracebackType

_WIDTH = 30
_SECONDS_BETWEEN_DRAWS = 0.1
_SECONDS_BEFORE_FIRST_DRAW = 0.5


class Progress:
    """Counts work and draws it; short work draws nothing.

    Args:
        label: What is done.
        total: How many steps there are; None if unknown.
        show: Whether to draw; None means on a terminal.
    """

    def __init__(self, label: str, total: int | None, *, show: bool | None = None) -> None:
        self._label = label
        self._total = total
        self._show = bool(sys.stderr and sys.stderr.isatty()) if show is None else show
        self._done = 0
        self._start = time.monotonic()
        self._next_draw = self._start + _SECONDS_BEFORE_FIRST_DRAW
        self._drawn = False

    def advance(self, steps: int) -> None:
        """Count steps as done."""
        self._done += steps
        if self._show and time.monotonic() >= self._next_draw:
            self._draw()

    def _draw(self) -> None:
        self._next_draw = time.monotonic() + _SECONDS_BETWEEN_DRAWS
        self._drawn = True
        seconds = max(time.monotonic() - self._start, 1e-9)
        rate = self._done / seconds
        if self._total:
            share = min(1.0, self._done / self._total)
            filled = int(share * _WIDTH)
            left = (self._total - self._done) / rate if rate else 0.0
            text = (
                f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {self._done}/{self._total}"
                f"  {rate:.0f}/s  {left:.0f} s left"
            )
        else:
            text = f"{self._done}  {rate:.0f}/s  {seconds:.0f} s"
        sys.stderr.write(f"\r\x1b[K{self._label} {text}")
        sys.stderr.flush()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
