"""What encoded the documents is remembered, and it is said when queries may round differently."""

import json
import warnings
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from spladelet import Document, Encoder, Index, IndexWriter, SparseVector, SparseVectors
from spladelet.errors import IndexFormatError
from spladelet.origins import Origin, RoundingWarning

HERE = Origin("1.32.0", "x86_64", False)
ELSEWHERE = Origin("1.26.0", "x86_64", False)


def vectors(origin, *rows):
    return SparseVectors.from_rows(
        [SparseVector(*row, 9, "model", None, origin) for row in rows], 9
    )


def index_of(*origins, **options):
    return Index.build(vectors(origins[0], ([1], [2.0])), ["a"], words=None, **options)


def asked(index, origin):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        index.search(SparseVector([1], [1.0], 9, "model", None, origin))
    return [str(warning.message) for warning in caught]


def test_the_encoder_says_where_it_is():
    encoder = Encoder.load()
    found = encoder.encode_query("a cat").origin

    assert found.onnxruntime == onnxruntime.__version__
    assert found.alike is (found.machine in encoder.description.alike_on)
    assert encoder.encode_documents(["a cat"]).origin == found
    assert encoder.encode_documents(["a cat"])[0].prune(max_active_dims=1).origin == found


@pytest.mark.parametrize(
    ("mine", "theirs", "same"),
    [
        (HERE, HERE, True),
        (HERE, ELSEWHERE, False),
        (HERE, replace(HERE, machine="aarch64"), False),
        (replace(HERE, alike=True), replace(ELSEWHERE, alike=True), True),
        (replace(HERE, alike=True), ELSEWHERE, False),
    ],
)
def test_a_promise_must_hold_at_both_ends(mine, theirs, same):
    assert mine.rounds_as(theirs) is theirs.rounds_as(mine) is same


@pytest.mark.parametrize("on_disk", [False, True])
def test_it_is_said_once_where_the_same_bits_are_not_promised(on_disk, tmp_path, monkeypatch):
    monkeypatch.setattr("spladelet.origins._said", set())
    index = index_of(ELSEWHERE)
    if on_disk:
        index.save(tmp_path / "index")
        index = Index.open(tmp_path / "index")

    assert asked(index, ELSEWHERE) == []
    assert asked(index, None) == []
    (said,) = asked(index, HERE)
    assert "ONNX Runtime 1.26.0 on x86_64" in said
    assert "ONNX Runtime 1.32.0 on x86_64" in said
    assert asked(index, HERE) == []


def test_a_warning_names_the_line_that_searches(monkeypatch):
    monkeypatch.setattr("spladelet.origins._said", set())
    with pytest.warns(RoundingWarning) as caught:
        index_of(ELSEWHERE).search(SparseVector([1], [1.0], 9, "model", None, HERE))

    assert caught[0].filename == __file__


def test_an_index_remembers_all_that_encoded_it(tmp_path):
    path = tmp_path / "index"
    index_of(HERE).save(path)
    for number, origin in enumerate((ELSEWHERE, HERE, None)):
        with IndexWriter(path) as writer:
            writer.add(vectors(origin, ([number], [1.0])), [Document(f"new {number}", "b")])
    with IndexWriter(path) as writer:
        writer.compact()

    expected = [HERE.to_dict(), ELSEWHERE.to_dict()]
    assert Index.open(path).facts()["origins"] == expected


def test_an_index_of_vectors_from_elsewhere_has_no_origin(tmp_path):
    index_of(None).save(tmp_path / "index")
    (manifest,) = (tmp_path / "index").glob("*.json")

    assert "origins" not in json.loads(manifest.read_text())
    assert asked(Index.open(tmp_path / "index"), HERE) == []


@pytest.mark.parametrize("wrong", [[1], [{}], [{"onnxruntime": 1, "machine": "", "alike": True}]])
def test_a_manifest_with_something_else_is_refused(wrong, tmp_path):
    from spladelet.index.format import Manifest, _sum

    raw = json.loads(Manifest(1, 9, "model", "", "float32", (), origins=(HERE,)).to_json())
    assert Manifest.from_json(json.dumps(raw), tmp_path).origins == (HERE,)
    del raw["sha256"]
    raw["origins"] = wrong
    with pytest.raises(IndexFormatError):
        Manifest.from_json(json.dumps(raw | {"sha256": _sum(raw)}), tmp_path)


def test_rows_and_parts_keep_it():
    some = vectors(HERE, ([1], [1.0]), ([2], [1.0]))

    assert some[0].origin == some.between(0, 1).origin == some.take(np.array([1])).origin == HERE
    assert SparseVectors.stack([some, some], 9, "model").origin == HERE
    assert SparseVectors.from_rows([], 9).origin is None
