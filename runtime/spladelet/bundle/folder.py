"""A bundle on disk: a folder, or a .zip that is unpacked to one."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from spladelet.bundle.archive import Archive
from spladelet.bundle.bundle_files import file_size, inside, read_file, refusals
from spladelet.bundle.description import CARD, DESCRIPTION, MAX_DESCRIPTION_BYTES, Description
from spladelet.errors import BundleFileError, BundleFormatError, BundleNotFoundError
from spladelet.files import FileEntry, digest_of, open_regular

_BESIDE = (CARD, ".gitattributes")  # what every repository of the hub has beside a model


class Bundle:
    """A bundle on disk, opened and checked.

    Args:
        folder: The folder that holds `spladelet.json`.
        description: Its content.
        archive: The .zip that the folder was unpacked from; None if it was none.
    """

    def __init__(self, folder: Path, description: Description, archive: Path | None = None) -> None:
        self.folder = folder.absolute()  # the graph is loaded later, perhaps from elsewhere
        self.description = description
        self._archive = archive

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Bundle":
        """Open a folder or .zip and check the description and the size of every file.

        Files may be links inside the folder, or inside one repository of the hub's cache.

        Raises:
            BundleNotFoundError: There is no bundle at `path`.
            BundleFormatError: The description is of an unknown version or not well-formed.
            BundleFileError: A file is missing, of the wrong size, outside the folder or cannot be
                read; or a .zip cannot be unpacked.
        """
        place = Path(path)
        with refusals(place):
            is_folder = place.is_dir()
        if not is_folder and file_size(place) is not None:
            return cls._open_zip(place)
        bundle = cls(place, cls._read_description(place / DESCRIPTION)).without_missing()
        for name, entry in bundle.description.all_files.items():
            bundle._check_size(name, entry)
        return bundle

    @classmethod
    def _read_description(cls, file: Path) -> Description:
        size = file_size(file)
        if size is None:
            raise BundleNotFoundError(
                f"{file.parent} holds no {DESCRIPTION}, so it is not a bundle. Export a checkpoint "
                "to one with `spladelet-export CHECKPOINT -o FOLDER`."
            )
        _check_description_size(str(file), size)
        return Description.from_json(read_file(file, MAX_DESCRIPTION_BYTES), str(file))

    @classmethod
    def _open_zip(cls, path: Path) -> "Bundle":
        """Unpack what the description lists, and nothing else, unless it was before."""
        with Archive.open(path, DESCRIPTION) as archive:
            where = f"{path}/{archive.head}"
            _check_description_size(where, archive.description_size())
            text = archive.description()
            description = Description.from_json(text, where)
            archive.check(description.all_files)
            itself = FileEntry(len(text), hashlib.sha256(text).hexdigest())
            folder = archive.unpack({**description.all_files, DESCRIPTION: itself})
        return cls(folder, description, path)

    def without_missing(self) -> "Bundle":
        """Return the same, without those auxiliary files that are not there.

        No vector depends on them, and caches that older versions filled have none.
        """
        there = {
            name: entry
            for name, entry in self.description.auxiliary.items()
            if file_size(self.path(name)) is not None
        }
        return Bundle(self.folder, replace(self.description, auxiliary=there), self._archive)

    @property
    def fingerprint(self) -> str:
        """See `Description.fingerprint`."""
        return self.description.fingerprint

    def path(self, name: str) -> Path:
        """Return where a listed file lies.

        Raises:
            BundleFileError: The name leads out of the folder.
        """
        return inside(self.folder, name)

    def verify(self) -> tuple[str, ...]:
        """Read every file and compare its sha256 with the description; of a .zip, in both places.

        Returns:
            The files that are there and not listed: see `unlisted`.

        Raises:
            BundleFileError: A file differs; the message names it.
        """
        for name, entry in self.description.all_files.items():
            self._check_size(name, entry)
            path = self.path(name)
            with refusals(path), open_regular(path) as file:
                found = digest_of(file, entry.size)
            if found != entry.sha256 and self._archive is not None:
                path.unlink()
                raise BundleFileError(
                    f"{path}, which was unpacked from {self._archive}, was changed or damaged, and "
                    "is removed. Load the .zip again: it is unpacked anew."
                )
            if found != entry.sha256:
                raise BundleFileError(
                    f"{path} has sha256 {found[:12]}…, expected {entry.sha256[:12]}…: it was "
                    "changed or damaged. Copy or export it again."
                )
        if self._archive is not None:
            with Archive.open(self._archive, DESCRIPTION) as archive:
                archive.check(self.description.all_files)
                archive.verify(self.description.all_files)
        return self.unlisted()

    def unlisted(self) -> tuple[str, ...]:
        """Return the names of files that the description does not list, the card's aside.

        Nothing vouches for them. Of a folder whose name begins with a dot, only that is named.
        """
        if self._archive is not None:
            with Archive.open(self._archive, DESCRIPTION) as archive:
                found = archive.names()
        else:
            found = list(_files_in(self.folder))
        return tuple(sorted({*found} - {*self.description.all_files, DESCRIPTION, *_BESIDE}))

    def _check_size(self, name: str, entry: FileEntry) -> None:
        path = self.path(name)
        size = file_size(path)
        if size is None:
            raise BundleFileError(
                f"{path} is missing; {DESCRIPTION} lists it. Copy or export the bundle again."
            )
        if size != entry.size:
            raise BundleFileError(
                f"{path} has {size} bytes, expected {entry.size}: it was truncated or changed. "
                "Copy or export the bundle again."
            )


def _files_in(folder: Path, top: str = "") -> Iterator[str]:
    """Return the names of all that is no folder, and of folders that are hidden or links."""
    with refusals(folder), os.scandir(folder) as found:
        for item in found:
            if item.is_dir(follow_symlinks=False) and not item.name.startswith("."):
                yield from _files_in(Path(item), f"{top}{item.name}/")
            else:
                yield f"{top}{item.name}"


def _check_description_size(where: str, size: int) -> None:
    if size > MAX_DESCRIPTION_BYTES:
        raise BundleFormatError(
            f"{where} has {size} bytes; a description has at most {MAX_DESCRIPTION_BYTES}."
        )
