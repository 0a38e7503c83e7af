"""An index on disk: a fixed layout, saved wholly or not at all, and damage is found and named."""

import contextlib
import errno
import hashlib
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from runtime.index.small_index import (
    MODEL,
    QUERY,
    VOCAB,
    index_of,
    texts_of,
    the_manifest,
    the_segment,
)

from spladelet import Index
from spladelet.errors import IndexWriteError
from spladelet.index.format import FILES
from spladelet.index.segment_files import verify_index

# The key of {"place": 0}: its name, its type, 0 as a float with its sign bit turned, and no rest.
PLACE = b"place\0n" + bytes.fromhex("80000000000000008000000000000000")


@pytest.fixture
def folder(tmp_path):
    """Return the folder of a saved index of three documents, which QUERY finds in their order."""
    index_of("one", "two", "three ☃").save(tmp_path / "index")
    return tmp_path / "index"


def test_the_layout_on_disk_is_the_documented_one(folder):
    segment = the_segment(folder)

    assert sorted(path.name for path in folder.iterdir()) == ["generation-1.json", segment.name]
    assert sorted(path.name for path in segment.iterdir()) == sorted(FILES)
    arrays = {path.stem: np.load(path) for path in segment.glob("*.npy")}
    assert {name: (array.dtype, array.shape) for name, array in arrays.items()} == {
        "terms": (np.dtype("<i4"), (2,)),
        "offsets": (np.dtype("<i8"), (3,)),
        "numbers": (np.dtype("<i4"), (6,)),
        "impacts": (np.dtype("<f4"), (6,)),
        "scales": (np.dtype("<f4"), (2,)),
        "errors": (np.dtype("<f4"), (2,)),
        "numbers_crc": (np.dtype("<u4"), (2,)),
        "impacts_crc": (np.dtype("<u4"), (2,)),
        "document_offsets": (np.dtype("<i8"), (4,)),
        "documents_crc": (np.dtype("<u4"), (3,)),
        "id_hashes": (np.dtype("<u8"), (3,)),
        "id_numbers": (np.dtype("<i4"), (3,)),
        "metadata_keys": (np.dtype("u1"), (3 * len(PLACE),)),
        "metadata_key_offsets": (np.dtype("<i8"), (4,)),
        "metadata_offsets": (np.dtype("<i8"), (4,)),
        "metadata_numbers": (np.dtype("<i4"), (3,)),
    }
    assert arrays["terms"].tolist() == [1, 4]
    assert arrays["offsets"].tolist() == [0, 3, 6]
    assert arrays["numbers"].tolist() == [0, 1, 2, 0, 1, 2]
    assert arrays["impacts"].tolist() == [1, 1, 1, 3, 2, 1]
    assert (arrays["scales"].tolist(), arrays["errors"].tolist()) == ([1, 1], [0, 0])
    by_hash = [
        int.from_bytes(hashlib.blake2b(f"d{n}".encode(), digest_size=8).digest(), "little")
        for n in arrays["id_numbers"].tolist()
    ]
    assert arrays["id_hashes"].tolist() == by_hash == sorted(by_hash)
    lines = (segment / "documents.jsonl").read_bytes().splitlines(keepends=True)
    assert [json.loads(line) for line in lines] == [
        {"id": "d0", "text": "one", "metadata": {"place": 0}},
        {"id": "d1", "text": "two", "metadata": {"place": 1}},
        {"id": "d2", "text": "three ☃", "metadata": {"place": 2}},
    ]
    assert np.diff(arrays["document_offsets"]).tolist() == [len(line) for line in lines]
    assert arrays["documents_crc"].tolist() == [zlib.crc32(line) for line in lines]
    assert arrays["numbers_crc"].tolist() == [zlib.crc32(np.arange(3, dtype="<i4").data)] * 2
    assert bytes(arrays["metadata_keys"][: len(PLACE)]) == PLACE
    assert arrays["metadata_numbers"].tolist() == [0, 1, 2]


