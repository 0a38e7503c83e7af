"""Who may change an index, and that what is published stays: at every step, with every signal."""

import errno
import multiprocessing
import os
import stat
import sys
import threading
from pathlib import Path

import pytest
from runtime.index.small_index import (
    check_that_all_is_well,
    documents_of,
    fill,
    ids_in,
    index_of,
    vectors_of,
)

from spladelet import IndexWriter
from spladelet.errors import IndexLockedError, IndexWriteError
from spladelet.index import merging, writer
from spladelet.index.generations import claim
from spladelet.index.segment_files import verify_index

THOROUGH = bool(os.environ.get("SPLADELET_THOROUGH"))
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX's folders and processes")
FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


# ---- interrupts

# Runs changes again and again on copies of an index; each time it is interrupted at another step.
# A step is a line of the package, and within what publishes each single bytecode, between any two
# of which Python may run a signal's handler.
STEPS = """
import gc, itertools, os, shutil, sys, warnings
from pathlib import Path
from spladelet import Document, Index, IndexWriter, SparseVector, SparseVectors
from spladelet import files
from spladelet.index import generations, index, segment_files, writer
from spladelet.errors import IndexStoreError
from spladelet.index.segment_files import verify_index

warnings.simplefilter("ignore", ResourceWarning)
home, thorough = Path(sys.argv[1]), len(sys.argv) > 2
original = home / "index"
LINES = {module.__file__ for module in (files, generations, index, segment_files, writer)}
CALLS = files.__file__
OPCODES = {"publish", "_remove_unused", "discard"}

os.fsync = lambda handle: None  # nothing here loses power

def vectors(count):
    return SparseVectors.from_rows([SparseVector([1], [1.0], 8)] * count, 8, "m" * 64)

def documents(*ids):
    return [Document(i, "new " + i) for i in ids]

def commit(folder):
    with IndexWriter(folder) as opened:
        opened.upsert(vectors(2), documents("b", "d"))

def compact(folder):
    with IndexWriter(folder) as opened:
        opened.delete(["c"])
        opened.compact()

def save(folder):
    Index.build(vectors(1), documents("x")).save(folder)

CHANGES = {commit: ["a", "c", "b", "d"], compact: ["a", "b"], save: ["x"]}

done, published = [0], []

def run(change, folder, fatal, error):
    done[0] = 0
    def trace(frame, event, argument):
        if frame.f_code.co_filename not in LINES:
            return None
        if frame.f_code.co_name in OPCODES:
            frame.f_trace_opcodes = True
        # Of the system's errors there are only those of calls to it, which stand in one module.
        is_call = event == "line" and frame.f_code.co_filename == CALLS
        if is_call if error is broken else event in ("line", "opcode"):
            done[0] += 1
            if done[0] == fatal:
                raise error()
        return trace
    sys.settrace(trace)
    try:
        change(folder)
    finally:
        sys.settrace(None)
    return done[0]

link = os.link

def linking(*arguments, **options):
    link(*arguments, **options)
    published.append(done[0])

os.link = linking

def chosen(count, most):
    # All steps, or some, among them those before and after the publication.
    if thorough:
        return range(1, count + 1)
    around = range(published[-1] - 6, min(count, published[-1] + 60), 3)
    return sorted({*range(1, count + 1, max(1, count // most)), *around})

def ids_in(folder):
    opened = Index.open(folder)
    return [opened.document(n).id for n in range(len(opened))]

def broken():
    return OSError(5, "it broke")

for (change, new), error in itertools.product(CHANGES.items(), (KeyboardInterrupt, broken)):
    count = run(change, shutil.copytree(original, home / "whole"), 0, error)
    shutil.rmtree(home / "whole")
    seen = set()
    for step in chosen(count, 12):
        copy = shutil.copytree(original, home / "copy")
        try:
            run(change, copy, step, error)
            said = "nothing"
        except (KeyboardInterrupt, OSError, IndexStoreError) as raised:
            said = str(raised)
        gc.collect()
        where = f"{change.__name__} at {step} of {count} by {error()!r}"
        verify_index(copy)
        ids = ids_in(copy)
        assert ids in (["a", "b", "c"], new), where
        if "intact" in said:
            assert ids == ["a", "b", "c"], where
        if said == "nothing":
            assert ids == new, where
        with IndexWriter(copy) as after:  # the lock is free
            after.upsert(vectors(1), documents("z"))
        left = {path.name for path in copy.iterdir()}
        named = {entry.name for entry in verify_index(copy).segments}
        assert {name for name in left if not name.startswith("generation-")} == named, where
        assert len(left) == len(named) + 1, where
        seen.add(ids == new)
        shutil.rmtree(copy)
    assert seen == {True, False}, "no interrupt came before, or none after, the publication"
    print(change.__name__, error.__name__, count)
"""


