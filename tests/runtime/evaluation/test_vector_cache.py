import io
import os

import numpy as np
import pytest

from spladelet import Document
from spladelet.caches import cache_folder
from spladelet.errors import InputError
from spladelet.evaluation import VectorCache, default_folder
from spladelet.evaluation import vector_cache as cache_module

DOCUMENTS = [
    Document("1", "A cat purrs."),
    Document("2", "Bread rises.", "Yeast"),
    Document("3", ""),
]


class Counted:
    """An encoder that counts the texts it is given."""

    def __init__(self, encoder):
        self._encoder = encoder
        self.texts = 0

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode_documents(self, texts, **limits):
        self.texts += len(texts)
        return self._encoder.encode_documents(texts, **limits)

    def encode_queries(self, texts):
        self.texts += len(texts)
        return self._encoder.encode_queries(texts)


@pytest.fixture
def counted(encoder):
    return Counted(encoder)


def same(one, other):
    return (
        np.array_equal(one.row_offsets, other.row_offsets)
        and np.array_equal(one.term_ids, other.term_ids)
        and np.array_equal(one.weights, other.weights)
        and (one.vocab_size, one.model, one.truncated)
        == (other.vocab_size, other.model, other.truncated)
    )


def test_a_second_time_nothing_is_encoded(counted, tmp_path):
    first = VectorCache(counted, tmp_path).encode_documents(DOCUMENTS, "small")
    assert counted.texts == 3
    second = VectorCache(counted, tmp_path).encode_documents(DOCUMENTS, "small")
    assert counted.texts == 3
    assert same(first, second)
    assert same(first, counted.encode_documents([d.content for d in DOCUMENTS]))


def test_chunks_join_to_what_one_run_gives(counted, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "_CHUNK", 2)
    long = Document("4", "word " * 600)
    found = VectorCache(counted, tmp_path).encode_documents([*DOCUMENTS, long], "small")
    assert found.truncated == (3,)
    assert len(list(tmp_path.rglob("*.npz"))) == 2
    with pytest.warns(UserWarning, match="longer than"):
        assert same(found, counted.encode_documents([d.content for d in [*DOCUMENTS, long]]))


def test_sides_texts_and_limits_are_kept_apart(counted, tmp_path):
    texts = [d.content for d in DOCUMENTS]
    VectorCache(counted, tmp_path).encode_documents(DOCUMENTS, "small")
    VectorCache(counted, tmp_path).encode_queries(texts)
    VectorCache(counted, tmp_path).encode_documents(DOCUMENTS[:2], "small")
    pruned = VectorCache(counted, tmp_path, max_active_dims=3)
    assert pruned.encode_documents(DOCUMENTS, "small").active_dims.max() == 3
    assert counted.texts == 3 + 3 + 2 + 3
    assert len(list(tmp_path.rglob("*.npz"))) == 4