def test_the_manifest_is_the_documented_one(folder):
    segment = the_segment(folder)

    raw = json.loads(the_manifest(folder).read_text())
    stated = raw.pop("sha256")

    rest = json.dumps(raw, sort_keys=True, separators=(",", ":"))
    assert stated == hashlib.sha256(rest.encode()).hexdigest()
    assert raw == {
        "format": "spladelet-index",
        "format_version": 2,
        "generation": 1,
        "vocab_size": VOCAB,
        "model": MODEL,
        "model_name": "toy",
        "weights": "float32",
        "segments": [
            {
                "name": segment.name,
                "documents": 3,
                "postings": 6,
                "deleted": 0,
                "files": {
                    path.name: {
                        "size": path.stat().st_size,
                        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                    }
                    for path in segment.iterdir()
                },
            }
        ],
    }


def test_an_index_of_no_known_model_is_saved(tmp_path):
    index_of("one", model=None).save(tmp_path / "index")

    assert Index.open(tmp_path / "index").model is None


def test_a_save_replaces_the_index_and_counts_up(folder):
    first = the_segment(folder)
    for generation in (2, 3):
        index_of(f"save {generation}").save(folder)

        assert the_manifest(folder).name == f"generation-{generation}.json"
        assert the_segment(folder) != first
        assert texts_of(Index.open(folder)) == [f"save {generation}"]


def test_the_highest_generation_counts_and_not_the_last_name(folder):
    the_manifest(folder).rename(folder / "generation-9.json")
    index_of("new").save(folder)

    assert the_manifest(folder).name == "generation-10.json"
    assert texts_of(Index.open(folder)) == ["new"]


def test_an_index_opened_before_a_save_still_searches(folder):
    before = Index.open(folder)
    index_of("new").save(folder)

    assert [hit.text for hit in before.search(QUERY)] == ["one", "two", "three ☃"]


def test_an_opened_index_is_saved_over_itself_and_elsewhere(folder, tmp_path):
    opened = Index.open(folder)
    for place in (folder, tmp_path / "copy"):
        opened.save(place)

        assert texts_of(Index.open(place)) == ["one", "two", "three ☃"]
        verify_index(place)


def test_what_a_killed_writer_left_is_removed_by_the_next_save(folder):
    left = folder / f"segment-{'0' * 16}"
    shutil.copytree(the_segment(folder), left)
    (folder / f"generation-7-{'0' * 16}.tmp").write_text("{")
    index_of("new").save(folder)

    assert not left.exists()
    assert sorted(path.name for path in folder.iterdir()) == [
        "generation-2.json",
        the_segment(folder).name,
    ]


