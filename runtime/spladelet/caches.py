"""Where files lie that can be made anew: unpacked bundles and encoded vectors.

In $SPLADELET_CACHE, or the system's folder for caches; deleting all of it is always safe. Where
neither can be written, as in a container or a cloud function, bundles go to the temporary folder.
"""

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PRIVATE = 0o700
_WRITABLE_BY_OTHERS = 0o022


def cache_folder() -> Path:
    """Return the folder for caches, which need not exist: $SPLADELET_CACHE, or the system's."""
    if chosen := os.environ.get("SPLADELET_CACHE"):
        return Path(chosen).absolute()
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        local = _absolute("LOCALAPPDATA") or home / "AppData" / "Local"
        return local / "spladelet" / "spladelet" / "Cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "spladelet"
    return (_absolute("XDG_CACHE_HOME") or home / ".cache") / "spladelet"


def private_folders(name: str) -> Iterator[Path]:
    """Return the folders of this name that nobody else can have written to, the best first.

    One that is missing is made when its turn comes. One that another user owns or may write to, or
    that is a link, is left out: what is in it cannot be trusted.
    """
    yield from filter(_is_private, [cache_folder() / name])
    temporary = Path(tempfile.gettempdir()) / f"spladelet-{name}{_user()}"
    yield from filter(_is_private, [temporary])


def _absolute(variable: str) -> Path | None:
    path = Path(os.environ.get(variable, ""))
    return path if path.is_absolute() else None


def _user() -> str:
    return f"-{os.geteuid()}" if hasattr(os, "geteuid") else ""


def _is_private(place: Path) -> bool:
    if not place.is_absolute():  # nobody knows where home is
        return False
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(mode=_PRIVATE, exist_ok=True)
        found = place.lstat()
    except (OSError, ValueError):  # read-only, no room, something else is there, a NUL
        return False
    if not stat.S_ISDIR(found.st_mode):
        return False
    if not hasattr(os, "geteuid"):  # Windows gives each user folders of their own
        return True
    return found.st_uid in (0, os.geteuid()) and not found.st_mode & _WRITABLE_BY_OTHERS
