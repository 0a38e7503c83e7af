"""Damage on disk is found where it is first used, and the broken file named.

A file is damaged in two ways: bare, as disks do it, and forged, with every sum made to agree.
"""

import hashlib
import json
import zlib
from itertools import pairwise

import numpy as np
import pytest
from runtime.index.small_index import QUERY, VOCAB, index_of, sign, the_manifest, the_segment

from spladelet import Index, SparseVector, Words
from spladelet.errors import IndexFormatError
from spladelet.index.format import FILES, WORD_FILES
from spladelet.index.generations import is_index
from spladelet.index.segment_files import verify_index

ALL_FILES = [*FILES, *WORD_FILES]
ARRAYS = [name for name in ALL_FILES if name.endswith(".npy")]


METADATA = [{"lang": "en", "year": 2020}, {"lang": "de"}, {}]


@pytest.fixture
def folder(tmp_path):
    """Return the folder of a saved index of three documents, which QUERY finds in their order."""
    index = index_of("one", "two", "three ☃ one", metadata=METADATA, words=Words("none"))
    index.save(tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture
def edit_manifest(folder):
    """Return a function that changes fields of the manifest, and of its segment."""

    def edit(segment=None, **fields):
        raw = json.loads(the_manifest(folder).read_text()) | fields
        raw["segments"] = [entry | (segment or {}) for entry in raw["segments"]]
        the_manifest(folder).write_text(json.dumps(sign(raw)))

    return edit


@pytest.fixture
def forge(folder, edit_manifest):
    """Return a function that replaces a file of the segment, with every sum agreeing."""

    def replace(name, content, parts=()):
        path = the_segment(folder) / name
        path.write_bytes(content)
        files = json.loads(the_manifest(folder).read_text())["segments"][0]["files"]
        digest = hashlib.sha256(content).hexdigest()
        files[name] = {"size": len(content), "sha256": digest}
        edit_manifest(segment={"files": files})
        if parts:
            sums = path.with_name(f"{path.stem}_crc.npy")
            sums = sums.with_name("words_crc.npy") if name in WORD_FILES else sums
            np.save(sums, np.array([zlib.crc32(part) for part in parts], np.uint32))
            replace(sums.name, sums.read_bytes())

    return replace


@pytest.fixture
def forge_array(folder, forge, tmp_path):
    """Return a function that replaces an array of the segment, with every sum agreeing."""

    def replace(name, array, *, allow_pickle=False):
        np.save(tmp_path / name, array, allow_pickle=allow_pickle)
        parts = []
        if name in ("numbers.npy", "impacts.npy") and not allow_pickle:
            ends = np.load(the_segment(folder) / "offsets.npy").tolist()
            parts = [array[start:end].tobytes() for start, end in pairwise(ends)]
        if name in ("word_numbers.npy", "word_counts.npy") and len(array) == 5:
            segment = the_segment(folder)
            ends = np.load(segment / "word_offsets.npy").tolist()
            both = {
                part: np.load(segment / f"{part}.npy") for part in ("word_numbers", "word_counts")
            }
            both[name.removesuffix(".npy")] = array
            parts = [
                both["word_numbers"][start:end].tobytes() + both["word_counts"][start:end].tobytes()
                for start, end in pairwise(ends)
            ]
        forge(name, (tmp_path / name).read_bytes(), parts)

    return replace


def use(folder):
    """Open an index and use all of it; returns what comes of it."""
    index = Index.open(folder)
    return (
        [index.document(number) for number in range(len(index))],
        *(
            [(hit, hit.document) for hit in index.search(QUERY, where=where)]
            for where in (None, {"lang": "de"}, {"year": {"gte": 2000}})
        ),
        [(hit, hit.lexical) for hit in index.search("one two", lexical="only")],
        index.word_scores("one three", 2, lexical="only"),
        [index.find(f"d{number}") for number in range(4)],
        index.vectors().weights.tolist(),
        (index.model, index.vocab_size, index.weight_type, index.model_name),
    )


@pytest.mark.parametrize("name", [*ALL_FILES, "manifest"])
def test_whatever_byte_flips_nothing_else_is_answered_and_the_file_is_named(folder, name):
    path = the_manifest(folder) if name == "manifest" else the_segment(folder) / name
    sound, answers = path.read_bytes(), use(folder)
    complaints = []
    for place in range(len(sound)):
        damaged = bytearray(sound)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            assert use(folder) == answers, place  # of an array's head, white space may change
        except IndexFormatError as error:
            complaints.append(str(error))
    assert len(complaints) > 0.3 * len(sound)
    assert all(path.name in complaint for complaint in complaints)


@pytest.mark.parametrize("name", ALL_FILES)
def test_damage_is_not_saved_as_if_it_were_sound(folder, tmp_path, name):
    path = the_segment(folder) / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    with pytest.raises(IndexFormatError, match=name):
        Index.open(folder).save(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("numbers.npy", [0, 1, 2, 0, 1, 3]),
        ("numbers.npy", [0, 1, 2, -1, 1, 2]),
        ("numbers.npy", [0, 2, 1, 0, 1, 2]),
        ("numbers.npy", [0, 1, 1, 0, 1, 2]),
        ("impacts.npy", [1, 1, 1, 3, 2, 0]),
        ("impacts.npy", [1, 1, np.inf, 3, 2, 1]),
        ("impacts.npy", [1, np.nan, 1, 3, 2, 1]),
    ],
)
def test_forged_lists_make_no_new_segment(folder, forge_array, name, values):
    forge_array(name, np.array(values, np.load(the_segment(folder) / name).dtype))

    with pytest.raises(IndexFormatError, match=f"{name}: a posting list was changed or damaged"):
        Index.open(folder).vectors()


