"""Documents' metadata, and the keys by which an index finds it.

A field and a value make a key: bytes that rise with field, type and value, so that a range of
values is a range of keys. Does not know where keys are kept, nor what a search asks for: see
`index.metadata_table` and `index.filters`.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from spladelet.errors import InputError
from spladelet.text import is_missing, shown

# What follows a field's name in a key: bool below number below text.
_BOOL, _NUMBER, _TEXT = b"\0b", b"\0n", b"\0s"
_SIGN = 1 << 63


def key_of(field: str, value: object) -> bytes:
    """Return the key of a field and a value: text, a number, or true or false.

    Raises:
        InputError: The value is of another type, or no finite number.
    """
    if isinstance(value, str):
        return _name(field) + _TEXT + _utf8(value)
    if isinstance(value, (bool, np.bool_)):
        return _name(field) + _BOOL + bytes([bool(value)])
    if isinstance(value, (int, float, np.integer, np.floating)):
        return _name(field) + _NUMBER + _number_bytes(field, value)
    raise InputError(
        f"field {field!r} has a value of type {type(value).__name__}, {shown(value)}; "
        "expected text, a number, true or false."
    )


def type_range(field: str, key: bytes) -> tuple[bytes, bytes]:
    """Return the first key, and the end of the keys, of the field's values of a key's type."""
    kind = key[len(_name(field)) :][: len(_TEXT)]
    return _name(field) + kind, _name(field) + kind[:-1] + bytes([kind[-1] + 1])


def field_range(field: str) -> tuple[bytes, bytes]:
    """Return the first key, and the end of the keys, of a field."""
    return _name(field) + b"\0", _name(field) + b"\1"


def plain_metadata(metadata: object, identity: str) -> Mapping[str, Any]:
    """Return metadata as it is kept: numbers and texts of numpy are Python's, arrays are lists.

    Values are text, finite numbers, true, false or None, or lists of these; objects inside are
    kept, but no condition can be on them.

    Raises:
        InputError: It cannot be kept and searched.
    """
    if not isinstance(metadata, Mapping):
        raise InputError(
            f"document {identity!r:.80} has metadata {shown(metadata)}; expected a mapping from "
            "names to values."
        )
    if all(_is_plain(name, value) for name, value in metadata.items()):
        return metadata
    try:
        plain = {name: _plain(value) for name, value in metadata.items()}
        for name, value in plain.items():
            if not isinstance(name, str):
                raise InputError(f"field {shown(name)} is no text; expected a name.")
            for _ in keys_of(name, value):
                pass
        json.dumps(plain, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"the metadata of document {identity!r:.80} cannot be kept: {error} Dates, for "
            'example, are kept as text such as "2024-05-01", which sorts as they do.'
        ) from error
    return plain


def _is_plain(name: object, value: object) -> bool:
    """Say whether a field needs no further look, which most do not, and looking takes a while."""
    if type(name) is not str or "\0" in name:
        return False
    if type(value) is int:
        return -_SIGN <= value < _SIGN
    if type(value) is float:
        return math.isfinite(value)
    return value is None or type(value) in (str, bool)


def _plain(value: object) -> object:
    if is_missing(value):  # as tables mark an empty cell
        return None
    if isinstance(value, np.datetime64):  # which `item` might make a number of nanoseconds
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return _plain(value.item()) if value.ndim == 0 else [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def keys_of(field: str, value: object) -> Iterator[bytes]:
    """Return the keys of a field: one for each value that a condition can be on."""
    for item in value if isinstance(value, (list, tuple)) else [value]:
        if item is not None and not isinstance(item, (Mapping, list, tuple)):
            yield key_of(field, item)


def _name(field: str) -> bytes:
    if "\0" in field:
        raise InputError(f"the field name {field!r} has a NUL in it. Call it otherwise.")
    return _utf8(field)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _number_bytes(field: str, value: float | np.integer[Any] | np.floating[Any]) -> bytes:
    """Return 16 bytes that rise with a number: the nearest float, then what an integer is off."""
    try:
        whole = int(value)
        nearest = float(value) + 0.0  # makes -0.0 the same as 0
        rest = whole - int(nearest) if isinstance(value, (int, np.integer)) else 0
        # A float's bits rise with it, but for the sign: that is turned over, and of negative
        # numbers, whose bits fall, all bits are.
        (bits,) = struct.unpack(">Q", struct.pack(">d", nearest))
        bits = bits ^ (2 * _SIGN - 1) if bits & _SIGN else bits | _SIGN
        return struct.pack(">QQ", bits, rest + _SIGN)
    except (OverflowError, ValueError, struct.error) as error:
        raise InputError(
            f"field {field!r} has the number {shown(value)}; expected a finite one, and a whole "
            "one not far beyond 2**64."
        ) from error
