"""Sparse vectors: term ids with positive weights, one text or many.

Both types are immutable and always clean: term ids ascend, weights are finite and above zero.
They know the model that made them (its fingerprint), so that vectors of two models never meet.
Does not know any words: `Encoder.decode` turns term ids into terms.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import accumulate, chain, compress
from typing import TYPE_CHECKING, Any, Protocol, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spladelet import extras
from spladelet.errors import InputError, ModelMismatchError, VectorError
from spladelet.origins import Origin
from spladelet.parameters import as_count
from spladelet.pruning import Pruning, Row
from spladelet.text import as_text, shown

if TYPE_CHECKING:
    from scipy.sparse import csr_array


_MAX_VOCAB = 2**31 - 1  # term ids are int32


@dataclass(frozen=True, slots=True, eq=False)
class SparseVector:
    """The weighted terms of one text.

    >>> vector = SparseVector([7, 3], [0.5, 2.0], vocab_size=10)
    >>> vector.term_ids.tolist(), vector.weights.tolist()
    ([3, 7], [2.0, 0.5])

    Args:
        term_ids: Vocabulary numbers, int32[active_dims] once stored; any order is accepted.
        weights: Weights, float32[active_dims] once stored; zeros are dropped.
        vocab_size: How many terms the vocabulary has; every id is below it.
        model: Fingerprint of the model that made the vector; None if unknown.
        text: Of a query, the text that it was made of: an index may look for its words, too. None
            if unknown. Vectors are equal whatever it is.
        origin: Where it was encoded; None if unknown, or if it does not matter.

    Raises:
        VectorError: A weight is negative or not finite, an id is repeated, negative or not below
            `vocab_size`, or the two arrays differ in length.
    """

    term_ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    vocab_size: int
    model: str | None = field(default=None, repr=False)
    text: str | None = field(default=None, repr=False)
    origin: Origin | None = field(default=None, repr=False)

    def __init__(
        self,
        term_ids: ArrayLike,
        weights: ArrayLike,
        vocab_size: int,
        model: str | None = None,
        text: str | None = None,
        origin: Origin | None = None,
    ) -> None:
        vocab_size = _vocab_size(vocab_size)
        ids, values = _clean_row(term_ids, weights, vocab_size)
        object.__setattr__(self, "term_ids", ids)
        object.__setattr__(self, "weights", values)
        object.__setattr__(self, "vocab_size", vocab_size)
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "text", None if text is None else as_text(text, "text"))
        object.__setattr__(self, "origin", origin)

    @classmethod
    def from_dict(
        cls, weights: Mapping[int, float], vocab_size: int, model: str | None = None
    ) -> "SparseVector":
        """Make a vector from `{term id: weight}`; see the class for the errors."""
        return cls(list(weights), list(weights.values()), vocab_size, model)

    @property
    def active_dims(self) -> int:
        """How many terms have a weight."""
        return len(self.term_ids)

    def to_dict(self) -> dict[int, float]:
        """Return `{term id: weight}`, heaviest first."""
        order = np.argsort(-self.weights, kind="stable")
        return dict(zip(self.term_ids[order].tolist(), self.weights[order].tolist(), strict=True))

    def dot(self, other: "SparseVector") -> float:
        """Return the sum over shared terms of weight times weight.

        Raises:
            ModelMismatchError: The vectors are of different models or vocabularies.
        """
        check_same_model(self, other)
        _, mine, theirs = np.intersect1d(
            self.term_ids, other.term_ids, assume_unique=True, return_indices=True
        )
        return float(self.weights[mine].astype(np.float64) @ other.weights[theirs])

    def prune(
        self, *, max_active_dims: int | None = None, min_weight: float = 0.0
    ) -> "SparseVector":
        """Return the vector without its light terms.

        Args:
            max_active_dims: Keep at most so many terms, the heaviest (of equals, the lower id);
                None keeps all.
            min_weight: Drop terms that weigh less.

        Raises:
            InputError: `max_active_dims` is below 1, or `min_weight` negative or not finite.
        """
        kept = Pruning(max_active_dims, min_weight).apply((self.term_ids, self.weights))
        return SparseVector(*kept, self.vocab_size, self.model, self.text, self.origin)

    def __setstate__(self, state: Sequence[Any]) -> None:
        _restore(self, state)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SparseVector):
            return NotImplemented
        return (
            self.vocab_size == other.vocab_size
            and np.array_equal(self.term_ids, other.term_ids)
            and np.array_equal(self.weights, other.weights)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(f"{i}: {w:.3g}" for i, w in list(self.to_dict().items())[:4])
        more = ", …" if self.active_dims > 4 else ""
        return f"SparseVector({{{shown}{more}}}, active_dims={self.active_dims})"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SparseVectors(Sequence[SparseVector]):
    """The weighted terms of many texts, as the three arrays of a CSR matrix (texts x terms).

    Reading row i gives a `SparseVector`; `to_csr` gives the whole as a scipy matrix. Make one with
    `from_rows` or `from_csr`; the constructor itself trusts its arrays.

    Attributes:
        row_offsets: int64[texts + 1]; row i is `term_ids[row_offsets[i]:row_offsets[i + 1]]`.
        term_ids: int32[total active dims], ascending within a row.
        weights: float32[total active dims], above zero.
        vocab_size: How many terms the vocabulary has.
        model: Fingerprint of the model that made the vectors; None if unknown.
        truncated: Numbers of the rows whose text was longer than the model reads, and was cut.
        texts: Of queries, the text of each: see `SparseVector`. None if unknown.
        language: What the model reads, as it says, such as "en"; None if unknown.
        origin: Where they were encoded; None if unknown, or if it does not matter.
    """

    row_offsets: NDArray[np.int64]
    term_ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    vocab_size: int
    model: str | None = None
    truncated: tuple[int, ...] = ()
    texts: tuple[str, ...] | None = None
    language: str | None = None
    origin: Origin | None = None

    def __post_init__(self) -> None:
        for array in (self.row_offsets, self.term_ids, self.weights):
            array.flags.writeable = False

    @classmethod
    def from_rows(
        cls, rows: Iterable[SparseVector], vocab_size: int, model: str | None = None
    ) -> "SparseVectors":
        """Put vectors together.

        Raises:
            ModelMismatchError: A row is of another model or vocabulary.
        """
        rows, vocab_size = _checked_rows(rows), _vocab_size(vocab_size)
        model = model or next((row.model for row in rows if row.model), None)
        for number, row in enumerate(rows):
            if row.vocab_size != vocab_size or (row.model and model and row.model != model):
                raise ModelMismatchError(
                    f"row {number} is of another model or vocabulary ({row.vocab_size} terms) than "
                    f"the matrix ({vocab_size} terms). Encode all texts with one model."
                )
        made = cls.from_arrays([(row.term_ids, row.weights) for row in rows], vocab_size, model)
        origin = next((row.origin for row in rows if row.origin), None)
        texts = tuple(row.text for row in rows if row.text is not None)
        has_texts = rows and len(texts) == len(rows)
        return replace(made, texts=texts if has_texts else None, origin=origin)

    @classmethod
    def from_arrays(
        cls,
        rows: Sequence[Row],
        vocab_size: int,
        model: str | None = None,
        truncated: tuple[int, ...] = (),
    ) -> "SparseVectors":
        """Put the arrays of many texts together; like the constructor, this trusts them."""
        offsets = np.cumsum([0, *(len(ids) for ids, _ in rows)], dtype=np.int64)
        return cls(offsets, *join(rows), vocab_size, model, truncated)

    @classmethod
    def from_csr(cls, matrix: "csr_array", model: str | None = None) -> "SparseVectors":
        """Take over a scipy sparse matrix (texts x terms); other formats are converted.

        Raises:
            VectorError: A weight is negative or not finite, or the matrix is damaged.
        """
        from spladelet.matrices import sound_csr

        clean = sound_csr(matrix)
        _check_weights(clean.data)
        return cls(
            clean.indptr.astype(np.int64),
            clean.indices.astype(np.int32, copy=False),
            clean.data,
            int(clean.shape[1]),
            model,
        )

    @classmethod
    def stack(
        cls, parts: Sequence["SparseVectors"], vocab_size: int, model: str | None = None
    ) -> "SparseVectors":
        """Put matrices of one model on top of each other; the queries' texts are kept."""
        language = next((part.language for part in parts if part.language), None)
        origin = next((part.origin for part in parts if part.origin), None)
        if len(parts) == 1:  # nothing is copied: an index of one segment may fill the memory
            return replace(parts[0], vocab_size=vocab_size, model=model)
        ends = np.cumsum([0, *(part.row_offsets[-1] for part in parts)], dtype=np.int64)
        offsets = [part.row_offsets[1:] + end for part, end in zip(parts, ends, strict=False)]
        starts = accumulate((len(part) for part in parts), initial=0)
        cut = (
            start + row
            for start, part in zip(starts, parts, strict=False)
            for row in part.truncated
        )
        texts = [part.texts for part in parts if part.texts is not None]
        return cls(
            np.concatenate([np.zeros(1, np.int64), *offsets]),
            *join([(part.term_ids, part.weights) for part in parts]),
            vocab_size,
            model,
            tuple(cut),
            tuple(chain.from_iterable(texts)) if texts and len(texts) == len(parts) else None,
            language,
            origin,
        )

    def take(self, rows: NDArray[np.int64]) -> "SparseVectors":
        """Return some of the rows, in their order here; what was truncated is forgotten.

        Args:
            rows: Their numbers, none twice, int64[rows wanted].
        """
        wanted = np.zeros(len(self), bool)
        wanted[rows] = True
        if wanted.all():
            return replace(self, truncated=())
        kept = np.repeat(wanted, self.active_dims)
        offsets = np.concatenate([[0], np.cumsum(self.active_dims[wanted])]).astype(np.int64)
        return replace(
            self,
            row_offsets=offsets,
            term_ids=self.term_ids[kept],
            weights=self.weights[kept],
            truncated=(),
            texts=None if self.texts is None else tuple(compress(self.texts, wanted.tolist())),
        )

    def between(self, start: int, stop: int) -> "SparseVectors":
        """Return consecutive rows, which share these arrays; what was truncated is forgotten."""
        ends = self.row_offsets[start : stop + 1]
        span = slice(int(ends[0]), int(ends[-1]))
        return replace(
            self,
            row_offsets=ends - ends[0],
            term_ids=self.term_ids[span],
            weights=self.weights[span],
            truncated=(),
            texts=None if self.texts is None else self.texts[start:stop],
        )

    def to_csr(self) -> "csr_array":
        """Return a scipy CSR matrix, float32[texts, vocab_size], that shares these arrays."""
        sparse = extras.required("scipy.sparse", "scipy", "a CSR matrix")

        shape = (len(self), self.vocab_size)
        return sparse.csr_array((self.weights, self.term_ids, self.row_offsets), shape=shape)

    def __setstate__(self, state: Sequence[Any]) -> None:
        _restore(self, state)

    @property
    def active_dims(self) -> NDArray[np.int64]:
        """How many terms each text has: int64[texts]."""
        return np.diff(self.row_offsets)

    def __len__(self) -> int:
        return len(self.row_offsets) - 1

    @overload
    def __getitem__(self, row: int) -> SparseVector: ...
    @overload
    def __getitem__(self, row: slice) -> list[SparseVector]: ...
    def __getitem__(self, row: int | slice) -> SparseVector | list[SparseVector]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        number = row + len(self) if row < 0 else row
        if not 0 <= number < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        span = slice(self.row_offsets[number], self.row_offsets[number + 1])
        return SparseVector(
            self.term_ids[span],
            self.weights[span],
            self.vocab_size,
            self.model,
            None if self.texts is None else self.texts[number],
            self.origin,
        )

    def __iter__(self) -> Iterator[SparseVector]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        mean = float(self.active_dims.mean()) if len(self) else 0.0
        return f"SparseVectors({len(self)} texts, active_dims={mean:.1f} on average)"


