"""Searches that may find some documents only: by metadata, by ids, whichever plan is taken."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spladelet import (
    Document,
    Index,
    IndexWriter,
    SparseVector,
    SparseVectors,
    read_documents,
)
from spladelet.errors import InputError, RecordError
from spladelet.index import segment
from spladelet.metadata import key_of

VOCAB = 8
QUERY = SparseVector([1, 2, 5], [1.0, 0.5, 2.0], VOCAB)

numbers = st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False))
few_numbers = st.sampled_from([-1, 0, 0.5, 1, 2, 2**53, 2**53 + 1, 1e300])
few_texts = st.sampled_from(["", "a", "ab", "b", "é", "1"])
scalars = st.one_of(few_numbers, few_texts, st.booleans())
values = st.one_of(scalars, st.lists(scalars, max_size=3), st.none())
fields = st.sampled_from(["x", "y", "xy"])
metadata = st.dictionaries(fields, values, max_size=3)
conditions = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.dictionaries(st.sampled_from(["eq", "ne"]), scalars),
    st.dictionaries(st.sampled_from(["in", "not_in"]), st.lists(scalars, max_size=3)),
    st.dictionaries(st.sampled_from(["lt", "lte", "gt", "gte"]), few_numbers),
    st.dictionaries(st.sampled_from(["lt", "lte", "gt", "gte"]), few_texts),
    st.dictionaries(st.just("exists"), st.booleans()),
)
clauses = st.dictionaries(fields, conditions, max_size=2)
wheres = st.one_of(clauses, st.lists(clauses, max_size=2))


def is_same(a, b):
    return a == b and kind(a) is kind(b)


def kind(value):
    return type(value) if isinstance(value, (bool, str)) else float


COMPARISONS = {
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
}


def fits(found, wanted):
    """Say whether one document's values of a field are as wanted: the docstring of `search`."""
    found = [v for v in (found if isinstance(found, list) else [found]) if v is not None]
    if not isinstance(wanted, dict):
        wanted = {"in": wanted if isinstance(wanted, list) else [wanted]}
    compared = {name: bound for name, bound in wanted.items() if name in COMPARISONS}
    if compared and not any(
        all(kind(v) is kind(b) and COMPARISONS[name](v, b) for name, b in compared.items())
        for v in found
    ):
        return False
    for name, operand in wanted.items():
        if name in ("eq", "ne", "in", "not_in"):
            several = operand if name in ("in", "not_in") else [operand]
            has = any(is_same(v, o) for v in found for o in several)
            if has != (name in ("eq", "in")):
                return False
        if name == "exists" and bool(found) != operand:
            return False
    return True


def is_allowed(document, where):
    return any(
        all(fits(document.metadata.get(field), wanted) for field, wanted in clause.items())
        for clause in ([where] if isinstance(where, dict) else where)
    )


def index_of(*metadata):
    """Build an index in which QUERY finds every document."""
    rows = [SparseVector([1, 2 + n % 4], [1.0, 1 + n % 7], VOCAB) for n in range(len(metadata))]
    documents = [Document(f"d{n}", f"text {n}", "", fields) for n, fields in enumerate(metadata)]
    return Index.build(SparseVectors.from_rows(rows, VOCAB), documents)


def ids_of(hits):
    return sorted(hit.id for hit in hits)


@given(st.lists(metadata, max_size=8), wheres)
def test_a_filter_finds_what_a_plain_reading_of_it_does(fields, where):
    index = index_of(*fields)
    hits = index.search(QUERY, k=10)

    allowed = [hit for hit in hits if is_allowed(index.document(hit.number), where)]
    assert index.search(QUERY, k=10, where=where) == allowed
    assert index.search(QUERY, k=2, where=where) == allowed[:2]


@given(numbers, numbers)
def test_keys_rise_with_numbers_and_are_exact(a, b):
    keys = (key_of("f", a), key_of("f", b))

    assert (keys[0] < keys[1]) == (a < b)
    assert (keys[0] == keys[1]) == (a == b)


@given(st.text(), st.text())
def test_keys_rise_with_texts(a, b):
    assert (key_of("f", a) < key_of("f", b)) == (a < b)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 400),
    st.sampled_from(["float32", "float16", "uint8"]),
    st.sampled_from([(-(10**9), 0.2), (10**9, 1), (10**9, 0), (2048, 0.2)]),
)
def test_every_plan_gives_the_same_bits(seed, count, weights, plan):
    random = np.random.default_rng(seed)
    rows = random.random((400, 30)) * (random.random((400, 30)) < 0.2)
    index = Index.build(
        SparseVectors.from_rows([SparseVector(np.arange(30), row, 30) for row in rows], 30),
        weight_type=weights,
    )
    query = SparseVector(np.arange(30), random.random(30), 30)
    ids = [str(n) for n in random.choice(400, count, replace=False)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment, "_LOOK_UP", plan[0])
        patch.setattr(segment, "_MANY", plan[1])
        found = index.search(query, 50, ids=ids)

    everything = index.search(query, 400)
    assert found == [hit for hit in everything if hit.id in set(ids)][:50]


