"""Numbers that a caller gives: what can only mean one thing is taken, the rest is refused.

A numpy scalar is a number like any other. True is none, nor is 2.0 a whole one, nor is "2".
"""

from numbers import Integral, Real

from spladelet.errors import InputError


def as_whole(value: object, name: str, within: range, expected: str) -> int:
    """Return a whole number as an int.

    Args:
        value: The number, of Python or numpy.
        name: What the caller knows it by.
        within: Where it must lie.
        expected: The same in words, for the message.

    Raises:
        InputError: It is no whole number, or lies elsewhere.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or int(value) not in within:  # type: ignore[call-overload]
        raise InputError(f"{name} is {value!r:.60}; expected {expected}.")
    return int(value)  # type: ignore[call-overload, no-any-return]


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
    raise InputError(f"{name} is {value!r:.60}; expected {expected}.")
