"""Copies an index from an object store to the temporary folder, whole or not at all.

The address is any that a GET answers: of a public object, or a presigned one. What is downloaded is
the operator's own, and yet nothing of it is trusted: only plain files below the folder are written,
and only as many bytes as fit. Does not ask whether there is a newer one: a new start does.
"""

import contextlib
import hashlib
import shutil
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from spladelet.caches import private_folders

MAX_BYTES = 4 << 30  # downloaded, and unpacked: a function has at most 10 GB of /tmp
MAX_FILES = 10_000
_SECONDS = 30  # without a byte
_CHUNK = 1 << 20


class FetchError(Exception):
    """An index could not be had; the start fails, and the platform logs why."""


def fetched(address: str) -> Path:
    """Return the folder of the index that an address holds, after copying it if it is not there.

    Raises:
        FetchError: It is no .zip or .tar of an index, or is too large.
        OSError: It cannot be downloaded or written.
    """
    # $SPLADELET_CACHE, the user's folder for caches or /tmp: the first that nobody else writes to.
    folder = next(private_folders("indexes"), None)
    if folder is None:
        raise FetchError("no folder can be written. Set SPLADELET_CACHE to one.")
    place = folder / hashlib.sha256(address.encode()).hexdigest()[:16]
    if not place.exists():
        aside = Path(tempfile.mkdtemp(dir=place.parent))
        try:
            with tempfile.TemporaryFile(dir=place.parent) as packed:
                _download(address, packed)
                _unpack(packed, aside)
            with contextlib.suppress(OSError):  # another process may have been faster
                aside.replace(place)  # all at once, so that a folder that is there is whole
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return _top(place)


def _download(address: str, target: IO[bytes]) -> None:
    with urllib.request.urlopen(address, timeout=_SECONDS) as source:
        length = source.headers.get("Content-Length")
        _copy(source, target, MAX_BYTES)
    # http.client ends a body that was cut short like one that was not.
    if length is not None and target.tell() != int(length):
        raise FetchError(f"the download ended after {target.tell()} of {length} bytes.")
    target.seek(0)


def _unpack(packed: IO[bytes], folder: Path) -> None:
    left = MAX_BYTES
    files = _zipped(packed) if zipfile.is_zipfile(packed) else _tarred(packed)
    for number, (name, source) in enumerate(files):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or number >= MAX_FILES:
            raise FetchError(f"{name!r:.200} lies outside the folder, or is one file too many.")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with (folder / path).open("xb") as target:
            left -= _copy(source, target, left)


def _zipped(packed: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(packed) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                with archive.open(info) as source:  # a link's name would be the content
                    yield info.filename, source


def _tarred(packed: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    packed.seek(0)
    try:
        with tarfile.open(fileobj=packed) as archive:
            for member in archive:
                source = archive.extractfile(member) if member.isfile() else None
                if source is not None:
                    yield member.name, source
                elif not member.isdir():
                    raise FetchError(f"{member.name!r:.200} is a link or a device, not a file.")
    except tarfile.TarError as error:
        raise FetchError(f"what was downloaded is no .zip or .tar: {error}.") from error


def _copy(source: IO[bytes], target: IO[bytes], limit: int) -> int:
    """Copy to the end, and count; the size that an archive states is only what it says."""
    copied = 0
    while chunk := source.read(_CHUNK):
        copied += len(chunk)
        if copied > limit:
            raise FetchError(f"an index of more than {MAX_BYTES} bytes is not copied.")
        target.write(chunk)
    return copied


def _top(folder: Path) -> Path:
    """Return the one folder in it, if an index was packed together with its folder."""
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder
