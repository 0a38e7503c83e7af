"""The same vector on every processor: this one, and an emulated one without AVX-512 and VNNI.

On a processor with VNNI nothing saturates, so only the emulated run can show that the runtime
notices and does something about it.
"""

import json
import shutil
import subprocess
import sys

import pytest

QEMU = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
SCRIPT = """
import json
from spladelet import Encoder
from spladelet.session import _saturates

texts = [
    "The cat sat on the mat.",
    "how long do goldfish live",
    "Water expands by about nine percent as it turns to ice, which bursts pipes.",
    "attorney in court",
    "A tennis game runs from love to fifteen, thirty and forty, and the next point wins unless "
    "both sides are level at forty, called deuce.",
]
texts.append(" ".join(texts))
vectors = Encoder.load(threads=1).encode_documents(texts, progress=False)
print(json.dumps({
    "saturates": _saturates(),
    "term_ids": vectors.term_ids.tolist(),
    "weights": [weight.hex() for weight in vectors.weights.tolist()],
}))
"""


@pytest.mark.skipif(QEMU is None, reason="needs qemu-user-static; .ci/run installs it")
def test_vectors_are_bit_identical_on_a_processor_without_vnni():
    here = _run([sys.executable])
    haswell = _run([str(QEMU), "-cpu", "Haswell", sys.executable])

    assert haswell["saturates"], "the emulated processor does not saturate: the test shows nothing"
    assert haswell["term_ids"] == here["term_ids"]
    assert haswell["weights"] == here["weights"]


def _run(command: list[str]) -> dict[str, object]:
    done = subprocess.run(
        [*command, "-c", SCRIPT], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
