"""Documents' metadata as an inverted index: for each value of a field, which documents have it.

A field and a value make a key, see `metadata`. The keys are sorted, so that a range of values is
one slice of the lists. Does not know what a search asks for: see `filters`.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelet.metadata import keys_of


@dataclass(frozen=True, slots=True)
class MetadataTable:
    """Which documents have which values.

    Attributes:
        keys: uint8[bytes], all keys one after another, ascending.
        key_offsets: int64[values + 1], where each key begins.
        offsets: int64[values + 1], where each value's list of documents begins.
        numbers: int32[pairs of value and document], ascending within a list.
    """

    keys: NDArray[np.uint8]
    key_offsets: NDArray[np.int64]
    offsets: NDArray[np.int64]
    numbers: NDArray[np.int32]

    @classmethod
    def of(cls, metadata: Iterable[Mapping[str, Any]]) -> "MetadataTable":
        """Make the table of documents in their order."""
        lists: dict[bytes, list[int]] = defaultdict(list)
        for number, fields in enumerate(metadata):
            if not fields:
                continue
            # A set, because a document may give a value twice, and a list has its number once.
            for key in {key for name, value in fields.items() for key in keys_of(name, value)}:
                lists[key].append(number)
        keys = sorted(lists)
        return cls(
            np.frombuffer(b"".join(keys), np.uint8),
            _ends([len(key) for key in keys]),
            _ends([len(lists[key]) for key in keys]),
            np.array([number for key in keys for number in lists[key]], np.int32),
        )

    def between(self, first: bytes, end: bytes) -> NDArray[np.int32]:
        """Return the documents that have a key from `first` to below `end`, some maybe twice."""
        span = slice(int(self.offsets[self._place(first)]), int(self.offsets[self._place(end)]))
        return self.numbers[span]

    def fields(self) -> Iterator[str]:
        """Return the fields' names, ascending."""
        place = 0
        while place < len(self.key_offsets) - 1:
            # A name ends at the first NUL, which none has in it; whatever begins with the name
            # and NUL sorts before the name and 1.
            name, _, _ = self._key(place).partition(b"\0")
            yield name.decode("utf-8", "surrogatepass")
            place = self._place(name + b"\1")

    def _place(self, key: bytes) -> int:
        # Of keys on a disk, this reads as many as halvings take.
        return bisect_left(range(len(self.key_offsets) - 1), key, key=self._key)

    def _key(self, place: int) -> bytes:
        return self.keys[self.key_offsets[place] : self.key_offsets[place + 1]].tobytes()


def _ends(lengths: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
