import numpy as np
import pytest

from spladelet import Document
from spladelet.evaluation import VectorCache
from spladelet.evaluation import cache as cache_module

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


@pytest.mark.parametrize("damage", ["truncate", "garbage", "flip", "empty"])
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
        }[damage]
    )
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


def test_nothing_to_encode(counted, tmp_path):
    assert len(VectorCache(counted, tmp_path).encode_queries([])) == 0
    assert len(VectorCache(counted).encode_documents([], "none")) == 0
