"""Folders that are written whole or not at all."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spladelet_export.errors import ExportError


@contextmanager
def replacing_folder(target: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """Write a folder aside that takes the target's place when all went well.

    Whatever goes wrong, what was at the target stays, and nothing is left beside it.

    Args:
        target: Where the folder shall be; the folders above it are made.
        check: Raises where something is at the target that must not be replaced. Asked at the
            beginning, and again at the end: an export takes minutes, and somebody else may have
            put something there.

    Yields:
        An empty folder. It is alone in one that goes away with all else that is put there.

    Raises:
        ExportError: It cannot be written.
    """
    check(target)
    above = [folder for folder in target.absolute().parents if not folder.exists()]
    try:
        with write_errors(target):
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


@contextmanager
def write_errors(target: Path) -> Iterator[None]:
    """Let a full disk and its like be reported as errors of the export to a target."""
    try:
        yield
    except OSError as error:
        raise ExportError(
            f"cannot write {target}: {error.strerror or error}. Nothing was left behind."
        ) from error


def is_fixed(folder: Path) -> bool:
    """Say whether a folder cannot be renamed: where the process is, or where a disk is mounted."""
    return folder.exists() and (folder.samefile(Path.cwd()) or folder.is_mount())


def _move(new: Path, target: Path, replaced: Path) -> None:
    """Put a folder in the place of another, in two renames, for want of a single one."""
    if target.exists():
        target.rename(replaced)
    try:
        new.rename(target)
    except OSError:
        if replaced.exists():
            replaced.rename(target)
        raise
