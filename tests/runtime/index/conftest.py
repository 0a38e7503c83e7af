"""Indexes on disk, of which each test has its own."""

import pytest
from runtime.index.small_index import fill


@pytest.fixture
def folder(tmp_path):
    """Return the folder of an index of three documents that are equally near to each query."""
    fill(tmp_path / "index", ["a", "b", "c"])
    return tmp_path / "index"
