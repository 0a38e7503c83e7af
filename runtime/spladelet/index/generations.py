"""The generations of an index: who may make the next, how it is published, what it leaves behind.

    generation-7.json         the manifest; the highest number is the current one
    generation-8-….tmp        one that is being written
    removed-…                 what is being removed
    writer.lock               there while a writer is at work, and after it was killed

The writer locks a file that only those may open who may write to the folder. Where locks reach no
further than one machine, as on some network mounts, a second writer may get to work all the same:
so a manifest never takes the place of another, of two writers the first one wins, and what the
other has written is not touched. What is published is never taken back.
"""

import errno
import os
import re
import secrets
import stat
import sys
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from spladelet.errors import IndexFormatError, IndexLockedError, IndexReadError, IndexWriteError
from spladelet.files import Folder, read_at_most, sync
from spladelet.index.format import DELETED_NAME, SEGMENT_NAME, Manifest

_GENERATION = re.compile(r"generation-(\d{1,18})\.json")
_LEFT = re.compile(r"generation-\d+-[0-9a-f]{16}\.tmp|removed-[0-9a-f]{16}")
_LOCK = "writer.lock"
_ATTEMPTS = 100
_LARGEST = 256 << 20  # bytes of a manifest
_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # of a mount that has none
_NO_INDEX = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


def current_generation(folder: Folder) -> int | None:
    """Return the number of the current manifest; None if there is none."""
    return max(_numbers(folder), default=None)


def read_manifest(folder: Folder, generation: int) -> bytes:
    """Read a generation's manifest, as it lies there.

    Raises:
        OSError: It cannot be read.
        IndexFormatError: It is too large for one.
    """
    name = manifest_name(generation)
    with folder.open(name) as file:
        found = read_at_most(file, _LARGEST + 1)
    if len(found) > _LARGEST:
        raise IndexFormatError(
            f"{folder.path / name} has more than {_LARGEST} bytes, which a manifest has not. Build "
            "the index again."
        )
    return found


def manifest_name(generation: int) -> str:
    """Return the name of a generation's manifest."""
    return f"generation-{generation}.json"


def is_index(path: Path) -> bool:
    """Say whether a folder holds an index, whatever its state.

    Raises:
        IndexReadError: It may not be looked into.
    """
    try:
        with Folder(path) as folder:
            return current_generation(folder) is not None
    except ValueError:  # a NUL in the path
        return False
    except OSError as error:
        if error.errno in _NO_INDEX:
            return False
        raise read_error(path, error) from error


