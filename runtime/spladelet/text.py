"""Texts and ids as callers give them: what can only mean one thing is taken.

Tables of numpy and pandas mark an empty cell with None, NaN, NA or NaT; it is an empty text here,
never the word. Neither of the two is imported for that.
"""

import math
from reprlib import Repr

import numpy as np

from spladelet.errors import InputError

MAX_ID = 2048  # characters; formats that pad ids take as much for each

_PANDAS_MISSING = ("NAType", "NaTType")
# Shows large and deep values in little time, and those whose own `repr` fails.
_short = Repr()
_short.maxlevel, _short.maxstring, _short.maxother, _short.maxlong = 2, 60, 60, 60


def shown(value: object) -> str:
    """Return a value as a message shows it: in little room, however large or deep it is."""
    try:
        return _short.repr(value)
    except (ValueError, RecursionError):  # a number of more digits than Python writes
        return f"<{type(value).__name__}>"


def as_text(value: object, where: str) -> str:
    """Return a text; what stands for a missing one is empty.

    >>> as_text("cats", "text"), as_text(None, "text"), as_text(float("nan"), "text")
    ('cats', '', '')

    Args:
        value: A str, or None, NaN, pandas' NA or NaT.
        where: What the value is, as the start of a sentence.

    Raises:
        InputError: It is something else.
    """
    if type(value) is str:
        return value
    if isinstance(value, str):
        return str.__str__(value)  # the plain str of a subclass, such as numpy's
    if is_missing(value):
        return ""
    raise InputError(f"{where} is {shown(value)} ({type(value).__name__}); expected a str.")


def valid_unicode(text: str) -> str:
    """Replace lone surrogates, which broken JSON brings and no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def as_id(value: object, where: str) -> str:
    """Return an id; a whole number is its digits.

    >>> as_id("d7", "id"), as_id(7, "id")
    ('d7', '7')

    Args:
        value: A str, or an int, numpy's too.
        where: What the value is, as the start of a sentence.

    Raises:
        InputError: It is something else. What is missing is no id, not even an empty one.
    """
    if type(value) is str:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    try:
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
            return str(int(value))
    except ValueError:  # more digits than Python writes
        pass
    raise InputError(
        f"{where} is {shown(value)} ({type(value).__name__}); expected a str or a whole number."
    )


def check_portable_id(identity: str) -> str:
    """Return an id that other programs can have, too.

    Raises:
        InputError: It has a NUL or half of a surrogate pair in it, which files and engines drop or
            replace, so that two ids could become one.
    """
    if "\0" in identity:
        raise InputError(
            f"the id {identity!r:.80} has a NUL in it, which not every program keeps. Rename it."
        )
    try:
        identity.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the id {identity!r:.80} has half of a surrogate pair in it, which is no text. "
            "Rename it."
        ) from error
    return identity


def is_missing(value: object) -> bool:
    """Say whether a value is how a table marks an empty cell: None, NaN, pandas' NA or NaT."""
    if value is None:
        return True
    if isinstance(value, (float, np.floating)):
        return math.isnan(value)
    if isinstance(value, np.datetime64):
        return bool(np.isnat(value))
    kind = type(value)  # by its name: who has no pandas gives none of its values
    return kind.__module__.partition(".")[0] == "pandas" and kind.__name__ in _PANDAS_MISSING
