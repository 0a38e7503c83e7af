"""Files and folders, opened for what they are and written whole or not at all.

Knows nothing of what is in them. `Folder` goes by a handle: whatever is put in the place of its
path meanwhile, what is done in it is done in the folder that was opened.
"""

import errno
import gzip
import hashlib
import mmap
import os
import secrets
import shutil
import stat
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from spladelet.errors import InputError

# Smaller files are read: each that is mapped keeps a descriptor open until Python 3.13, and one
# that is cut short under its reader ends the process. 262,144 numbers of 4 bytes are just below it.
MAPPED_FROM = (64 << 10) if sys.version_info >= (3, 13) else (1 << 20) + (4 << 10)

_CHUNK = 1 << 20  # bytes that are hashed at once
_HAS_HANDLES = os.open in os.supports_dir_fd  # not on Windows
_UNTRACKED: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size in bytes and sha256 (hex) of one file of a bundle or an index."""

    size: int
    sha256: str

    def __post_init__(self) -> None:
        if type(self.size) is not int or self.size < 0 or not isinstance(self.sha256, str):
            raise ValueError(f"size {self.size!r} and sha256 {self.sha256!r:.80} of a file")

    @classmethod
    def of(cls, path: Path) -> "FileEntry":
        """Measure a regular file.

        Raises:
            OSError: It cannot be read, or is none.
        """
        with open_regular(path) as file:
            return cls.of_open(file)

    @classmethod
    def of_open(cls, file: BinaryIO) -> "FileEntry":
        """Measure an open file, from where it is read next."""
        size = os.fstat(file.fileno()).st_size
        return cls(size, digest_of(file, size))


def digest_of(file: BinaryIO, size: int) -> str:
    """Return the sha256 of a file's next `size` bytes, in hex: a file may grow meanwhile."""
    digest = hashlib.sha256()
    while size > 0 and (chunk := file.read(min(size, _CHUNK))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest()


def as_path(value: object, what: str) -> Path:
    """Return what a caller gives as a path.

    Raises:
        InputError: It is none.
    """
    if isinstance(value, (str, os.PathLike)) and isinstance(os.fspath(value), str):
        return Path(value)
    raise InputError(f"{what} is {value!r:.60} ({type(value).__name__}); expected a path.")


def open_regular(path: str | os.PathLike[str], *, folder: int | None = None) -> BufferedReader:
    """Open a regular file for reading, and nothing else.

    A pipe would keep its reader waiting for ever, and a device may never end.

    Args:
        path: The file.
        folder: The handle of the folder that `path` is relative to; None for the current one.

    Raises:
        OSError: It cannot be opened, or is something else.
    """

    def opener(name: str, flags: int) -> int:
        # Without waiting: opening a pipe would, until somebody writes to it.
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0), dir_fd=folder)

    file = open(path, "rb", opener=opener)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return file


def read_at_most(file: BinaryIO, limit: int) -> bytes:
    """Read a file to its end or to `limit` bytes.

    No more is asked for than there seems to be, for the memory of what is asked for is taken at
    once.
    """
    return file.read(min(limit, os.fstat(file.fileno()).st_size + 1))


def contents(file: BinaryIO, size: int) -> NDArray[np.uint8]:
    """Return the first bytes of a file, read or mapped: uint8[size], read-only.

    Raises:
        OSError: It has fewer.
    """
    if size < MAPPED_FROM:
        found = file.read(size)
        if len(found) < size:
            raise OSError(errno.EIO, f"it has {len(found)} bytes, expected {size}", file.name)
        return np.frombuffer(found, np.uint8)
    mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ, **_UNTRACKED)
    return np.frombuffer(mapped, np.uint8)


