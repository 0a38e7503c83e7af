"""The pages' commands and Python are run and their output compared; `--write` puts the true one in.

Weights and counts of postings may differ by a little (another processor rounds otherwise), times
and resident memory by any amount; the rest must be the same to the letter. A block of Python has
what it prints in a block of text after it. The blocks of a page are run in their order, in a folder
of the page's own.
"""

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted(ROOT.glob("docs/*.md"))]
_BLOCK = re.compile(
    r"```console\n(?P<console>.*?)```|```python\n(?P<python>.*?)```\n\n```text\n(?P<printed>.*?)```",
    re.DOTALL,
)
_TIME = re.compile(r"in \d+\.\d s|(?<=resident)  +\d+\.\d MB")
_COUNT = re.compile(r"\d+(?= (?:lighter|smaller|shared) )")  # some terms weigh next to nothing
_BAR = re.compile(r"[ ▏▎▍▌▋▊▉█]{2,}")
_NUMBER = re.compile(r"\d+\.\d+|\b\d{4,}\b")
_TOLERANCE = {"abs": 0.02, "rel": 0.002}


def agree(shown: str, found: str) -> bool:
    """Say whether two outputs differ by no more than they may."""
    (expected, numbers), (text, others) = split_numbers(shown), split_numbers(found)
    return text == expected and others == pytest.approx(numbers, **_TOLERANCE)


class Block(NamedTuple):
    """What a page says is run and printed."""

    page: Path
    python: str | None
    shown: str

    def run(self, folder: Path) -> str:
        """Return the true output, with the commands if it is a console's."""
        with contextlib.chdir(folder):
            return run_console(self.shown) if self.python is None else run_python(self.python)


def blocks_of(page: Path) -> list[Block]:
    found = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(page, m["python"], m["console"] or m["printed"]) for m in found]


@contextlib.contextmanager
def captured() -> Iterator[io.BytesIO]:
    printed = io.BytesIO()
    output = io.TextIOWrapper(printed, encoding="utf-8", write_through=True)  # one that has bars
    with contextlib.redirect_stdout(output):
        yield printed
    output.detach()


def run_console(block: str) -> str:
    """Run the commands of a block and return the block with their true output."""
    from spladelet.cli.main import main

    lines = []
    for command in re.findall(r"^\$ spladelet (.*)$", block, re.MULTILINE):
        with captured() as printed:
            assert main(shlex.split(command)) == 0
        lines += [f"$ spladelet {command}", printed.getvalue().decode().rstrip("\n")]
    return "\n".join(lines) + "\n"


def run_python(code: str) -> str:
    with captured() as printed:
        exec(compile(code, "a page", "exec"), {})
    return printed.getvalue().decode()


def split_numbers(text: str) -> tuple[str, list[float]]:
    plain = _BAR.sub("  ", _COUNT.sub("some", _TIME.sub("in a moment", text)))
    return _NUMBER.sub("#", plain), [float(number) for number in _NUMBER.findall(plain)]


def prepare(folder: Path) -> Path:
    """Make a folder look like the repository to the pages' commands."""
    folder.mkdir()
    (folder / "runtime").symlink_to(ROOT / "runtime", target_is_directory=True)
    return folder


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory):
    """Return the folder of a page, which may be written to."""
    top = tmp_path_factory.mktemp("pages")

    def folder(page: Path) -> Path:
        return top / page.stem if (top / page.stem).exists() else prepare(top / page.stem)

    return folder


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


@pytest.mark.parametrize(
    "block", BLOCKS, ids=lambda b: f"{b.page.name}: {(b.python or b.shown).splitlines()[0][:40]}"
)
def test_output_in_a_page_is_what_is_printed(block: Block, workplace, monkeypatch):
    if block.page.name in ("engines.md", "evaluation.md"):
        pytest.importorskip("ir_measures", reason="needs the extra `evaluate`; CI has it")
    folder = workplace(block.page)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("SPLADELET_CACHE", str(folder / "cache"))
    expected, expected_numbers = split_numbers(block.shown)
    found, found_numbers = split_numbers(block.run(folder))
    assert found.strip()
    assert found == expected
    assert found_numbers == pytest.approx(expected_numbers, **_TOLERANCE)


def test_no_python_is_without_its_output():
    for page in PAGES:
        if page.name == "api.md":  # signatures
            continue
        shown = page.read_text(encoding="utf-8").count("```python\n")
        assert shown == sum(block.python is not None for block in blocks_of(page)), page.name


def test_every_command_is_in_the_pages():
    from spladelet.cli.main import _parser

    commands = re.findall(r"^    (\w+) ", _parser().format_help(), re.MULTILINE)
    assert len(commands) >= 7
    written = "".join(p.read_text(encoding="utf-8") for p in PAGES if p.name != "cli.md")
    assert [c for c in commands if f"spladelet {c}" not in written] == []


def test_the_test_command_is_the_one_that_ci_runs():
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (pattern,) = re.findall(r'grep -m1 "(.*)" README\.md', ci)
    commands = re.findall(pattern, README.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 1
    assert commands[0].endswith(".venv/bin/pytest -n auto --dist loadfile")


def write() -> None:
    """Run every block and put its true output into its page, unless it differs as it may."""
    os.environ["COLUMNS"] = "100"
    with tempfile.TemporaryDirectory() as name:
        for page in PAGES:
            folder = prepare(Path(name) / page.stem)
            os.environ["SPLADELET_CACHE"] = str(folder / "cache")

            def replaced(match: re.Match[str], page: Path = page, folder: Path = folder) -> str:
                block = Block(page, match["python"], match["console"] or match["printed"])
                found = block.run(folder)
                if agree(block.shown, found):
                    return match[0]
                group = "console" if match["printed"] is None else "printed"
                start, end = (place - match.start() for place in match.span(group))
                return f"{match[0][:start]}{found}{match[0][end:]}"

            text = page.read_text(encoding="utf-8")
            page.write_text(_BLOCK.sub(replaced, text), encoding="utf-8")


if __name__ == "__main__" and "--write" in sys.argv:
    write()
