"""The files of an index: sealed segments, named by the manifest of a generation.

    generation-7.json           the manifest: see `generations`
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
        word_….npy              the eight arrays of `WordLists`, in an index that has words; lengths
                                are uint16, or int32 where one is too large for that
        words_crc.npy           uint32[words], of each one's document numbers and counts
        deleted-9a1b….npy       int32[deleted documents]; a new file for each generation's

Files are written, and never again: who edits one in place, or cuts it short, takes the ground from
under those who have it mapped, and the system ends their process (SIGBUS), which nothing in it can
prevent. Replace the folder by renaming, or change the index through a writer. Files below a
megabyte (64 KiB from Python 3.13 on) are read whole and not mapped. Each that is mapped takes a
descriptor until Python 3.13: none of a small segment, five of a full one, with words eleven (and
four more, where metadata differ from document to document), so that a process that may have 256
open reads some ten million documents, with words six. What was damaged is found when it is first
used, see `integrity`.

Readers take no lock and write nothing. A segment that a reader has open already is not opened
again for a newer generation.
"""

import hashlib
import os
import secrets
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from spladelet.batches import batched
from spladelet.documents import Document, to_line
from spladelet.errors import IndexFormatError, IndexNotFoundError
from spladelet.files import FileEntry, Folder, contents, sync
from spladelet.index import integrity
from spladelet.index.format import (
    FILES,
    METADATA_FILES,
    WORD_FILES,
    Manifest,
    SegmentEntry,
    impact_type,
)
from spladelet.index.generations import (
    IndexFolder,
    current_generation,
    manifest_name,
    read_error,
    read_manifest,
)
from spladelet.index.integrity import Checks, check_file
from spladelet.index.metadata_table import MetadataTable
from spladelet.index.npy import read_array
from spladelet.index.scoring import Postings
from spladelet.index.segment import IdTable, Segment
from spladelet.index.stored_documents import StoredDocuments
from spladelet.index.word_lists import MANY, WordLists

_LINES = 1024  # written at once
_Result = TypeVar("_Result")

_BY_TERM = ("scales", "errors", "numbers_crc", "impacts_crc")
# What every search depends on; the rest when it is used.
_CHECKED_AT_ONCE = tuple(f"{name}.npy" for name in ("terms", "offsets", *_BY_TERM))
_CHECKED_IN_PARTS = ("numbers", "impacts", "documents", "words")


@dataclass(frozen=True, slots=True)
class Opened:
    """A generation of an index, opened.

    Attributes:
        manifest: What it consists of.
        sha256: Of the manifest, in hex: an index that was built anew may count the same.
        segments: Its segments.
    """

    manifest: Manifest
    sha256: str
    segments: tuple[Segment, ...]


def write_segment(folder: IndexFolder, segment: Segment) -> SegmentEntry:
    """Write a segment, that no manifest names yet, all but its deleted documents.

    Raises:
        OSError: It cannot be written; nothing of it is left.
        IndexFormatError: It is damaged where it comes from.
    """
    if segment.checks is not None:
        segment.checks.everything(segment.postings, segment.words)
    name = f"segment-{secrets.token_hex(8)}"
    try:
        with folder.folder.make(name) as made:
            return _write_files(made, segment)
    except BaseException:
        folder.discard([name])
        raise


def write_deleted(
    folder: IndexFolder, entry: SegmentEntry, deleted: NDArray[np.int32]
) -> SegmentEntry:
    """Write which documents of a segment are deleted, for the next manifest."""
    files = entry.lasting
    if len(deleted):
        name = f"deleted-{secrets.token_hex(8)}.npy"
        with folder.folder.subfolder(entry.name) as segment:
            _save(segment, name, deleted)
            segment.sync()
            files[name] = _entry_of(segment, name)
    return SegmentEntry(entry.name, entry.documents, entry.postings, len(deleted), files)


def read_index(path: Path, before: Opened | None = None) -> Opened:
    """Open the current generation; nothing is written and no lock taken.

    Args:
        path: The index.
        before: What was opened earlier, whose segments are taken where they are still named; it is
            returned itself if it is the current generation.

    Raises:
        IndexNotFoundError: There is no index.
        IndexFormatError: It is of an unknown version, truncated or damaged.
        IndexReadError: The system does not let it be read.
    """
    known = _by_name(before)

    def use(folder: Folder, raw: bytes, where: Path) -> Opened:
        sha256 = hashlib.sha256(raw).hexdigest()
        if before is not None and before.sha256 == sha256:
            return before
        manifest = Manifest.from_json(raw, where)
        segments = [open_segment(folder, entry, manifest, known) for entry in manifest.segments]
        return Opened(manifest, sha256, tuple(segments))

    return _use_current(path, use)