def test_filters_see_what_was_written_deleted_and_replaced(tmp_path):
    vectors = index_of({}, {}, {}).vectors()
    with IndexWriter(tmp_path / "index") as writer:
        writer.add(vectors, [Document(f"d{n}", "", "", {"year": 2020 + n}) for n in range(3)])
    with IndexWriter(tmp_path / "index") as writer:
        writer.delete(["d0"])
        replaced = SparseVectors.from_rows([vectors[1]], VOCAB)
        writer.upsert(replaced, [Document("d1", "", "", {"year": [1999, 2024]})])
    index = Index.open(tmp_path / "index")

    assert ids_of(index.search(QUERY, where={"year": {"lte": 2021}})) == ["d1"]
    assert ids_of(index.search(QUERY, where={"year": {"gt": 2000, "lt": 2020}})) == []
    assert ids_of(index.search(QUERY, where={"year": {"ne": 2024}})) == ["d2"]
    assert ids_of(index.search(QUERY, ids=["d0", "d1", "none"])) == ["d1"]
    with IndexWriter(tmp_path / "index") as writer:
        writer.compact()
    assert not index.search(QUERY, where={"month": {"exists": True}})
    assert index.refresh()
    assert ids_of(index.search(QUERY, where={"year": {"gte": 2022}})) == ["d1", "d2"]


def test_metadata_comes_back_with_the_hits_and_from_disk(tmp_path):
    fields = {"lang": "en", "tags": ["a", "b"], "n": 3, "ok": True, "none": None, "in": {"a": [1]}}
    index_of(fields).save(tmp_path / "index")
    index = Index.open(tmp_path / "index")

    (hit,) = index.search(QUERY, where={"tags": "b", "ok": True})
    assert hit.metadata == index.document(0).metadata == fields
    assert not index.search(QUERY, where={"in": {"exists": True}})


def test_more_filters_than_are_remembered_are_all_answered():
    index = index_of(*({"n": n} for n in range(20)))
    for _ in range(2):
        for n in range(20):
            assert ids_of(index.search(QUERY, where={"n": n})) == [f"d{n}"]


def test_many_queries_share_a_filter():
    index = index_of({"n": 1}, {"n": 2})

    for found in index.search_many([QUERY, QUERY], where={"n": 2}, ids=["d0", "d1"]):
        assert ids_of(found) == ["d1"]


def test_nothing_is_allowed_by_no_ids_and_no_alternatives():
    index = index_of({"n": 1})

    assert index.search(QUERY, where={})
    assert not index.search(QUERY, ids=[])
    assert not index.search(QUERY, where=[])
    assert not Index.build(SparseVectors.from_rows([], VOCAB)).search(QUERY, where={"n": 1})


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("lang=en", "expected a mapping from fields"),
        ([1], "expected a mapping from fields"),
        (5, "expected a mapping from fields"),
        ({"year": {"$gte": 1}}, r"operator '\$gte'; expected one of eq, ne, in"),
        ({"year": None}, 'use {"exists": false}'),
        ({"year": {"gte": "2020", "lt": 2021}}, "several types"),
        ({"year": {"in": "2020"}}, "expected a list of values"),
        ({"year": {"in": 2020}}, "expected a list of values"),
        ({"year": {"eq": [1]}}, "type list"),
        ({"year": {"exists": 1}}, "expected true or false"),
        ({"year": math.nan}, "expected a finite one"),
        ({"year": {"lt": math.inf}}, "expected a finite one"),
        ({"a\0": 1}, "NUL"),
        ({1: 1}, "expected a name"),
        ({5: {"exists": True}}, "expected a name"),
    ],
)
def test_conditions_that_cannot_be_understood_are_refused(where, message):
    with pytest.raises(InputError, match=message):
        index_of({"year": 2020}).search(QUERY, where=where)


def test_ids_as_one_text_are_refused():
    with pytest.raises(InputError, match=r"expected several, as in \['d0'\]"):
        index_of({}).search(QUERY, ids="d0")
    with pytest.raises(InputError, match=r"one of ids is .*expected a str or a whole number"):
        index_of({}).search(QUERY, ids=[["d0"]])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"day": object()}, "type object.*Dates, for example"),
        ({"n": math.inf}, "expected a finite one"),
        ({"n": 10**400}, "expected a finite one"),
        ({"n": {"deep": math.inf}}, "JSON"),
        ({5: 1}, "expected a name"),
        ({"a\0b": 1}, "NUL"),
        ("text", "expected a mapping"),
        ({"n": b"bytes"}, "type bytes"),
        ({"n": 10**40}, "not far beyond"),
        (None, "expected a mapping"),
    ],
)
def test_metadata_that_cannot_be_kept_is_refused(fields, message):
    with pytest.raises(InputError, match=message):
        index_of(fields)


def test_a_line_with_such_metadata_is_named(tmp_path):
    path = tmp_path / "documents.jsonl"
    path.write_text(
        json.dumps({"text": "one", "metadata": {"n": 1}}) + '\n{"text": "two", "metadata": [1]}\n'
    )

    with pytest.raises(RecordError, match=r"documents\.jsonl, line 2: .*expected a mapping"):
        list(read_documents(path))
