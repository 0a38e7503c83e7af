"""An index on disk: sealed segments under one manifest per generation.

    generation-7.json           the manifest; the highest number is the current one
    segment-5f0c…/              never changed once a manifest names it
        terms.npy               int32[occurring terms]
        offsets.npy             int64[occurring terms + 1], where each one's posting list begins
        numbers.npy             int32[postings]
        impacts.npy             float32, float16 or uint8[postings]
        scales.npy, errors.npy  float32[occurring terms]
        numbers_crc.npy, impacts_crc.npy  uint32[occurring terms], of each posting list
        documents.jsonl         one document a line
        document_offsets.npy    int64[documents + 1], where each line begins
        documents_crc.npy       uint32[documents], of each line
        id_hashes.npy           uint64[documents], ascending
        id_numbers.npy          int32[documents]
        metadata_….npy          the four arrays of a `MetadataTable`
        deleted-9a1b….npy       int32[deleted documents]; a new file for each generation's

A generation is published by writing its manifest aside, fsync, and rename; until then nothing
refers to what is new, so a full disk or a killed process leaves the previous generation as it was.
Readers take no lock and write nothing. Posting lists and documents are memory-mapped; what was
damaged is found when it is first used, see `integrity`.
"""

import errno
import os
import re
import secrets
import shutil
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from spladelet import integrity
from spladelet.arrays import map_file, read_array
from spladelet.bundle import FileEntry
from spladelet.documents import Document, to_line
from spladelet.errors import (
    IndexFormatError,
    IndexLockedError,
    IndexNotFoundError,
    IndexWriteError,
)
from spladelet.integrity import Checks, check_file
from spladelet.lines import StoredDocuments
from spladelet.manifest import FILES, SEGMENT_NAME, Manifest, SegmentEntry
from spladelet.metadata import MetadataTable
from spladelet.ranking import Postings
from spladelet.segment import METADATA_FILES, IdTable, Segment, impact_type

_GENERATION = re.compile(r"generation-(\d+)\.json")
_ASIDE = re.compile(r"generation-\d+-[0-9a-f]{16}\.tmp")
_LOCK = "writer.lock"  # of Windows only: elsewhere the folder itself is locked
_ATTEMPTS = 5
_LINES = 1024  # written at once

_BY_TERM = ("scales", "errors", "numbers_crc", "impacts_crc")
# What every search depends on; the rest when it is used.
_CHECKED_AT_ONCE = tuple(f"{name}.npy" for name in ("terms", "offsets", *_BY_TERM))
_CHECKED_IN_PARTS = ("numbers", "impacts", "documents")

