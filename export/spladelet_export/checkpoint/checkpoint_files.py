"""Reading a checkpoint's files: JSON of the expected kind, and folders that stay inside."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spladelet_export.errors import CheckpointError


def read_json(path: Path, kind: type) -> Any:  # noqa: ANN401
    """Return a file's content; None where there is no file.

    Raises:
        CheckpointError: It cannot be read, is no JSON, or of another kind.
    """
    with _refusals(path):
        if not path.is_file():
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(content, ensure_ascii=False).encode()
    if not isinstance(content, kind):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}; expected a {kind.__name__}. Get the "
            "checkpoint again."
        )
    return content


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Raise what is wrong with a file of JSON as a CheckpointError."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror or error}. Make it readable."
        ) from error
    except UnicodeEncodeError as error:
        raise CheckpointError(
            f"{path} holds half of a character, {error.object[error.start]!r} alone, which no file "
            "can be written with. Get the checkpoint again."
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON: {error}. Get the checkpoint again.") from error
    except RecursionError as error:
        raise CheckpointError(
            f"{path} is no checkpoint's: its JSON is nested too deep. Get the checkpoint again."
        ) from error


def inside(top: Path, folder: Path, where: str) -> Path:
    """Return a folder.

    Raises:
        CheckpointError: It is not inside the checkpoint.
    """
    try:
        stays = folder.resolve().is_relative_to(top.resolve())
    except (OSError, ValueError, RuntimeError):  # too long, with a NUL, a loop of links
        stays = False
    if not stays:
        raise CheckpointError(
            f"{top}/{where} leads out of the checkpoint, to {str(folder)!r:.200}."
        )
    return folder
