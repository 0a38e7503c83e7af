"""Files that are written whole or not at all."""

import errno
import hashlib
import os
import tracemalloc

import pytest

from spladelet.errors import InputError
from spladelet.files import digest_of, open_regular, read_at_most, replacing


def write(path, content=b"new"):
    with replacing(path) as file:
        file.write(content)


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_links_target_is_replaced_and_a_circle_is_named(tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"

    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OSError, match="circle") as caught:
        write(tmp_path / "circle")
    assert caught.value.errno == errno.ELOOP


@pytest.mark.parametrize("name", ["a\0b"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="no file can be named"):
        write(tmp_path / name)


def test_a_file_that_has_grown_is_hashed_up_to_its_size(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    expected = hashlib.sha256(b"12345").hexdigest()
    os.truncate(tmp_path / "file", 1 << 40)

    with open_regular(tmp_path / "file") as file:
        assert digest_of(file, 5) == expected


@pytest.mark.parametrize(
    ("limit", "expected"), [(3, b"con"), (7, b"content"), (1 << 28, b"content")]
)
def test_a_limit_takes_no_memory(tmp_path, limit, expected):
    (tmp_path / "file").write_bytes(b"content")
    tracemalloc.start()
    with open(tmp_path / "file", "rb") as file:
        assert read_at_most(file, limit) == expected
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
