"""Which documents a search may find: conditions on their metadata, and sets of ids.

Does not search metadata itself: each condition becomes ranges of keys, see `metadata`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spladelet.documents import check_id_list
from spladelet.errors import InputError
from spladelet.index.metadata_table import MetadataTable
from spladelet.metadata import field_range, key_of, type_range

Where: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]

_RANGE_OPERATORS = ("gt", "gte", "lt", "lte")
_OPERATORS = ("eq", "ne", "in", "not_in", *_RANGE_OPERATORS, "exists")


@dataclass(frozen=True, slots=True)
class Condition:
    """That a document has a key in one of several ranges, or in none of them.

    Attributes:
        ranges: First key and end of each.
        negated: Whether it must be in none.
    """

    ranges: tuple[tuple[bytes, bytes], ...]
    negated: bool = False

    def holds(self, table: MetadataTable, documents: int) -> NDArray[np.bool_]:
        """Return for which documents it holds: bool[documents]."""
        found = np.zeros(documents, bool)
        for first, end in self.ranges:
            found[table.between(first, end)] = True
        return ~found if self.negated else found


@dataclass(frozen=True, slots=True)
class Filter:
    """Which documents a search may find.

    Attributes:
        clauses: All conditions of one of these must hold; None allows every document.
        ids: The document's id must be one of these; None allows every document.
    """

    clauses: tuple[tuple[Condition, ...], ...] | None
    ids: frozenset[str] | None

    @classmethod
    def of(cls, where: Where | None, ids: Iterable[str] | None) -> "Filter | None":
        """Parse what a search was given; None if every document may be found.

        Raises:
            InputError: A condition is not well-formed, or `ids` is not several ids.
        """
        if where is None and ids is None:
            return None
        return cls(
            None if where is None else _clauses(where),
            None if ids is None else frozenset(check_id_list(ids)),
        )

    @property
    def size(self) -> int:
        """How many ids and ranges of values it names."""
        conditions = (condition for clause in self.clauses or () for condition in clause)
        return len(self.ids or ()) + sum(len(condition.ranges) for condition in conditions)

    def holds(self, table: MetadataTable, documents: int) -> NDArray[np.bool_]:
        """Return which documents the clauses allow: bool[documents]."""
        if self.clauses is None:
            return np.ones(documents, bool)
        allowed = np.zeros(documents, bool)
        for clause in self.clauses:
            in_clause = np.ones(documents, bool)
            for condition in clause:
                in_clause &= condition.holds(table, documents)
            allowed |= in_clause
        return allowed


def _clauses(where: Where) -> tuple[tuple[Condition, ...], ...]:
    alternatives = list(where) if isinstance(where, (list, tuple)) else [where]
    if not all(isinstance(item, Mapping) for item in alternatives):
        raise InputError(
            f"where is {where!r:.60}; expected a mapping from fields to conditions, such as "
            '{"lang": "en", "year": {"gte": 2020}}, or a list of these, of which one must hold.'
        )
    return tuple(
        tuple(c for field, wanted in item.items() for c in _conditions(field, wanted))
        for item in alternatives
        if isinstance(item, Mapping)
    )


def _conditions(field: str, wanted: object) -> Iterable[Condition]:
    """Parse what is wanted of a field: a value, one of several, or a mapping of operators."""
    if not isinstance(field, str):
        raise InputError(f"where has the field {field!r:.40}; expected a name.")
    if not isinstance(wanted, Mapping):
        given = wanted.tolist() if isinstance(wanted, np.ndarray) else wanted
        yield _any_of(field, given if isinstance(given, (list, tuple)) else [given])
        return
    for name, operand in wanted.items():
        if name in ("eq", "ne"):
            yield _any_of(field, [operand], negated=name == "ne")
        elif name in ("in", "not_in"):
            yield _any_of(field, operand, negated=name == "not_in")
        elif name == "exists":
            if not isinstance(operand, bool):
                raise InputError(
                    f"exists of field {field!r} is {operand!r}; expected true or false."
                )
            yield Condition((field_range(field),), negated=not operand)
        elif name not in _RANGE_OPERATORS:
            raise InputError(
                f"field {field!r} has the operator {name!r}; expected one of "
                f"{', '.join(_OPERATORS)}."
            )
    bounds = {name: wanted[name] for name in _RANGE_OPERATORS if name in wanted}
    if bounds:
        yield _range(field, bounds)


def _any_of(field: str, values: object, *, negated: bool = False) -> Condition:
    if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
        raise InputError(f"field {field!r} is to be in {values!r:.40}; expected a list of values.")
    keys = [_key(field, value) for value in values]
    # Nothing sorts between a key and the same key with a NUL after it: the range is that key.
    return Condition(tuple((key, key + b"\0") for key in keys), negated)


def _range(field: str, bounds: Mapping[str, object]) -> Condition:
    """Make one range of all bounds.

    Two conditions would not do: of a list of values, one could be above and another one below.
    """
    keys = {name: _key(field, bound) for name, bound in bounds.items()}
    # The ends are the type's own: truths sort below numbers, and {"lt": 5} must not find them.
    ranges = {type_range(field, key) for key in keys.values()}
    if len(ranges) > 1:
        raise InputError(
            f"field {field!r} has bounds of several types, {dict(bounds)!r:.60}; expected numbers "
            "or texts."
        )
    ((first, end),) = ranges
    # A NUL after a key steps just past it, which tells "gt" from "gte" and "lte" from "lt".
    firsts = [keys[name] + after for name, after in (("gte", b""), ("gt", b"\0")) if name in keys]
    ends = [keys[name] + after for name, after in (("lt", b""), ("lte", b"\0")) if name in keys]
    first, end = max([first, *firsts]), min([end, *ends])
    return Condition(((first, max(first, end)),))  # bounds that exclude each other: empty


def _key(field: str, value: object) -> bytes:
    if value is None:
        raise InputError(
            f"field {field!r} is to be None; expected text, a number, true or false. To ask for "
            'documents without the field, use {"exists": false}.'
        )
    return key_of(field, value)