class IndexFolder:
    """The folder of an index in the hands of its one writer, from `claim`.

    Attributes:
        folder: The folder.
        path: Where it is.
        generation: The current generation when it was claimed, or the one published since; 0 for
            none. Publishing a next one fails if the folder has another by then.
    """

    def __init__(self, folder: Folder, lock: BinaryIO, made: Sequence[Path]) -> None:
        self.folder = folder
        self.path = folder.path
        self.generation = current_generation(folder) or 0
        self._lock = lock
        self._made = made
        self._owner = os.getpid()
        _claimed.add(self)

    @property
    def is_mine(self) -> bool:
        """Whether this process claimed it; a fork of that process has not."""
        return self._owner == os.getpid()

    def publish(self, manifest: Manifest) -> None:
        """Make a manifest the current one, and remove what it does not need.

        Raises:
            IndexWriteError: Another writer published one meanwhile, or the folder is no longer
                where it was; or, the manifest being published, the disk does not confirm it.
            OSError: It cannot be written; nothing has changed.
        """
        name = manifest_name(manifest.generation)
        aside = f"generation-{manifest.generation}-{secrets.token_hex(8)}.tmp"
        self._check_next(manifest.generation)
        try:
            with self.folder.create(aside) as file:
                file.write(manifest.to_json().encode())
                sync(file)
            self.folder.publish(aside, name)
        except BaseException as error:
            self.folder.remove(aside)
            is_late = (current_generation(self.folder) or 0) != self.generation
            if isinstance(error, FileExistsError) or (isinstance(error, OSError) and is_late):
                raise self._overtaken() from error
            raise
        # It is published: whatever happens from here on, nothing of it may be removed.
        self.generation = manifest.generation
        try:
            self._check_whole(manifest)
            self.folder.sync()
        except OSError as error:
            raise IndexWriteError(
                f"{self.path}: generation {manifest.generation} is in place, but the disk did not "
                f"confirm it ({error.strerror or error}): should the power fail now, it may be "
                "lost. Mend the disk and commit again."
            ) from error
        self._remove_unused(manifest)

    def discard(self, names: Iterable[str]) -> None:
        """Remove segments, but for those that a manifest names."""
        names = list(names)
        kept = self._named() if names else frozenset()
        if kept is None:  # it cannot be said which those are
            return
        for name in names:
            if name not in kept:
                self.folder.remove(name)

    def release(self) -> None:
        """Let other writers in; the folder goes, too, if it was made and holds no index."""
        try:
            if self.is_mine:
                self.folder.remove(_LOCK)
                if current_generation(self.folder) is None and self.folder.is_in_place():
                    for path in self._made:
                        path.rmdir()  # which fails where something is in it
        finally:
            self._lock.close()
            self.folder.close()

    def abandon(self) -> None:
        """Let go of the lock in a forked process, or its parent's would last as long as it."""
        self._lock.close()

    def _check_next(self, generation: int) -> None:
        if not self.folder.is_in_place():
            raise IndexWriteError(
                f"{self.path} was moved or replaced while it was being written to. Nothing was "
                "changed in what is there now. Open another writer and try again."
            )
        if (current_generation(self.folder) or 0) != self.generation or (
            generation != self.generation + 1
        ):
            raise self._overtaken()

    def _overtaken(self) -> IndexWriteError:
        return IndexWriteError(
            f"another writer published generation {current_generation(self.folder)} of {self.path} "
            f"after this one began with {self.generation}; this one's changes are dropped. Locks "
            "do not seem to work there, as on some network mounts: see that one process writes at "
            "a time, and try again."
        )

    def _check_whole(self, manifest: Manifest) -> None:
        """Take back a manifest whose segments another writer has removed: see `_remove`."""
        for entry in manifest.segments:
            for name in (entry.name, *(f"{entry.name}/{file}" for file in entry.deletions)):
                if not self.folder.has(name):
                    self.folder.remove(manifest_name(manifest.generation))
                    raise self._overtaken()

    def _named(self) -> frozenset[str] | None:
        """Return the segments that any manifest names; None if one cannot be read."""
        named: set[str] = set()
        try:
            for generation in _numbers(self.folder):
                where = self.path / manifest_name(generation)
                manifest = Manifest.from_json(read_manifest(self.folder, generation), where)
                named |= {entry.name for entry in manifest.segments}
        except (OSError, IndexFormatError):
            return None
        return frozenset(named)

    def _remove_unused(self, current: Manifest) -> None:
        """Remove what the current generation does not need, and what killed writers left behind.

        What a reader has opened lives on until it lets go; where the system forbids removing it
        (Windows), it stays until a later commit.
        """
        keep = {entry.name: frozenset(entry.deletions) for entry in current.segments}
        with suppress(OSError):
            for name in self.folder.names():
                match = _GENERATION.fullmatch(name)
                if (match and int(match[1]) < current.generation) or _LEFT.fullmatch(name):
                    self.folder.remove(name)
                elif SEGMENT_NAME.fullmatch(name) and name not in keep:
                    self._remove(name, current.generation)
            for name, deletions in keep.items():
                self._remove_old_deletions(name, deletions, current.generation)

    def _remove_old_deletions(self, name: str, keep: frozenset[str], generation: int) -> None:
        with self.folder.subfolder(name) as segment:
            old = [n for n in segment.names() if DELETED_NAME.fullmatch(n) and n not in keep]
        for file in old:
            self._remove(f"{name}/{file}", generation)

    def _remove(self, name: str, generation: int) -> None:
        """Remove what a generation does not need, unless a later one does.

        There is a later one only where locks do not work. What is removed gets another name first.
        If the other writer looks for it before that, then its manifest was there before, and is
        seen here; if it looks later, it misses it, and takes its manifest back.
        """
        aside = f"removed-{secrets.token_hex(8)}"
        self.folder.rename(name, aside)
        if current_generation(self.folder) == generation:
            self.folder.remove(aside)
        else:
            self.folder.rename(aside, name)


@contextmanager
def claim(path: Path) -> Iterator[IndexFolder]:
    """Take the folder of an index, or make it; no other writer gets it until the block ends.

    The system frees the folder of a process that was killed.

    Raises:
        IndexWriteError: The folder holds something else, or cannot be written to; what was there
            before is intact.
        IndexLockedError: Another writer has it.
    """
    try:
        folder = _claim(path)
        try:
            yield folder
        finally:
            with suppress(OSError):  # what stays behind, the next writer removes
                folder.release()
    except OSError as error:
        raise write_error(path, error) from error


def _claim(path: Path) -> IndexFolder:
    """Lock a folder and see that its path still leads to it: others make, move and remove them."""
    for _ in range(_ATTEMPTS):
        made = _make(path)
        try:
            folder = Folder(path)
        except FileNotFoundError:  # one who had made it removed it again
            continue
        _check_kind(folder)
        lock = _lock(folder)
        if lock is not None and folder.is_in_place():
            return IndexFolder(folder, lock, made)
        if lock is not None:
            lock.close()
        folder.close()
    raise IndexLockedError(
        f"{path} changes hands faster than it can be locked. Try again when its writers have ended."
    )


