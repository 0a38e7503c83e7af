"""What tests of encoding share: the default model, made one of another query mode."""

from dataclasses import replace

import numpy as np
import pytest

from spladelet.bundle.description import CONFORMANCE, DESCRIPTION, QUERY_WEIGHTS, Description
from spladelet.bundle.folder import Bundle
from spladelet.files import FileEntry


@pytest.fixture
def list_anew(overwrite):
    """Return a function that writes an auxiliary file and has the description agree with it."""

    def change(folder, content, name=CONFORMANCE):
        overwrite(folder / name, content)
        description = Description.from_json((folder / DESCRIPTION).read_bytes(), "here")
        listed = {**description.auxiliary, name: FileEntry.of(folder / name)}
        changed = replace(description, auxiliary=listed)
        overwrite(folder / DESCRIPTION, changed.to_json().encode())

    return change


@pytest.fixture
def of_mode(copy_bundle, redescribe):
    """Return a function that makes the default model one of another query mode."""

    def make(mode, **changes):
        folder = copy_bundle(mode)
        description = Bundle.open(folder).description
        files = dict(description.files)
        if mode in ("idf", "lexical"):
            table = np.random.default_rng(5).random(description.vocab_size, np.float32)
            table[::3] = 0
            np.save(folder / QUERY_WEIGHTS, table)
            files[QUERY_WEIGHTS] = FileEntry.of(folder / QUERY_WEIGHTS)
        if mode == "separate":
            (folder / "query").mkdir()
            for name in list(files):
                (folder / "query" / name).hardlink_to(folder / name)
                files[f"query/{name}"] = files[name]
        redescribe(folder, query_mode=mode, files=files, **changes)
        return folder

    return make
