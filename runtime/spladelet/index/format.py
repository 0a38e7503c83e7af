"""What is in an index: the manifest of a generation, and the segments it names.

Does not open what it names: see `segment_files`.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from spladelet.errors import IndexFormatError, InputError
from spladelet.files import FileEntry
from spladelet.lexical.words import Words
from spladelet.origins import Origin

FORMAT = "spladelet-index"
# Of an index without words, and with words: who knows only the former would lose the latter.
FORMAT_VERSIONS = (2, 3)
SEGMENT_NAME = re.compile(r"segment-[0-9a-f]{16}")
DELETED_NAME = re.compile(r"deleted-[0-9a-f]{16}\.npy")

MAX_DOCUMENTS = 1 << 18

# What an index on disk keeps the tables in.
ID_FILES = ("id_hashes.npy", "id_numbers.npy")
METADATA_FILES = (
    "metadata_keys.npy",
    "metadata_key_offsets.npy",
    "metadata_offsets.npy",
    "metadata_numbers.npy",
)

_IMPACTS: dict[str, type[np.generic]] = {
    "float32": np.float32,
    "float16": np.float16,
    "uint8": np.uint8,
}
KINDS = tuple(_IMPACTS)

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

# The files of its words, in an index that has words.
WORD_FILES: dict[str, type[np.generic] | None] = {
    "word_names.npy": np.uint8,
    "word_name_offsets.npy": np.int64,
    "word_offsets.npy": np.int64,
    "word_numbers.npy": np.int32,
    "word_counts.npy": np.uint8,
    "word_many.npy": np.int64,
    "word_many_counts.npy": np.int64,
    "word_lengths.npy": np.uint16,  # or int32, where a document has more words
    "words_crc.npy": np.uint32,
}


def check_kind(kind: str) -> None:
    """Raise InputError unless weights can be kept as this."""
    if not isinstance(kind, str) or kind not in _IMPACTS:
        raise InputError(f"weight_type is {kind!r}; expected one of {', '.join(_IMPACTS)}.")


def impact_type(kind: str) -> type[np.generic]:
    """Return the numpy type that weights are kept in."""
    return _IMPACTS[kind]


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

    @property
    def deletions(self) -> list[str]:
        """The name of the file that says which documents are deleted, if some are."""
        return [name for name in self.files if DELETED_NAME.fullmatch(name)]

    @property
    def lasting(self) -> dict[str, FileEntry]:
        """The files that stay as they are, whatever is deleted."""
        return {
            name: entry for name, entry in self.files.items() if not DELETED_NAME.fullmatch(name)
        }


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
        encoding: How its documents are encoded, for those that are added later; {} if unknown.
        words: How its words are counted; None if it has none.
        origins: Where its documents were encoded, as far as it is known.
    """

    generation: int
    vocab_size: int
    model: str | None
    model_name: str
    weights: str
    segments: tuple[SegmentEntry, ...]
    encoding: Mapping[str, Any] = field(default_factory=dict)
    words: Words | None = None
    origins: tuple[Origin, ...] = ()

    def __post_init__(self) -> None:
        for name in ("model", "model_name"):
            value = getattr(self, name)
            if not isinstance(value, str) and not (name == "model" and value is None):
                raise InputError(f"{name} is {value!r:.60}; expected a str.")

    def to_json(self) -> str:
        """Write the manifest as text, with a sum of its own."""
        version = FORMAT_VERSIONS[self.words is not None]
        raw = {"format": FORMAT, "format_version": version} | asdict(self)
        for name in ("encoding", "words", "origins"):  # as it was before there were any
            if not raw[name]:
                del raw[name]
        return json.dumps(raw | {"sha256": _sum(raw)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: Path) -> "Manifest":
        """Read a manifest.

        Raises:
            IndexFormatError: It is of an unknown version, damaged, or not well-formed.
        """
        try:
            raw = json.loads(text)
            if raw["format"] != FORMAT or raw["format_version"] not in FORMAT_VERSIONS:
                raise IndexFormatError(
                    f"{where} has format {raw['format']!r} version {raw['format_version']!r}; this "
                    f"version reads {FORMAT!r} version {' and '.join(map(str, FORMAT_VERSIONS))}. "
                    "Upgrade with `pip install -U spladelet`, or build the index again."
                )
            if raw.pop("sha256") != _sum(raw):
                raise IndexFormatError(
                    f"{where} was changed or damaged: its sha256 is not the one it states. Build "
                    "the index again."
                )
            impact_type(raw["weights"])
            has_words = raw["format_version"] == FORMAT_VERSIONS[1]
            names = [*FILES, *WORD_FILES] if has_words else [*FILES]
            segments = tuple(_segment_entry(entry, names, where) for entry in raw["segments"])
            return cls(
                _count(raw, "generation"),
                _count(raw, "vocab_size"),
                raw["model"],
                raw["model_name"] or "",  # there were some with None
                raw["weights"],
                segments,
                dict(raw.get("encoding", {})),
                Words.of_index(raw["words"]) if has_words else None,
                tuple(Origin.of_index(kept) for kept in raw.get("origins", ())),
            )
        except IndexFormatError:
            raise
        except Exception as error:  # whatever JSON of another shape brings: it comes from outside
            raise IndexFormatError(
                f"{where} is not a well-formed manifest ({type(error).__name__}: {error}). "
                "Build the index again."
            ) from error


def _sum(raw: Mapping[str, Any]) -> str:
    text = json.dumps(raw, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _segment_entry(raw: Mapping[str, Any], names: Sequence[str], where: Path) -> SegmentEntry:
    if not SEGMENT_NAME.fullmatch(raw["name"]):
        raise IndexFormatError(
            f"{where} names segment {raw['name']!r}, which is no name of a segment."
        )
    files = {name: FileEntry(**raw["files"][name]) for name in names}
    marks = [name for name in raw["files"] if DELETED_NAME.fullmatch(name)]
    files |= {name: FileEntry(**raw["files"][name]) for name in marks}
    documents, deleted = _count(raw, "documents"), _count(raw, "deleted")
    if len(marks) != (deleted > 0) or documents > MAX_DOCUMENTS:
        raise ValueError(f"segment {raw['name']} has {documents} documents, {deleted} deleted")
    return SegmentEntry(raw["name"], documents, _count(raw, "postings"), deleted, files)


def _count(raw: Mapping[str, Any], name: str) -> int:
    value = raw[name]
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} is {value!r:.40}, expected a whole number, 0 or above")
    return value


class KeptEncoding(Protocol):
    """How documents are encoded: `spladelet.Encoding`."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as values of JSON by name."""


def check_encoding(given: KeptEncoding | Mapping[str, Any] | None) -> dict[str, Any]:
    """Return how documents are encoded, as a manifest can keep it.

    Raises:
        InputError: It is no mapping from names to values of JSON.
    """
    try:
        fields = given if given is None or isinstance(given, Mapping) else given.to_dict()
        kept: dict[str, Any] = json.loads(json.dumps(dict(fields or {}), allow_nan=False))
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"encoding is {given!r:.60}; expected values of JSON by name ({error})."
        ) from error
    return kept
