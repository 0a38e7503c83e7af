"""An index on disk: sealed segments under one manifest per generation.

    generation-1.json           the manifest; the highest number is the current one
    segment-5f0c…/              never changed once a manifest names it
        term_offsets.npy        int64[vocab_size + 1]
        numbers.npy             int32[postings]
        weights.npy             float32[postings]
        documents.jsonl         one document a line
        document_offsets.npy    int64[documents + 1], where each line begins

A generation is published by writing its manifest aside, fsync, and rename; until then nothing
refers to the new segment, so a full disk or a killed process leaves the previous generation as it
was. Readers take no lock and write nothing. Posting lists and documents are memory-mapped.
"""

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spladelet.bundle import FileEntry
from spladelet.documents import Document
from spladelet.errors import IndexFormatError, IndexNotFoundError, IndexWriteError
from spladelet.ranking import Postings

FORMAT = "spladelet-index"
FORMAT_VERSION = 1

_GENERATION = re.compile(r"generation-(\d+)\.json")
_SEGMENT = re.compile(r"segment-[0-9a-f]{16}")
_ASIDE = re.compile(r"generation-\d+-[0-9a-f]{16}\.tmp")
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """What the manifest says of a segment."""

    name: str
    documents: int
    postings: int
    files: Mapping[str, FileEntry]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One generation of an index.

    Attributes:
        generation: Counts up with every save.
        vocab_size: How many terms the model has.
        model: Fingerprint of the model; None if unknown.
        model_name: What people call it; may be empty.
        segments: The documents, in order.
    """

    generation: int
    vocab_size: int
    model: str | None
    model_name: str
    segments: tuple[SegmentEntry, ...]

    def to_json(self) -> str:
        """Write the manifest as text."""
        head = {"format": FORMAT, "format_version": FORMAT_VERSION}
        return json.dumps(head | asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: Path) -> "Manifest":
        """Read a manifest.

        Raises:
            IndexFormatError: It is of an unknown version, or not well-formed.
        """
        try:
            raw = json.loads(text)
            if raw["format"] != FORMAT or raw["format_version"] != FORMAT_VERSION:
                raise IndexFormatError(
                    f"{where} has format {raw['format']!r} version {raw['format_version']!r}; this "
                    f"version reads {FORMAT!r} version {FORMAT_VERSION}. Upgrade with `pip install "
                    "-U spladelet`, or build the index again."
                )
            segments = tuple(_segment_entry(entry, where) for entry in raw["segments"])
            return cls(
                int(raw["generation"]),
                int(raw["vocab_size"]),
                raw["model"],
                raw["model_name"],
                segments,
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise IndexFormatError(
                f"{where} is not a well-formed manifest ({type(error).__name__}: {error}). "
                "Build the index again."
            ) from error


class Documents(Protocol):
    """Documents by number: a list in memory, or `StoredDocuments`."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int, /) -> Document: ...
    def __iter__(self) -> Iterator[Document]: ...


class StoredDocuments:
    """The documents of a segment, read one by one from the mapped file."""

    def __init__(self, lines: NDArray[np.uint8], offsets: NDArray[np.int64], where: Path) -> None:
        self._lines = lines
        self._offsets = offsets
        self._where = where

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __iter__(self) -> Iterator[Document]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Document:
        line = self._lines[self._offsets[number] : self._offsets[number + 1]].tobytes()
        try:
            return Document(**json.loads(line))
        except (ValueError, TypeError, RecursionError) as error:
            raise IndexFormatError(
                f"{self._where}: document {number} cannot be read ({error}): the file is damaged. "
                "Build the index again."
            ) from error


def write_index(
    folder: Path,
    postings: Postings,
    documents: Iterable[Document],
    *,
    vocab_size: int,
    model: str | None,
    model_name: str,
) -> Manifest:
    """Publish a new generation that holds just these documents.

    Raises:
        IndexWriteError: The folder holds something else, or writing failed; what was there before
            is intact.
    """
    if folder.exists() and not is_index(folder) and not _is_vacant(folder):
        raise IndexWriteError(
            f"{folder} exists and is not an index. Give the name of a new folder, or of an index "
            "to replace."
        )
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _one_writer(folder):
            return _write_generation(
                folder, postings, documents, Manifest(0, vocab_size, model, model_name, ())
            )
    except BaseException as error:
        for path in made:
            _quietly(path.rmdir)  # which fails where something is in it
        if isinstance(error, OSError):
            raise _write_error(folder, error, had_index=is_index(folder)) from error
        raise


