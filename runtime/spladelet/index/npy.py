"""Numpy's .npy files as an index has them: flat, and never unpickled."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelet.errors import IndexFormatError

_LONGEST_HEAD = 1024  # bytes of a .npy file before its numbers; ours have 128


def read_array(content: NDArray[np.uint8], path: Path, *dtypes: type[np.generic]) -> NDArray[Any]:
    """Return the array in a .npy file of version 1.0; neither pickles nor archives are taken.

    Args:
        content: The file.
        path: Its place, for messages.
        dtypes: What it must hold, one of these, in one dimension.

    Raises:
        IndexFormatError: It is no such file.
    """
    head = io.BytesIO(content[:_LONGEST_HEAD].tobytes())
    try:
        if np.lib.format.read_magic(head) != (1, 0):
            raise ValueError("it is of another version than 1.0")
        shape, _, found = np.lib.format.read_array_header_1_0(head)
        body = content[head.tell() :]
        if len(shape) == 1 and len(body) != shape[0] * found.itemsize:
            raise ValueError(f"it has {len(body)} bytes for {shape[0]} numbers")
    except Exception as error:  # numpy parses the head as Python, and lets its errors through
        raise IndexFormatError(
            f"{path} is no array ({error}): it is damaged. Build the index again."
        ) from error
    if found not in dtypes or len(shape) != 1:
        expected = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        raise IndexFormatError(
            f"{path} holds {found} in {len(shape)} dimensions, expected flat {expected}. "
            "Build the index again."
        )
    return body.view(found)
