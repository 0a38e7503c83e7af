"""The same vector on every processor, with every release of ONNX Runtime that the package admits.

And where its weights come from is the same, too.

Releases times processors, against one conformance file: this processor, an emulated one without
AVX-512 and VNNI, and an emulated ARM. On a processor with VNNI nothing saturates, so only the
emulated run can show that the runtime notices and does something about it; and that something has
ended the process with ten releases, so each is tried.
"""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import spladelet

QEMU = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
RELEASES = Path(os.environ.get("SPLADELET_ONNXRUNTIMES", ""))
INSTALLED = "installed"
SHORT, LONG = 16, 1_000_000  # tokens
ARM = os.environ.get("SPLADELET_AARCH64", "")
QEMU_ARM = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
RUNTIME = Path(spladelet.__file__).parents[1]
# Of the conformance file's texts, those that emulation takes no minutes for.
SCRIPT = """
import json
import platform
import sys
limit = int(sys.argv[1])
sys.path[:0] = sys.argv[2:]
from spladelet import Encoder
from spladelet.bundle.find import find_bundle
from spladelet.encoder.conformance import check_conformance
from spladelet.encoder.session import _saturates
import onnxruntime

text = "Water expands by about nine percent as it turns to ice, which bursts pipes."
encoder = Encoder.load(threads=1)
vector = encoder.encode_document(text)
terms = encoder.explain_terms(text)
assert {term.term_id: term.weight for term in terms} == vector.to_dict()
checked = check_conformance(find_bundle(None), longest=limit)
print(json.dumps({
    "release": onnxruntime.__version__,
    "machine": platform.machine(),
    "saturates": _saturates(),
    "checked": checked.vectors,
    "differing": [str(mismatch) for mismatch in checked.mismatches],
    "sources": [(term.term, term.source.word) for term in terms],
}))
"""


def releases():
    if not os.environ.get("SPLADELET_ONNXRUNTIMES"):
        reason = "needs SPLADELET_ONNXRUNTIMES, a folder that .ci/onnxruntimes fills"
        return [pytest.param("others", marks=pytest.mark.skip(reason=reason))]
    found = [path.name for path in RELEASES.iterdir() if path.is_dir()]
    return sorted(found, key=lambda name: [int(number) for number in name.split(".")])


def test_vectors_are_those_of_the_bundles_conformance_file():
    assert _run(INSTALLED)["differing"] == []


@pytest.mark.parametrize("release", releases())
def test_every_release_gives_them(release):
    found = _run(release)

    assert found["differing"] == []
    assert found["sources"] == _run(INSTALLED)["sources"]


@pytest.mark.skipif(QEMU is None, reason="needs qemu-user-static; .ci/run installs it")
@pytest.mark.parametrize("release", [INSTALLED, *releases()])
def test_a_processor_without_vnni_gives_them_with_every_release(release):
    haswell = _run(release, str(QEMU), "-cpu", "Haswell")

    assert haswell["saturates"], "the emulated processor does not saturate: the test shows nothing"
    assert haswell["differing"] == []
    assert haswell["sources"] == _run(INSTALLED)["sources"]


@pytest.mark.skipif(not ARM, reason="needs SPLADELET_AARCH64, a folder that .ci/aarch64 fills")
@pytest.mark.skipif(QEMU_ARM is None, reason="needs qemu-user-static; .ci/run installs it")
# With and without the instructions for int8 that ONNX Runtime asks for.
@pytest.mark.parametrize("processor", ["neoverse-n1", "max"])
def test_arm_gives_them(processor):
    place = Path(ARM)
    python = [str(QEMU_ARM), "-cpu", processor, "-L", str(place / "root")]
    python += [str(place / "root" / "usr" / "bin" / "python3"), "-S"]
    found = _encode(python, str(place / "site"), str(RUNTIME))

    assert found["machine"] == "aarch64"
    assert found["differing"] == []
    assert found["sources"] == _run(INSTALLED)["sources"]


@cache
def _run(release, *emulator):
    """Encode in a process of its own, which finds a release before the one that is installed."""
    place = [] if release == INSTALLED else [str(RELEASES / release)]
    found = _encode([*emulator, sys.executable], *place)
    assert release in (INSTALLED, found["release"]), "another release was imported"
    return found


def _encode(python, *places):
    emulated = len(python) > 1
    # The names of an x86 processor's kernels end an ARM one.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    done = subprocess.run(
        [*python, "-c", SCRIPT, str(SHORT if emulated else LONG), *places],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["checked"] >= 60
    return found
