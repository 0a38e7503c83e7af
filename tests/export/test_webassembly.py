"""WebAssembly gives the same bits, by a bundle that was written for it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from spladelet.bundle.find import find_bundle
from spladelet_export import rewrite_bundle

MODULES = os.environ.get("SPLADELET_WEB", "")
PROGRAM = Path(__file__).with_name("webassembly.mjs")
pytestmark = [
    pytest.mark.skipif(not MODULES, reason="needs SPLADELET_WEB, a folder with onnxruntime-web"),
    pytest.mark.skipif(shutil.which("node") is None, reason="needs Node"),
]


def conformance(bundle):
    command = ["node", str(PROGRAM), MODULES, str(bundle), "40"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_the_default_model_written_for_it_gives_the_same_bits(tmp_path):
    made = rewrite_bundle(find_bundle(None).folder, tmp_path / "web", web=True)
    found = conformance(tmp_path / "web")

    assert "wasm" in made.alike_on
    assert found["checked"] >= 25
    assert found["differing"] == []


def test_without_that_it_does_not_so_that_nothing_promises_it():
    bundle = find_bundle(None)

    assert "wasm" not in bundle.description.alike_on
    assert conformance(bundle.folder)["differing"]
