"""Vectors in files of others: scipy's .npz, JSONL, and the folder of splade-index.

.npz          the matrix documents x terms as `scipy.sparse.save_npz` writes it, and "ids" beside
JSONL         a document a line: `to_document`'s fields, and "vector": {term: weight}; Anserini's,
              too
splade-index  https://github.com/rasyosef/splade-index, version 0.2: csc.index.npz (terms by
              column), corpus.jsonl, vocab.index.json, params.index.json

Weights are the same after writing and reading. Does not write what engines take: see `engines`.
"""

import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spladelet import extras
from spladelet.documents import Document, to_document, to_line
from spladelet.errors import InputError, MissingDependencyError, RecordError, VectorError
from spladelet.files import replacing, replacing_folder
from spladelet.matrices import check_diagonals
from spladelet.records import TEXTS, json_object
from spladelet.sources import MAX_LINE, open_file, read_lines, translated
from spladelet.text import check_portable_id
from spladelet.vector import SparseVector, SparseVectors

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_BATCH = 4096
_MATRIX, _CORPUS = "csc.index.npz", "corpus.jsonl"
# What says where the weights of a matrix are, by scipy's name of its format.
_PLACES: dict[str, tuple[str, ...]] = {"coo": ("row", "col"), "dia": ("offsets",)}
_PLACES |= dict.fromkeys(("csr", "csc", "bsr"), ("indices", "indptr"))
_LARGEST = np.iinfo(np.int32).max
# Of the arrays in a file: in all, and for each byte of the file, whatever its size.
_MAX_BYTES, _MAX_RATIO, _FREE_BYTES = 64 << 30, 256, 64 << 20
_FREE_ROWS = 100_000  # a matrix may say so many documents, and one more for each byte of its file
# Of ids as numpy has them, all as long as the longest: in all, and for each byte of theirs.
_MAX_PADDED, _MAX_PADDING = 1 << 30, 16


def read_vectors(
    path: str | os.PathLike[str],
    vocab_size: int,
    *,
    model: str | None = None,
    term_ids: Mapping[str, int] | None = None,
) -> Iterator[tuple[SparseVectors, list[Document]]]:
    """Read vectors and their documents, a batch at a time: what `IndexWriter.add` takes.

    A folder is splade-index's, a name that ends in .npz is scipy's, all else JSONL (unpacked if
    need be). Without texts in the file the documents have none; without ids they are numbered,
    from 0 in a matrix, from 1 by line.

    Args:
        path: The file or folder.
        vocab_size: How many terms the vocabulary has.
        model: Fingerprint of the model that made the vectors; None if unknown.
        term_ids: JSONL's terms by name; None if it calls them by id.

    Raises:
        InputError: It cannot be read, or has another vocabulary; the message names it.
        RecordError: A line has no vector, or one that breaks the rules of `SparseVector`.
    """
    path = Path(path)
    with translated(str(path)):
        is_folder = path.is_dir()
    if is_folder:
        yield _read_splade_index(path, vocab_size, model)
    elif path.suffix == ".npz":
        yield _read_npz(path, vocab_size, model)
    else:
        yield from _read_jsonl(path, vocab_size, model, term_ids)


def write_npz(
    vectors: SparseVectors, documents: Iterable[Document], path: str | os.PathLike[str]
) -> None:
    """Write vectors as scipy reads them, with the documents' ids; no texts.

    Raises:
        InputError: An id has a NUL or half of a surrogate pair in it, or is so long that numpy,
            which makes all as long as the longest, would need far more room than they have.
        OSError: The file cannot be written.
    """
    ids = _text_array([document.id for document in documents])
    matrix = vectors.to_csr()
    with replacing(Path(path)) as file:
        np.savez_compressed(
            file,
            indices=matrix.indices,
            indptr=matrix.indptr,
            format=np.array(b"csr"),
            shape=np.array(matrix.shape),
            data=matrix.data,
            ids=ids,
        )


def write_splade_index(
    vectors: SparseVectors,
    documents: Sequence[Document],
    folder: str | os.PathLike[str],
    term_ids: Mapping[str, int],
) -> None:
    """Write vectors and documents as a new folder that splade-index opens.

    Args:
        vectors: One vector a document.
        documents: The documents.
        folder: Must not exist, or be empty.
        term_ids: The vocabulary, term to id.

    Raises:
        InputError: The folder has something in it; the index is too large for the format; or an
            id is none that it can hold, as in `write_npz`.
        OSError: It cannot be written; nothing is left of it.
    """
    with replacing_folder(Path(folder).resolve(), _check_vacant) as aside:
        _fill_splade_index(vectors, documents, aside, term_ids)


