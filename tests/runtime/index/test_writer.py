"""Changing an index on disk: the same as a dictionary, whatever the order, and seen at commits."""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from runtime.index.small_index import MODEL, VOCAB, documents_of, fill, ids_in, vectors_of

from spladelet import Document, Index, IndexWriter, SparseVector, SparseVectors
from spladelet.errors import (
    DuplicateIdError,
    IndexLockedError,
    IndexWriteError,
    InputError,
    ModelMismatchError,
)
from spladelet.index import build, merging, segment, writer
from spladelet.index.segment_files import verify_index

IDS = [f"d{number}" for number in range(12)]
TOLERANCE = {"float32": 0.0, "float16": 1e-3, "uint8": 2e-2}


def rising(count):
    return [{1: 1.0 + n} for n in range(count)]


@pytest.fixture
def folder(tmp_path):
    """Return the folder of an index of three documents, the last of which are nearest."""
    fill(tmp_path / "index", ["a", "b", "c"], rising(3))
    return tmp_path / "index"


@pytest.fixture
def small_segments(monkeypatch):
    """Let segments be full with four documents."""
    monkeypatch.setattr(writer, "MAX_DOCUMENTS", 4)
    monkeypatch.setattr(merging, "MAX_DOCUMENTS", 4)
    monkeypatch.setattr("spladelet.index.index.MAX_DOCUMENTS", 4)


@pytest.mark.parametrize("kind", TOLERANCE)
def test_what_weights_lose_is_bounded_and_reported(tmp_path, kind):
    random = np.random.default_rng(0)
    rows = [
        dict(zip(random.permutation(VOCAB)[:5].tolist(), random.gamma(2, 0.4, 5), strict=True))
        for _ in range(50)
    ]
    Index.build(vectors_of(rows), weight_type=kind).save(tmp_path / "index")
    index = Index.open(tmp_path / "index")
    query = SparseVector.from_dict({1: 1.0, 4: 2.0, 6: 0.5}, VOCAB)

    hits = index.search(query, 50)

    exact = {
        n: sum(r.get(t, 0) * w for t, w in query.to_dict().items()) for n, r in enumerate(rows)
    }
    errors = [abs(hit.score - exact[hit.number]) for hit in hits]
    assert all(error <= hit.margin + 1e-6 for error, hit in zip(errors, hits, strict=True))
    assert hits[0].margin <= TOLERANCE[kind] * 3.5 * 3
    assert index.weight_type == kind
    assert index.postings * np.dtype(kind).itemsize == (
        sum(
            (index_file.stat().st_size - 128) for index_file in tmp_path.glob("index/*/impacts.npy")
        )
    )


def test_a_second_writer_gets_a_clear_error(folder):
    with IndexWriter(folder), pytest.raises(IndexLockedError, match="another process or writer"):
        IndexWriter(folder)
    IndexWriter(folder).close()


