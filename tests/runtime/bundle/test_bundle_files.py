"""Files that others may have made: pipes, devices, files that grow, and what may not be read."""

import os

import pytest

from spladelet.bundle.bundle_files import file_size, inside, read_file, refusals
from spladelet.errors import BundleFileError


def test_a_file_is_read_up_to_the_limit(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")

    assert file_size(tmp_path / "file") == 5
    assert read_file(tmp_path / "file", 5) == b"12345"
    with pytest.raises(BundleFileError, match="has 5 bytes; at most 4 are read"):
        read_file(tmp_path / "file", 4)


def test_what_is_not_there_has_no_size(tmp_path):
    (tmp_path / "file").write_bytes(b"")

    assert file_size(tmp_path / "none") is None
    assert file_size(tmp_path / "file" / "none") is None
    with pytest.raises(BundleFileError, match="none cannot be read: No such file"):
        read_file(tmp_path / "none", 5)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(BundleFileError, match="pipe is a pipe, expected a file"):
        read_file(tmp_path / "pipe", 5)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no such device on this system")
def test_a_device_is_not_read(tmp_path):
    (tmp_path / "file").symlink_to("/dev/zero")

    with pytest.raises(BundleFileError, match="file is a device, expected a file"):
        read_file(tmp_path / "file", 5)


@pytest.mark.parametrize("name", ["a\0b", "a" * 5000])
def test_a_path_that_can_be_none_is_a_bundle_error(tmp_path, name):
    with pytest.raises(BundleFileError, match="cannot be read"):
        file_size(tmp_path / name)


def test_an_interrupt_is_no_refusal(tmp_path):
    with pytest.raises(KeyboardInterrupt), refusals(tmp_path):
        raise KeyboardInterrupt


def test_a_link_that_leads_out_says_how_to_copy(tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / "bundle" / "file").symlink_to("../elsewhere")

    with pytest.raises(BundleFileError, match=r"leads out of the bundle, to .*cp -rL"):
        inside(tmp_path / "bundle", "file")
