"""Numbers that a caller gives: what can only mean one thing is taken, the rest is refused.

A numpy scalar is a number like any other. True and "2" are no numbers, and 2.0 is no whole one.
"""

from numbers import Integral, Real
from typing import TypeGuard

import numpy as np

from spladelet.errors import InputError
from spladelet.text import shown


def as_count(value: object, name: str, least: int = 1) -> int:
    """Return a whole number that has no upper limit.

    Args:
        value: The number, of Python or numpy.
        name: What the caller knows it by.
        least: What it must not be below.

    Raises:
        InputError: It is no whole number, or too small.
    """
    if not _is_whole(value):
        is_round = isinstance(value, (float, np.floating)) and float(value).is_integer()
        remedy = f": give {int(value)}" if is_round else ""  # type: ignore[call-overload]
        raise InputError(
            f"{name} is {shown(value)} ({type(value).__name__}); expected a whole number{remedy}."
        )
    if int(value) < least:
        raise InputError(f"{name} is {shown(value)}; expected at least {least}.")
    return int(value)


def as_whole(value: object, name: str, within: range, expected: str) -> int:
    """Return a whole number that lies in a range.

    Args:
        value: The number, of Python or numpy.
        name: What the caller knows it by.
        within: Where it must lie.
        expected: The same in words, for the message.

    Raises:
        InputError: It is no whole number, or lies elsewhere.
    """
    if not _is_whole(value) or int(value) not in within:
        raise InputError(f"{name} is {shown(value)}; expected {expected}.")
    return int(value)


def as_real(value: object, name: str, expected: str) -> float:
    """Return a number as a float; see `as_whole`.

    Raises:
        InputError: It is none, or too large for a float.
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    raise InputError(f"{name} is {shown(value)}; expected {expected}.")


def _is_whole(value: object) -> TypeGuard[Integral]:
    return isinstance(value, Integral) and not isinstance(value, bool)