def verify_index(path: Path) -> Manifest:
    """Read every file of an index, compare its sha256 with the manifest, and open it.

    Raises:
        IndexNotFoundError: There is no index.
        IndexFormatError: A file differs; the message names it.
        IndexReadError: The system does not let it be read.
    """
    sound: set[tuple[str, str]] = set()

    def use(folder: Folder, raw: bytes, where: Path) -> None:
        for segment in Manifest.from_json(raw, where).segments:
            for name, entry in segment.files.items():
                if (segment.name, name) not in sound:
                    check_file(folder, f"{segment.name}/{name}", entry)
                    sound.add((segment.name, name))

    _use_current(path, use)
    return read_index(path).manifest


def _use_current(path: Path, use: Callable[[Folder, bytes, Path], _Result]) -> _Result:
    """Do something with the current manifest; with a newer one, if that takes its place.

    As what was done is not done again (see `use`), there is less to do each time: so this ends
    even where commits come faster than an index opens.
    """
    while True:
        try:
            with _folder(path) as folder:
                generation = current_generation(folder)
                if generation is None:
                    raise IndexNotFoundError(_none_there(path))
                try:
                    raw = read_manifest(folder, generation)
                    return use(folder, raw, path / manifest_name(generation))
                except FileNotFoundError as error:
                    if folder.is_in_place() and current_generation(folder) == generation:
                        raise IndexFormatError(
                            f"{path / str(error.filename)} is missing; the manifest "
                            f"{manifest_name(generation)} names it. Build the index again."
                        ) from error
        except OSError as error:
            raise read_error(path, error) from error


def _folder(path: Path) -> Folder:
    try:
        return Folder(path)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise IndexNotFoundError(_none_there(path)) from error


def _none_there(path: Path) -> str:
    return f"{path} holds no index. Build one with `spladelet index FILE -o {path}`."


def _by_name(opened: Opened | None) -> dict[str, tuple[SegmentEntry, Segment]]:
    if opened is None:
        return {}
    pairs = zip(opened.manifest.segments, opened.segments, strict=True)
    return {entry.name: (entry, segment) for entry, segment in pairs}


def _write_files(folder: Folder, segment: Segment) -> SegmentEntry:
    with folder.create("documents.jsonl") as file:
        offsets, crcs = write_documents(file, segment.documents)
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
    if segment.words is not None:
        arrays |= _word_arrays(segment.words)
    for name, array in arrays.items():
        _save(folder, name, array)
    folder.sync()
    files = {name: _entry_of(folder, name) for name in ("documents.jsonl", *arrays)}
    return SegmentEntry(folder.path.name, postings.documents, len(postings.numbers), 0, files)


def _word_arrays(lists: WordLists) -> dict[str, NDArray[Any]]:
    arrays = {f"word_{item.name}.npy": getattr(lists, item.name) for item in fields(lists)}
    return arrays | {"words_crc.npy": integrity.word_sums(lists)}


