"""Vectors that were encoded before, on disk.

A file holds a chunk of texts. Its name is a hash of the texts, the model's fingerprint and all else
that the vectors depend on, so that nothing ever has to be invalidated; and since a text has the
same vector in every batch, a chunk from disk is what encoding it anew would give. An interrupted
run goes on where it was. Deleting the folder is always safe.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path

import numpy as np

from spladelet.batches import batched
from spladelet.bundle.bundle_files import read_file
from spladelet.caches import cache_folder
from spladelet.documents import Document
from spladelet.encoder.encoder import Encoder
from spladelet.encoder.notices import TruncationWarning
from spladelet.errors import InputError
from spladelet.files import replacing
from spladelet.progress import Progress
from spladelet.pruning import Pruning
from spladelet.vector import SparseVectors

_CHUNK = 512
_VERSION = 1
_MOST_BYTES = 1 << 30  # of a file: a chunk in which every text has 170,000 terms
_FIELDS = ("row_offsets", "term_ids", "weights", "truncated")


class VectorCache:
    """Encodes texts, and remembers.

    Args:
        encoder: The model.
        folder: Where vectors are kept; None keeps none.
        max_active_dims: For documents; see `Encoder.encode_documents`.
        min_weight: Likewise.

    Raises:
        InputError: `folder` is no path, or a limit makes no sense.
    """

    def __init__(
        self,
        encoder: Encoder,
        folder: str | os.PathLike[str] | None = None,
        *,
        max_active_dims: int | None = None,
        min_weight: float = 0.0,
    ) -> None:
        self._encoder = encoder
        self._folder = None if folder is None else _path(folder) / encoder.fingerprint[:16]
        # As plain numbers, whatever was given: files are named after the limits as JSON has them.
        self._limits = asdict(Pruning(max_active_dims, min_weight))

    @property
    def language(self) -> str | None:
        """What the model reads, as it says; None if it does not say."""
        return self._encoder.language

    def encode_documents(
        self, documents: Sequence[Document], label: str, *, progress: bool | None = None
    ) -> SparseVectors:
        """Encode documents, one row each; `label` names the progress bar."""
        chunks = []
        with Progress(label, len(documents), show=progress) as bar:
            for texts in batched((document.content for document in documents), _CHUNK):
                chunks.append(self._chunk("document", texts))
                bar.advance(len(texts))
        return self._stack(chunks)

    def encode_queries(self, queries: Sequence[str]) -> SparseVectors:
        """Encode queries, one row each, with their texts."""
        asked = self._stack([self._chunk("query", texts) for texts in batched(queries, _CHUNK)])
        return replace(asked, texts=tuple(queries))

    def _chunk(self, side: str, texts: list[str]) -> SparseVectors:
        file = self._file(side, texts)
        if file is None:
            return self._encode(side, texts)
        vectors = _read(file, len(texts), self._encoder)
        if vectors is None:
            vectors = self._encode(side, texts)
            _write(file, vectors)
        return vectors

    def _encode(self, side: str, texts: list[str]) -> SparseVectors:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)  # `truncated` has the count
            if side == "query":
                return self._encoder.encode_queries(texts)
            return self._encoder.encode_documents(texts, progress=False, **self._limits)

    def _file(self, side: str, texts: list[str]) -> Path | None:
        if self._folder is None:
            return None
        limits = self._limits if side == "document" else None
        key = json.dumps([_VERSION, self._encoder.fingerprint, side, limits, texts])
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"

    def _stack(self, chunks: list[SparseVectors]) -> SparseVectors:
        made = SparseVectors.stack(chunks, self._encoder.vocab_size, self._encoder.fingerprint)
        return replace(made, language=self._encoder.language)


def default_folder() -> Path:
    """Return the folder for such files: $SPLADELET_CACHE, or in the system's for caches."""
    folder = cache_folder()
    return folder if os.environ.get("SPLADELET_CACHE") else folder / "vectors"


def _path(folder: str | os.PathLike[str]) -> Path:
    named = os.fspath(folder) if isinstance(folder, (str, os.PathLike)) else None
    if not isinstance(named, str) or "\0" in named:
        raise InputError(f"folder is {folder!r:.200}; expected a path, or None to keep nothing.")
    return Path(named)


def _read(file: Path, texts: int, encoder: Encoder) -> SparseVectors | None:
    """Read a chunk; None where there is none, or it is damaged."""
    try:
        content = BytesIO(read_file(file, _MOST_BYTES))
        with np.load(content, allow_pickle=False) as arrays:
            offsets, ids, weights, truncated = (arrays[name] for name in _FIELDS)
        # Compiled code would trust these numbers, so a file that others wrote is not.
        sound = (
            (offsets.dtype, ids.dtype, weights.dtype) == (np.int64, np.int32, np.float32)
            and offsets.shape == (texts + 1,)
            and offsets[0] == 0
            and (np.diff(offsets) >= 0).all()
            and ids.shape == weights.shape == (offsets[-1],)
            and ((ids >= 0) & (ids < encoder.vocab_size)).all()
            and (np.isfinite(weights) & (weights > 0)).all()
            and ((truncated >= 0) & (truncated < texts)).all()
        )
    except Exception:  # noqa: BLE001  numpy and zipfile raise errors of many kinds for damage
        return None
    if not sound:
        return None
    rows = tuple(int(row) for row in truncated)
    return SparseVectors(offsets, ids, weights, encoder.vocab_size, encoder.fingerprint, rows)


def _write(file: Path, vectors: SparseVectors) -> None:
    """Write a chunk, whole or not at all; a full or read-only disk only costs the speed."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.is_file() and not file.is_dir():  # a pipe would be waited for
            file.unlink(missing_ok=True)
        with replacing(file) as target:
            np.savez(
                target,
                row_offsets=vectors.row_offsets,
                term_ids=vectors.term_ids,
                weights=vectors.weights,
                truncated=np.array(vectors.truncated, np.int64),
            )
    except OSError as error:
        warnings.warn(
            f"vectors are not kept: {error}. Choose another folder with --cache.",
            stacklevel=2,
        )