def _check_vacant(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} exists. Give the name of a new folder.")


def _fill_splade_index(
    vectors: SparseVectors,
    documents: Sequence[Document],
    folder: Path,
    term_ids: Mapping[str, int],
) -> None:
    by_term = vectors.to_csr().tocsc()
    if by_term.nnz > _LARGEST:
        raise InputError(f"{by_term.nnz} postings are more than splade-index counts, {_LARGEST}.")
    np.savez_compressed(
        folder / _MATRIX,
        data=by_term.data,
        indices=by_term.indices.astype(np.int32),
        indptr=by_term.indptr.astype(np.int32),
        document_ids=_text_array([document.id for document in documents]),
    )
    starts = [0]
    with (folder / _CORPUS).open("wb") as file:
        for document in documents:
            starts.append(starts[-1] + file.write(to_line(document)))
    parameters = {"dtype": "float32", "int_dtype": "int32", "num_docs": len(documents)}
    parameters |= {"version": "0.2.0", "backend": "numpy"}
    for name, value in (
        ("corpus.mmindex.json", starts[:-1]),
        ("vocab.index.json", dict(term_ids)),
        ("params.index.json", parameters),
    ):
        (folder / name).write_text(json.dumps(value), encoding="utf-8")


def _read_jsonl(
    path: Path, vocab_size: int, model: str | None, term_ids: Mapping[str, int] | None
) -> Iterator[tuple[SparseVectors, list[Document]]]:
    for batch in _batches(read_lines(path)):
        rows, documents = [], []
        for name, number, line in batch:
            record = json_object(line, number, name)
            rows.append(_vector(record, number, name, vocab_size, term_ids))
            texts = {} if any(key in record for key in TEXTS) else {"text": ""}
            documents.append(to_document(record | texts, number, name))
        yield SparseVectors.from_rows(rows, vocab_size, model), documents


def _batches(lines: Iterable[tuple[str, int, str]]) -> Iterator[list[tuple[str, int, str]]]:
    """Yield lines in batches of so many, or of so many characters if they are long."""
    batch, size = [], 0
    for line in lines:
        batch.append(line)
        size += len(line[2])
        if len(batch) == _BATCH or size >= MAX_LINE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _vector(
    record: Mapping[str, Any],
    number: int,
    name: str,
    vocab_size: int,
    term_ids: Mapping[str, int] | None,
) -> SparseVector:
    weights = record.get("vector")
    if not isinstance(weights, dict):
        raise RecordError(
            f"{name}, line {number} has vector {weights!r:.40}; expected an object such as "
            '{"cat": 1.5}.'
        )
    try:
        ids = [int(term) if term_ids is None else term_ids[term] for term in weights]
        return SparseVector(ids, list(weights.values()), vocab_size)
    except KeyError as error:
        raise RecordError(
            f"{name}, line {number} has the term {error}, which the model's vocabulary has not."
        ) from error
    except ValueError as error:  # a VectorError is one
        raise RecordError(f"{name}, line {number}: {error}") from error


def _read_npz(
    path: Path, vocab_size: int, model: str | None
) -> tuple[SparseVectors, list[Document]]:
    with _reading(path) as file:
        arrays = np.load(file, allow_pickle=False)
        matrix = _matrix(arrays, path)
        if matrix.ndim != 2:
            raise InputError(f"{path} has {matrix.ndim} dimensions; expected documents x terms.")
        _check_rows(matrix.shape[0], path)
        ids = _ids(arrays.get("ids"), matrix.shape[0], path)
        vectors = _checked(matrix, path, vocab_size, model)
    return vectors, [Document(identity, "") for identity in ids]


def _matrix(arrays: Mapping[str, NDArray[Any]], path: Path) -> "csr_array":
    """Make the matrix that `scipy.sparse.save_npz` took apart, of whatever format it was."""
    sparse = extras.required("scipy.sparse", "scipy", "reading a file of arrays")

    name = arrays["format"].item()
    name = name.decode() if isinstance(name, bytes) else str(name)
    if name not in _PLACES:
        raise InputError(f"{path} has format {name!r:.40}; expected one of {', '.join(_PLACES)}.")
    coordinates = name == "coo" and "coords" in arrays
    places = list(arrays["coords"]) if coordinates else [arrays[key] for key in _PLACES[name]]
    _check_whole([*places, arrays["shape"]], path)
    if name == "dia":  # scipy makes 32 bits of them first
        check_diagonals(places[0], arrays["shape"], f"the matrix in {path}")
    parts = (arrays["data"], tuple(places)) if name == "coo" else (arrays["data"], *places)
    return getattr(sparse, f"{name}_array")(parts, shape=tuple(arrays["shape"].tolist()))