def write_documents(
    file: BinaryIO, documents: Iterable[Document]
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Write documents, one a line; returns where each line begins, and each one's CRC-32."""
    lengths: list[int] = []
    crcs: list[int] = []
    for lines in batched(map(to_line, documents), _LINES):
        file.write(b"".join(lines))
        lengths += map(len, lines)
        crcs += map(zlib.crc32, lines)
    sync(file)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return offsets, np.array(crcs, np.uint32)


def _save(folder: Folder, name: str, array: NDArray[Any]) -> None:
    with folder.create(name) as file:
        np.save(file, array, allow_pickle=False)
        sync(file)


def _entry_of(folder: Folder, name: str) -> FileEntry:
    with folder.open(name) as file:
        return FileEntry.of_open(file)


def open_segment(
    folder: Folder,
    entry: SegmentEntry,
    manifest: Manifest,
    known: dict[str, tuple[SegmentEntry, Segment]],
) -> Segment:
    """Open a segment in place.

    Args:
        folder: The index.
        entry: What the manifest says of the segment.
        manifest: The manifest.
        known: Segments that are open already, by name: one of them is taken if it is the same, but
            for what is deleted. What is opened is added.

    Raises:
        OSError: A file is missing, or cannot be read.
        IndexFormatError: A file is truncated, or not what the manifest says.
    """
    opened_as, segment = known.get(entry.name, (None, None))
    if opened_as is None or segment is None or opened_as.lasting != entry.lasting:
        segment = _open_lasting(folder, entry, manifest)
    elif opened_as.files == entry.files:
        return segment
    segment = replace(segment, deleted=_open_deleted(folder, entry))
    known[entry.name] = (entry, segment)
    return segment


def _open_lasting(folder: Folder, entry: SegmentEntry, manifest: Manifest) -> Segment:
    """Open a segment as if nothing of it were deleted."""
    path = folder.path / entry.name
    found = {
        name: _contents(folder, f"{entry.name}/{name}", file)
        for name, file in entry.lasting.items()
    }
    types = {**FILES, "impacts.npy": impact_type(manifest.weights)}
    if manifest.words is not None:
        types |= WORD_FILES
    wider = {"word_lengths.npy": (np.int32,)}
    load = {
        name: read_array(found[name], path / name, dtype, *wider.get(name, ()))
        for name, dtype in types.items()
        if dtype
    }
    crcs = {name: load.get(f"{name}_crc.npy") for name in _CHECKED_IN_PARTS}
    checks = Checks(path, entry, found, crcs)
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
    lines = found["documents.jsonl"]
    documents = StoredDocuments(lines.data, offsets, checks)
    words = None
    if manifest.words is not None:
        words = WordLists(*(load[f"word_{item.name}.npy"] for item in fields(WordLists)))
    segment = Segment(postings, documents, ids, metadata, words, checks=checks)
    by_term = all(len(load[f"{name}.npy"]) == len(postings.terms) for name in _BY_TERM)
    by_document = len(load["documents_crc.npy"]) == len(offsets) - 1 == entry.documents
    consistent = (
        by_term
        and by_document
        and _partitions(offsets, len(lines))
        and _fits(segment, entry, manifest.vocab_size)
        and (words is None or len(load["words_crc.npy"]) == len(words.offsets) - 1)
        and (words is None or _words_fit(words, entry))
    )
    if not consistent:
        checks.files(*entry.lasting)  # names the one that was damaged
        raise IndexFormatError(
            f"{path} does not hold what the manifest says ({entry.documents} documents, "
            f"{entry.postings} postings over {manifest.vocab_size} terms). Build the index again."
        )
    return segment


def _open_deleted(folder: Folder, entry: SegmentEntry) -> NDArray[np.int32]:
    """Return the numbers of a segment's deleted documents, ascending: int32[deleted]."""
    for name in entry.deletions:
        path = folder.path / entry.name / name
        content = _contents(folder, f"{entry.name}/{name}", entry.files[name])
        integrity.check_content(content, path, entry.files[name])
        deleted: NDArray[np.int32] = read_array(content, path, np.int32)
        if len(deleted) != entry.deleted or not _ascends(deleted, entry.documents):
            raise IndexFormatError(
                f"{path} does not hold {entry.deleted} of {entry.documents} documents, as the "
                "manifest says. Build the index again."
            )
        return deleted
    return np.empty(0, np.int32)


def _contents(folder: Folder, name: str, entry: FileEntry) -> NDArray[np.uint8]:
    with folder.open(name) as file:
        if (size := os.fstat(file.fileno()).st_size) != entry.size:
            raise IndexFormatError(
                f"{folder.path / name} has {size} bytes, expected {entry.size}: it was truncated "
                "or changed. Build the index again."
            )
        return contents(file, size)


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
    )


def _words_fit(words: WordLists, entry: SegmentEntry) -> bool:
    """Say whether the arrays of words fit each other and the manifest."""
    return bool(
        len(words.name_offsets) == len(words.offsets)
        and _partitions(words.name_offsets, len(words.names))
        and _partitions(words.offsets, len(words.numbers))
        and len(words.counts) == len(words.numbers)
        and len(words.many) == len(words.many_counts)
        and _ascends(words.many, len(words.numbers))
        and len(words.lengths) == entry.documents
        and words.lengths.min(initial=0) >= 0
        and words.many_counts.min(initial=MANY) >= MANY
        and (words.counts[words.many] == MANY).all()
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
