"""A bundle's .zip: what it holds, and where it is unpacked.

A .zip is unpacked once, to a folder of the cache (see `caches`) that is named after the bundle, and
every process uses that. Files are unpacked aside, checked by their hash and moved to their place
one by one: whatever is there is right, whoever put it there, and however a process ended.
"""

import hashlib
import os
import shutil
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Self

from spladelet.bundle.bundle_files import check_name
from spladelet.caches import private_folders
from spladelet.errors import BundleFileError, BundleNotFoundError
from spladelet.files import FileEntry

MAX_BYTES = 16 << 30  # of a bundle that is unpacked or downloaded
_CHUNK = 1 << 20
_MAX_DIRECTORY = 4 << 20  # bytes of a .zip's list of files
_ASIDE = ".tmp"
_ABANDONED = 3600  # seconds after which nobody is writing any more
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError)


class Archive:
    """A .zip that holds a bundle, open for reading.

    Args:
        path: Where it is.
        packed: The same, opened.
        description: The name of the bundle's description.

    Raises:
        BundleNotFoundError: It holds no description.
    """

    def __init__(self, path: Path, packed: zipfile.ZipFile, description: str) -> None:
        self._path = path
        self._packed = packed
        self._infos = {info.filename: info for info in packed.infolist()}
        heads = [name for name in self._infos if PurePosixPath(name).name == description]
        if not heads:
            raise BundleNotFoundError(f"{path} holds no {description}, so it is not a bundle.")
        self.head = min(heads, key=lambda name: (name.count("/"), name))
        self._top = self.head.removesuffix(description)

    @classmethod
    @contextmanager
    def open(cls, path: Path, description: str) -> Iterator[Self]:
        """Open a .zip for the block.

        Raises:
            BundleFileError: It is none, is damaged or cannot be read; also in the block.
        """
        try:
            with path.open("rb") as file:
                _check_directory(file)
                with zipfile.ZipFile(file) as packed:
                    yield cls(path, packed, description)
        except _DAMAGE as error:
            raise BundleFileError(
                f"{path} is no .zip, or damaged ({error}). Copy or download it again, or pass "
                "the bundle's folder."
            ) from error
        except OSError as error:
            raise BundleFileError(
                f"{path} cannot be read: {error.strerror or error}. Unpack it yourself and pass "
                "the folder."
            ) from error

    def description_size(self) -> int:
        """Return how many bytes the description has."""
        return self._infos[self.head].file_size

    def description(self) -> bytes:
        """Return the text of the description."""
        return self._packed.read(self.head)

    def check(self, files: Mapping[str, FileEntry]) -> None:
        """Compare what a description lists with the sizes that the .zip states.

        Raises:
            BundleFileError: A file is missing or of another size, or all are too large.
        """
        if (total := sum(entry.size for entry in files.values())) > MAX_BYTES:
            raise BundleFileError(
                f"{self._path} lists {total} bytes; at most {MAX_BYTES} are unpacked. Unpack it "
                "yourself and pass the folder."
            )
        for name, entry in files.items():
            check_name(name, self._path)
            info = self._infos.get(self._top + name)
            if info is None or info.file_size != entry.size:
                found = "is missing" if info is None else f"has {info.file_size} bytes"
                raise BundleFileError(
                    f"{self._path}: {name} {found}, expected {entry.size} bytes. Copy it again."
                )
            if info.compress_type == zipfile.ZIP_LZMA:  # its errors are of another kind
                raise zipfile.BadZipFile(f"{name} is packed by LZMA")

    def names(self) -> list[str]:
        """Return the names of all files beside the description."""
        names = (name.removeprefix(self._top) for name in self._infos if name.startswith(self._top))
        return [name for name in names if name and not name.endswith("/")]

    def verify(self, files: Mapping[str, FileEntry]) -> None:
        """Read every file and compare its sha256.

        Raises:
            BundleFileError: A file differs.
        """
        for name, entry in files.items():
            self._copy(name, entry, None)

    def unpack(self, files: Mapping[str, FileEntry]) -> Path:
        """Return the folder of the cache that holds these files, after unpacking what lacks.

        Args:
            files: What the description lists, and itself.

        Raises:
            BundleFileError: No folder can be written, or the disk is full.
        """
        name = hashlib.sha256(self.description()).hexdigest()
        for place in private_folders("bundles"):
            if not _lacking(place / name, files):
                return place / name
            if os.access(place, os.W_OK):
                self._unpack_to(place / name, files)
                return place / name
        raise BundleFileError(
            f"{self._path} cannot be unpacked: no folder for it can be written that is ours alone. "
            "Set SPLADELET_CACHE to one, or unpack it yourself and pass the folder."
        )

    def _unpack_to(self, folder: Path, files: Mapping[str, FileEntry]) -> None:
        try:
            _sweep(folder.parent)
            with tempfile.TemporaryDirectory(
                _ASIDE, folder.name, folder.parent, ignore_cleanup_errors=True
            ) as aside:
                lacking = _lacking(folder, files)
                for name in lacking:
                    self._copy(name, files[name], Path(aside) / name)
                for name in lacking:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (Path(aside) / name).replace(folder / name)
        except OSError as error:
            raise BundleFileError(
                f"{self._path} cannot be unpacked to {folder}: {error.strerror or error}. Remove "
                "that folder or make room, set SPLADELET_CACHE to another, or unpack the .zip "
                "yourself and pass the folder."
            ) from error

    def _copy(self, name: str, entry: FileEntry, target: Path | None) -> None:
        """Read a file to its end, write it where one is to be, and compare its sha256."""
        digest = hashlib.sha256()
        with self._packed.open(self._infos[self._top + name]) as source, _sink(target) as sink:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                sink.write(chunk)
            sink.flush()
            if target is not None:
                os.fsync(sink.fileno())  # the size alone will tell later that it is whole
        if digest.hexdigest() != entry.sha256:
            raise BundleFileError(
                f"{self._path}: {name} has sha256 {digest.hexdigest()[:12]}…, expected "
                f"{entry.sha256[:12]}…: it was changed or damaged. Copy or download it again."
            )


def _sink(target: Path | None) -> IO[bytes]:
    if target is None:
        return open(os.devnull, "wb")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.open("xb")


def _lacking(folder: Path, files: Mapping[str, FileEntry]) -> list[str]:
    """Return the names of the files that a folder does not hold in their size."""
    return [name for name, entry in files.items() if _size(folder / name) != entry.size]


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _sweep(place: Path) -> None:
    """Remove what processes that were killed left aside."""
    for aside in place.glob(f"*{_ASIDE}"):
        with suppress(OSError):  # another process may be sweeping too
            touched = max(file.stat().st_mtime for file in (aside, *aside.rglob("*")))
            if time.time() - touched > _ABANDONED:
                shutil.rmtree(aside)


def _check_directory(file: IO[bytes]) -> None:
    """Refuse a list of files that would fill the memory: zipfile reads it whole."""
    size = file.seek(0, os.SEEK_END)
    file.seek(-min(size, 1 << 16), os.SEEK_END)
    tail = file.read()
    place = tail.rfind(b"PK\x05\x06")
    if 0 <= place <= len(tail) - 22:
        (length,) = struct.unpack_from("<I", tail, place + 12)
        if length == 0xFFFFFFFF and (large := tail.rfind(b"PK\x06\x06", 0, place)) >= 0:
            (length,) = struct.unpack_from("<Q", tail, large + 40)
        if length > _MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"its list of files has {length} bytes")
