"""An index on disk: a fixed layout, saved wholly or not at all, and damage is found and named."""

import contextlib
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from spladelet import Document, Index, SparseVector, SparseVectors
from spladelet.errors import IndexFormatError, IndexWriteError
from spladelet.store import is_index, verify_index

VOCAB = 6
QUERY = SparseVector([1, 4], [1.0, 2.0], VOCAB)


def index_of(*texts, model="m" * 64):
    """Build an index in which QUERY finds every document, the first one first."""
    count = len(texts)
    rows = [SparseVector([1, 4], [1.0, count - n], VOCAB, model) for n in range(count)]
    documents = [Document(f"d{n}", text) for n, text in enumerate(texts)]
    return Index.build(SparseVectors.from_rows(rows, VOCAB, model), documents, model_name="toy")


def texts_of(index):
    return [index.document(number).text for number in range(len(index))]


@pytest.fixture
def folder(tmp_path):
    """Return the folder of a saved index of three documents."""
    folder = tmp_path / "index"
    index_of("one", "two", "three ☃").save(folder)
    return folder


def the_manifest(folder):
    (manifest,) = folder.glob("generation-*.json")
    return manifest


def the_segment(folder):
    (segment,) = folder.glob("segment-*")
    return segment


@pytest.fixture
def damage(folder):
    """Return a function that replaces a file of the segment; the manifest agrees if wanted."""

    def replace(name, content, *, agree=True):
        (the_segment(folder) / name).write_bytes(content)
        if agree:
            raw = json.loads(the_manifest(folder).read_text())
            digest = hashlib.sha256(content).hexdigest()
            raw["segments"][0]["files"][name] = {"size": len(content), "sha256": digest}
            the_manifest(folder).write_text(json.dumps(raw))

    return replace


@pytest.fixture
def damage_array(damage, tmp_path):
    """Return a function that replaces an array of the segment, the manifest agreeing."""

    def replace(name, array, *, allow_pickle=False):
        np.save(tmp_path / name, array, allow_pickle=allow_pickle)
        damage(name, (tmp_path / name).read_bytes())

    return replace


@pytest.fixture
def edit_manifest(folder):
    """Return a function that changes fields of the manifest, and of its segment."""

    def edit(segment=None, **fields):
        raw = json.loads(the_manifest(folder).read_text()) | fields
        raw["segments"] = [entry | (segment or {}) for entry in raw["segments"]]
        the_manifest(folder).write_text(json.dumps(raw))

    return edit


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
        "document_offsets": (np.dtype("<i8"), (4,)),
        "id_hashes": (np.dtype("<u8"), (3,)),
        "id_numbers": (np.dtype("<i4"), (3,)),
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
        {"id": "d0", "text": "one", "title": ""},
        {"id": "d1", "text": "two", "title": ""},
        {"id": "d2", "text": "three ☃", "title": ""},
    ]
    assert np.diff(arrays["document_offsets"]).tolist() == [len(line) for line in lines]