@contextmanager
def _one_writer(folder: Path) -> Iterator[None]:
    """Wait for other writers of this folder; the system frees the lock of one that dies."""
    if os.name == "nt":  # folders cannot be locked there
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write_generation(
    folder: Path, postings: Postings, documents: Iterable[Document], manifest: Manifest
) -> Manifest:
    previous = _generations(folder)
    generation = max(previous, default=0) + 1
    published = folder / f"generation-{generation}.json"
    segment = folder / f"segment-{secrets.token_hex(8)}"
    try:
        segment.mkdir()
        entry = _write_segment(segment, postings, documents)
        manifest = replace(manifest, generation=generation, segments=(entry,))
        _publish(published, manifest.to_json())
    except BaseException:
        _quietly(published.unlink)  # before its segment, and back to the previous generation
        shutil.rmtree(segment, ignore_errors=True)
        raise
    _remove_unused(folder, manifest)
    return manifest


def read_index(folder: Path) -> tuple[Manifest, list[tuple[Postings, StoredDocuments]]]:
    """Open the current generation; nothing is written and no lock taken.

    Raises:
        IndexNotFoundError: There is no index.
        IndexFormatError: It is of an unknown version, truncated or damaged.
    """
    for _ in range(_ATTEMPTS):
        generation = max(_generations(folder), default=None)
        if generation is None:
            raise IndexNotFoundError(
                f"{folder} holds no index. Build one with `spladelet index FILE -o {folder}`."
            )
        path = folder / f"generation-{generation}.json"
        try:
            manifest = Manifest.from_json(path.read_bytes(), path)
            return manifest, [_read_segment(folder, s, manifest) for s in manifest.segments]
        except FileNotFoundError as error:
            if max(_generations(folder), default=None) == generation:
                raise IndexFormatError(
                    f"{error.filename} is missing; the manifest {path.name} names it. Build the "
                    "index again."
                ) from error
            # A writer replaced this generation while we read it: take the new one.
    raise IndexFormatError(f"{folder} changes faster than it can be opened. Try again.")


def verify_index(folder: Path) -> Manifest:
    """Open an index, read every file and compare its sha256 with the manifest.

    Raises:
        IndexFormatError: A file differs; the message names it.
    """
    manifest, _ = read_index(folder)
    for segment in manifest.segments:
        for name, entry in segment.files.items():
            path = folder / segment.name / name
            if FileEntry.of(path) != entry:
                raise IndexFormatError(
                    f"{path} was changed or damaged: its sha256 is not the manifest's. Build the "
                    "index again."
                )
    return manifest


def is_index(folder: Path) -> bool:
    """Say whether the folder holds an index, whatever its state."""
    return bool(_generations(folder))


def _is_vacant(folder: Path) -> bool:
    """Say whether a folder is empty, but for what a killed writer left."""
    return folder.is_dir() and all(
        _SEGMENT.fullmatch(path.name) or _ASIDE.fullmatch(path.name) for path in folder.iterdir()
    )


def _segment_entry(raw: Mapping[str, Any], where: Path) -> SegmentEntry:
    if not _SEGMENT.fullmatch(raw["name"]):
        raise IndexFormatError(f"{where} names segment {raw['name']!r}, which none is called.")
    files = {name: FileEntry(**raw["files"][name]) for name in _FILES}
    return SegmentEntry(raw["name"], int(raw["documents"]), int(raw["postings"]), files)


def _write_segment(
    segment: Path, postings: Postings, documents: Iterable[Document]
) -> SegmentEntry:
    offsets = [0]
    with (segment / "documents.jsonl").open("wb") as file:
        for document in documents:
            line = json.dumps(asdict(document), ensure_ascii=True) + "\n"
            offsets.append(offsets[-1] + file.write(line.encode()))
        _sync(file)
    arrays: dict[str, NDArray[Any]] = {
        "term_offsets.npy": postings.term_offsets.astype(np.int64, copy=False),
        "numbers.npy": postings.numbers.astype(np.int32, copy=False),
        "weights.npy": postings.weights.astype(np.float32, copy=False),
        "document_offsets.npy": np.array(offsets, np.int64),
    }
    for name, array in arrays.items():
        with (segment / name).open("wb") as file:
            np.save(file, array, allow_pickle=False)
            _sync(file)
    _sync_folder(segment)
    files = {name: FileEntry.of(segment / name) for name in _FILES}
    return SegmentEntry(segment.name, postings.documents, len(postings.numbers), files)