def sync(file: IO[Any]) -> None:
    """Wait until what was written to a file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file aside, for bytes, that takes the path's place when all went well.

    Whatever goes wrong, what was at the path stays, and nothing is left beside it. A name that
    ends in ".gz" is packed. A link's target is replaced, not the link; a pipe or device is written
    to as it is.

    Raises:
        OSError: The file cannot be written; its name is the path's.
        InputError: No file can have such a name.
    """
    path = _resolved(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as device:
            yield device
        return
    aside = path.with_name(f"{path.name}-{secrets.token_hex(8)}.tmp")
    try:
        with aside.open("wb") as raw:
            if path.suffix == ".gz":
                # No name and no time in it: the same content gives the same file.
                with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed:
                    yield cast(BinaryIO, packed)
            else:
                yield raw
        aside.replace(path)
    except OSError as error:
        if error.filename in (str(aside), aside):
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        aside.unlink(missing_ok=True)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except RuntimeError as error:  # Python before 3.13 calls a circle of links so
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error
    except ValueError as error:
        raise InputError(f"no file can be named {str(path)!r}: {error}.") from error


@contextmanager
def replacing_folder(target: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """Write a folder aside that takes the target's place when all went well.

    Whatever goes wrong, what was at the target stays, and nothing is left beside it.

    Args:
        target: Where the folder shall be; the folders above it are made.
        check: Raises where something is at the target that must not be replaced. Asked at the
            beginning, and again at the end: somebody else may have put something there meanwhile.

    Yields:
        An empty folder. It is alone in one that goes away with all else that is put there.

    Raises:
        OSError: It cannot be written.
    """
    check(target)
    above = [folder for folder in target.absolute().parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, because only on the same disk is a move a rename.
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as name:
            aside = Path(name) / "new"
            aside.mkdir()
            yield aside
            check(target)
            _move(aside, target, Path(name) / "replaced")
    except BaseException:
        for folder in above:
            with suppress(OSError):  # somebody else has put something into it
                folder.rmdir()
        raise


def _move(new: Path, target: Path, replaced: Path) -> None:
    """Put a folder in the place of another, in two renames, for want of a single one."""
    if target.exists():
        target.rename(replaced)
    try:
        new.rename(target)
    except BaseException:  # an interrupt between the two, too
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        raise


class Folder:
    """A folder on disk, by its handle where the system has such (not on Windows).

    Args:
        path: Where it is.

    Raises:
        OSError: There is none, or it may not be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = _open_folder(path)
        self._release = _finalizer(self, self._handle)

    def names(self) -> list[str]:
        """Return the names of what is in it."""
        return os.listdir(self.path if self._handle is None else self._handle)

    def open(self, name: str) -> BufferedReader:
        """Open a regular file in it, or in a folder of it, for reading."""
        return open_regular(self._name(name), folder=self._handle)

    def create(self, name: str, mode: int = 0o666) -> BinaryIO:
        """Make a new file, for bytes; FileExistsError if there is something of that name."""

        def opener(path: str, flags: int) -> int:
            return os.open(path, flags, mode, dir_fd=self._handle)

        return open(self._name(name), "xb", opener=opener)

    def open_for_writing(self, name: str) -> BinaryIO:
        """Open a file in it as it is, for reading and writing; a link is not followed."""

        def opener(path: str, flags: int) -> int:
            return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), dir_fd=self._handle)

        return open(self._name(name), "r+b", opener=opener)

    def make(self, name: str) -> "Folder":
        """Make a folder in it."""
        os.mkdir(self._name(name), dir_fd=self._handle)
        return self.subfolder(name)

    def subfolder(self, name: str) -> "Folder":
        """Open a folder in it."""
        made = object.__new__(Folder)
        made.path = self.path / name
        made._handle = _open_folder(Path(self._name(name)), self._handle)
        made._release = _finalizer(made, made._handle)
        return made

    def status(self, name: str | None = None) -> os.stat_result:
        """Return what the system says of something in it, a link itself; None: of the folder."""
        if name is None:
            return os.stat(self.path if self._handle is None else self._handle)
        return os.stat(self._name(name), dir_fd=self._handle, follow_symlinks=False)

    def has(self, name: str) -> bool:
        """Say whether something in it has that name."""
        try:
            self.status(name)
        except FileNotFoundError:
            return False
        return True

    def has_file(self, name: str, file: BinaryIO) -> bool:
        """Say whether a name in it is that of an open file."""
        try:
            return os.path.samestat(self.status(name), os.fstat(file.fileno()))
        except FileNotFoundError:
            return False

    def rename(self, old: str, new: str) -> None:
        """Call something by another name, which nothing has."""
        os.rename(
            self._name(old), self._name(new), src_dir_fd=self._handle, dst_dir_fd=self._handle
        )

    def publish(self, aside: str, name: str) -> None:
        """Give a file its name, unless another has it; of two who do so at once, one succeeds.

        Raises:
            FileExistsError: Something has that name.
        """
        if self._handle is None:
            os.rename(self._name(aside), self._name(name))  # never replaces anything on Windows
            return
        try:
            os.link(aside, name, src_dir_fd=self._handle, dst_dir_fd=self._handle)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise
            # Some file systems have no links; there the last of two at once would win.
            if self.has(name):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from error
            self.rename(aside, name)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder and what is in it, as far as that is possible."""
        try:
            if stat.S_ISDIR(self.status(name).st_mode):
                shutil.rmtree(self._name(name), ignore_errors=True, dir_fd=self._handle)
            else:
                os.unlink(self._name(name), dir_fd=self._handle)
        except OSError:  # Windows keeps what a reader has open
            return

    def sync(self) -> None:
        """Wait until the names in it are on the disk."""
        if self._handle is None:  # the rename itself is journalled there
            return
        try:
            os.fsync(self._handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network mounts cannot
                raise

    def is_in_place(self) -> bool:
        """Say whether its path still leads to it."""
        if self._handle is None:
            return self.path.is_dir()
        with suppress(OSError):
            return os.path.samestat(os.stat(self.path), self.status())
        return False

    def close(self) -> None:
        """Let go of it."""
        self._release()

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _name(self, name: str) -> str:
        return str(self.path / name) if self._handle is None else name


def _open_folder(path: Path, folder: int | None = None) -> int | None:
    if not _HAS_HANDLES:
        if not path.is_dir():
            kind = NotADirectoryError if path.exists() else FileNotFoundError
            number = errno.ENOTDIR if path.exists() else errno.ENOENT
            raise kind(number, os.strerror(number), str(path))
        return None
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)


def _finalizer(owner: object, handle: int | None) -> Callable[[], object]:
    """Return what closes a handle, once; it is done anyway when its owner is gone."""
    if handle is None:
        return lambda: None
    return weakref.finalize(owner, os.close, handle)
