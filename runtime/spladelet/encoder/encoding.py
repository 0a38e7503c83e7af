"""How documents become vectors: a value that an index keeps, for those that are added later."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from spladelet.errors import InputError
from spladelet.pruning import Pruning

LONG_TEXTS = ("cut", "merge", "split")
OVERLAP = 32  # tokens that neighbouring windows of a long text share


@dataclass(frozen=True, slots=True)
class Encoding:
    """How documents become vectors.

    Attributes:
        long_texts: What becomes of texts that are longer than the model reads: "cut" there, "merge"
            all of one into one vector, or "split" into passages.
        max_active_dims: How many terms are kept of each; None for all.
        min_weight: What a kept term weighs at least.

    Raises:
        InputError: One of them is nothing that could be done.
    """

    long_texts: str = "cut"
    max_active_dims: int | None = None
    min_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.long_texts not in LONG_TEXTS:
            raise InputError(
                f"long_texts is {self.long_texts!r:.60}; expected one of {', '.join(LONG_TEXTS)}."
            )
        limits = Pruning(self.max_active_dims, self.min_weight)
        object.__setattr__(self, "max_active_dims", limits.max_active_dims)
        object.__setattr__(self, "min_weight", limits.min_weight)

    @classmethod
    def of_index(cls, kept: Mapping[str, Any]) -> "Encoding":
        """Read what an index keeps; see `Index.encoding`.

        Raises:
            InputError: It is of another version.
        """
        names = {field.name for field in fields(cls)}
        try:
            return cls(**{name: kept[name] for name in names & kept.keys()})
        except InputError as error:
            raise InputError(
                f"the index says that it was encoded with {dict(kept)!r:.200}, which this version "
                "does not know. Upgrade with `pip install -U spladelet`."
            ) from error

    def to_dict(self) -> dict[str, object]:
        """Return it as an index keeps it."""
        return asdict(self)