def _read_segment(
    folder: Path, entry: SegmentEntry, manifest: Manifest
) -> tuple[Postings, StoredDocuments]:
    segment = folder / entry.name
    for name, file in entry.files.items():
        if (size := (segment / name).stat().st_size) != file.size:
            raise IndexFormatError(
                f"{segment / name} has {size} bytes, expected {file.size}: it was truncated or "
                "changed. Build the index again."
            )
    load = {name: _load(segment / name, dtype) for name, dtype in _FILES.items() if dtype}
    postings = Postings(
        load["term_offsets.npy"], load["numbers.npy"], load["weights.npy"], entry.documents
    )
    offsets = load["document_offsets.npy"]
    lines: NDArray[np.uint8] = np.empty(0, np.uint8)
    if entry.files["documents.jsonl"].size:  # an empty file cannot be mapped
        lines = np.memmap(segment / "documents.jsonl", np.uint8, "r")
    consistent = (
        len(postings.term_offsets) == manifest.vocab_size + 1
        and _partitions(postings.term_offsets, entry.postings)
        and len(postings.numbers) == len(postings.weights) == entry.postings
        and len(offsets) == entry.documents + 1
        and _partitions(offsets, len(lines))
    )
    if not consistent:
        raise IndexFormatError(
            f"{segment} does not hold what the manifest says ({entry.documents} documents, "
            f"{entry.postings} postings over {manifest.vocab_size} terms). Build the index again."
        )
    return postings, StoredDocuments(lines, offsets, segment / "documents.jsonl")


def _partitions(offsets: NDArray[np.int64], total: int) -> bool:
    """Say whether offsets cut `total` things into consecutive parts."""
    return bool(offsets[0] == 0 and offsets[-1] == total and (np.diff(offsets) >= 0).all())


def _load(path: Path, dtype: type[np.generic]) -> NDArray[Any]:
    try:
        # Unlike np.load, this takes no pickles and no archives for arrays.
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # numpy parses the head as Python, and lets its errors through
        raise IndexFormatError(
            f"{path} is no array ({error}): it is damaged. Build the index again."
        ) from error
    if array.dtype != dtype or array.ndim != 1:
        raise IndexFormatError(
            f"{path} holds {array.dtype} in {array.ndim} dimensions, expected flat "
            f"{np.dtype(dtype)}. Build the index again."
        )
    # Plain views: slicing np.memmap itself costs a microsecond each time.
    return array.view(np.ndarray)


# The files of a segment, and what the arrays among them hold.
_FILES: dict[str, type[np.generic] | None] = {
    "term_offsets.npy": np.int64,
    "numbers.npy": np.int32,
    "weights.npy": np.float32,
    "documents.jsonl": None,
    "document_offsets.npy": np.int64,
}


def _generations(folder: Path) -> list[int]:
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [int(match[1]) for name in names if (match := _GENERATION.fullmatch(name))]


def _publish(path: Path, text: str) -> None:
    aside = path.with_name(f"{path.stem}-{secrets.token_hex(8)}.tmp")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            _sync(file)
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _remove_unused(folder: Path, current: Manifest) -> None:
    """Remove what the current generation does not need, and what killed writers left behind.

    Files that a reader has mapped live on until it lets go; where the system forbids removing
    them (Windows), they stay until the next save.
    """
    keep = {segment.name for segment in current.segments}
    for path in folder.iterdir():
        match = _GENERATION.fullmatch(path.name)
        if (match and int(match[1]) < current.generation) or _ASIDE.fullmatch(path.name):
            _quietly(path.unlink)
        elif _SEGMENT.fullmatch(path.name) and path.name not in keep:
            shutil.rmtree(path, ignore_errors=True)


def _quietly(action: Callable[[], None]) -> None:
    try:
        action()
    except OSError:
        return


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there; the rename itself is journalled
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network mounts cannot
            raise
    finally:
        os.close(handle)


def _write_error(folder: Path, error: OSError, *, had_index: bool) -> IndexWriteError:
    intact = "The index that was there is intact." if had_index else "Nothing was left behind."
    todo = {
        errno.ENOSPC: "Free some space, or save to another disk.",
        errno.EACCES: "Choose a folder that you may write to.",
        errno.EROFS: "Choose a folder that you may write to.",
    }.get(error.errno or 0, "Mend that and save again.")
    return IndexWriteError(f"cannot save to {folder}: {error.strerror or error}. {intact} {todo}")
