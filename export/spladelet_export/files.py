"""Reading a checkpoint's files: JSON of the expected kind, and folders that stay inside."""

import json
from pathlib import Path
from typing import Any

from spladelet_export.errors import CheckpointError


def read_json(path: Path, kind: type) -> Any:  # noqa: ANN401
    """Return a file's content; None where there is no file.

    Raises:
        CheckpointError: It is no JSON, or of another kind.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON: {error}. Get the checkpoint again.") from error
    if not isinstance(content, kind):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}; expected a {kind.__name__}. Get the "
            "checkpoint again."
        )
    return content


def inside(top: Path, folder: Path, where: str) -> Path:
    """Return a folder.

    Raises:
        CheckpointError: It is not inside the checkpoint.
    """
    if not folder.resolve().is_relative_to(top.resolve()):
        raise CheckpointError(f"{top}/{where} leads out of the checkpoint, to {folder}.")
    return folder
