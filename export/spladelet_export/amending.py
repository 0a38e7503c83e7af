"""Adding files to a bundle that is there, on which no vector depends: the fingerprint stays."""

import os
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from spladelet.bundle.description import DESCRIPTION, Description
from spladelet.bundle.folder import Bundle
from spladelet.errors import InputError
from spladelet.files import FileEntry, replacing
from spladelet_export.whole_folder import write_errors

Add = Callable[[Path, Description], Description]


def amend(bundle: str | os.PathLike[str], names: Collection[str], add: Add) -> Description:
    """Check a bundle, and have auxiliary files of it made anew, whatever became of them.

    Args:
        bundle: Its folder.
        names: The files.
        add: Writes them into a folder, and returns the description that lists them.

    Returns:
        Its description, as it is written.

    Raises:
        BundleError: There is no bundle, or it is damaged.
        InputError: It is a .zip.
        ExportError: The folder cannot be written.
    """
    folder = Path(bundle)
    if folder.is_file():
        raise InputError(f"{folder} is no folder. Unpack it first.")
    if (folder / DESCRIPTION).is_file():
        for name in names:
            (folder / name).unlink(missing_ok=True)
    opened = Bundle.open(folder)
    opened.verify()
    with write_errors(folder):
        description = add(folder, opened.description)
        with replacing(folder / DESCRIPTION) as file:
            file.write(description.to_json().encode())
    return description


def write_auxiliary(
    folder: Path, description: Description, contents: dict[str, bytes]
) -> Description:
    """Write auxiliary files; returns the description that lists them beside those it listed."""
    listed = dict(description.auxiliary)
    for name, content in contents.items():
        with replacing(folder / name) as file:
            file.write(content)
        listed[name] = FileEntry.of(folder / name)
    return replace(description, auxiliary=dict(sorted(listed.items())))
