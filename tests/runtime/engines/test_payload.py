import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.engines.test_contract import vector

from spladelet import Document, Index, SparseVector, SparseVectors, Words
from spladelet.engines import TermNames, connect, id_keyed, push, term_keyed
from spladelet.errors import InputError

GOLDEN = Path(__file__).parent / "golden"
weights = st.dictionaries(st.integers(0, 99), st.floats(2**-126, 100.0, width=32), max_size=30)


@given(weights=weights)
def test_both_shapes_hold_the_same_vector(weights):
    made = SparseVector.from_dict(weights, 100)
    ids, values = id_keyed(made)
    assert dict(zip(ids, values, strict=True)) == made.to_dict()
    assert {int(n): w for n, w in term_keyed(made, TermNames()).items()} == made.to_dict()
    assert ids == sorted(ids)


@given(weights=weights)
def test_payloads_survive_json_bit_by_bit(weights):
    made = SparseVector.from_dict(weights, 100)
    back = json.loads(json.dumps(term_keyed(made, TermNames())))
    again = SparseVector([int(n) for n in back], list(back.values()), 100)
    assert again == made


def test_weights_that_lucene_refuses_are_left_out():
    tiny = float(np.finfo(np.float32).tiny)
    made = SparseVector([1, 2, 3], [tiny / 4, tiny, 1.0], 10)
    assert term_keyed(made, TermNames()) == {"3": 1.0, "2": tiny}


@pytest.mark.parametrize(
    ("dots", "expected"),
    [("keep", {"u.s": 2.0, "cat": 1.0}), ("id", {"[7]": 2.0, "cat": 1.0}), ("drop", {"cat": 1.0})],
)
def test_dots(dots, expected):
    names = TermNames({4: "cat", 7: "u.s"}.__getitem__, dots)
    assert term_keyed(SparseVector([4, 7], [1.0, 2.0], 10), names) == expected


def test_dots_as_an_error_name_the_term():
    with pytest.raises(InputError, match=r"term 7 is 'u\.s'"):
        term_keyed(SparseVector([7], [1.0], 10), TermNames({7: "u.s"}.__getitem__, "error"))


def test_two_terms_of_one_name_are_refused():
    names = TermNames({1: "[7]", 7: "u.s"}.__getitem__, "id")
    with pytest.raises(InputError, match=r"two terms are named '\[7\]'"):
        term_keyed(SparseVector([1, 7], [2.0, 0.5], 10), names)


def test_an_unknown_rule_for_dots():
    with pytest.raises(InputError, match="dots is 'maybe'"):
        TermNames(str, "maybe")


@pytest.mark.parametrize("name", ["elasticsearch", "opensearch", "qdrant"])
def test_requests_are_those_of_the_golden_files(request, name):
    """Byte for byte what the official client sends, but for addresses and random ids."""
    server = request.getfixturevalue(f"{name}_server")
    names = TermNames(["zero", "cat", "u.s.", "purr"].__getitem__, "id")
    engine = connect(name, "golden", names=names if name != "qdrant" else None, url=server.url)
    vectors = SparseVectors.from_rows([vector({1: 1.9, 2: 0.8, 3: 0.1}), vector({})], 100)
    documents = [Document("d0", "foo.bar 0", "title 0", {"n": [1, None]}), Document("d1", "")]
    push(engine, Index.build(vectors, documents, model_name="tiny", words=Words("none")))
    engine.search(SparseVector([1, 2], [2.1, 0.5], 100, "m" * 64, "Title foo.bar"), 3)
    engine.delete()
    found = "".join(
        f"{method} {path}\n{body.decode()}".rstrip("\n") + "\n\n"
        for method, path, body in server.requests
    )
    found = re.sub(r'"made":"[0-9a-f]{16}"', '"made":"…"', found)
    file = GOLDEN / f"{name}.txt"
    assert found == file.read_text(encoding="utf-8")