def test_damage_is_found_before_a_new_segment_is_made_of_it(folder):
    path = the_segment(folder) / "impacts.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    with pytest.raises(IndexFormatError, match=r"impacts\.npy"):
        Index.open(folder).vectors()


def test_a_sound_index_verifies(folder):
    assert verify_index(folder).generation == 1
    assert is_index(folder)
    assert not is_index(folder.parent)


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_truncated_file_is_named(folder, name):
    path = the_segment(folder) / name
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(IndexFormatError, match=rf"{name} has \d+ bytes, expected"):
        Index.open(folder)


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_missing_file_is_named(folder, name):
    (the_segment(folder) / name).unlink()

    with pytest.raises(IndexFormatError, match=f"{name} is missing"):
        Index.open(folder)


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_changed_byte_is_found_by_verify_and_its_file_named(folder, name):
    path = the_segment(folder) / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    with pytest.raises(IndexFormatError, match=f"{name} was changed or damaged"):
        verify_index(folder)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("content", [b"garbage", b"", b"\x93NUMPY\x01\x00\xff\xff{}"])
def test_garbage_is_no_array(folder, forge, name, content):
    forge(name, content)

    with pytest.raises(IndexFormatError, match=f"{name} is no array"):
        Index.open(folder)


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_of_another_dtype_is_refused(folder, forge_array, name):
    array = np.load(the_segment(folder) / name)
    forge_array(name, array.astype(np.float64))

    with pytest.raises(IndexFormatError, match=f"{name} holds float64 .* expected flat"):
        Index.open(folder)