def test_what_an_error_leaves_is_dropped(folder):
    def fail_half_way():
        with IndexWriter(folder) as opened:
            opened.delete(["a", "b"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()

    assert ids_in(folder) == ["a", "b", "c"]


def test_a_new_index_that_is_dropped_leaves_no_folder(tmp_path):
    writer_of_nothing = IndexWriter(tmp_path / "new" / "index")
    writer_of_nothing.add(vectors_of([{1: 1.0}]), documents_of(["a"]))
    writer_of_nothing.close()

    assert list(tmp_path.iterdir()) == []


def test_an_id_that_is_taken_is_refused_and_nothing_changes(folder):
    with IndexWriter(folder) as opened:
        with pytest.raises(DuplicateIdError, match=r"'b'.*upsert"):
            opened.add(vectors_of([{1: 1.0}, {1: 1.0}]), documents_of(["new", "b"]))
        with pytest.raises(DuplicateIdError, match="both have id 'x'"):
            opened.upsert(vectors_of([{1: 1.0}, {1: 1.0}]), documents_of(["x", "x"]))

    assert ids_in(folder) == ["a", "b", "c"]


def test_vectors_of_another_model_are_refused(folder):
    other = SparseVectors.from_rows([SparseVector([1], [1.0], VOCAB)], VOCAB, "o" * 64)

    with IndexWriter(folder) as opened, pytest.raises(ModelMismatchError):
        opened.add(other, documents_of(["new"]))


def test_other_weights_than_the_indexs_are_refused(folder):
    with pytest.raises(InputError, match=r"'uint8'.*keeps 'float32'"):
        IndexWriter(folder, weight_type="uint8")
    with pytest.raises(InputError, match="expected one of float32, float16, uint8"):
        IndexWriter(folder, weight_type="int4")
    IndexWriter(folder).close()


def test_ids_are_several(folder):
    with IndexWriter(folder) as opened, pytest.raises(InputError, match=r"as in \['abc'\]"):
        opened.delete("abc")


def test_documents_are_deleted_if_their_metadata_fit(tmp_path):
    documents = [Document(f"d{n}", "", "", {"year": 2020 + n}) for n in range(4)]
    vectors = vectors_of([{1: 1.0}] * 2)
    with IndexWriter(tmp_path / "index") as opened:
        opened.add(vectors, documents[:2])
        opened.commit()
        opened.add(vectors, documents[2:])

        assert (
            opened.delete([d.id for d in documents], where={"year": {"gt": 2020, "lt": 2023}}) == 2
        )
    assert ids_in(tmp_path / "index") == ["d0", "d3"]


def test_a_reader_goes_on_when_all_it_opened_is_gone(folder):
    reader = Index.open(folder)
    reader.save(folder)
    with IndexWriter(folder) as opened:
        opened.delete(["a"])
        opened.compact()

    query = SparseVector([1], [1.0], VOCAB, MODEL)
    assert len(reader.search(query, ids=["a", "b"], where={"n": {"exists": False}})) == 2
    assert reader.find("a") == 0
    assert len(reader.vectors()) == 3


def test_a_closed_writer_says_so(folder):
    opened = IndexWriter(folder)
    opened.close()

    with pytest.raises(IndexWriteError, match="is closed"):
        opened.delete(["a"])


def test_a_commit_without_changes_writes_nothing(folder):
    before = sorted(folder.rglob("*"))

    with IndexWriter(folder) as opened:
        assert opened.delete(["nobody"]) == 0

    assert sorted(folder.rglob("*")) == before


def test_an_index_without_vectors_is_searched_without_hits(tmp_path):
    with IndexWriter(tmp_path / "index"):
        pass

    index = Index.open(tmp_path / "index")
    assert (len(index), index.search(SparseVector([1], [1.0], VOCAB))) == (0, [])


def test_many_small_commits_leave_few_segments(tmp_path):
    for number in range(70):
        fill(tmp_path / "index", [f"d{number}"])

    assert len(list((tmp_path / "index").glob("segment-*"))) <= 2 * 8
    assert ids_in(tmp_path / "index") == [f"d{number}" for number in range(70)]
    assert len(verify_index(tmp_path / "index").segments) <= 2 * 8


def test_a_large_segment_is_not_rewritten_for_a_few_documents(tmp_path, monkeypatch):
    fill(tmp_path / "index", [f"old {n}" for n in range(600)])
    written = []
    write = writer.segment_files.write_segment

    def counting(folder, segment):
        written.append(len(segment))
        return write(folder, segment)

    monkeypatch.setattr(writer.segment_files, "write_segment", counting)
    for n in range(64):
        fill(tmp_path / "index", [f"new {n}"])

    assert len(Index.open(tmp_path / "index")) == 664
    assert sum(written) == 3 * 64  # once alone, once with eight, once with sixty-four


def test_a_segment_with_many_deleted_documents_is_rewritten(folder):
    with IndexWriter(folder) as opened:
        opened.delete(["a"])
    (entry,) = verify_index(folder).segments

    assert (entry.documents, entry.deleted) == (2, 0)


def test_a_deleted_document_waits_for_the_rewriting(tmp_path):
    fill(tmp_path / "index", IDS, rising(12))
    with IndexWriter(tmp_path / "index") as opened:
        opened.delete(["d3"])
    (entry,) = verify_index(tmp_path / "index").segments
    index = Index.open(tmp_path / "index")

    assert (entry.documents, entry.deleted) == (12, 1)
    assert [hit.id for hit in index.search(SparseVector([1], [1.0], VOCAB), 3)] == [
        "d11", "d10", "d9",
    ]  # fmt: skip
    assert index.search(SparseVector([1], [1.0], VOCAB), 20)[8].id == "d2"
    assert (index.find("d3"), index.find("d4")) == (None, 3)
    assert index.document(3).id == "d4"
    assert index.vectors()[3].to_dict() == {1: 5.0}
    with IndexWriter(tmp_path / "index") as opened:
        opened.compact()
    (entry,) = verify_index(tmp_path / "index").segments
    assert (entry.documents, entry.deleted) == (11, 0)


def test_a_long_stream_is_written_segment_by_segment(tmp_path, small_segments):
    fill(tmp_path / "index", IDS[:11])

    assert [s.documents for s in verify_index(tmp_path / "index").segments] == [4, 4, 3]
    assert ids_in(tmp_path / "index") == IDS[:11]


def test_large_and_small_builds_make_the_same_segment(monkeypatch):
    random = np.random.default_rng(0)
    rows = [
        {
            int(t): float(w)
            for t, w in zip(random.permutation(VOCAB)[:3], random.random(3) + 0.5, strict=True)
        }
        for _ in range(20)
    ]
    vectors, documents = vectors_of([*rows, {}]), documents_of(map(str, range(21)))

    few = build.build_segment(vectors, documents, "float32").postings
    monkeypatch.setattr("spladelet.index.scoring.FEW", 0)
    many = build.build_segment(vectors, documents, "float32").postings

    for name in ("terms", "offsets", "numbers", "impacts"):
        left, right = getattr(few, name), getattr(many, name)
        assert (left.dtype, left.tolist()) == (right.dtype, right.tolist())


def test_terms_beyond_16_bits_are_sorted_too():
    keys = np.random.default_rng(0).integers(0, 2**18, 3000).astype(np.int32)

    assert segment.stable_order(keys).tolist() == np.argsort(keys, kind="stable").tolist()


def test_a_minimum_score_leaves_out_what_is_below_it(folder):
    index, query = Index.open(folder), SparseVector([1], [1.0], VOCAB)

    assert [hit.score for hit in index.search(query, min_score=2.0)] == [3.0, 2.0]
    assert [hit.score for hit in index.search(query, min_score=2.0000000001)] == [3.0]
    assert index.search(query, min_score=1e300) == []
    assert [hit.score for hit in index.search_many([query], min_score=2.5)[0]] == [3.0]
    with pytest.raises(InputError, match="min_score is nan"):
        index.search(query, min_score=float("nan"))


def test_an_index_in_memory_has_nothing_to_refresh(folder):
    with pytest.raises(InputError, match="in memory"):
        Index.build(vectors_of([{1: 1.0}])).refresh()
    assert not Index.open(folder).refresh()


@pytest.mark.skipif(sys.platform == "win32", reason="modes mean nothing on Windows")
def test_a_folder_that_cannot_be_written_to_is_read(folder, tmp_path, run_python):
    script = """
import os, sys
from spladelet import Index, IndexWriter, SparseVector
from spladelet.errors import IndexWriteError

def read_and_write(folder):
    hits = Index.open(folder).search(SparseVector([1], [1.0], 8))
    print(len(hits))
    try:
        with IndexWriter(folder) as writer:
            writer.delete(["a"])
    except IndexWriteError as error:
        print(error)

read_and_write(sys.argv[2])  # imports whatever another user may not read where it is installed
if os.getuid() == 0:
    os.setuid(65534)  # whom modes do bind
read_and_write(sys.argv[1])
"""
    writable = tmp_path / "writable"
    shutil.copytree(folder, writable)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    top = Path(tempfile.gettempdir())
    parents = [parent for parent in folder.parents if top in parent.parents]
    modes = [parent.stat().st_mode for parent in parents]
    for parent in parents:
        parent.chmod(0o755)

    result = run_python(script, folder, writable)

    for parent, mode in zip(parents, modes, strict=True):
        parent.chmod(mode)
    folder.chmod(0o755)
    assert result.stdout.startswith("3\n3\n"), result.stderr
    assert "Choose a folder that you may write to." in result.stdout


def test_how_documents_were_encoded_is_kept(tmp_path):
    said = {"long_texts": "split", "max_active_dims": None, "min_weight": 0.5}
    Index.build(vectors_of([{1: 1.0}]), ["a"], encoding=said).save(tmp_path / "saved")
    with IndexWriter(tmp_path / "written", encoding=said) as writer:
        writer.add(vectors_of([{1: 1.0}]), ["a"])
    for name in ("saved", "written"):
        with IndexWriter(tmp_path / name) as writer:
            writer.add(vectors_of([{2: 1.0}]), ["b"])
            assert writer.encoding == said
        assert Index.open(tmp_path / name).encoding == said


def test_an_index_of_which_nothing_is_known_says_nothing(tmp_path):
    Index.build(vectors_of([{1: 1.0}]), ["a"]).save(tmp_path / "index")

    assert Index.open(tmp_path / "index").encoding == {}
    assert b"encoding" not in (tmp_path / "index" / "generation-1.json").read_bytes()


def test_an_index_made_anew_takes_the_place_of_another_at_its_commit(folder):
    (folder / "segment-notes.txt").touch()
    other = SparseVectors.from_rows([SparseVector([11], [1.0], 12)], 12, "n" * 64)
    opened = IndexWriter.anew(folder)
    opened.add(other, ["new"])
    opened.close()  # as an error would
    assert ids_in(folder) == ["a", "b", "c"]

    with IndexWriter.anew(folder, weight_type="uint8", model_name="other") as opened:
        opened.add(other, documents_of(["new"]))
        assert ids_in(folder) == ["a", "b", "c"]

    index = Index.open(folder)
    assert ids_in(index) == ["new"]
    assert (index.model, index.model_name, index.weight_type) == ("n" * 64, "other", "uint8")
    assert verify_index(folder).generation == 2


def test_an_index_that_cannot_be_opened_is_made_anew(folder):
    next(folder.glob("generation-*")).write_text("{")

    with IndexWriter.anew(folder) as opened:
        opened.add(vectors_of(1), documents_of(["new"]))

    assert ids_in(folder) == ["new"]


def test_documents_are_deleted_with_their_passages(tmp_path):
    passages = [
        Document(f"long#{n}", "part", metadata={"document": "long", "passage": n})
        for n in range(70)
    ]
    others = [
        Document("long#70", "of another", metadata={"document": "other"}),
        Document("short", "text"),
        Document("short#0", "an id of its own"),
    ]
    rows = vectors_of(73)
    with IndexWriter(tmp_path / "index") as opened:
        opened.add(rows, [*passages, *others])
        assert opened.delete_with_passages(["long", "short", "none"]) == 2

    assert ids_in(tmp_path / "index") == ["long#70", "short#0"]


def test_documents_are_replaced_with_their_passages(tmp_path):
    def passages(count):
        return [
            Document(f"long#{n}", f"of {count}", metadata={"document": "long", "passage": n})
            for n in range(count)
        ]

    with IndexWriter(tmp_path / "index") as opened:
        opened.add(vectors_of([{1: 1.0}] * 4), passages(4))
        assert opened.replace(["long", "new"], vectors_of([{1: 1.0}] * 2), passages(2)) == 1

    index = Index.open(tmp_path / "index")
    assert ids_in(index) == ["long#0", "long#1"]
    assert index.document(0).text == "of 2"
