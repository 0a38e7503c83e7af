"""Forks of a process that writes, searches or holds an index: nothing hangs, nothing is lost."""

import os

import pytest

from spladelet import Document, Index, IndexWriter, SparseVector, SparseVectors
from spladelet.index.segment_files import verify_index

THOROUGH = bool(os.environ.get("SPLADELET_THOROUGH"))
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


# Each child does something with its parent's writer, or the index beside it, and ends.
FORKED = """
import os, sys, time
from spladelet import Document, Index, IndexWriter, SparseVector, SparseVectors
from spladelet.index import segment, writer
from spladelet.errors import IndexWriteError

def vectors(count):
    return SparseVectors.from_rows([SparseVector([1], [1.0], 8)] * count, 8)

writer.MAX_DOCUMENTS = 1  # a segment is written at each add
folder, what = sys.argv[1:]
opened = IndexWriter(folder)
opened.add(vectors(1), [Document("parent", "text")])
child = os.fork()
if child == 0:
    if what == "sleeps":
        time.sleep(60)
    elif what == "leaves":
        with opened:
            sys.exit(7)
    elif what == "uses":
        try:
            opened.add(vectors(1), [Document("child", "text")])
        except IndexWriteError as error:
            print(error, flush=True)
        try:
            opened.commit()
        except IndexWriteError:
            sys.exit(7)
    elif what == "closes":
        opened.close()
        sys.exit(7)
    os._exit(1)
if what != "sleeps":
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
opened.commit()
opened.close()
with IndexWriter(folder) as after:  # although the child may live on
    after.add(vectors(1), [Document("after", "text")])
index = Index.open(folder)
print(*(index.document(n).id for n in range(len(index))))
if what == "sleeps":
    os.kill(child, 9)
"""


@pytest.mark.parametrize("what", ["sleeps", "leaves", "uses", "closes"])
def test_a_fork_of_a_writers_process_changes_nothing(tmp_path, run_python, what):
    result = run_python(FORKED, tmp_path / "index", what)

    assert result.returncode == 0, result.stderr
    *said, ids = result.stdout.splitlines()
    assert ids == "parent after"
    assert ("forked from" in "".join(said)) == (what == "uses")
    verify_index(tmp_path / "index")


# A thread searches with ever new filters while the process forks; each child searches, too.
SEARCHING = """
import os, sys, threading, time
from spladelet import Index, SparseVector

index = Index.open(sys.argv[1])
query = SparseVector([1], [1.0], 8)
ended = threading.Event()

def search(number):
    return index.search(query, where={"n": {"gte": number}}, ids=[str(number), "a"])

def work():
    number = 0
    while not ended.is_set():
        number += 1
        search(number)

thread = threading.Thread(target=work)
thread.start()
for round in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        search(0)
        [hit.document for hit in index.search(query)]
        os._exit(0)
    end = time.monotonic() + 20
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > end:
            os.kill(child, 9)
            ended.set()
            sys.exit("a child hangs")
        time.sleep(0.001)
    assert done[1] == 0
ended.set()
"""


def test_a_fork_of_a_searching_process_searches(tmp_path, run_python):
    documents = [Document(str(n), "text", metadata={"n": n}) for n in range(2000)]
    rows = SparseVectors.from_rows([SparseVector([1], [1.0], 8)] * 2000, 8)
    Index.build(rows, documents).save(tmp_path / "index")
    with IndexWriter(tmp_path / "index") as opened:
        opened.delete(["5"])

    result = run_python(SEARCHING, tmp_path / "index", 1000 if THOROUGH else 120)

    assert result.returncode == 0, result.stderr