class OfModel(Protocol):
    """Vectors, or what is made of vectors, of one model."""

    @property
    def vocab_size(self) -> int:
        """How many terms the model has."""

    @property
    def model(self) -> str | None:
        """Its fingerprint; None if unknown."""


def check_same_model(left: OfModel, right: OfModel) -> None:
    """Raise ModelMismatchError unless vectors of both can be multiplied; unknown models pass."""
    if left.vocab_size != right.vocab_size:
        raise ModelMismatchError(
            f"vectors over {left.vocab_size} and {right.vocab_size} terms cannot be compared. "
            "Encode queries and documents with the same model."
        )
    if left.model and right.model and left.model != right.model:
        raise ModelMismatchError(
            f"vectors of model {left.model[:12]} and of model {right.model[:12]} cannot be "
            "compared. Encode queries and documents with the same model."
        )


def join(rows: Sequence[Row]) -> Row:
    """Put the arrays of several rows one after another."""
    ids = np.concatenate([np.empty(0, np.int32), *(ids for ids, _ in rows)])
    weights = np.concatenate([np.empty(0, np.float32), *(weights for _, weights in rows)])
    return ids, weights


def _restore(made: SparseVector | SparseVectors, state: Sequence[Any]) -> None:
    """Take the fields from a pickle, which forgets that arrays are read-only."""
    for item in fields(made)[len(state) :]:  # as it was before there were these
        object.__setattr__(made, item.name, item.default)
    for item, value in zip(fields(made), state, strict=False):
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
        object.__setattr__(made, item.name, value)


