"""Reading an index beside its writer, with few descriptors, without rights, and odd files in it."""

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from runtime.index.small_index import VOCAB, documents_of, fill, sign, vectors_of

from spladelet import Document, Index, IndexWriter, SparseVector, SparseVectors
from spladelet.errors import IndexFormatError, IndexReadError, IndexWriteError, ModelMismatchError
from spladelet.index import writer
from spladelet.index.generations import is_index
from spladelet.index.segment_files import verify_index

THOROUGH = bool(os.environ.get("SPLADELET_THOROUGH"))
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX's folders and processes")


# ---- readers beside a writer


@POSIX
def test_a_refresh_takes_over_another_index_of_the_same_generation(folder, tmp_path):
    reader = Index.open(folder)
    fill(tmp_path / "other", ["x", "y", "z"])
    folder.rename(tmp_path / "old")
    (tmp_path / "other").rename(folder)

    assert reader.refresh()
    assert [hit.id for hit in reader.search(SparseVector([1], [1.0], VOCAB))] == ["x", "y", "z"]
    assert not reader.refresh()


def test_a_refresh_never_mixes_two_models(tmp_path):
    """Between any two bytecodes of a refresh, a query finds documents of its own model or none."""
    ids = {"a" * 64: "of-a", "b" * 64: "of-b"}
    queries = {model: SparseVector([1], [1.0], VOCAB, model) for model in ids}
    for model, identity in ids.items():
        Index.build(vectors_of(1, model), documents_of([identity])).save(tmp_path / model)
    reader = Index.open(tmp_path / ("a" * 64))
    reader._folder = tmp_path / ("b" * 64)  # as if one had been put in the other's place
    answered = []

    def search(frame, event, argument):
        frame.f_trace_opcodes = True
        for model, query in queries.items():
            with contextlib.suppress(ModelMismatchError):
                answered.append((ids[model], [hit.id for hit in reader.search(query)]))
        return search

    refresh = Index.refresh.__code__
    sys.settrace(lambda frame, *_: search(frame, *_) if frame.f_code is refresh else None)
    try:
        reader.refresh()
    finally:
        sys.settrace(None)

    assert {own for own, _ in answered} == {"of-a", "of-b"}
    assert all(found == [own] for own, found in answered)


def test_what_a_refresh_does_not_find_changed_is_not_opened_again(folder):
    reader = Index.open(folder)
    (first,) = reader._state.view.segments
    fill(folder, ["d"])

    assert reader.refresh()
    assert reader._state.view.segments[0].postings is first.postings
    with IndexWriter(folder) as opened:
        opened.delete(["d", "zzz"])
        opened.upsert(vectors_of(1), documents_of(["e"]))
    assert reader.refresh()
    assert [hit.id for hit in reader.search(SparseVector([1], [1.0], VOCAB))] == [*"abce"]
    assert reader._state.view.segments[0].postings is first.postings


# Commits as fast as it can, in an index of many segments.
BUSY = """
import itertools, os, sys
from spladelet import Document, IndexWriter, SparseVector, SparseVectors

os.fsync = lambda handle: None  # to be as fast as it can
rows = SparseVectors.from_rows([SparseVector([1], [1.0], 8)], 8)
with IndexWriter(sys.argv[1]) as writer:
    for number in itertools.count():
        writer.upsert(rows, [Document(str(number % 40), "text")])
        writer.commit()
        if number == 60:
            print("ready", flush=True)
"""