def _make(path: Path) -> list[Path]:
    """Make a folder and those above it; returns which were missing, the lowest first."""
    try:
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise _something_else(path) from error
    except ValueError as error:
        raise IndexWriteError(
            f"{str(path)!r} can be no folder ({error}). Call it otherwise."
        ) from error
    return made


def _check_kind(folder: Folder) -> None:
    """Raise IndexWriteError unless a folder holds an index, or nothing but what one leaves."""
    names = folder.names()
    if any(_GENERATION.fullmatch(name) for name in names):
        return
    if not all(SEGMENT_NAME.fullmatch(n) or _LEFT.fullmatch(n) or n == _LOCK for n in names):
        raise _something_else(folder.path)


def _something_else(path: Path) -> IndexWriteError:
    return IndexWriteError(
        f"{path} exists and is not an index. Give the name of a new folder, or of an index."
    )


def _lock(folder: Folder) -> BinaryIO | None:
    """Lock a folder's lock file; None if it was removed just then, by the one who had it."""
    try:
        file = _open_lock(folder)
    except FileNotFoundError:
        return None
    try:
        _take(file)
    except OSError as error:
        if error.errno in _NO_LOCKS:  # `IndexFolder.publish` lets one of two win
            return file
        file.close()
        if error.errno not in _HELD:
            raise
        raise IndexLockedError(
            f"{folder.path} is being written to by another process or writer. One writes at a "
            "time; try again when it has ended."
        ) from error
    if sys.platform == "win32" or folder.has_file(_LOCK, file):
        return file
    file.close()
    return None


def _open_lock(folder: Folder) -> BinaryIO:
    """Open the lock file, or make it for those who may write to the folder, and nobody else."""
    about = folder.status()
    others = about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    mode = stat.S_IRUSR | stat.S_IWUSR | others | others << 1
    try:
        file = folder.create(_LOCK, mode)
    except FileExistsError:
        return _open_existing_lock(folder)
    if sys.platform != "win32":
        # If this process is killed, the others who may write there must be able to lock it.
        with suppress(OSError):
            os.fchown(file.fileno(), about.st_uid if os.geteuid() == 0 else -1, about.st_gid)
        os.fchmod(file.fileno(), mode)  # whatever the process's mask
    return file


def _open_existing_lock(folder: Folder) -> BinaryIO:
    try:
        if stat.S_ISREG(folder.status(_LOCK).st_mode):
            return folder.open_for_writing(_LOCK)
        reason = "it is no regular file"
    except PermissionError as error:
        reason = str(error.strerror)
    raise IndexWriteError(
        f"{folder.path / _LOCK} cannot be locked: {reason}. If no writer is at work there, remove "
        "it: a writer that was killed leaves it behind."
    )


def _take(file: BinaryIO) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _numbers(folder: Folder) -> list[int]:
    return [int(match[1]) for name in folder.names() if (match := _GENERATION.fullmatch(name))]


def read_error(path: Path, error: OSError) -> IndexReadError:
    """Say in the package's terms why reading failed."""
    todo = {
        errno.EACCES: "Ask for the right to read it.",
        errno.EPERM: "Ask for the right to read it.",
        errno.EMFILE: "Raise the limit (`ulimit -n`), close other indexes, or join its segments "
        "with `spladelet compact`.",
        errno.ENFILE: "Close what else is open on this machine.",
    }.get(error.errno or 0, "Mend that and try again.")
    file = path / str(error.filename) if error.filename else path
    return IndexReadError(f"cannot read {file}: {error.strerror or error}. {todo}")


def write_error(path: Path, error: OSError) -> IndexWriteError:
    """Say in the package's terms why writing failed, and that nothing is lost."""
    intact = (
        "The index that was there is intact." if _may_be_index(path) else "Nothing was left behind."
    )
    todo = {
        errno.ENOSPC: "Free some space, or save to another disk.",
        errno.EDQUOT: "Free some space, or save to another disk.",
        errno.EACCES: "Choose a folder that you may write to.",
        errno.EROFS: "Choose a folder that you may write to.",
        errno.EMFILE: "Raise the limit (`ulimit -n`) and save again.",
    }.get(error.errno or 0, "Mend that and save again.")
    return IndexWriteError(f"cannot save to {path}: {error.strerror or error}. {intact} {todo}")


def _may_be_index(path: Path) -> bool:
    try:
        return is_index(path)
    except IndexReadError:
        return True


# So that a forked process holds no lock of its parent's.
_claimed: "weakref.WeakSet[IndexFolder]" = weakref.WeakSet()


def _abandon_all() -> None:
    for folder in list(_claimed):
        folder.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
