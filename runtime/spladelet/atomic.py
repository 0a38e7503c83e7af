"""Files that are written whole or not at all."""

import errno
import gzip
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from spladelet.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file aside, for bytes, that takes the path's place when all went well.

    Whatever goes wrong, what was at the path stays, and nothing is left beside it. A name that
    ends in ".gz" is packed. A link's target is replaced, not the link; a pipe or device is written
    to as it is.

    Raises:
        OSError: The file cannot be written; its name is the path's.
        InputError: No file can have such a name.
    """
    path = _resolved(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as device:
            yield device
        return
    aside = path.with_name(f"{path.name}-{secrets.token_hex(8)}.tmp")
    try:
        with aside.open("wb") as raw:
            if path.suffix == ".gz":
                # No name and no time in it: the same content gives the same file.
                with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed:
                    yield cast(BinaryIO, packed)
            else:
                yield raw
        aside.replace(path)
    except OSError as error:
        if error.filename in (str(aside), aside):
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        aside.unlink(missing_ok=True)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except RuntimeError as error:  # Python before 3.13 calls a circle of links so
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error
    except ValueError as error:
        raise InputError(f"no file can be named {str(path)!r}: {error}.") from error
