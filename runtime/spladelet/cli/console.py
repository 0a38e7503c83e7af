"""The door between commands and people: standard streams, signals, and what becomes of errors.

Everything that a command prints goes through `show` or `tell`, which leave nothing in it that a
terminal would obey. Streams may be closed, of another encoding, or lead nowhere.
"""

import argparse
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import IO, Any, NoReturn

from spladelet.encoder.notices import LanguageWarning, TruncationWarning
from spladelet.errors import InputError, SpladeletError
from spladelet.printable import clean_lines, one_line, styled

DEBUG = "SPLADELET_DEBUG"

_CLOSED = "standard output is closed"
_BUG = 70  # "internal software error" in sysexits.h
_ENDING = ("SIGTERM", "SIGHUP")
_OF_BATCHES = (TruncationWarning, LanguageWarning)


class _Ended(BaseException):
    """A signal asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number  # as shells have it


class Parser(argparse.ArgumentParser):
    """A parser that repeats what it was given only as plain text."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and exit with 2."""
        if sys.stderr is None:  # argparse would print to standard output then
            raise SystemExit(2)
        super().error(one_line(message))

    def _print_message(self, message: str, file: Any = None) -> None:  # noqa: ANN401
        # Not as argparse's own, which loses in silence what cannot be written.
        if file is None:
            raise OSError(_CLOSED)
        file.write(clean_lines(message))
        file.flush()


def run(command: Callable[[], None]) -> int:
    """Run a command; returns the exit status.

    0; 1 for an error, 70 for one that is the package's own; 130 after Ctrl-C, 143 after SIGTERM,
    129 after SIGHUP, all of which end `with` blocks.

    Raises:
        SystemExit: The command raised it: with 2 for wrong usage, 0 where help was asked for.
    """
    _fill_descriptors()
    _set_encodings()
    try:
        with _ended_by_signals(), _notes():
            command()
        return 0
    except BaseException as error:  # noqa: BLE001 - the last door
        return _status(error)


def show(text: str) -> None:
    """Print a result, at once.

    Raises:
        OSError: It is lost: standard output is closed, full or gone.
    """
    if sys.stdout is None:
        raise OSError(_CLOSED)
    cleaned = clean_lines(text)
    sys.stdout.write(f"{styled(cleaned) if has_styles() else cleaned}\n")
    sys.stdout.flush()


def has_styles() -> bool:
    """Say whether standard output is a terminal that shows styles; see https://no-color.org."""
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout is not None and sys.stdout.isatty() and not is_plain


def tell(message: str) -> None:
    """Print one line to standard error, if there is one."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{one_line(message)}\n")
            sys.stderr.flush()


def standard_input() -> IO[str]:
    """Return standard input, as UTF-8 whatever the locale, as files are.

    Raises:
        InputError: It is closed.
    """
    if sys.stdin is None:
        raise InputError("standard input is closed. Give a file, or open it.")
    return sys.stdin


def _fill_descriptors() -> None:
    """Open what is closed of the first three, or a file of ours would get what is printed there."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _set_encodings() -> None:
    if isinstance(sys.stdin, io.TextIOWrapper):
        with suppress(io.UnsupportedOperation):  # it is being read, so this was done before
            sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Windows would write files in its own code page. Texts hold what a terminal may lack.
            encoding = "utf-8" if os.name == "nt" and stream is sys.stdout else None
            stream.reconfigure(encoding=encoding, errors="replace")


def _status(error: BaseException) -> int:
    """Say what is wrong, in one line, and return the exit status."""
    lost = _save_output()
    if isinstance(error, SystemExit):
        if lost is None:
            raise error
        error = lost  # help, or the version, that nobody saw
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, _Ended):
        return error.status
    if isinstance(error, BrokenPipeError):  # the reader has gone, as with `| head`
        return 0
    if os.environ.get(DEBUG):
        lines = "".join(traceback.format_exception(error))
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(clean_lines(lines))
    message, status = _described(error)
    tell(f"error: {message}")
    return status


def _described(error: BaseException) -> tuple[str, int]:
    if isinstance(error, SpladeletError):
        return str(error), 1
    if isinstance(error, OSError):
        return f"{error}. Mend that and try again.", 1
    if isinstance(error, MemoryError):
        reason = f" ({error})" if str(error) else ""
        return f"there is not enough memory{reason}. Give less at once, or more memory.", 1
    if isinstance(error, RecursionError):
        return "what was given is nested too deeply. Give it with fewer levels.", 1
    return (
        f"this is a bug in spladelet ({type(error).__name__}: {error}). Please report it, with "
        f"what is printed when the environment has {DEBUG}=1."
    ), _BUG


def _save_output() -> OSError | None:
    """Print what waits to be printed; if that fails, have Python not try again when it exits."""
    try:
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()
    except OSError as error:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise, as Ctrl-C does, so that work is dropped as it should be."""

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # the second one ends at once
        raise _Ended(number)

    taken = []
    if threading.current_thread() is threading.main_thread():
        for name in _ENDING:
            number = getattr(signal, name, None)  # Windows has fewer
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, end)
                taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _notes() -> Iterator[None]:
    """Show warnings as plain notes; of those that batches of texts repeat, the first."""
    with warnings.catch_warnings(record=True) as caught:
        for kind in _OF_BATCHES:
            warnings.simplefilter("always", kind)
        yield
    messages = list(dict.fromkeys((note.category, str(note.message)) for note in caught))
    like = Counter(category for category, _ in messages)
    for category, message in messages:
        if category not in _OF_BATCHES:
            tell(f"note: {message}")
        elif count := like.pop(category, 0):
            more = f" (And {count - 1} more notes like this one.)" if count > 1 else ""
            tell(f"note: {message}{more}")