@pytest.mark.parametrize("head", [b"PK\x03\x04", b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', ("])
def test_garbage_that_numpy_takes_for_something_is_no_array(folder, head):
    path = the_segment(folder) / "impacts.npy"
    path.write_bytes(head + path.read_bytes()[len(head) :])

    with pytest.raises(IndexFormatError):
        Index.open(folder)


def test_an_array_of_another_shape_is_refused(folder, forge_array):
    forge_array("impacts.npy", np.ones((6, 1), np.float32))

    with pytest.raises(IndexFormatError, match="2 dimensions"):
        Index.open(folder)


def test_a_pickled_array_is_refused_unread(folder, forge_array, tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "exploded"), "w")

    forge_array("impacts.npy", np.array([Bomb()], object), allow_pickle=True)

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
        ("documents_crc.npy", [0, 1]),
        ("numbers_crc.npy", [0]),
        ("metadata_key_offsets.npy", [0, 6, 3, 0]),
        ("metadata_key_offsets.npy", [0]),
        ("metadata_offsets.npy", [0, 1, 2, 4]),
        ("metadata_offsets.npy", []),
        ("metadata_numbers.npy", [0, 1, 3]),
        ("metadata_numbers.npy", [0, 1, -1]),
        ("word_name_offsets.npy", [0, 3, 8, 11]),
        ("word_name_offsets.npy", [0, 3, 8, 11, 15]),
        ("word_offsets.npy", [0, 2, 3, 4]),
        ("word_offsets.npy", [0, 2, 1, 4, 5]),
        ("word_offsets.npy", [0, 2, 3, 4, 9]),
        ("word_counts.npy", [1, 1]),
        ("word_numbers.npy", [0, 1]),
        ("word_many.npy", [0]),
        ("word_many_counts.npy", [300]),
        ("word_lengths.npy", [1, 1]),
        ("words_crc.npy", [0]),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(folder, forge_array, name, values):
    forge_array(name, np.array(values, np.load(the_segment(folder) / name).dtype))

    with pytest.raises(IndexFormatError, match="does not hold what the manifest says"):
        Index.open(folder)


def test_arrays_of_another_length_than_stated_are_refused(folder, forge_array):
    forge_array("impacts.npy", np.ones(5, np.float32))

    with pytest.raises(IndexFormatError, match="does not hold what the manifest says"):
        Index.open(folder)


@pytest.mark.parametrize("number", [3, 1, -1, 2**31 - 1])
def test_a_posting_of_no_document_or_twice_is_found_by_the_search_that_meets_it(
    folder, forge_array, number
):
    forge_array("numbers.npy", np.array([0, 1, 2, 0, 1, number], np.int32))
    index = Index.open(folder)

    assert len(index.search(SparseVector([1], [1.0], VOCAB))) == 3
    for _ in range(2):
        with pytest.raises(IndexFormatError, match=r"numbers\.npy: the posting list of term 4 was"):
            index.search(QUERY)


@pytest.mark.parametrize("numbers", [[0, 3], [0, -1], [0, 0], [2, 0], [0, 2**31 - 1]])
def test_a_word_of_no_document_or_twice_is_found_by_the_search_that_meets_it(
    folder, forge_array, numbers
):
    forge_array("word_numbers.npy", np.array([*numbers, 2, 1, 2], np.int32))
    index = Index.open(folder)

    assert len(index.search("two", lexical="only")) == 1
    with pytest.raises(IndexFormatError, match=r"word_numbers\.npy: the posting list of the word"):
        index.search("one", lexical="only")
    for used in (lambda: index.save(folder.parent / "copy"), index.word_impacts):
        with pytest.raises(IndexFormatError, match=r"word_numbers\.npy: a posting list was"):
            used()


def test_a_word_that_is_there_not_at_all_is_found(folder, forge_array):
    forge_array("word_counts.npy", np.array([0, 1, 1, 1, 1], np.uint8))

    with pytest.raises(IndexFormatError, match=r"word_counts\.npy: the posting list of the word"):
        Index.open(folder).search("one", lexical="only")
    with pytest.raises(IndexFormatError, match=r"word_counts\.npy: a posting list was"):
        Index.open(folder).word_impacts()


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -1.0, 0.0])
def test_a_posting_without_weight_is_found_by_the_search_that_meets_it(folder, forge_array, weight):
    forge_array("impacts.npy", np.array([1, weight, 1, 3, 2, 1], np.float32))

    with pytest.raises(IndexFormatError, match=r"impacts\.npy: the posting list of term 1 was"):
        Index.open(folder).search(QUERY)


@pytest.mark.parametrize("line", [b"{}", b"[]", b'"text"', b"\xff\xfe", b"{", b'{"id": "a"}'])
def test_a_forged_document_is_refused_when_it_is_read(folder, forge, line):
    lines = (the_segment(folder) / "documents.jsonl").read_bytes().splitlines(keepends=True)
    lines[1] = line.ljust(len(lines[1]) - 1) + b"\n"
    forge("documents.jsonl", b"".join(lines), lines)
    index = Index.open(folder)

    assert index.document(0).text == "one"
    with pytest.raises(IndexFormatError, match="a document of the index cannot be read"):
        [hit.text for hit in index.search(QUERY)]


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
    the_manifest(folder).write_text(json.dumps(sign(raw)))

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
