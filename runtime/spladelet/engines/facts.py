"""What a collection in an engine says of itself: whose vectors it holds, under what names.

Engines keep it where each has room for a note: Elasticsearch and OpenSearch in the mapping's
`_meta`, Qdrant in the collection's metadata, Milvus in its description.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import NoneType
from typing import Any

_MARK = "spladelet"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a collection in an engine says of itself, so that only the right queries are asked.

    Attributes:
        vocab_size: How many terms the model has.
        model: The model's fingerprint; None if unknown.
        model_name: What people call it; may be empty.
        keys: What terms are called there: "terms" or "ids".
        dots: What became of names with a dot.
        made: A random name, which tells a collection from one of its name that is made later.
        words: How the words beside the terms are counted, as `Words` says it; None without words.
    """

    vocab_size: int
    model: str | None = None
    model_name: str = ""
    keys: str = "ids"
    dots: str = "id"
    made: str = ""
    words: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        model = f"model {self.model_name or '?'} ({(self.model or '?')[:12]})"
        dots = f", dots {self.dots}" if self.keys == "terms" else ""
        words = "" if self.words is None else f", words {dict(self.words)}"
        return f"{model}, {self.vocab_size} terms called by {self.keys}{dots}{words}"

    def same_terms(self, other: "Facts") -> bool:
        """Say whether both call the same terms by the same names."""
        return (self.vocab_size, self.keys) == (other.vocab_size, other.keys) and (
            self.keys == "ids" or self.dots == other.dots
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the facts under a name that says whose they are."""
        told = asdict(self)
        if self.words is None:  # as it was before there were any
            del told["words"]
        return {_MARK: told}

    @classmethod
    def from_dict(cls, stored: object) -> "Facts | None":
        """Read what `to_dict` wrote; None if it is something else."""
        try:
            found = cls(**stored[_MARK])  # type: ignore[index]
            return found if isinstance(found.words, (Mapping, NoneType)) else None
        except (KeyError, TypeError):
            return None

    @classmethod
    def from_text(cls, stored: str | None) -> "Facts | None":
        """Read what `to_dict` wrote, as JSON; None if it is something else."""
        try:
            return cls.from_dict(json.loads(stored or ""))
        except ValueError:
            return None
