"""What all tests share."""

import contextlib
import os
import tempfile
from pathlib import Path

import pytest

NOBODY = 65534


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk():
    """Have nothing wait until it lies on the disk: no test loses power.

    Tests of what is flushed, and when, put a function of their own here; the processes that tests
    start flush what they write.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not os.environ.get("SPLADELET_THOROUGH"):
            patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture
def unprivileged(tmp_path):
    """Return a context whose block is run by a user whom modes bind, also where root runs tests.

    What the block needs must have been imported before.
    """

    @contextlib.contextmanager
    def block():
        if os.geteuid() != 0:
            yield
            return
        top = Path(tempfile.gettempdir())
        parents = [folder for folder in (tmp_path, *tmp_path.parents) if top in folder.parents]
        modes = [folder.stat().st_mode for folder in parents]
        for folder in parents:
            folder.chmod(0o755)
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
            for folder, mode in zip(parents, modes, strict=True):
                folder.chmod(mode)

    return block
