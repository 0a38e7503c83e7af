"""Folders that are written whole or not at all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from spladelet import files
from spladelet_export.errors import ExportError


@contextmanager
def replacing_folder(target: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """Write a folder aside that takes the target's place when all went well.

    See `spladelet.files.replacing_folder`; of what the system refuses it makes errors of ours.

    Raises:
        ExportError: It cannot be written.
    """
    with write_errors(target), files.replacing_folder(target, check) as aside:
        yield aside


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