def test_a_folder_that_holds_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(IndexWriteError, match="exists and is not an index"):
        index_of("one").save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_not_replaced_by_an_index(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(IndexWriteError, match="exists and is not an index"):
        index_of("one").save(tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_an_empty_folder_is_taken(tmp_path):
    index_of("one").save(tmp_path)

    assert texts_of(Index.open(tmp_path)) == ["one"]


def test_things_of_others_in_an_index_are_left_alone(folder):
    (folder / "README.txt").write_text("mine")
    (folder / "segment-notes").mkdir()
    index_of("new").save(folder)

    assert (folder / "README.txt").read_text() == "mine"
    assert (folder / "segment-notes").is_dir()


# Saves documents that grow, in a process that may write no large file: as a full disk, it fails
# in the middle of a file.
FULL_DISK = """
import resource, signal, sys
from spladelet import Document, Index, SparseVector, SparseVectors
from spladelet.errors import IndexWriteError

size, limit, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rows = SparseVectors.from_rows([SparseVector([1, 4], [1.0, 1.0], 8)] * size, 8)
index = Index.build(rows, ["a text of some length"] * size)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    index.save(folder)
except IndexWriteError as error:
    sys.exit(str(error))
"""


# The limits stop the documents, the arrays and the manifest, which are written in this order.
@pytest.mark.parametrize(("size", "limit"), [(3000, 65536), (1, 140), (1, 1200)])
def test_a_full_disk_leaves_the_index_as_it_was(folder, run_python, size, limit):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    result = run_python(FULL_DISK, size, limit, folder)

    assert result.returncode == 1
    assert "cannot save" in result.stderr
    assert "The index that was there is intact." in result.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert texts_of(Index.open(folder)) == ["one", "two", "three ☃"]


@pytest.mark.parametrize(("size", "limit"), [(3000, 65536), (1, 1200)])
def test_a_full_disk_leaves_no_new_folder(tmp_path, run_python, size, limit):
    result = run_python(FULL_DISK, size, limit, tmp_path / "index")

    assert result.returncode == 1
    assert "Nothing was left behind." in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_disk_with_room_takes_the_same_index(tmp_path, run_python):
    # Guards the tests above: it is the limit that makes them fail, and nothing else.
    result = run_python(FULL_DISK, 3000, 10**9, tmp_path / "index")

    assert (result.returncode, result.stderr) == (0, "")
    assert len(Index.open(tmp_path / "index")) == 3000


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")])
def test_an_interrupt_behind_the_publication_leaves_a_complete_index(folder, monkeypatch, error):
    # No signal can be timed to come right there, so the last fsync raises what it would.
    flushed = []

    def interrupt_the_last(handle):
        if (folder / "generation-2.json").exists():
            flushed.append(stat.S_ISDIR(os.fstat(handle).st_mode))
            raise error

    monkeypatch.setattr(os, "fsync", interrupt_the_last)
    with pytest.raises((KeyboardInterrupt, IndexWriteError)):
        index_of("new").save(folder)

    assert flushed == [True]
    verify_index(folder)
    assert texts_of(Index.open(folder)) in (["new"], ["one", "two", "three ☃"])


def test_a_failed_save_removes_the_folders_above_too(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(IndexWriteError, match="Nothing was left behind"):
        index_of("new").save(tmp_path / "a" / "b" / "c")
    assert list(tmp_path.iterdir()) == []


# Saves versions 1, 2, 3… for ever; version v has v % 5 + 1 documents that all say "v".
ENDLESS_WRITER = """
import itertools, sys
from spladelet import Document, Index, SparseVector, SparseVectors

def version(number):
    size = number % 5 + 1
    rows = SparseVectors.from_rows([SparseVector([1, 4], [1.0, 1.0], 8)] * size, 8)
    return Index.build(rows, [str(number)] * size)

for number in itertools.count(1):
    version(number).save(sys.argv[1])
    if number == 1:
        print("saved", flush=True)
"""


@pytest.fixture
def kill_a_writer(tmp_path):
    """Return a function that starts a writer and kills it at a random moment of its work."""

    @contextlib.contextmanager
    def writer():
        command = [sys.executable, "-c", ENDLESS_WRITER, str(tmp_path / "index")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout.readline() == b"saved\n"
                yield
            finally:
                process.kill()

    def kill():
        with writer():
            time.sleep(random.uniform(0, 0.03))

    return kill


def test_a_killed_writer_leaves_a_complete_version(tmp_path, kill_a_writer):
    for _ in range(10):
        kill_a_writer()

        verify_index(tmp_path / "index")
        texts = texts_of(Index.open(tmp_path / "index"))
        assert texts == [texts[0]] * (int(texts[0]) % 5 + 1)

    index_of("new").save(tmp_path / "index")
    assert len(list((tmp_path / "index").iterdir())) == 2


def test_an_index_opens_while_it_is_replaced_again_and_again(tmp_path):
    command = [sys.executable, "-c", ENDLESS_WRITER, str(tmp_path / "index")]
    versions = set()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            while len(versions) < 20:
                assert process.poll() is None
                index = Index.open(tmp_path / "index")
                texts = texts_of(index)
                assert len(index.search(QUERY)) == len(texts)
                assert texts == [texts[0]] * (int(texts[0]) % 5 + 1)
                versions.add(texts[0])
        finally:
            process.kill()
