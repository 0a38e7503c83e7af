"""Files that others may have made: regular ones only, and no more of them than expected.

A pipe or a device would hang whoever reads it, a file that grows would fill the memory, and a link
may lead anywhere.
"""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from spladelet.errors import BundleFileError
from spladelet.files import read_at_most

_CHUNK = 1 << 20
_KINDS = (
    (stat.S_ISDIR, "folder"),
    (stat.S_ISFIFO, "pipe"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Turn what the system refuses inside the block into a BundleFileError that names the path."""
    try:
        yield
    except (OSError, ValueError) as error:  # a ValueError: the path holds a NUL
        reason = getattr(error, "strerror", None) or error
        raise BundleFileError(
            f"{path} cannot be read: {reason}. Check who may read it and the folders above it, or "
            "copy or export the bundle again."
        ) from error


def kind_of(mode: int) -> str:
    """Return what people call a file of this mode, where it is no regular one."""
    return next((kind for test, kind in _KINDS if test(mode)), "thing of another kind")


def file_size(path: Path) -> int | None:
    """Return the size of a regular file in bytes; None where nothing is.

    Raises:
        BundleFileError: Something else is there, or the system refuses to say.
    """
    with refusals(path):
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
    if not stat.S_ISREG(found.st_mode):
        raise BundleFileError(
            f"{path} is a {kind_of(found.st_mode)}, expected a file. Copy or export the bundle "
            "again."
        )
    return found.st_size


def read_file(path: Path, limit: int) -> bytes:
    """Return the content of a regular file.

    Raises:
        BundleFileError: It is none, has more bytes than the limit, or cannot be read.
    """
    size = file_size(path)
    with refusals(path), path.open("rb") as file:
        content = read_at_most(file, limit + 1) if size is None or size <= limit else b""
    if size is None or size > limit or len(content) > limit:
        raise BundleFileError(
            f"{path} has {size} bytes; at most {limit} are read. Copy or export the bundle again."
        )
    return content


def check_name(name: str, where: Path) -> None:
    """Raise BundleFileError if a name leads out of its bundle, or does on some system."""
    relative = PurePosixPath(name)
    # ONNX Runtime takes "*/_ORT_MEM_ADDR_/*" for a place in memory, not for a file.
    plain = name == str(relative) and not any(character in name for character in '\\:\0*?<>|"')
    if not plain or relative.is_absolute() or ".." in relative.parts:
        raise BundleFileError(
            f"file name {name!r} leads out of {where}. The bundle is not to be trusted: get it "
            "from another place."
        )


def inside(folder: Path, name: str) -> Path:
    """Return `folder / name`, refusing names and links that lead out of the folder.

    Links of a snapshot in the hub's cache may lead to the blobs of its repository.

    Raises:
        BundleFileError: They do.
    """
    check_name(name, folder)
    path = folder / name
    try:
        target, home = path.resolve(), folder.resolve()
        path.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # too long, no UTF-8, a loop of links
        raise BundleFileError(
            f"file name {name!r} cannot be looked up in {folder}: {error}. Copy or export the "
            "bundle again."
        ) from error
    blobs = _blobs(home)
    if not (target.is_relative_to(home) or (blobs and target.is_relative_to(blobs))):
        raise BundleFileError(
            f"{path} is a link that leads out of the bundle, to {target}. Copy what it leads to "
            f"(`cp -rL {folder} COPY`), or get the bundle from another place."
        )
    return path


def _blobs(folder: Path) -> Path | None:
    """Return where the files of a snapshot lie: models--OWNER--NAME/blobs beside snapshots/."""
    for place in (folder, *folder.parents):
        snapshots = place.parent
        if snapshots.name == "snapshots" and snapshots.parent.name.startswith("models--"):
            return snapshots.parent / "blobs"
    return None