def test_an_index_opens_and_verifies_while_commits_come_without_a_pause(tmp_path):

    command = [sys.executable, "-c", BUSY, str(tmp_path / "index")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            reader = Index.open(tmp_path / "index")
            for _ in range(100 if THOROUGH else 25):
                assert len(Index.open(tmp_path / "index")) == 40
                reader.refresh()
                assert len(reader.search(SparseVector([1], [1.0], VOCAB), 100)) == 40
                verify_index(tmp_path / "index")
            assert process.poll() is None
        finally:
            process.kill()


# ---- descriptors and rights

# Opens an index of many segments with few descriptors, refreshes, opens it again, and writes.
FEW = """
import resource, sys
from spladelet import Document, Index, IndexWriter, SparseVector, SparseVectors

resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
folder = sys.argv[1]
first, second = Index.open(folder), Index.open(folder)
segments = first.segments
row = SparseVectors.from_rows([SparseVector([1], [1.0], 500)], 500)
with IndexWriter(folder) as writer:
    writer.add(row, [Document("new", "text")])
assert first.refresh()
third = Index.open(folder)
print(segments, len(third.search(SparseVector([1], [1.0], 500), 10**6)), len(second))
"""


@POSIX
def test_many_segments_are_opened_thrice_and_written_to_with_256_descriptors(
    tmp_path, large_index, run_python, monkeypatch
):
    """Sixty small segments take none; each of the large ones, no more than a stated few."""
    large_index.save(tmp_path / "index")
    monkeypatch.setattr(writer, "plan_merge", lambda segments: None)
    rows = SparseVectors.from_rows([SparseVector([1], [1.0], 500)], 500)
    for number in range(60):
        with IndexWriter(tmp_path / "index") as opened:
            opened.add(rows, [Document(f"small {number}", "text")])

    result = run_python(FEW, tmp_path / "index")

    assert (result.returncode, result.stdout.split()) == (0, ["61", "1161", "1160"]), result.stderr


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")
def test_a_full_segment_keeps_few_files_open(tmp_path):
    count = 1 << 18
    ones = np.ones(count, np.int32), np.ones(count, np.float32)
    rows = SparseVectors(np.arange(count + 1, dtype=np.int64), *ones, VOCAB)
    Index.build(rows).save(tmp_path / "index")
    before = len(os.listdir("/proc/self/fd"))

    index = Index.open(tmp_path / "index")

    kept = len(os.listdir("/proc/self/fd")) - before
    assert len(index) == count
    assert kept <= (0 if sys.version_info >= (3, 13) else 5)


TOO_FEW = """
import resource, sys
from spladelet import Index
from spladelet.errors import SpladeletError
Index.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), 256))
try:
    kept = [Index.open(sys.argv[1]) for _ in range(100)]
except SpladeletError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@POSIX
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="mapped files take no descriptors there")
def test_too_few_descriptors_are_told_with_their_cure(tmp_path, large_index, run_python):
    large_index.save(tmp_path / "index")

    result = run_python(TOO_FEW, tmp_path / "index", 32)

    assert "IndexReadError: cannot read" in result.stderr
    assert "ulimit -n" in result.stderr


@POSIX
@pytest.mark.parametrize("name", ["generation-1.json", "impacts.npy", "documents.jsonl"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_not_waited_for(folder, name, kind):
    (path,) = folder.rglob(name)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()

    for use in (Index.open, verify_index, IndexWriter):
        with pytest.raises((IndexReadError, IndexWriteError, ModelMismatchError), match="cannot"):
            use(folder)


@POSIX
@pytest.mark.parametrize("name", ["generation-1.json", "terms.npy", "documents.jsonl"])
def test_a_file_that_was_made_a_terabyte_long_is_not_read(folder, name):
    (path,) = folder.rglob(name)
    os.truncate(path, 1 << 40)

    for use in (Index.open, verify_index):
        with pytest.raises(IndexFormatError, match=r"has .* bytes|changed or damaged"):
            use(folder)


@POSIX
@pytest.mark.parametrize("closed", ["folder", "manifest", "file"])
def test_missing_rights_are_told_in_the_packages_words(folder, unprivileged, closed):
    path = {
        "folder": folder,
        "manifest": folder / "generation-1.json",
        "file": next(folder.rglob("terms.npy")),
    }[closed]
    folder.chmod(0o777)
    path.chmod(0)
    try:
        with unprivileged():
            with pytest.raises(IndexReadError, match=r"cannot read .* Ask for the right to read"):
                Index.open(folder)
            with pytest.raises((IndexReadError, IndexWriteError), match="cannot"):
                IndexWriter(folder)
            if closed == "folder":
                with pytest.raises(IndexReadError, match="Ask for the right to read"):
                    is_index(folder)
            else:
                assert is_index(folder)
    finally:
        path.chmod(0o755)


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "a/" * 3000])
def test_paths_that_cannot_be_hold_no_index(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert not is_index(Path(path))
    with pytest.raises(IndexWriteError):
        IndexWriter(path)


@pytest.mark.parametrize("text", ["Infinity", "NaN", "1e999", "-1", "1.5", "true", '"7"', "[]"])
@pytest.mark.parametrize("field", ["generation", "vocab_size", "postings", "documents", "size"])
def test_a_manifest_with_numbers_that_cannot_be_is_refused(folder, text, field):
    path = folder / "generation-1.json"
    raw = json.loads(re.sub(rf'"{field}": \d+', f'"{field}": {text}', path.read_text(), count=1))
    path.write_text(json.dumps(sign(raw)))

    with pytest.raises(IndexFormatError, match="not a well-formed manifest"):
        Index.open(folder)