def _check_whole(places: Iterable[NDArray[Any]], path: Path) -> None:
    """Raise InputError for numbers that are not whole, which scipy would round off."""
    for array in places:
        if array.dtype.kind not in "iu":
            raise InputError(f"{path} has numbers of type {array.dtype}; expected whole ones.")


def _read_splade_index(
    folder: Path, vocab_size: int, model: str | None
) -> tuple[SparseVectors, list[Document]]:
    path = folder / _MATRIX
    with _reading(path) as file:
        sparse = extras.required("scipy.sparse", "scipy", "reading a file of arrays")

        arrays = np.load(file, allow_pickle=False)
        count = len(arrays["document_ids"])
        _check_rows(count, path)
        ids = _ids(arrays["document_ids"], count, path)
        columns = (arrays["data"], arrays["indices"], arrays["indptr"])
        _check_whole(columns[1:], path)
        matrix = sparse.csc_array(columns, shape=(count, len(columns[2]) - 1))
        vectors = _checked(matrix, path, vocab_size, model)
    corpus = folder / _CORPUS
    with translated(str(corpus)):
        has_texts = corpus.exists()
    if not has_texts:
        return vectors, [Document(identity, "") for identity in ids]
    records = [(json_object(line, n, name), n, name) for name, n, line in read_lines(corpus)]
    if len(records) != len(ids):
        raise InputError(f"{corpus} has {len(records)} documents, expected {len(ids)}.")
    documents = [
        to_document(record, number, name, identity=identity)
        for (record, number, name), identity in zip(records, ids, strict=True)
    ]
    return vectors, documents


@contextmanager
def _reading(path: Path) -> Iterator[IO[bytes]]:
    """Open a file of arrays, and say in the package's terms why it cannot be read."""
    try:
        with open_file(path) as file:
            with zipfile.ZipFile(file) as packed:
                size = sum(member.file_size for member in packed.infolist())
            most = min(_MAX_BYTES, _FREE_BYTES + _MAX_RATIO * path.stat().st_size)
            if size > most:
                raise InputError(
                    f"{path} unpacks to {size} bytes; of a file of its size at most {most} are "
                    "read. Write it without compression, with scipy.sparse.save_npz(FILE, matrix, "
                    "compressed=False)."
                )
            file.seek(0)
            yield file
    except (InputError, MissingDependencyError):
        raise
    except Exception as error:  # zip, its compressions, numpy and scipy have errors of many kinds
        raise InputError(
            f"{path} does not hold the arrays that are expected there ({error})."
        ) from error


def _check_rows(count: int, path: Path) -> None:
    """Raise InputError for more documents than a file has room for; each costs memory."""
    most = _FREE_ROWS + path.stat().st_size
    if count > most:
        raise InputError(
            f"{path} says that it holds {count} documents; a file of its size has at most {most}."
        )


def _ids(given: NDArray[Any] | None, count: int, path: Path) -> list[str]:
    if given is None:
        return [str(number) for number in range(count)]
    if given.shape != (count,) or given.dtype.kind not in "Uiu":
        raise InputError(
            f"{path} has ids of type {given.dtype} and shape {given.shape}; expected {count} texts "
            "or whole numbers."
        )
    return [str(identity) for identity in given.tolist()]


def _checked(matrix: "csr_array", path: Path, vocab_size: int, model: str | None) -> SparseVectors:
    if matrix.shape[1] != vocab_size:
        raise InputError(
            f"{path} has {matrix.shape[1]} terms, expected the model's {vocab_size}. Give the "
            "model that made it."
        )
    try:
        return SparseVectors.from_csr(matrix, model)
    except VectorError as error:
        raise InputError(f"{path} does not hold sound vectors: {error}") from error


def _text_array(ids: list[str]) -> NDArray[np.str_]:
    """Return ids as numpy has texts, which pads each to the longest."""
    longest = max(ids, key=lambda identity: len(check_portable_id(identity)), default="")
    padded = 4 * len(longest) * len(ids)
    if padded > max(_MAX_PADDED, 4 * _MAX_PADDING * sum(map(len, ids))):
        raise InputError(
            f"the id {longest!r:.80} has {len(longest)} characters; numpy would make all "
            f"{len(ids)} as long, {padded} bytes. Rename it, or take another format, such as jsonl."
        )
    return np.array(ids, dtype=str)
