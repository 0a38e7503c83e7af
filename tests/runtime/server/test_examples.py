"""The page's curl commands, run against a server of the demo's index, and what they print."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from spladelet.cli.main import main

PAGE = Path(__file__).parents[3] / "docs" / "server.md"
if not PAGE.is_file():
    pytest.skip("needs a checkout: the pages are not in the wheel", allow_module_level=True)
DEMO = Path(__file__).parents[3] / "runtime" / "spladelet" / "data" / "demo.jsonl"
BLOCK = re.compile(r"```sh\n(.*?)```\n\n```json\n(.*?)```", re.DOTALL)


def same(shown, found):
    """Say whether an answer is as shown: numbers to two digits, what is elided anything."""
    if isinstance(shown, str):
        return shown == found or shown == "…"
    if isinstance(shown, float) or isinstance(found, float):
        return found == pytest.approx(shown, abs=0.1)
    if isinstance(shown, dict):
        return shown.keys() == found.keys() and all(same(shown[k], found[k]) for k in shown)
    if isinstance(shown, list):
        return len(shown) == len(found) and all(map(same, shown, found))
    return shown == found


def values(text):
    """Read the JSON values of a text, one after another; None where one is cut off."""
    decoder, found, text = json.JSONDecoder(), [], text.strip()
    while text:
        try:
            value, end = decoder.raw_decode(text)
        except ValueError:
            return None
        found.append(value)
        text = text[end:].strip()
    return found


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_commands_of_the_page_print_what_it_shows(start, tmp_path, capsys):
    assert main(["index", str(DEMO), "-o", str(tmp_path / "demo-index")]) == 0
    capsys.readouterr()
    server = start(tmp_path / "demo-index", "--writable")
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) >= 6
    for command, shown in blocks:
        done = subprocess.run(
            ["bash", "-c", command.replace("localhost:8080", f"127.0.0.1:{server.port}")],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        expected, found = values(shown), values(done.stdout)
        if expected is None:  # cut off on purpose
            assert done.stdout[:8] == shown.strip()[:8], command
        else:
            assert same(expected, found), (command, done.stdout)
