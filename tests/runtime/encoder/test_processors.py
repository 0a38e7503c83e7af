"""The same vector on every processor, with every release of ONNX Runtime that the package admits.

And where its weights come from is the same, too.

Releases times processors: this one, and an emulated one without AVX-512 and VNNI. On a processor
with VNNI nothing saturates, so only the emulated run can show that the runtime notices and does
something about it; and that something has ended the process with ten releases, so each is tried.
"""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

QEMU = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
RELEASES = Path(os.environ.get("SPLADELET_ONNXRUNTIMES", ""))
INSTALLED = "installed"
# LayerNormalization differs from 1.26 to 1.27 and from 1.29 to 1.30; one 8-bit step more or less
# then makes up to 0.11 of a weight, and up to 5 % of a text.
ONE_WEIGHT, ALL_WEIGHTS = 0.15, 0.06
SCRIPT = """
import json
import sys
sys.path[:0] = sys.argv[1:]
from spladelet import Encoder
from spladelet.encoder.session import _saturates
import onnxruntime

texts = [
    "The cat sat on the mat.",
    "how long do goldfish live",
    "Water expands by about nine percent as it turns to ice, which bursts pipes.",
    "attorney in court",
    "A tennis game runs from love to fifteen, thirty and forty, and the next point wins unless "
    "both sides are level at forty, called deuce.",
]
texts.append(" ".join(texts))
encoder = Encoder.load(threads=1)
vectors = encoder.encode_documents(texts, progress=False)
terms = encoder.explain_terms(texts[2])
assert {term.term_id: term.weight for term in terms} == vectors[2].to_dict()
print(json.dumps({
    "release": onnxruntime.__version__,
    "saturates": _saturates(),
    "sources": [(term.term, term.source.word) for term in terms],
    "vectors": [
        dict(zip(map(str, v.term_ids.tolist()), map(float.hex, v.weights.tolist())))
        for v in vectors
    ],
}))
"""


def releases():
    if not os.environ.get("SPLADELET_ONNXRUNTIMES"):
        reason = "needs SPLADELET_ONNXRUNTIMES, a folder that .ci/onnxruntimes fills"
        return [pytest.param("others", marks=pytest.mark.skip(reason=reason))]
    found = [path.name for path in RELEASES.iterdir() if path.is_dir()]
    return sorted(found, key=lambda name: [int(number) for number in name.split(".")])


@pytest.mark.skipif(QEMU is None, reason="needs qemu-user-static; .ci/run installs it")
@pytest.mark.parametrize("release", [INSTALLED, *releases()])
def test_vectors_are_bit_identical_on_a_processor_without_vnni(release):
    here = _run(release)
    haswell = _run(release, str(QEMU), "-cpu", "Haswell")

    assert haswell["saturates"], "the emulated processor does not saturate: the test shows nothing"
    assert haswell["vectors"] == here["vectors"]
    assert haswell["sources"] == here["sources"]


@pytest.mark.parametrize("release", releases())
def test_every_release_gives_nearly_the_same_vectors(release):
    for ours, theirs in zip(_dense(release), _dense(INSTALLED), strict=True):
        difference = np.abs(ours - theirs)

        assert difference.max() <= ONE_WEIGHT
        assert difference.sum() <= ALL_WEIGHTS * theirs.sum()


def _dense(release):
    rows = np.zeros((len(_run(release)["vectors"]), 30522))
    for row, vector in zip(rows, _run(release)["vectors"], strict=True):
        row[[int(term) for term in vector]] = [float.fromhex(w) for w in vector.values()]
    return rows


@cache
def _run(release, *emulator):
    """Encode in a process of its own, which finds a release before the one that is installed."""
    place = [] if release == INSTALLED else [str(RELEASES / release)]
    done = subprocess.run(
        [*emulator, sys.executable, "-c", SCRIPT, *place],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert release in (INSTALLED, found["release"]), "another release was imported"
    return found