@pytest.mark.timeout(3600)
def test_an_interrupt_at_any_step_leaves_the_old_index_or_the_new(folder, run_python):
    result = run_python(STEPS, folder.parent, *(["thorough"] if THOROUGH else []), timeout=3000)

    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 6


# Compacts an index while a timer's signal interrupts it, a little later each time.
SIGNALS = """
import shutil, signal, sys, time
from pathlib import Path
from spladelet import IndexWriter
from spladelet.index.segment_files import verify_index

home, rounds = Path(sys.argv[1]), int(sys.argv[2])

def interrupt(number, frame):
    raise KeyboardInterrupt

def compact(folder):
    with IndexWriter(folder) as writer:
        writer.delete(["c"])
        writer.compact()

signal.signal(signal.SIGALRM, interrupt)
start = time.perf_counter()
compact(shutil.copytree(home / "index", home / "whole"))
whole = time.perf_counter() - start
seen = set()
for round in range(rounds):
    copy = shutil.copytree(home / "index", home / f"copy-{round}")
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.3 * whole * (round + 1) / rounds)
        compact(copy)
    except KeyboardInterrupt:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    (entry,) = verify_index(copy).segments
    seen.add(entry.documents)
    assert entry.documents in (2, 3), round
assert seen == {2, 3}, seen
"""


@POSIX
def test_a_signal_at_any_time_leaves_the_old_index_or_the_new(folder, run_python):
    result = run_python(SIGNALS, folder.parent, 400 if THOROUGH else 60)

    assert result.returncode == 0, result.stderr


def test_what_the_disk_does_not_confirm_stays_and_is_told(folder, monkeypatch):
    fsync = os.fsync

    def failing(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode) and len(list(folder.glob("generation-*"))) > 1:
            raise OSError(errno.EIO, "Input/output error")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", failing)
    opened = IndexWriter(folder)
    opened.delete(["a"])
    with pytest.raises(IndexWriteError, match="generation 2 is in place, but the disk did not"):
        opened.commit()
    monkeypatch.undo()

    assert ids_in(folder) == ["b", "c"]
    check_that_all_is_well(folder)


@POSIX
def test_what_cannot_be_removed_after_a_commit_is_no_error(folder, monkeypatch):
    def failing(*arguments, **options):
        raise OSError(errno.EIO, "Input/output error")

    with IndexWriter(folder) as opened:
        opened.upsert(vectors_of(3), documents_of(["a", "b", "c"]))
        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", failing)
            patch.setattr(os, "rename", failing)
            opened.commit()

    assert ids_in(folder) == ["a", "b", "c"]
    check_that_all_is_well(folder)


# ---- several writers


def race(barrier, folder, name, rounds, results):
    """Make a new index in each round, at the same time as others do."""
    for number in range(rounds):
        place = Path(folder) / f"new-{number}" / "index"
        barrier.wait(30)
        try:
            fill(place, [name])
            results.put((number, name, "done"))
        except IndexWriteError as error:
            results.put((number, name, str(error)))
        barrier.wait(30)