def as_file(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def with_method(content, method):
    """Have a .zip say that its files are packed in a way that no Python knows."""
    content = bytearray(content)
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        place = content.find(mark)
        while place >= 0:
            content[place + offset] = method
            place = content.find(mark, place + 4)
    return bytes(content)


SCALARS = {name: np.int64(0) for name in ("row_offsets", "term_ids", "weights", "truncated")}
TEXTS = {name: np.array(["a"]) for name in ("row_offsets", "term_ids", "weights", "truncated")}


@pytest.mark.parametrize(
    "damage",
    ["truncate", "garbage", "flip", "empty", "method", "scalars", "texts", "header", "terabyte"],
)
def test_a_damaged_file_is_made_anew(counted, tmp_path, damage):
    first = VectorCache(counted, tmp_path).encode_documents(DOCUMENTS, "small")
    (file,) = tmp_path.rglob("*.npz")
    whole = file.read_bytes()
    middle = len(whole) // 2
    changed = bytes([whole[middle] ^ 255])
    file.write_bytes(
        {
            "truncate": whole[:middle],
            "garbage": b"no archive",
            "flip": whole[:middle] + changed + whole[middle + 1 :],
            "empty": b"",
            "method": with_method(whole, 99),
            "scalars": as_file(**SCALARS),
            "texts": as_file(**TEXTS),
            "header": as_file(**SCALARS).replace(b"'shape': ()", b"'shape': (("),
            "terabyte": b"",
        }[damage]
    )
    if damage == "terabyte":
        os.truncate(file, 1 << 40)
    assert same(first, VectorCache(counted, tmp_path).encode_documents(DOCUMENTS, "small"))


def test_vectors_of_another_vocabulary_are_not_believed(counted, tmp_path):
    VectorCache(counted, tmp_path).encode_documents(DOCUMENTS, "small")
    (file,) = tmp_path.rglob("*.npz")
    arrays = dict(np.load(file))
    np.savez(file, **{**arrays, "term_ids": arrays["term_ids"] + counted.vocab_size})
    found = VectorCache(counted, tmp_path).encode_documents(DOCUMENTS, "small")
    assert counted.texts == 6
    assert found.term_ids.max() < counted.vocab_size


def test_a_folder_that_cannot_be_written_costs_only_the_speed(counted, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.warns(UserWarning, match="vectors are not kept"):
        found = VectorCache(counted, blocked).encode_documents(DOCUMENTS, "small")
    assert len(found) == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(counted, tmp_path):
    first = VectorCache(counted, tmp_path).encode_documents(DOCUMENTS, "small")
    (file,) = tmp_path.rglob("*.npz")
    file.unlink()
    os.mkfifo(file)

    assert same(first, VectorCache(counted, tmp_path).encode_documents(DOCUMENTS, "small"))


def test_a_folder_in_the_place_of_a_file_costs_only_the_speed(counted, tmp_path):
    first = VectorCache(counted, tmp_path).encode_documents(DOCUMENTS, "small")
    (file,) = tmp_path.rglob("*.npz")
    file.unlink()
    file.mkdir()

    with pytest.warns(UserWarning, match="vectors are not kept"):
        assert same(first, VectorCache(counted, tmp_path).encode_documents(DOCUMENTS, "small"))


def test_rows_that_are_truncated_are_rows(counted, tmp_path):
    VectorCache(counted, tmp_path).encode_documents(DOCUMENTS, "small")
    (file,) = tmp_path.rglob("*.npz")
    np.savez(file, **{**np.load(file), "truncated": np.array([7])})

    assert VectorCache(counted, tmp_path).encode_documents(DOCUMENTS, "small").truncated == ()


@pytest.mark.parametrize("folder", [5, b"folder", "fol\0der"])
def test_what_is_no_folder_is_refused(counted, folder):
    with pytest.raises(InputError, match="expected a path, or None to keep nothing"):
        VectorCache(counted, folder)


@pytest.mark.parametrize("limits", [{"max_active_dims": "5"}, {"min_weight": None}])
def test_limits_of_the_wrong_kind_are_refused(counted, tmp_path, limits):
    with pytest.raises(InputError, match=next(iter(limits))):
        VectorCache(counted, tmp_path, **limits)


def test_limits_of_numpy_are_the_same_limits(counted, tmp_path):
    VectorCache(counted, tmp_path, max_active_dims=3).encode_documents(DOCUMENTS, "small")
    limits = {"max_active_dims": np.int64(3), "min_weight": np.float32(0)}
    VectorCache(counted, tmp_path, **limits).encode_documents(DOCUMENTS, "small")

    assert counted.texts == 3


def test_the_folder_is_the_users_or_the_systems(tmp_path, monkeypatch):
    monkeypatch.setenv("SPLADELET_CACHE", str(tmp_path))
    assert default_folder() == tmp_path
    monkeypatch.delenv("SPLADELET_CACHE")
    assert default_folder() == cache_folder() / "vectors"


def test_nothing_to_encode(counted, tmp_path):
    assert len(VectorCache(counted, tmp_path).encode_queries([])) == 0
    assert len(VectorCache(counted).encode_documents([], "none")) == 0
