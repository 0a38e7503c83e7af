"""Items a batch at a time."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Read items ahead, so many at a time; the last batch may be smaller.

    `itertools.batched` does the same from Python 3.12 on, with tuples.

    >>> list(batched("purrs", 2))
    [['p', 'u'], ['r', 'r'], ['s']]
    """
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