def _checked_rows(given: object) -> list[SparseVector]:
    rows = list(given) if isinstance(given, Iterable) else None
    if rows is None or not all(isinstance(row, SparseVector) for row in rows):
        raise VectorError(f"rows is {shown(given)}; expected several SparseVector.")
    return rows


def _vocab_size(given: int) -> int:
    if type(given) is int and given >= 0:
        return given
    try:
        return as_count(given, "vocab_size", 0)
    except InputError as error:
        raise VectorError(str(error)) from error


def _clean_row(
    term_ids: ArrayLike, weights: ArrayLike, vocab_size: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    try:
        ids = _whole_numbers(np.asarray(term_ids))
        values = np.asarray(weights)
        if values.dtype.kind not in "biufO":
            raise TypeError(f"weights of type {values.dtype}")
        with np.errstate(over="ignore"):  # too large for float32: refused below, as infinite
            values = values.astype(np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise VectorError(f"term ids or weights are not numbers: {error}.") from error
    if ids.ndim != 1 or ids.shape != values.shape:
        raise VectorError(
            f"term_ids has shape {ids.shape} and weights {values.shape}; "
            "expected two flat arrays of one length."
        )
    _check_weights(values)
    if not _ascends(ids):
        order = np.argsort(ids, kind="stable")
        ids, values = ids[order], values[order]
        repeated = ids[1:][ids[1:] == ids[:-1]]
        if len(repeated):
            raise VectorError(f"term id {repeated[0]} is given twice; give each term once.")
    if len(ids) and (ids[0] < 0 or ids[-1] >= min(vocab_size, _MAX_VOCAB)):
        wrong = ids[0] if ids[0] < 0 else ids[-1]
        raise VectorError(f"term id {wrong} is outside the vocabulary of {vocab_size} terms.")
    present = values > 0
    clean_ids, clean_values = ids[present].astype(np.int32), values[present]
    clean_ids.flags.writeable = clean_values.flags.writeable = False
    return clean_ids, clean_values


def _whole_numbers(ids: NDArray[Any]) -> NDArray[np.int64]:
    if ids.size and ids.dtype.kind not in "biuO":
        raise TypeError(f"term ids of type {ids.dtype}, expected whole numbers")
    whole = ids.astype(np.int64)
    if ids.dtype.kind == "O" and (whole != ids).any():
        raise TypeError("term ids with fractions, expected whole numbers")
    return whole


def _ascends(ids: NDArray[np.int64]) -> bool:
    return bool((ids[1:] > ids[:-1]).all())


def _check_weights(weights: NDArray[np.float32]) -> None:
    if not len(weights) or 0 <= weights.min() <= weights.max() < np.inf:  # false for NaN, too
        return
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    raise VectorError(
        f"weight {weights[wrong][0]} at position {int(np.flatnonzero(wrong)[0])}: "
        "expected finite numbers, 0 or above."
    )
