"""A bundle's .zip: refused if damaged, unpacked once, and found again whatever happens."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile

import pytest

from spladelet import Encoder
from spladelet.bundle.archive import Archive
from spladelet.bundle.description import (
    CONFORMANCE,
    DESCRIPTION,
    EXPLAIN,
    GRAPH,
    GRAPH_DATA,
    SATURATION,
    TOKENIZER,
    TOKENIZER_CONFIG,
)
from spladelet.bundle.folder import Bundle
from spladelet.errors import BundleFileError, BundleNotFoundError
from spladelet.files import FileEntry

TEXT = "The cat purrs on the windowsill."
NEEDED = {DESCRIPTION, GRAPH, GRAPH_DATA, TOKENIZER}
NAMES = {*NEEDED, CONFORMANCE, EXPLAIN, SATURATION, TOKENIZER_CONFIG}
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")


@pytest.fixture
def folder(copy_bundle):
    return copy_bundle()


def pack(folder, archive, top="", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(archive, "w", compression) as packed:
        for file in folder.iterdir():
            packed.write(file, top + file.name)
    return archive


@pytest.fixture
def archive(bundle_folder, tmp_path):
    return pack(bundle_folder, tmp_path / "model.zip")


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("top", ["", "my-model/"])
def test_a_zip_encodes_as_its_folder_does(encoder, bundle_folder, tmp_path, top):
    archive = pack(bundle_folder, tmp_path / "model.zip", top)

    zipped = Encoder.load(archive)

    assert zipped.fingerprint == encoder.fingerprint
    assert zipped.encode_document(TEXT) == encoder.encode_document(TEXT)


def test_a_zip_is_unpacked_once_to_a_folder_of_the_cache(archive, own_cache):
    first = Bundle.open(archive)
    written = {file: file.stat().st_mtime_ns for file in files_in(own_cache)}
    again = Bundle.open(archive)

    assert again.folder == first.folder
    assert first.folder.is_relative_to(own_cache / "bundles")
    assert {file.name for file in written} == NAMES
    assert {file: file.stat().st_mtime_ns for file in files_in(own_cache)} == written
    assert Bundle.open(first.folder).verify() == ()


def test_what_is_unpacked_stays_where_it_is(archive):
    bundle = Bundle.open(archive)
    unpacked = bundle.folder

    del bundle

    assert (unpacked / GRAPH).is_file()


def test_bundles_of_one_fingerprint_and_two_names_are_two(folder, redescribe, tmp_path):
    first = Bundle.open(pack(folder, tmp_path / "first.zip"))
    redescribe(folder, name="another")
    second = Bundle.open(pack(folder, tmp_path / "second.zip"))

    assert first.fingerprint == second.fingerprint
    assert second.description.name == Bundle.open(second.folder).description.name == "another"


@pytest.mark.parametrize("name", sorted(NAMES))
@pytest.mark.parametrize("damage", ["removed", "truncated"])
def test_a_damaged_copy_is_unpacked_anew(archive, name, damage):
    copy = Bundle.open(archive).folder / name
    content = copy.read_bytes()
    copy.unlink()
    if damage == "truncated":
        copy.write_bytes(content[:-1])

    Bundle.open(archive)

    assert copy.read_bytes() == content


def test_a_folder_in_the_place_of_a_copy_says_what_to_remove(archive):
    copy = Bundle.open(archive).folder / TOKENIZER
    copy.unlink()
    (copy / "inner").mkdir(parents=True)

    with pytest.raises(BundleFileError, match=r"cannot be unpacked to .*Remove that folder"):
        Bundle.open(archive)


def test_a_truncated_zip_is_refused_and_leaves_nothing(archive, own_cache):
    archive.write_bytes(archive.read_bytes()[:-1000])

    with pytest.raises(BundleFileError, match="damaged"):
        Bundle.open(archive)
    assert files_in(own_cache) == []


def test_a_changed_byte_in_a_zip_is_refused_and_leaves_nothing(folder, archive, own_cache):
    content = bytearray(archive.read_bytes())
    content[content.index((folder / TOKENIZER).read_bytes()[:1000]) + 500] ^= 1
    archive.write_bytes(bytes(content))

    with pytest.raises(BundleFileError, match=f"damaged.*{TOKENIZER}"):
        Bundle.open(archive)
    assert files_in(own_cache) == []


def test_content_of_another_hash_is_refused_and_leaves_nothing(
    folder, tmp_path, overwrite, own_cache
):
    content = bytearray((folder / TOKENIZER).read_bytes())
    content[len(content) // 2] ^= 1
    overwrite(folder / TOKENIZER, bytes(content))

    with pytest.raises(BundleFileError, match=f"{TOKENIZER} has sha256"):
        Bundle.open(pack(folder, tmp_path / "model.zip"))
    assert files_in(own_cache) == []


def test_verify_reads_the_zip_and_its_copy(folder, archive):
    bundle = Bundle.open(archive)
    assert bundle.verify() == ()
    whole = archive.read_bytes()
    place = whole.index((folder / TOKENIZER).read_bytes()[:1000]) + 500
    archive.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(BundleFileError, match=f"damaged.*{TOKENIZER}"):
        Bundle.open(archive).verify()

    archive.write_bytes(whole)
    copy = bytearray((bundle.folder / TOKENIZER).read_bytes())
    copy[500] ^= 1
    (bundle.folder / TOKENIZER).write_bytes(copy)
    with pytest.raises(BundleFileError, match=f"{TOKENIZER}, which was unpacked from .*is removed"):
        Bundle.open(archive).verify()
    assert Bundle.open(archive).verify() == ()  # unpacked anew


def test_the_description_nearest_to_the_top_counts(bundle_folder, tmp_path):
    archive = pack(bundle_folder, tmp_path / "model.zip", "a-long-name/")
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr("x/y/spladelet.json", "{}")

    assert Bundle.open(archive).description.name == "default"


def test_files_in_a_zip_that_are_not_listed_are_named_and_not_unpacked(bundle_folder, tmp_path):
    archive = pack(bundle_folder, tmp_path / "model.zip", "top/")
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr("top/model.onnx_data", b"weights")
        packed.writestr("other/README.md", b"not of the bundle")
    bundle = Bundle.open(archive)

    assert bundle.verify() == ("model.onnx_data",)
    assert {file.name for file in bundle.folder.iterdir()} == NAMES


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compressed_zip_that_is_damaged_is_refused(folder, tmp_path, compression, own_cache):
    (folder / GRAPH_DATA).unlink(missing_ok=True)  # comes after the damage, and takes long
    archive = pack(folder, tmp_path / "model.zip", compression=compression)
    content = bytearray(archive.read_bytes())
    place = content.index(TOKENIZER.encode()) + 5000
    content[place : place + 50] = bytes(byte ^ 0xFF for byte in content[place : place + 50])
    archive.write_bytes(bytes(content))

    with pytest.raises(BundleFileError):
        Bundle.open(archive)
    assert files_in(own_cache) == []


def test_an_encrypted_zip_is_refused(archive):
    content = archive.read_bytes()
    for head, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        parts = content.split(head)
        offset = flags - len(head)
        content = head.join(
            [parts[0], *(p[:offset] + bytes([p[offset] | 1]) + p[offset + 1 :] for p in parts[1:])]
        )
    archive.write_bytes(content)

    with pytest.raises(BundleFileError, match="encrypted"):
        Bundle.open(archive)


def test_a_zip_whose_file_has_another_size_than_listed_is_refused(folder, tmp_path, overwrite):
    overwrite(folder / TOKENIZER, b"{}")

    with pytest.raises(BundleFileError, match=f"{TOKENIZER} has 2 bytes, expected"):
        Bundle.open(pack(folder, tmp_path / "model.zip"))


def test_a_zip_that_lacks_a_file_is_refused(folder, tmp_path):
    (folder / GRAPH).unlink()

    with pytest.raises(BundleFileError, match=f"{GRAPH} is missing"):
        Bundle.open(pack(folder, tmp_path / "model.zip"))


def test_a_zip_without_description_is_no_bundle(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as packed:
        packed.writestr("notes.txt", "hello")

    with pytest.raises(BundleNotFoundError, match="it is not a bundle"):
        Bundle.open(tmp_path / "other.zip")


def test_a_zip_writes_nothing_outside_its_folder(folder, redescribe, tmp_path, own_cache):
    (folder / "evil").write_bytes(b"evil")
    files = Bundle.open(folder).description.files
    redescribe(folder, files={**files, "../evil": FileEntry.of(folder / "evil")})
    archive = tmp_path / "model.zip"
    with zipfile.ZipFile(pack(folder, archive), "a") as packed:
        packed.writestr("../evil", b"evil")

    with pytest.raises(BundleFileError, match="leads out of"):
        Bundle.open(archive)
    assert files_in(own_cache) == []


def test_a_file_that_is_no_zip_is_no_bundle(bundle_folder):
    with pytest.raises(BundleFileError, match=r"is no \.zip"):
        Bundle.open(bundle_folder / TOKENIZER)


def test_a_terabyte_of_nothing_is_no_zip(tmp_path):
    (tmp_path / "model.zip").write_bytes(b"")
    os.truncate(tmp_path / "model.zip", 1 << 40)

    with pytest.raises(BundleFileError, match=r"is no \.zip"):
        Bundle.open(tmp_path / "model.zip")


def test_a_list_of_files_that_would_fill_the_memory_is_not_read(tmp_path):
    end = bytearray(b"PK\x05\x06" + bytes(18))
    end[12:16] = (1 << 31).to_bytes(4, "little")
    (tmp_path / "model.zip").write_bytes(b"")
    os.truncate(tmp_path / "model.zip", 1 << 32)
    with (tmp_path / "model.zip").open("ab") as file:
        file.write(end)

    with pytest.raises(BundleFileError, match=f"its list of files has {1 << 31} bytes"):
        Bundle.open(tmp_path / "model.zip")


# Where it is unpacked to, if the cache is not ours or cannot be written.


@pytest.fixture
def fallback(tmp_path, monkeypatch):
    """Return the folder for temporary files of this test."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def in_the_way(kind, place):
    place.parent.mkdir(parents=True)
    if kind == "file":
        place.write_bytes(b"")
    elif kind == "link":
        (place.parent / "target").mkdir()
        place.symlink_to("target")
    else:
        place.mkdir()
        place.chmod(0o777)


