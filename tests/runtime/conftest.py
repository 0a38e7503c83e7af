"""What several test files share: the default model, copies of its bundle, and other processes."""

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

from spladelet import Encoder, Index, SparseVectors
from spladelet.bundle.description import DESCRIPTION, Description
from spladelet.bundle.find import find_bundle
from spladelet.files import FileEntry

# Other work may share the machine, so an example may take any time; and the folder that tests are
# started from stays clean.
_home = tempfile.TemporaryDirectory(prefix="hypothesis-")
set_hypothesis_home_dir(_home.name)
settings.register_profile("spladelet", deadline=None, database=None, max_examples=60)
settings.load_profile("spladelet")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Have each test, and the processes it starts, unpack archives to a folder of its own."""
    monkeypatch.setenv("SPLADELET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def encoder():
    return Encoder.load()


@pytest.fixture
def one_model(encoder, monkeypatch):
    """Have a test's commands use the default model that is loaded already."""
    load = Encoder.load

    def loaded(model=None, *, revision=None, threads=None):
        if (model, revision, threads) == (None, None, None):
            return encoder
        return load(model, revision=revision, threads=threads)

    monkeypatch.setattr(Encoder, "load", loaded)


@pytest.fixture(scope="session")
def bundle_folder():
    return find_bundle(None).folder


@pytest.fixture
def data():
    return Path(__file__).parents[1] / "data"


@pytest.fixture
def copy_bundle(bundle_folder, tmp_path):
    """Return a function that makes a copy of the default bundle, to be changed by `overwrite`."""

    def copy(name="bundle"):
        folder = tmp_path / name
        folder.mkdir()
        for file in bundle_folder.iterdir():
            _link(file, folder / file.name)
        return folder

    return copy


@pytest.fixture
def overwrite():
    """Return a function that writes a file anew, because a copy's files are links to the model."""
    return _overwrite


@pytest.fixture
def redescribe():
    """Return a function that changes fields of a bundle's description, fingerprint included."""

    def change(folder, **fields):
        file = folder / DESCRIPTION
        description = Description.from_json(file.read_bytes(), str(file))
        changed = replace(description, **fields)
        _overwrite(file, changed.to_json().encode())
        return changed

    return change


@pytest.fixture
def replace_file(redescribe):
    """Return a function that changes a bundle's file and has the description agree with it."""

    def change(folder, name, content):
        _overwrite(folder / name, content)
        file = folder / DESCRIPTION
        files = Description.from_json(file.read_bytes(), str(file)).files
        redescribe(folder, files={**files, name: FileEntry.of(folder / name)})

    return change


@pytest.fixture
def large_index():
    """Return an index of 1,100 documents and 500 terms whose lists are mapped when it is opened."""
    ids = np.tile(np.arange(500, dtype=np.int32), 1100)
    offsets = np.arange(0, len(ids) + 1, 500, dtype=np.int64)
    return Index.build(SparseVectors(offsets, ids, np.ones(len(ids), np.float32), 500))


@pytest.fixture
def run_python():
    """Return a function that runs code in a new process; the time limit is for hangs only."""

    def run(code, *arguments, env=None, timeout=120):
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
            env={**os.environ, **(env or {})},
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )

    return run


def _link(source, target):
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copyfile(source, target)


def _overwrite(file, content):
    file.unlink(missing_ok=True)
    file.write_bytes(content)
