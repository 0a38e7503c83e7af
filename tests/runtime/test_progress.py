"""How far work has come: a bar on a terminal, a line now and then elsewhere, nothing if short."""

import io
import sys
import threading
import time

import pytest

from spladelet import progress
from spladelet.progress import Progress, showing


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def at_once(monkeypatch):
    """Let no time pass before something is shown."""
    monkeypatch.setattr(progress, "_SECONDS_BEFORE_A_BAR", 0.0)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)


@pytest.fixture
def work(monkeypatch):
    """Return a function that does three steps and returns what standard error got."""

    def work(stream, label="reading", total=4, **options):
        monkeypatch.setattr(sys, "stderr", stream)
        with Progress(label, total, **options) as bar:
            for _ in range(3):
                bar.advance(1)
        return stream.getvalue()

    return work


@pytest.mark.usefixtures("at_once")
def test_where_there_is_no_terminal_it_is_a_line(work):
    first, *_, last = work(io.StringIO()).splitlines()

    assert first.startswith("reading:  25% 1/4 [00:00<00:")
    assert last.startswith("reading:  75% 3/4 [")
    assert work(io.StringIO(), total=None).splitlines()[-1].startswith("reading: 3 [00:00, ")


@pytest.mark.usefixtures("at_once")
def test_a_terminal_has_a_bar_that_is_gone_at_the_end(work):
    drawn = work(Terminal())

    assert "reading:  25%|" in drawn
    assert "\n" not in drawn
    assert drawn.split("\r")[-1] == ""
    assert drawn.split("\r")[-2].strip() == ""


def test_short_work_shows_nothing(work):
    assert work(Terminal()) == work(io.StringIO()) == ""


@pytest.mark.usefixtures("at_once")
def test_a_label_is_shown_and_not_obeyed(work):
    for stream in (Terminal(), io.StringIO()):
        assert r"a\x1b[2J\nb: " in work(stream, "a\x1b[2J\nb")


@pytest.mark.usefixtures("at_once")
def test_it_is_shown_or_not_as_was_said(work, monkeypatch):
    assert work(Terminal(), show=False) == ""
    assert "|" in work(io.StringIO(), show=True)
    monkeypatch.setattr(sys, "stderr", Terminal())  # where nothing else says that it goes on
    with showing(False, "x"):
        assert work(Terminal()) == work(io.StringIO()) == ""
        assert work(io.StringIO(), show=True) != ""
    with showing(True, "x"):
        assert "|" in work(io.StringIO())
        assert work(Terminal(), show=False) == ""
    assert "|" not in work(io.StringIO())


class Full(Terminal):
    def write(self, _):
        raise OSError(28, "No space left on device")


@pytest.mark.usefixtures("at_once")
def test_the_work_goes_on_where_nothing_can_be_shown(work, monkeypatch):
    closed = io.StringIO()
    monkeypatch.setattr(closed, "getvalue", lambda: "")
    closed.close()

    assert work(Full()) == work(Full(), show=True) == work(closed) == ""
    monkeypatch.setattr(sys, "stderr", None)
    with Progress("reading", 2, show=True) as bar:
        bar.advance(1)


def test_tqdm_is_not_loaded_until_something_is_shown(run_python):
    result = run_python(
        """
        import sys
        from spladelet.progress import Progress
        with Progress("reading", 2) as bar:
            bar.advance(1)
        assert "tqdm" not in sys.modules
        """
    )

    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.usefixtures("at_once")
def test_a_bar_has_no_thread_of_its_own(work):
    before = threading.enumerate()
    work(Terminal())

    assert set(threading.enumerate()) <= set(before)


def test_what_is_not_counted_says_now_and_then_that_it_goes_on(monkeypatch):
    lines = Lines()
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.01)
    monkeypatch.setattr(sys, "stderr", lines)
    with showing(None, "compact"):
        assert lines.written.wait(20)
    for show, stream in ((False, Lines()), (None, Terminal())):
        monkeypatch.setattr(sys, "stderr", stream)
        with showing(show, "compact"):
            assert threads() == []

    assert lines.getvalue().startswith("compact: at work for 0.0 min\n")


def test_nothing_is_said_of_work_that_has_ended(monkeypatch):
    slow = Slow()
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(sys, "stderr", slow)
    with showing(None, "compact"):
        assert slow.begun.wait(20)

    assert threads() == []


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "progress"]


class Lines(io.StringIO):
    def __init__(self):
        super().__init__()
        self.written = threading.Event()

    def flush(self):
        self.written.set()


class Slow(io.StringIO):
    """A stream that takes its time for each line."""

    def __init__(self):
        super().__init__()
        self.begun = threading.Event()

    def write(self, text):
        self.begun.set()
        time.sleep(0.05)
        return super().write(text)