KINDS = ["file", "link", "writable by all"]


@pytest.mark.skipif(os.name == "nt", reason="Windows gives each user folders of their own")
@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_that_is_not_ours_alone_is_not_used(archive, own_cache, fallback, kind):
    in_the_way(kind, own_cache / "bundles")

    bundle = Bundle.open(archive)

    assert bundle.verify() == ()
    assert bundle.folder.is_relative_to(fallback)
    assert not [file for file in files_in(own_cache) if file.name in NAMES]
    assert Bundle.open(archive).folder == bundle.folder


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives away")
def test_a_cache_of_another_user_is_not_used(archive, own_cache, fallback):
    (own_cache / "bundles").mkdir(parents=True, mode=0o755)
    os.chown(own_cache / "bundles", 12345, 12345)

    assert Bundle.open(archive).folder.is_relative_to(fallback)


@pytest.mark.skipif(os.name == "nt", reason="Windows gives each user folders of their own")
def test_where_nothing_can_be_written_the_message_says_what_to_do(archive, own_cache, fallback):
    in_the_way("file", own_cache / "bundles")
    fallback.rmdir()
    fallback.write_bytes(b"")

    with pytest.raises(BundleFileError, match="Set SPLADELET_CACHE"):
        Bundle.open(archive)


# Other processes.

