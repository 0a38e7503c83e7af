"""A process that is forked while another thread loads something does not hang."""

import os

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
DELAYS = [0.01, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.45]

# One thread loads the model and encodes for the first time; meanwhile the process is forked, and
# the child does the same.
FORKED = """
import os, sys, threading, time
import spladelet

def work():
    encoder = spladelet.Encoder.load(threads=1)
    query = encoder.encode_query("cat")
    index = spladelet.Index.build(encoder.encode_documents(["the cat purrs"] * 3))
    assert len(index.search(query)) == 3

thread = threading.Thread(target=work)
thread.start()
time.sleep(float(sys.argv[1]))
child = os.fork()
if child == 0:
    work()
    os._exit(7)
end = time.monotonic() + 30
while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
    if time.monotonic() > end:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os._exit(1)
    time.sleep(0.005)
thread.join()
assert os.waitstatus_to_exitcode(done[1]) == 7
"""


@pytest.mark.parametrize("delay", DELAYS)
def test_a_fork_beside_a_first_load_can_load_too(run_python, delay):
    result = run_python(FORKED, delay)

    assert result.returncode == 0, result.stderr or "the child hangs"
