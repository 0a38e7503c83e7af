"""Which light terms of a vector to drop."""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from spladelet.errors import InputError
from spladelet.parameters import as_real, as_whole
from spladelet.text import shown

# One text's term ids, ascending, and their weights, before they are made a vector.
Row: TypeAlias = tuple[NDArray[np.int32], NDArray[np.float32]]

_ANY_COUNT = range(1, 1 << 63)


@dataclass(frozen=True, slots=True)
class Pruning:
    """Limits on the terms of one vector.

    Attributes:
        max_active_dims: Keep at most so many terms, the heaviest (of equals, the lower id); None
            keeps all.
        min_weight: Drop terms that weigh less.

    Raises:
        InputError: `max_active_dims` is no whole number above 0, or `min_weight` is negative, not
            finite or no number.
    """

    max_active_dims: int | None = None
    min_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.max_active_dims is not None:
            expected = "a whole number, at least 1, or None for no limit"
            most = as_whole(self.max_active_dims, "max_active_dims", _ANY_COUNT, expected)
            object.__setattr__(self, "max_active_dims", most)
        expected = "a finite number, 0 or above"
        least = as_real(self.min_weight, "min_weight", expected)
        if not (math.isfinite(least) and least >= 0):
            raise InputError(f"min_weight is {shown(self.min_weight)}; expected {expected}.")
        object.__setattr__(self, "min_weight", least)

    def apply(self, row: Row) -> Row:
        """Return a row without its light terms."""
        ids, weights = row
        least = np.float64(self.min_weight)  # as float32 it might be infinite
        keep = np.flatnonzero(weights >= least) if least > 0 else np.arange(len(weights))
        if self.max_active_dims is not None and len(keep) > self.max_active_dims:
            heaviest = np.argsort(-weights[keep], kind="stable")[: self.max_active_dims]
            keep = np.sort(keep[heaviest])
        return ids[keep], weights[keep]