OPEN = """
import sys
from spladelet.bundle import Bundle
from spladelet.errors import BundleFileError

try:
    print(Bundle.open(sys.argv[1]).folder)
except BundleFileError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def folder_of(run_python):
    """Return a function that opens an archive in a new process and says where it is unpacked."""

    def run(archive, before="", **env):
        result = run_python(before + OPEN, archive, env=env)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    return run


def test_without_a_home_that_can_be_written_the_temporary_folder_serves(
    archive, folder_of, tmp_path
):
    (tmp_path / "home").write_bytes(b"")  # a file: whoever we are, no folder can be made in it
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    env = dict.fromkeys(["HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"], str(tmp_path / "home" / "me"))
    env |= dict.fromkeys(["TMPDIR", "TEMP"], str(temporary)) | {"SPLADELET_CACHE": ""}

    first = folder_of(archive, **env)

    assert first.startswith(str(temporary))
    assert folder_of(archive, **env) == first


def test_processes_that_unpack_at_once_all_succeed(archive, own_cache):
    command = [sys.executable, "-c", OPEN, str(archive)]
    count = 12 if os.environ.get("SPLADELET_THOROUGH") else 4
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") for _ in range(count)
    ]
    folders = {process.communicate(timeout=100)[0].strip() for process in running}

    assert [process.returncode for process in running] == [0] * count
    assert len(folders) == 1
    assert {file.name for file in files_in(own_cache)} == NAMES
    assert Bundle.open(archive).verify() == ()


# Kills the process that opens an archive in the middle of its work: at the second call.
KILLED = """
import os, signal
calls = []

