"""Where vectors were made, and when that may matter: not every model rounds alike everywhere."""

import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


class RoundingWarning(UserWarning):
    """Query and documents were encoded where the model may round differently."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where vectors were made.

    Attributes:
        onnxruntime: The release of ONNX Runtime.
        machine: As `platform.machine()` has it.
        alike: Whether the model has the same bits there as on all machines that it promises them
            for; see `alike_on` of a bundle's description.
    """

    onnxruntime: str
    machine: str
    alike: bool

    @classmethod
    def of_index(cls, kept: Mapping[str, Any]) -> "Origin":
        """Read what a manifest keeps.

        Raises:
            ValueError: It is something else.
        """
        fields = (kept["onnxruntime"], kept["machine"], kept["alike"])
        if [type(field) for field in fields] != [str, str, bool]:
            raise ValueError(f"{dict(kept)!r:.100} is no origin of vectors")
        return cls(*fields)

    def to_dict(self) -> dict[str, Any]:
        """Return it as a manifest keeps it."""
        return asdict(self)

    def rounds_as(self, other: "Origin") -> bool:
        """Say whether a text has the same bits at both."""
        same_place = (self.onnxruntime, self.machine) == (other.onnxruntime, other.machine)
        return same_place or (self.alike and other.alike)

    def __str__(self) -> str:
        return f"ONNX Runtime {self.onnxruntime} on {self.machine}"


def with_origin(known: tuple[Origin, ...], origin: Origin | None) -> tuple[Origin, ...]:
    """Add where vectors were made to where others were."""
    return known if origin is None or origin in known else (*known, origin)


def warn_of_rounding(query: Origin | None, documents: Iterable[Origin]) -> None:
    """Say, once in a process, that the same text may have other weights where documents were made.

    Warns:
        RoundingWarning: One of the documents' origins does not round as the query's.
    """
    if query is None:
        return
    for origin in documents:
        if not query.rounds_as(origin) and (query, origin) not in _said:
            _said.add((query, origin))
            warnings.warn(
                f"the documents were encoded with {origin}, and the query with {query}, between "
                "which this model may round differently: float32 in the last bits, int8 by up to "
                "0.13 of a weight. Encode with one release on one kind of machine, or with an int8 "
                "model that rounds alike (`spladelet-export rewrite` makes one of a bundle).",
                RoundingWarning,
                stacklevel=_depth(),
            )


def _depth() -> int:
    """Return how far above `warn_of_rounding` the line is that is not ours."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("spladelet."):
        frame, depth = frame.f_back, depth + 1
    return depth


_said: set[tuple[Origin, Origin]] = set()
