"""Adding files to a bundle that is there, on which no vector depends: the fingerprint stays."""

import os
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from spladelet.bundle.bundle_files import read_file
from spladelet.bundle.description import DESCRIPTION, MAX_DESCRIPTION_BYTES, Description
from spladelet.bundle.folder import Bundle
from spladelet.errors import InputError
from spladelet.files import FileEntry, replacing
from spladelet_export.whole_folder import write_errors

Make = Callable[[Path, Description], dict[str, bytes]]


def amend(bundle: str | os.PathLike[str], names: Collection[str], make: Make) -> Description:
    """Check a bundle, and have auxiliary files of it made anew, whatever became of them.

    Nothing is changed before all of them are made; and however the process ends, the description
    lists none that is not as it says.

    Args:
        bundle: Its folder.
        names: The files.
        make: Returns their contents by name, of a folder and its description.

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
    sound = _without(folder, names)
    sound.verify()
    contents = make(folder, sound.description)
    with write_errors(folder):
        _describe(folder, sound.description)
        description = write_auxiliary(folder, sound.description, contents)
        _describe(folder, description)
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


def _without(folder: Path, names: Collection[str]) -> Bundle:
    """Open a bundle as if it did not list some files, which may be damaged."""
    file = folder / DESCRIPTION
    if not file.is_file():
        return Bundle.open(folder)  # says what is missing
    description = Description.from_json(read_file(file, MAX_DESCRIPTION_BYTES), str(file))
    kept = {name: entry for name, entry in description.auxiliary.items() if name not in names}
    return Bundle(folder, replace(description, auxiliary=kept)).without_missing()


def _describe(folder: Path, description: Description) -> None:
    with replacing(folder / DESCRIPTION) as file:
        file.write(description.to_json().encode())
