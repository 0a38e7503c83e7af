"""The README's commands are run and their output compared; `--write` puts the true output in.

Weights and counts of postings may differ by a little (another processor rounds otherwise), times
and resident memory by any amount; the rest must be the same to the letter.
"""

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
_CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
_PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
_TIME = re.compile(r"in \d+\.\d s|(?<=resident)  +\d+\.\d MB")
_COUNT = re.compile(r"\d+(?= (?:lighter|smaller|shared) )")  # some terms weigh next to nothing
_BAR = re.compile(r"[ ▏▎▍▌▋▊▉█]{2,}")
_NUMBER = re.compile(r"\d+\.\d+|\b\d{4,}\b")
_TOLERANCE = {"abs": 0.02, "rel": 0.002}


def run_console(block: str, folder: Path) -> str:
    """Run the commands of a block in a folder and return the block with their true output."""
    from spladelet.cli.main import main

    lines = []
    for command in re.findall(r"^\$ spladelet (.*)$", block, re.MULTILINE):
        printed = io.BytesIO()
        output = io.TextIOWrapper(printed, encoding="utf-8")  # a terminal that has bars
        with contextlib.redirect_stdout(output), contextlib.chdir(folder):
            assert main(shlex.split(command)) == 0
        lines += [f"$ spladelet {command}", printed.getvalue().decode().rstrip("\n")]
    return "\n".join(lines) + "\n"


def split_numbers(text: str) -> tuple[str, list[float]]:
    plain = _BAR.sub("  ", _COUNT.sub("some", _TIME.sub("in a moment", text)))
    return _NUMBER.sub("#", plain), [float(number) for number in _NUMBER.findall(plain)]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the repository to the README's commands, and may be written to."""
    return prepare(tmp_path_factory.mktemp("readme"))


def prepare(folder: Path) -> Path:
    (folder / "runtime").symlink_to(README.parent / "runtime", target_is_directory=True)
    return folder


@pytest.mark.parametrize("block", _CONSOLE.findall(README.read_text()), ids=lambda b: b[:40])
def test_output_in_readme_is_what_the_commands_print(block: str, workplace: Path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    expected, expected_numbers = split_numbers(block)
    found, found_numbers = split_numbers(run_console(block, workplace))
    assert found == expected
    assert found_numbers == pytest.approx(expected_numbers, **_TOLERANCE)


@pytest.mark.parametrize("block", _PYTHON.findall(README.read_text()), ids=lambda b: b[:40])
def test_python_in_readme_runs(block: str, workplace: Path, monkeypatch):
    monkeypatch.chdir(workplace)
    namespace: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), namespace)
    assert namespace["hit" if "hit" in namespace else "hits"]


def test_every_command_is_in_the_readme():
    from spladelet.cli.main import _parser

    usage = _parser().format_help()
    commands = re.findall(r"^    (\w+) ", usage, re.MULTILINE)
    assert len(commands) >= 7
    readme = README.read_text()
    assert [c for c in commands if f"spladelet {c}" not in readme] == []


def test_first_test_command_is_the_one_ci_runs():
    ci = (README.parent / ".ci" / "run").read_text()
    assert "README.md" in ci
    assert ".venv/bin/pytest" in README.read_text()


def write() -> None:
    """Run every block and put its true output into the README."""
    os.environ["COLUMNS"] = "100"
    with tempfile.TemporaryDirectory() as name:
        folder = prepare(Path(name))
        text = README.read_text()
        for block in _CONSOLE.findall(text):
            text = text.replace(block, run_console(block, folder), 1)
    README.write_text(text)


if __name__ == "__main__" and "--write" in sys.argv:
    write()