def kill(*_):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*_)

original = {0}
{0} = kill
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("step", ["os.fsync", "os.replace"])
def test_a_process_killed_in_the_middle_leaves_nothing_that_is_taken_for_whole(
    archive, own_cache, run_python, step
):
    assert run_python(KILLED.format(step) + OPEN, archive).returncode == -9
    (aside,) = (own_cache / "bundles").glob("*.tmp")

    bundle = Bundle.open(archive)

    assert bundle.verify() == ()
    assert aside.exists()  # somebody might still be writing there
    long_ago = time.time() - 7200
    for path in (aside, *aside.rglob("*")):
        os.utime(path, (long_ago, long_ago))
    (bundle.folder / TOKENIZER).unlink()
    Bundle.open(archive)
    assert not aside.exists()


FULL_DISK = """
import resource

resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit for a process's files")
def test_a_full_disk_is_an_error_and_leaves_nothing(archive, own_cache, run_python):
    result = run_python(FULL_DISK + OPEN, archive)

    assert result.returncode == 1
    assert "cannot be unpacked" in result.stderr
    assert "set SPLADELET_CACHE to another" in result.stderr
    assert files_in(own_cache) == []


CHILD_ENDS = """
import os, sys
from spladelet import Encoder

encoder = Encoder.load(sys.argv[1])
child = os.fork()
if child == 0:
    sys.exit()  # as a server's worker ends, exit handlers included
assert os.waitpid(child, 0)[1] == 0
encoder.encode_query("cat")
"""

PARENT_ENDS = """
import os, sys
from spladelet import Encoder

encoder = Encoder.load(sys.argv[1])
here, there = os.pipe()
if os.fork():
    sys.exit()  # as a server goes into the background, exit handlers included
os.close(there)
os.read(here, 1)  # until the parent is gone
print(encoder.encode_query("cat").active_dims > 0)
"""


@needs_fork
@pytest.mark.parametrize(("code", "printed"), [(CHILD_ENDS, ""), (PARENT_ENDS, "True\n")])
def test_the_end_of_one_process_leaves_the_other_its_unpacked_zip(
    archive, run_python, code, printed
):
    result = run_python(code, archive)

    assert (result.returncode, result.stdout) == (0, printed), result.stderr


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 15)"])
def test_processes_that_end_without_clearing_up_leave_nothing_that_grows(
    archive, own_cache, run_python, tmp_path, end
):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    env = dict.fromkeys(["TMPDIR", "TEMP"], str(temporary))
    for _ in range(3):
        run_python(f"import os\n{OPEN}\n{end}", archive, env=env)

    assert files_in(temporary) == []
    assert {file.name for file in files_in(own_cache)} == NAMES
    assert len(files_in(own_cache)) == len(NAMES)


def test_an_archive_says_what_it_holds(archive):
    with Archive.open(archive, DESCRIPTION) as opened:
        assert opened.head == DESCRIPTION
        assert {*opened.names()} == {*NAMES, "README.md"}
        assert json.loads(opened.description())["format"] == "spladelet-bundle"
        assert opened.description_size() == len(opened.description())


def test_deleting_the_cache_is_safe(archive, own_cache):
    Bundle.open(archive)
    shutil.rmtree(own_cache)

    assert Bundle.open(archive).verify() == ()