_Result = TypeVar("_Result")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, and make the folder first; the system frees the lock of the dead.

    Raises:
        IndexWriteError: The folder holds something else, or cannot be written to; what was there
            before is intact.
        IndexLockedError: Another writer holds it.
    """
    if folder.exists() and not is_index(folder) and not _is_vacant(folder):
        raise IndexWriteError(
            f"{folder} exists and is not an index. Give the name of a new folder, or of an index."
        )
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder):
            yield
    except OSError as error:
        raise write_error(folder, error, had_index=is_index(folder)) from error
    finally:
        if not is_index(folder):
            for path in made:
                _quietly(path.rmdir)  # which fails where something is in it


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    if sys.platform == "win32":  # folders cannot be opened there
        handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT)
    else:
        handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            _take_lock(handle)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                raise
            raise IndexLockedError(
                f"{folder} is being written to by another process or writer. One writes at a time; "
                "try again when it has ended."
            ) from error
        yield
    finally:
        os.close(handle)


def _take_lock(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_segment(folder: Path, segment: Segment) -> SegmentEntry:
    """Write a segment, that no manifest names yet, all but its deleted documents.

    Raises:
        OSError: It cannot be written; nothing of it is left.
        IndexFormatError: It is damaged where it comes from.
    """
    if segment.checks is not None:
        segment.checks.everything(segment.postings)
    path = folder / f"segment-{secrets.token_hex(8)}"
    try:
        path.mkdir()
        return _write_files(path, segment)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def write_deleted(folder: Path, entry: SegmentEntry, deleted: NDArray[np.int32]) -> SegmentEntry:
    """Write which documents of a segment are deleted, for the next manifest."""
    files = {name: file for name, file in entry.files.items() if name in FILES}
    if len(deleted):
        name = f"deleted-{secrets.token_hex(8)}.npy"
        path = folder / entry.name / name
        _save(path, deleted)
        _sync_folder(path.parent)
        files[name] = FileEntry.of(path)
    return SegmentEntry(entry.name, entry.documents, entry.postings, len(deleted), files)


def publish(folder: Path, manifest: Manifest) -> None:
    """Make a manifest the current one, and remove what it does not need."""
    path = folder / f"generation-{manifest.generation}.json"
    try:
        _publish(path, manifest.to_json())
    except BaseException:
        _quietly(path.unlink)  # back to the previous generation
        raise
    _remove_unused(folder, manifest)


def discard(folder: Path, entries: Iterable[SegmentEntry]) -> None:
    """Remove segments that no manifest names."""
    for entry in entries:
        shutil.rmtree(folder / entry.name, ignore_errors=True)


def next_generation(folder: Path) -> int:
    """Return the number of the next manifest."""
    return (current_generation(folder) or 0) + 1


def current_generation(folder: Path) -> int | None:
    """Return the number of the current manifest; None if there is none."""
    return max(_generations(folder), default=None)


def read_index(folder: Path) -> tuple[Manifest, list[Segment]]:
    """Open the current generation; nothing is written and no lock taken.

    Raises:
        IndexNotFoundError: There is no index.
        IndexFormatError: It is of an unknown version, truncated or damaged.
    """
    return _current(
        folder, lambda manifest: [read_segment(folder, s, manifest) for s in manifest.segments]
    )


def verify_index(folder: Path) -> Manifest:
    """Read every file of an index, compare its sha256 with the manifest, and open it.

    Raises:
        IndexNotFoundError: There is no index.
        IndexFormatError: A file differs; the message names it.
    """

    def compare(manifest: Manifest) -> None:
        for segment in manifest.segments:
            for name, entry in segment.files.items():
                check_file(folder / segment.name / name, entry)

    _current(folder, compare)
    manifest, _ = read_index(folder)
    return manifest


def _current(folder: Path, use: Callable[[Manifest], _Result]) -> tuple[Manifest, _Result]:
    """Do something with the current generation; with a newer one, if that takes its place."""
    for _ in range(_ATTEMPTS):
        generation = current_generation(folder)
        if generation is None:
            raise IndexNotFoundError(
                f"{folder} holds no index. Build one with `spladelet index FILE -o {folder}`."
            )
        path = folder / f"generation-{generation}.json"
        try:
            manifest = Manifest.from_json(path.read_bytes(), path)
            return manifest, use(manifest)
        except FileNotFoundError as error:
            if current_generation(folder) == generation:
                raise IndexFormatError(
                    f"{error.filename} is missing; the manifest {path.name} names it. Build the "
                    "index again."
                ) from error
            # A writer replaced this generation while we read it: take the new one.
    raise IndexFormatError(f"{folder} changes faster than it can be opened. Try again.")


def is_index(folder: Path) -> bool:
    """Say whether the folder holds an index, whatever its state."""
    return bool(_generations(folder))


def _is_vacant(folder: Path) -> bool:
    """Say whether a folder is empty, but for what a killed writer left."""
    return folder.is_dir() and all(
        SEGMENT_NAME.fullmatch(path.name) or _ASIDE.fullmatch(path.name) or path.name == _LOCK
        for path in folder.iterdir()
    )


def _write_files(path: Path, segment: Segment) -> SegmentEntry:
    offsets, crcs = write_documents(path / "documents.jsonl", segment.documents)
    postings, metadata = segment.postings, segment.metadata
    arrays: dict[str, NDArray[Any]] = {
        "terms.npy": postings.terms,
        "offsets.npy": postings.offsets,
        "numbers.npy": postings.numbers,
        "impacts.npy": postings.impacts,
        "scales.npy": postings.scales,
        "errors.npy": postings.errors,
        "numbers_crc.npy": integrity.sums(postings.numbers, postings.offsets),
        "impacts_crc.npy": integrity.sums(postings.impacts, postings.offsets),
        "document_offsets.npy": offsets,
        "documents_crc.npy": crcs,
        "id_hashes.npy": segment.ids.hashes,
        "id_numbers.npy": segment.ids.numbers,
        "metadata_keys.npy": metadata.keys,
        "metadata_key_offsets.npy": metadata.key_offsets,
        "metadata_offsets.npy": metadata.offsets,
        "metadata_numbers.npy": metadata.numbers,
    }
    for name, array in arrays.items():
        _save(path / name, array)
    _sync_folder(path)
    files = {name: FileEntry.of(path / name) for name in FILES}
    return SegmentEntry(path.name, postings.documents, len(postings.numbers), 0, files)


def write_documents(
    path: Path, documents: Iterable[Document]
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Write documents, one a line; returns where each line begins, and each one's CRC-32."""
    lengths: list[int] = []
    crcs: list[int] = []
    rest = map(to_line, documents)
    with path.open("wb") as file:
        while lines := list(islice(rest, _LINES)):
            file.write(b"".join(lines))
            lengths += map(len, lines)
            crcs += map(zlib.crc32, lines)
        _sync(file)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return offsets, np.array(crcs, np.uint32)


def _save(path: Path, array: NDArray[Any]) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        _sync(file)


