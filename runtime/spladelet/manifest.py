"""What is in an index: the manifest of a generation, and the segments it names.

Does not open what it names: see `store`.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spladelet.bundle import FileEntry
from spladelet.errors import IndexFormatError
from spladelet.segment import ID_FILES, MAX_DOCUMENTS, METADATA_FILES, impact_type

FORMAT = "spladelet-index"
FORMAT_VERSION = 2
SEGMENT_NAME = re.compile(r"segment-[0-9a-f]{16}")
_DELETED = re.compile(r"deleted-[0-9a-f]{16}\.npy")

# The files of a segment, and what the arrays among them hold; impacts are of the index's type.
FILES: dict[str, type[np.generic] | None] = {
    "terms.npy": np.int32,
    "offsets.npy": np.int64,
    "numbers.npy": np.int32,
    "impacts.npy": np.float32,
    "scales.npy": np.float32,
    "errors.npy": np.float32,
    "numbers_crc.npy": np.uint32,
    "impacts_crc.npy": np.uint32,
    "documents.jsonl": None,
    "document_offsets.npy": np.int64,
    "documents_crc.npy": np.uint32,
    **dict(zip(ID_FILES, (np.uint64, np.int32), strict=True)),
    **dict(zip(METADATA_FILES, (np.uint8, np.int64, np.int64, np.int32), strict=True)),
}


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """What the manifest says of a segment.

    Attributes:
        name: Its folder.
        documents: How many it holds, deleted ones too.
        postings: Likewise.
        deleted: How many of the documents are deleted.
        files: Size and hash of each, by name; the one of the deleted documents too.
    """

    name: str
    documents: int
    postings: int
    deleted: int
    files: Mapping[str, FileEntry]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One generation of an index.

    Attributes:
        generation: Counts up with every save.
        vocab_size: How many terms the model has.
        model: Fingerprint of the model; None if unknown.
        model_name: What people call it; may be empty.
        weights: What weights are kept in: "float32", "float16" or "uint8".
        segments: The documents, in order.
    """

    generation: int
    vocab_size: int
    model: str | None
    model_name: str
    weights: str
    segments: tuple[SegmentEntry, ...]

    def to_json(self) -> str:
        """Write the manifest as text, with a sum of its own."""
        raw = {"format": FORMAT, "format_version": FORMAT_VERSION} | asdict(self)
        return json.dumps(raw | {"sha256": _sum(raw)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: Path) -> "Manifest":
        """Read a manifest.

        Raises:
            IndexFormatError: It is of an unknown version, damaged, or not well-formed.
        """
        try:
            raw = json.loads(text)
            if raw["format"] != FORMAT or raw["format_version"] != FORMAT_VERSION:
                raise IndexFormatError(
                    f"{where} has format {raw['format']!r} version {raw['format_version']!r}; this "
                    f"version reads {FORMAT!r} version {FORMAT_VERSION}. Upgrade with `pip install "
                    "-U spladelet`, or build the index again."
                )
            if raw.pop("sha256") != _sum(raw):
                raise IndexFormatError(
                    f"{where} was changed or damaged: its sha256 is not the one it states. Build "
                    "the index again."
                )
            impact_type(raw["weights"])
            segments = tuple(_segment_entry(entry, where) for entry in raw["segments"])
            return cls(
                int(raw["generation"]),
                int(raw["vocab_size"]),
                raw["model"],
                raw["model_name"],
                raw["weights"],
                segments,
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise IndexFormatError(
                f"{where} is not a well-formed manifest ({type(error).__name__}: {error}). "
                "Build the index again."
            ) from error


def _sum(raw: Mapping[str, Any]) -> str:
    text = json.dumps(raw, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _segment_entry(raw: Mapping[str, Any], where: Path) -> SegmentEntry:
    if not SEGMENT_NAME.fullmatch(raw["name"]):
        raise IndexFormatError(f"{where} names segment {raw['name']!r}, which none is called.")
    files = {name: FileEntry(**raw["files"][name]) for name in FILES}
    marks = [name for name in raw["files"] if _DELETED.fullmatch(name)]
    files |= {name: FileEntry(**raw["files"][name]) for name in marks}
    documents, deleted = int(raw["documents"]), int(raw["deleted"])
    if len(marks) != (deleted > 0) or not 0 <= documents <= MAX_DOCUMENTS:
        raise ValueError(f"segment {raw['name']} has {documents} documents, {deleted} deleted")
    return SegmentEntry(raw["name"], documents, int(raw["postings"]), deleted, files)
