"""Hits: read no further than asked for, right in every segment, plain values to send on."""

import copy
import json
import pickle

import pytest

from spladelet import Document, Index, IndexWriter, SparseVector, SparseVectors
from spladelet.documents import to_line
from spladelet.index import segment, stored_documents
from spladelet.index.segment import hash_ids
from spladelet.index.stored_documents import document_of, id_of

VOCAB = 10
QUERY = SparseVector([1], [1.0], VOCAB)
IDS = ["plain", 'quo"te', "back\\slash", "☃", "lone \ud800", "line\nend", "{", ""]


def vectors(count):
    rows = [SparseVector([1], [1.0 + n], VOCAB) for n in range(count)]
    return SparseVectors.from_rows(rows, VOCAB)


@pytest.fixture
def folder(tmp_path):
    """An index on disk whose documents have every kind of id."""
    documents = [Document(name, f"text {n}", "T", {"n": n}) for n, name in enumerate(IDS)]
    Index.build(vectors(len(IDS)), documents).save(tmp_path / "index")
    return tmp_path / "index"


def test_every_kind_of_id_is_read_from_disk(folder):
    assert [hit.id for hit in Index.open(folder).search(QUERY)] == IDS[::-1]


@pytest.mark.parametrize("name", IDS)
def test_an_id_is_read_from_a_line_as_the_whole_line_has_it(name):
    line = to_line(Document(name, "text")).decode()

    assert id_of(line) == document_of(line).id == name


def test_a_line_that_begins_otherwise_is_read_whole():
    line = json.dumps({"text": "t", "id": "a"}, separators=(",", ":"))

    assert id_of(line) == "a"
    assert document_of(line) == Document("a", "t")


def test_a_hit_is_parsed_when_asked_for_and_once(folder, monkeypatch):
    parsed = []
    parse = stored_documents._parse
    monkeypatch.setattr(stored_documents, "_parse", lambda line: parsed.append(line) or parse(line))

    first, *_ = Index.open(folder).search(QUERY)
    assert not parsed
    assert (first.text, first.title, first.metadata["n"]) == ("text 7", "T", 7)
    assert len(parsed) == 1


def test_a_hit_outlives_its_index_and_is_sent_to_other_processes(folder):
    index = Index.open(folder)
    hit, *_ = index.search(QUERY)
    del index

    for other in (pickle.loads(pickle.dumps(hit)), copy.copy(hit), copy.deepcopy(hit)):
        assert other == hit
        assert hash(other) == hash(hit)
        assert other.document == hit.document
    assert repr(hit) == (
        "Hit(id='', score=8.0, text='text 7', title='T', number=7, margin=0.0, lexical=0.0, "
        "metadata={'n': 7})"
    )


def test_hits_of_several_segments_with_deleted_documents_are_their_own(folder):
    with IndexWriter(folder) as writer:
        writer.delete(["plain", "☃"])
    with IndexWriter(folder) as writer:
        writer.add(vectors(3), [Document(f"new {n}", f"other {n}") for n in range(3)])
        writer.delete(["new 1"])
    index = Index.open(folder)
    assert index.segments == 2

    hits = index.search(QUERY, 20)

    assert len(hits) == len(index) == len(IDS)
    for hit in hits:
        assert hit.id == hit.document.id
        assert hit.document == index.document(hit.number)


def test_documents_whose_ids_have_one_hash_are_told_apart(folder, monkeypatch):
    class Blake2b:
        """A hash that tells ids of odd and even length apart, and nothing else."""

        def __init__(self, content, digest_size):
            self._digest = (len(content) % 2).to_bytes(digest_size, "little")

        def digest(self):
            return self._digest

    monkeypatch.setattr(segment.hashlib, "blake2b", Blake2b)
    assert hash_ids(["a", "c"]).tolist() == [1, 1]
    names = ["a", "bb", "c", "dd", "e"]
    built = Index.build(vectors(5), [Document(name, f"text {name}") for name in names])
    assert [built.find(name) for name in [*names, "f", "gg"]] == [0, 1, 2, 3, 4, None, None]
    built.save(folder)
    with IndexWriter(folder) as changed:
        assert changed.delete(["c", "f", "bb"]) == 2
    opened = Index.open(folder)
    assert [opened.find(name) for name in names] == [0, None, None, 1, 2]
    assert [hit.id for hit in opened.search(QUERY, ids=["a", "c", "dd", "f"])] == ["dd", "a"]
