"""A change that is killed or finds the disk full, at any call, leaves the old index or the new."""

import json
import os
from pathlib import Path

import pytest
from runtime.index.small_index import documents_of, ids_in, vectors_of

from spladelet import IndexWriter
from spladelet.index.segment_files import verify_index

# Goes through every kind of change, and dies, or finds the disk full, at the n-th call of any
# function that changes the disk: each time in a child of its own, on a copy of its own.
INTERRUPTED = """
import errno, json, os, shutil, signal, sys
from spladelet import Document, IndexWriter, SparseVector, SparseVectors

original, how, every = sys.argv[1], sys.argv[2], int(sys.argv[3])
calls = fatal = 0

def failing(function):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == fatal and how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if 0 < fatal <= calls and how == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return function(*arguments, **options)
    return call

def vectors(count):
    return SparseVectors.from_rows([SparseVector([1], [1.0], 8)] * count, 8, "m" * 64)

def documents(*ids):
    return [Document(i, "new " + i) for i in ids]

def change(folder):
    os.fsync = lambda handle: None  # nothing here loses power
    # A full disk still lets files go.
    letting_go = ("unlink", "rmdir", "rename") if how == "killed" else ()
    for name in ("fsync", "mkdir", "link", *letting_go):
        setattr(os, name, failing(getattr(os, name)))
    with IndexWriter(folder) as writer:
        writer.upsert(vectors(2), documents("b", "d"))
        writer.delete(["c"])
        writer.commit()
        os.write(1, b"first ")
        writer.add(vectors(1), documents("e"))
        writer.delete(["a"])
        writer.compact()
        os.write(1, b"second ")

def run(step):
    # Returns the folder, how a child ended that changed it, and what it said.
    global fatal
    folder = shutil.copytree(original, f"{original}-{step}")
    said = [f"{folder}.out", f"{folder}.err"]
    child = os.fork()
    if child == 0:
        try:
            for stream, name in enumerate(said, start=1):
                os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY), stream)
            fatal = step
            change(folder)
            os.write(1, str(calls).encode())
        except Exception as error:
            os.write(2, str(error).encode())
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return folder, status, *(open(name, encoding="utf-8").read() for name in said)

count = int(run(0)[2].split()[-1])
print(json.dumps([run(step) for step in range(1, count + 1, every)]))
"""
STATES = [["a", "b", "c"], ["a", "b", "d"], ["b", "d", "e"]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("how", ["killed", "full"])
def test_an_interrupted_change_leaves_the_old_index_or_the_new(folder, run_python, how):
    result = run_python(INTERRUPTED, folder, how, 1 if os.environ.get("SPLADELET_THOROUGH") else 4)

    assert result.returncode == 0, result.stderr
    outcomes = json.loads(result.stdout)
    assert len(outcomes) > 7
    for place, status, said, error in outcomes:
        copy = Path(place)
        confirmed = len(said.split())
        assert status == (-9 if how == "killed" else 1) or confirmed >= 2, (place, error)
        verify_index(copy)
        # A commit that was not confirmed may still have come to be, but no half of one; of a full
        # disk it is said.
        unsure = how == "killed" or "is in place, but the disk did not confirm it" in error
        ids = ids_in(copy)
        assert ids in STATES[confirmed + (how == "full" and unsure) : confirmed + 1 + unsure], place
        with IndexWriter(copy) as after:
            after.upsert(vectors_of(1), documents_of(["z"]))
        assert ids_in(copy) == [*ids, "z"]
        names = {entry.name for entry in verify_index(copy).segments}
        assert names == {path.name for path in copy.glob("segment-*")}
