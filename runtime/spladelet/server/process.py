"""A process that does nothing but serve: how it logs, and what the interpreter may leave undone.

Each time that the event loop lets go of the interpreter's lock, a thread that encodes takes it for
a while: writing a line a request, and looking for garbage, cost a seventh of the throughput.
"""

import atexit
import gc
import logging
import sys
import threading
from typing import TextIO

_FLUSH_SECONDS = 0.2
_MOST_LINES = 1000
_GARBAGE = (50_000, 20, 50)  # objects made, not freed, before each generation is looked through
_SWITCH_SECONDS = 0.001  # that a thread waits for the interpreter's lock before it asks for it


class Lines(logging.Handler):
    """Writes several lines at a time, a fifth of a second late; warnings and the last at once."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream, self._lines = stream, list[str]()
        atexit.register(self.flush)
        threading.Thread(target=self._flush_often, daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line; see the class."""
        self._lines.append(self.format(record))
        if record.levelno >= logging.WARNING or len(self._lines) >= _MOST_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what is kept."""
        self.acquire()
        try:
            lines, self._lines = self._lines, []
            if lines:
                self._stream.write("\n".join([*lines, ""]))
                self._stream.flush()
        except (OSError, ValueError):
            pass  # nobody reads it any more
        finally:
            self.release()

    def _flush_often(self) -> None:
        pause = threading.Event()
        while not pause.wait(_FLUSH_SECONDS):
            self.flush()


def serve_alone() -> None:
    """Have this process do nothing but serve, and log to standard error."""
    gc.set_threshold(*_GARBAGE)
    sys.setswitchinterval(_SWITCH_SECONDS)
    # What no line says need not be found out for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = Lines(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in ("uvicorn", "spladelet.access", "spladelet.error"):
        log = logging.getLogger(name)
        log.handlers, log.propagate = [handler], False
        log.setLevel(logging.INFO)