@FORK
@pytest.mark.parametrize("writers", [2, 3])
def test_writers_of_one_new_folder_lose_nothing(tmp_path, writers):
    rounds = 150 if THOROUGH else 30
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(writers), context.Queue()
    processes = [
        context.Process(target=race, args=(barrier, tmp_path, f"w{n}", rounds, results))
        for n in range(writers)
    ]
    for process in processes:
        process.start()
    outcomes = [results.get(timeout=60) for _ in range(writers * rounds)]
    for process in processes:
        process.join(30)

    for number in range(rounds):
        done = {name for i, name, said in outcomes if i == number and said == "done"}
        assert done, [outcome for outcome in outcomes if outcome[0] == number]
        assert set(ids_in(tmp_path / f"new-{number}" / "index")) == done
        check_that_all_is_well(tmp_path / f"new-{number}" / "index")


def test_two_threads_that_save_at_once_leave_a_complete_index(tmp_path):
    index_of("0").save(tmp_path / "index")
    for _ in range(20):
        start = threading.Barrier(2)
        failed = []

        def work(text, start=start, failed=failed):
            start.wait()
            try:
                index_of(text).save(tmp_path / "index")
            except IndexWriteError as error:
                failed.append(error)

        writers = [threading.Thread(target=work, args=(text,)) for text in "ab"]
        for thread in writers:
            thread.start()
        for thread in writers:
            thread.join()
        assert len(failed) < 2
        verify_index(tmp_path / "index")


def test_the_loser_of_a_new_folder_leaves_it_to_the_winner(tmp_path):
    with claim(tmp_path / "a" / "index"):
        with pytest.raises(IndexLockedError, match="being written to"):
            fill(tmp_path / "a" / "index", ["x"])
        assert (tmp_path / "a" / "index").is_dir()

    assert list(tmp_path.iterdir()) == []


@POSIX
def test_a_folder_that_is_replaced_under_a_writer_is_left_alone(folder, tmp_path):
    opened = IndexWriter(folder)
    opened.upsert(vectors_of(1), documents_of(["d"]))
    folder.rename(tmp_path / "old")
    fill(folder, ["new"])

    with pytest.raises(IndexWriteError, match="moved or replaced while it was being written to"):
        opened.commit()

    assert (ids_in(folder), ids_in(tmp_path / "old")) == (["new"], ["a", "b", "c"])
    check_that_all_is_well(folder)
    check_that_all_is_well(tmp_path / "old")


@POSIX
def test_a_folder_that_is_removed_under_a_writer_is_not_made_anew(folder):
    opened = IndexWriter(folder)
    opened.upsert(vectors_of(1), documents_of(["d"]))
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()

    with pytest.raises(IndexWriteError):
        opened.commit()

    assert not folder.exists()


@pytest.fixture
def no_locks(monkeypatch):
    """Let every lock succeed, as on a mount where they reach no further than one machine."""
    monkeypatch.setattr("spladelet.index.generations._take", lambda file: None)


def test_without_locks_the_first_of_two_writers_wins_and_the_other_is_told(folder, no_locks):
    first, second = IndexWriter(folder), IndexWriter(folder)
    first.upsert(vectors_of(1), documents_of(["first"]))
    second.upsert(vectors_of(1), documents_of(["second"]))
    first.commit()

    with pytest.raises(IndexWriteError, match="another writer published generation 2"):
        second.commit()

    first.close()
    assert ids_in(folder) == ["a", "b", "c", "first"]
    check_that_all_is_well(folder)


def test_without_locks_a_late_writer_does_not_lose_to_an_early_one(folder, no_locks, monkeypatch):
    monkeypatch.setattr(writer, "MAX_DOCUMENTS", 1)  # a segment is written at each upsert
    monkeypatch.setattr(merging, "MAX_DOCUMENTS", 1)
    early, late = IndexWriter(folder), IndexWriter(folder)
    for opened in (early, late):
        opened.upsert(vectors_of(1), documents_of(["z"]))
    late.commit()
    later = IndexWriter(folder)
    later.upsert(vectors_of(1), documents_of(["later"]))
    late.delete(["a"])
    late.commit()  # removes what it does not know, of which there is a segment of `later`

    for opened in (early, later):
        with pytest.raises(IndexWriteError, match="another writer published"):
            opened.commit()
    late.close()
    assert ids_in(folder) == ["b", "c", "z"]
    check_that_all_is_well(folder)