def read_segment(folder: Path, entry: SegmentEntry, manifest: Manifest) -> Segment:
    """Open a segment in place.

    Raises:
        FileNotFoundError: A file is missing.
        IndexFormatError: A file is truncated, or not what the manifest says.
    """
    path = folder / entry.name
    for name, file in entry.files.items():
        if (size := (path / name).stat().st_size) != file.size:
            raise IndexFormatError(
                f"{path / name} has {size} bytes, expected {file.size}: it was truncated or "
                "changed. Build the index again."
            )
    types = {**FILES, "impacts.npy": impact_type(manifest.weights)}
    contents = {name: map_file(path / name, file.size) for name, file in entry.files.items()}
    load = {
        name: read_array(contents[name], path / name, dtype)
        for name, dtype in types.items()
        if dtype
    }
    crcs = (load[f"{name}_crc.npy"] for name in _CHECKED_IN_PARTS)
    checks = Checks(path, entry, contents, *crcs)
    deleted = np.empty(0, np.int32)
    for name in entry.files.keys() - FILES.keys():
        deleted = read_array(contents[name], path / name, np.int32)
        checks.files(name)
    checks.files(*_CHECKED_AT_ONCE)
    postings = Postings(
        load["terms.npy"],
        load["offsets.npy"],
        load["numbers.npy"],
        load["impacts.npy"],
        load["scales.npy"],
        load["errors.npy"],
        entry.documents,
    )
    ids = IdTable(load["id_hashes.npy"], load["id_numbers.npy"])
    metadata = MetadataTable(*(load[name] for name in METADATA_FILES))
    offsets = load["document_offsets.npy"]
    lines = contents["documents.jsonl"]
    documents = StoredDocuments(lines.data, offsets, checks)
    segment = Segment(postings, documents, ids, metadata, deleted, checks)
    by_term = all(len(load[f"{name}.npy"]) == len(postings.terms) for name in _BY_TERM)
    by_document = len(load["documents_crc.npy"]) == len(offsets) - 1 == entry.documents
    consistent = (
        by_term
        and by_document
        and _partitions(offsets, len(lines))
        and _fits(segment, entry, manifest.vocab_size)
    )
    if not consistent:
        checks.files(*entry.files)  # names the one that was damaged
        raise IndexFormatError(
            f"{path} does not hold what the manifest says ({entry.documents} documents, "
            f"{entry.postings} postings over {manifest.vocab_size} terms). Build the index again."
        )
    return segment


def _fits(segment: Segment, entry: SegmentEntry, vocab_size: int) -> bool:
    """Say whether a segment's arrays fit each other and the manifest."""
    postings, ids, metadata = segment.postings, segment.ids, segment.metadata
    return bool(
        _ascends(postings.terms, vocab_size)
        and len(postings.offsets) == len(postings.terms) + 1
        and _partitions(postings.offsets, entry.postings)
        and len(postings.numbers) == len(postings.impacts) == entry.postings
        and len(ids.hashes) == len(ids.numbers) == entry.documents
        and _are_below(ids.numbers, entry.documents)
        and len(metadata.offsets) == len(metadata.key_offsets)
        and _partitions(metadata.offsets, len(metadata.numbers))
        and _partitions(metadata.key_offsets, len(metadata.keys))
        and _are_below(metadata.numbers, entry.documents)
        and np.isfinite(postings.scales).all()
        and (postings.scales > 0).all()
        and (postings.errors >= 0).all()
        and len(segment.deleted) == entry.deleted
        and _ascends(segment.deleted, entry.documents)
    )


def _are_below(numbers: NDArray[np.int32], end: int) -> bool:
    """Say whether numbers are from 0 to below an end."""
    return not len(numbers) or bool(0 <= numbers.min() <= numbers.max() < end)


def _ascends(numbers: NDArray[Any], end: int) -> bool:
    """Say whether numbers from 0 to below an end rise, none twice."""
    whole = numbers.astype(np.int64)
    return not len(whole) or bool(whole[0] >= 0 and whole[-1] < end and (np.diff(whole) > 0).all())


def _partitions(offsets: NDArray[np.int64], total: int) -> bool:
    """Say whether offsets cut `total` things into consecutive parts."""
    return bool(
        len(offsets) and offsets[0] == 0 and offsets[-1] == total and (np.diff(offsets) >= 0).all()
    )


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
    them (Windows), they stay until a later save.
    """
    keep = {segment.name: segment.files for segment in current.segments}
    for path in list(folder.iterdir()):
        match = _GENERATION.fullmatch(path.name)
        if (match and int(match[1]) < current.generation) or _ASIDE.fullmatch(path.name):
            _quietly(path.unlink)
        elif SEGMENT_NAME.fullmatch(path.name) and path.name not in keep:
            shutil.rmtree(path, ignore_errors=True)
        elif path.name in keep:
            for file in path.glob("deleted-*.npy"):
                if file.name not in keep[path.name]:
                    _quietly(file.unlink)


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


def write_error(folder: Path, error: OSError, *, had_index: bool) -> IndexWriteError:
    """Say in the package's terms why writing failed, and that nothing is lost."""
    intact = "The index that was there is intact." if had_index else "Nothing was left behind."
    todo = {
        errno.ENOSPC: "Free some space, or save to another disk.",
        errno.EACCES: "Choose a folder that you may write to.",
        errno.EROFS: "Choose a folder that you may write to.",
    }.get(error.errno or 0, "Mend that and save again.")
    return IndexWriteError(f"cannot save to {folder}: {error.strerror or error}. {intact} {todo}")