def test_the_manifest_is_the_documented_one(folder):
    segment = the_segment(folder)

    assert json.loads(the_manifest(folder).read_text()) == {
        "format": "spladelet-index",
        "format_version": 2,
        "generation": 1,
        "vocab_size": VOCAB,
        "model": "m" * 64,
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


def test_a_sound_index_verifies(folder):
    assert verify_index(folder).generation == 1
    assert is_index(folder)
    assert not is_index(folder.parent)


FILES = (
    "terms.npy",
    "offsets.npy",
    "numbers.npy",
    "impacts.npy",
    "scales.npy",
    "errors.npy",
    "documents.jsonl",
    "document_offsets.npy",
    "id_hashes.npy",
    "id_numbers.npy",
)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named(folder, damage, name):
    damage(name, (the_segment(folder) / name).read_bytes()[:-1], agree=False)

    with pytest.raises(IndexFormatError, match=rf"{name} has \d+ bytes, expected"):
        Index.open(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (the_segment(folder) / name).unlink()

    with pytest.raises(IndexFormatError, match=f"{name} is missing"):
        Index.open(folder)


# Bytes, from the end, whose change leaves numbers that look sound.
BYTES = (-4, -16, -4, -4, -4, -4, -4, -16, -4, -4)


@pytest.mark.parametrize(("name", "byte"), list(zip(FILES, BYTES, strict=True)))
def test_a_changed_byte_is_found_by_verify_and_its_file_named(folder, damage, name, byte):
    content = bytearray((the_segment(folder) / name).read_bytes())
    content[byte] ^= 1
    damage(name, bytes(content), agree=False)

    with pytest.raises(IndexFormatError, match=f"{name} was changed or damaged"):
        verify_index(folder)


ARRAYS = [name for name in FILES if name.endswith(".npy")]


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("content", [b"garbage", b"", b"\x93NUMPY\x01\x00\xff\xff{}"])
def test_garbage_is_no_array(folder, damage, name, content):
    damage(name, content)

    with pytest.raises(IndexFormatError, match=f"{name} is no array"):
        Index.open(folder)


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_of_another_dtype_is_refused(folder, damage_array, name):
    array = np.load(the_segment(folder) / name)
    damage_array(name, array.astype(np.float64))

    with pytest.raises(IndexFormatError, match=f"{name} holds float64 .* expected flat"):
        Index.open(folder)


def test_an_array_of_another_shape_is_refused(folder, damage_array):
    damage_array("impacts.npy", np.ones((6, 1), np.float32))

    with pytest.raises(IndexFormatError, match="2 dimensions"):
        Index.open(folder)


def test_a_pickled_array_is_refused_unread(folder, damage_array, tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "exploded"), "w")

    damage_array("impacts.npy", np.array([Bomb()], object), allow_pickle=True)

    with pytest.raises(IndexFormatError, match=r"impacts\.npy is no array"):
        Index.open(folder)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("offsets.npy", [0, 7, 6]),
        ("offsets.npy", [1, 3, 6]),
        ("offsets.npy", [0, 3, 7]),
        ("offsets.npy", [0, 6]),
        ("offsets.npy", [0, -1, 6]),
        ("document_offsets.npy", [0, 80, 40, 118]),
        ("document_offsets.npy", [0, 1]),
        ("document_offsets.npy", [0, 1, 2, 10**9]),
        ("document_offsets.npy", []),
        ("terms.npy", [1, VOCAB]),
        ("terms.npy", [4, 1]),
        ("terms.npy", [-1, 1]),
        ("terms.npy", [1]),
        ("scales.npy", [1]),
        ("scales.npy", [1, np.nan]),
        ("scales.npy", [1, 0]),
        ("errors.npy", [0, 0, 0]),
        ("errors.npy", [0, -1]),
        ("id_hashes.npy", [1, 2]),
        ("id_numbers.npy", [0, 1, 3]),
        ("id_numbers.npy", [0, 1, -1]),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(folder, damage_array, name, values):
    damage_array(name, np.array(values, np.load(the_segment(folder) / name).dtype))

    with pytest.raises(IndexFormatError, match="does not hold what the manifest says"):
        Index.open(folder)


def test_arrays_of_another_length_than_stated_are_refused(folder, damage_array):
    damage_array("impacts.npy", np.ones(5, np.float32))

    with pytest.raises(IndexFormatError, match="does not hold what the manifest says"):
        Index.open(folder)


@pytest.mark.parametrize("number", [3, 1, -1, 2**31 - 1])
def test_a_posting_of_no_document_or_twice_is_found_by_the_search_that_meets_it(
    folder, damage_array, number
):
    damage_array("numbers.npy", np.array([0, 1, 2, 0, 1, number], np.int32))
    index = Index.open(folder)

    assert len(index.search(SparseVector([1], [1.0], VOCAB))) == 3
    for _ in range(2):
        with pytest.raises(IndexFormatError, match="posting list of term 4 is damaged"):
            index.search(QUERY)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -1.0, 0.0])
def test_a_posting_without_weight_is_found_by_the_search_that_meets_it(
    folder, damage_array, weight
):
    damage_array("impacts.npy", np.array([1, weight, 1, 3, 2, 1], np.float32))

    with pytest.raises(IndexFormatError, match="posting list of term 1 is damaged"):
        Index.open(folder).search(QUERY)