def test_a_manifest_whose_segments_were_removed_by_another_is_taken_back(
    folder, no_locks, monkeypatch
):
    monkeypatch.setattr(writer, "MAX_DOCUMENTS", 1)
    monkeypatch.setattr(merging, "MAX_DOCUMENTS", 1)
    opened = IndexWriter(folder)
    known = {path.name for path in folder.iterdir()}
    opened.upsert(vectors_of(1), documents_of(["d"]))
    (new,) = {path.name for path in folder.iterdir()} - known
    (folder / new).rename(folder / f"removed-{'0' * 16}")

    with pytest.raises(IndexWriteError, match="Locks do not seem to work"):
        opened.commit()

    assert ids_in(folder) == ["a", "b", "c"]
    check_that_all_is_well(folder)


def test_without_locks_nothing_of_a_later_generation_is_removed(folder, no_locks):
    with claim(folder) as early:
        old = verify_index(folder)
        fill(folder, ["d"])  # a later generation, with a segment that the old one does not name
        early._remove_unused(old)

    assert ids_in(folder) == ["a", "b", "c", "d"]
    check_that_all_is_well(folder)


def test_where_there_are_no_links_a_manifest_is_not_replaced_either(folder, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    fill(folder, ["d"])
    assert ids_in(folder) == ["a", "b", "c", "d"]
    monkeypatch.setattr("spladelet.index.generations._take", lambda file: None)
    first, second = IndexWriter(folder), IndexWriter(folder)
    for opened in (first, second):
        opened.upsert(vectors_of(1), documents_of(["z"]))
    first.commit()
    with pytest.raises(IndexWriteError, match="another writer published"):
        second.commit()
    first.close()
    check_that_all_is_well(folder)


@POSIX
@pytest.mark.parametrize(("mode", "locked"), [(0o755, 0o600), (0o775, 0o660), (0o777, 0o666)])
def test_only_who_may_write_to_the_folder_may_hold_its_lock(folder, mode, locked):
    folder.chmod(mode)
    before = os.umask(0o077)
    try:
        with claim(folder):
            assert stat.S_IMODE((folder / "writer.lock").stat().st_mode) == locked
    finally:
        os.umask(before)
    assert not (folder / "writer.lock").exists()


def test_the_lock_file_of_a_killed_writer_is_in_nobodys_way(folder):
    (folder / "writer.lock").touch()

    fill(folder, ["d"])

    assert ids_in(folder) == ["a", "b", "c", "d"]
    check_that_all_is_well(folder)


@POSIX
def test_a_lock_file_that_is_a_link_is_not_followed(folder, tmp_path):
    (tmp_path / "precious").write_text("text")
    (folder / "writer.lock").symlink_to(tmp_path / "precious")

    with pytest.raises(
        IndexWriteError, match=r"writer\.lock cannot be locked: it is no regular file"
    ):
        fill(folder, ["d"])

    assert (tmp_path / "precious").read_text() == "text"


@POSIX
def test_a_lock_that_may_not_be_opened_is_named(folder, unprivileged):
    (folder / "writer.lock").touch()
    (folder / "writer.lock").chmod(0)
    folder.chmod(0o777)

    with unprivileged(), pytest.raises(IndexWriteError, match=r"writer\.lock cannot .* remove it"):
        IndexWriter(folder)


@POSIX
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives away")
def test_the_lock_belongs_to_whom_the_folder_belongs(folder):
    os.chown(folder, 65534, 65534)
    with claim(folder):
        about = (folder / "writer.lock").stat()

    assert (about.st_uid, about.st_gid) == (65534, 65534)


def test_a_writer_that_is_overtaken_as_it_publishes_is_told(folder, no_locks, monkeypatch):
    late = IndexWriter(folder)
    late.delete(["a"])
    link = os.link

    def overtaken(*arguments, **options):
        monkeypatch.setattr(os, "link", link)
        for name in ("x", "y"):  # whose commits also remove what lies aside
            fill(folder, [name])
        link(*arguments, **options)

    monkeypatch.setattr(os, "link", overtaken)
    with pytest.raises(IndexWriteError, match="another writer published generation 3"):
        late.commit()

    assert ids_in(folder) == ["a", "b", "c", "x", "y"]