def test_a_posting_of_no_document_is_found_by_verify(folder, damage):
    content = bytearray((the_segment(folder) / "numbers.npy").read_bytes())
    content[-1] ^= 0x7F
    damage("numbers.npy", bytes(content), agree=False)

    with pytest.raises(IndexFormatError, match=r"numbers\.npy was changed or damaged"):
        verify_index(folder)


@pytest.mark.parametrize("line", [b"{}", b"[]", b'"text"', b"\xff\xfe", b"{", b'{"id": "a"}'])
def test_a_damaged_document_is_named_when_it_is_read(folder, damage, line):
    lines = (the_segment(folder) / "documents.jsonl").read_bytes().splitlines(keepends=True)
    lines[1] = line.ljust(len(lines[1]) - 1) + b"\n"
    damage("documents.jsonl", b"".join(lines))
    index = Index.open(folder)

    assert index.document(0).text == "one"
    with pytest.raises(IndexFormatError, match=r"documents\.jsonl: document 1 cannot be read"):
        index.search(QUERY)


@pytest.mark.parametrize("fields", [{"format_version": 1}, {"format": "other"}])
def test_a_manifest_of_an_unknown_version_asks_for_an_upgrade(folder, edit_manifest, fields):
    edit_manifest(**fields)

    with pytest.raises(IndexFormatError, match="pip install -U spladelet"):
        Index.open(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"format": "spladelet-index"}'])
def test_a_malformed_manifest_is_refused(folder, text):
    the_manifest(folder).write_text(text)

    with pytest.raises(IndexFormatError, match="not a well-formed manifest"):
        Index.open(folder)


@pytest.mark.parametrize("name", ["../index", "/etc", "segment-../../../etc", "", "segment-1\n", 5])
def test_a_segment_cannot_lead_elsewhere(folder, edit_manifest, name):
    edit_manifest(segment={"name": name})

    with pytest.raises(IndexFormatError):
        Index.open(folder)


@pytest.mark.parametrize("field", ["vocab_size", "segments", "model", "generation", "weights"])
def test_a_manifest_that_lacks_a_field_is_refused(folder, field):
    raw = json.loads(the_manifest(folder).read_text())
    del raw[field]
    the_manifest(folder).write_text(json.dumps(raw))

    with pytest.raises(IndexFormatError, match=field):
        Index.open(folder)


@pytest.mark.parametrize(
    "fields", [{"deleted": 1}, {"deleted": -1}, {"documents": 2**18 + 1}, {"documents": "many"}]
)
def test_counts_that_cannot_be_are_refused(folder, edit_manifest, fields):
    edit_manifest(segment=fields)

    with pytest.raises(IndexFormatError):
        Index.open(folder)


def test_unknown_weights_are_refused(folder, edit_manifest):
    edit_manifest(weights="int4")

    with pytest.raises(IndexFormatError, match="int4"):
        Index.open(folder)


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
rows = SparseVectors.from_rows([SparseVector([1, 4], [1.0, 1.0], 6)] * size, 6)
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


def test_an_interrupt_behind_the_publication_leaves_a_complete_index(folder, monkeypatch):
    # No signal can be timed to come right there, so the last fsync raises what it would.
    flushed = []
    fsync = os.fsync

    def interrupt_the_last(handle):
        flushed.append(handle)
        if len(flushed) == 13:  # after 10 files, their segment, and the manifest: the folder
            raise KeyboardInterrupt
        fsync(handle)

    monkeypatch.setattr(os, "fsync", interrupt_the_last)
    with pytest.raises(KeyboardInterrupt):
        index_of("new").save(folder)

    verify_index(folder)
    assert texts_of(Index.open(folder)) in (["new"], ["one", "two", "three ☃"])


# Saves versions 1, 2, 3… for ever; version v has v % 5 + 1 documents that all say "v".
ENDLESS_WRITER = """
import itertools, sys
from spladelet import Document, Index, SparseVector, SparseVectors

def version(number):
    size = number % 5 + 1
    rows = SparseVectors.from_rows([SparseVector([1, 4], [1.0, 1.0], 6)] * size, 6)
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
