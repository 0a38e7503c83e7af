"""The index: exact search in memory and on disk, in a fixed order, for vectors of one model."""

import json
import mmap
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spladelet import Document, Index, IndexWriter, SparseVector, SparseVectors
from spladelet.errors import DuplicateIdError, IndexNotFoundError, InputError, ModelMismatchError
from spladelet.files import MAPPED_FROM

VOCAB = 12
# Few different weights, so that ties are common.
WEIGHTS = st.sampled_from([0.25, 0.5, 1.0, 3.0])
MAPPINGS = st.dictionaries(st.integers(0, VOCAB - 1), WEIGHTS, max_size=6)
CORPORA = st.lists(MAPPINGS, max_size=12)


def vector(mapping, model=None):
    return SparseVector.from_dict(mapping, VOCAB, model)


def vectors(mappings, model=None):
    return SparseVectors.from_rows([vector(m, model) for m in mappings], VOCAB, model)


def by_brute_force(corpus, query, k):
    """Return (number, score), best first; the weights above make every sum exact."""
    scores = [sum(query[t] * w for t, w in row.items() if t in query) for row in corpus]
    found = [(number, score) for number, score in enumerate(scores) if score > 0]
    return sorted(found, key=lambda hit: (-hit[1], hit[0]))[:k]


def numbers_and_scores(hits):
    return [(hit.number, hit.score) for hit in hits]


@given(CORPORA, MAPPINGS, st.integers(1, 15))
def test_search_is_brute_force(corpus, query, k):
    index = Index.build(vectors(corpus))

    hits = index.search(vector(query), k)

    assert numbers_and_scores(hits) == by_brute_force(corpus, query, k)


@settings(max_examples=30)
@given(corpus=CORPORA, query=MAPPINGS)
def test_a_saved_index_gives_the_same_hits(tmp_path_factory, corpus, query):
    documents = [Document(f"d{n}", f"text {n} ☃", "Title") for n in range(len(corpus))]
    index = Index.build(vectors(corpus, "m"), documents, model_name="toy")
    folder = tmp_path_factory.mktemp("saved") / "index"

    index.save(folder)
    opened = Index.open(folder)

    found = opened.search(vector(query), 20)
    assert found == index.search(vector(query), 20)
    assert [hit.document for hit in found] == [documents[hit.number] for hit in found]
    assert [opened.document(n) for n in range(len(opened))] == documents
    assert (opened.model, opened.model_name, opened.vocab_size) == ("m", "toy", VOCAB)
    assert (len(opened), opened.postings) == (len(index), index.postings)


def test_a_hit_is_its_document_with_a_score():
    index = Index.build(
        vectors([{1: 2.0}, {2: 0.5}]), [Document("a", "A"), Document("b", "B", "T")]
    )

    (hit,) = index.search(vector({2: 3.0}))
    assert (hit.id, hit.score, hit.number, hit.margin) == ("b", 1.5, 1, 0.0)
    assert (hit.text, hit.title, hit.metadata) == ("B", "T", {})
    assert index.document(1) == Document("b", "B", "T")


def test_texts_get_their_number_as_id():
    index = Index.build(vectors([{1: 1.0}, {2: 1.0}]), ["one", "two"])

    (hit,) = index.search(vector({2: 1.0}))
    assert (hit.id, hit.text) == ("1", "two")


def test_without_documents_hits_have_numbers_alone():
    index = Index.build(vectors([{1: 1.0}, {2: 1.0}]))

    (hit,) = index.search(vector({2: 1.0}))
    assert (hit.id, hit.text, hit.title) == ("1", "", "")


def test_documents_may_come_from_a_generator():
    index = Index.build(vectors([{1: 1.0}]), (text for text in ["one"]))

    assert index.document(0).text == "one"


def test_equal_scores_come_in_the_order_of_the_documents():
    index = Index.build(vectors([{1: 1.0}] * 9 + [{1: 2.0}]))

    assert [hit.number for hit in index.search(vector({1: 1.0}), 4)] == [9, 0, 1, 2]


def test_a_k_beyond_the_matches_returns_the_matches():
    index = Index.build(vectors([{1: 1.0}, {2: 1.0}, {1: 2.0}]))

    assert [hit.number for hit in index.search(vector({1: 1.0}), 10**9)] == [2, 0]


def test_documents_without_a_shared_term_are_never_returned():
    index = Index.build(vectors([{1: 1.0}, {}, {2: 1.0}]))

    assert index.search(vector({5: 1.0}), 3) == []
    assert index.search(vector({}), 3) == []
    none, (hit,) = index.search_many([vector({}), vector({2: 1.0})], 3)
    assert (none, hit.id, hit.number) == ([], "2", 2)


def test_an_empty_index_finds_nothing_in_memory_or_on_disk(tmp_path):
    index = Index.build(vectors([]), [])
    index.save(tmp_path / "index")

    for empty in (index, Index.open(tmp_path / "index")):
        assert len(empty) == empty.postings == 0
        assert empty.search(vector({1: 1.0})) == []


@pytest.mark.parametrize("k", [0, -1])
def test_a_k_below_one_is_refused(k):
    index = Index.build(vectors([{1: 1.0}]))

    with pytest.raises(InputError, match=f"k is {k}; expected at least 1"):
        index.search(vector({1: 1.0}), k)
    with pytest.raises(InputError, match=f"k is {k}"):
        index.search_many([], k)


def test_an_id_given_twice_names_both_documents():
    documents = [Document("a", "one"), Document("b", "two"), Document("a", "three")]

    with pytest.raises(DuplicateIdError, match=r"documents 0 and 2 .* both have id 'a'"):
        Index.build(vectors([{}, {}, {}]), documents)


def test_a_number_as_id_counts_too():
    with pytest.raises(DuplicateIdError, match=r"documents 0 and 1 .* '1'"):
        Index.build(vectors([{}, {}]), [Document("1", "one"), "two"])


@pytest.mark.parametrize("documents", [[], ["one"], ["one", "two", "three"]])
def test_as_many_documents_as_vectors_are_wanted(documents):
    with pytest.raises(InputError, match=f"2 vectors came with {len(documents)} documents"):
        Index.build(vectors([{1: 1.0}, {2: 1.0}]), documents)


def test_one_str_is_no_list_of_documents():
    with pytest.raises(InputError, match="documents is one str"):
        Index.build(vectors([{1: 1.0}, {2: 1.0}]), "ab")


@pytest.mark.parametrize("number", [-1, 2])
def test_a_document_number_out_of_range_is_refused(number):
    with pytest.raises(InputError, match=f"there is no document number {number}: the index has 2"):
        Index.build(vectors([{}, {}])).document(number)


@given(CORPORA, st.lists(MAPPINGS, max_size=8), st.sampled_from([1, 2, 7]))
@settings(max_examples=30)
def test_search_many_is_search_for_each_on_any_number_of_threads(corpus, queries, threads):
    index = Index.build(vectors(corpus))
    rows = vectors(queries)

    found = index.search_many(rows, 4, threads=threads)

    assert found == [index.search(query, 4) for query in rows]


def test_search_many_refuses_fewer_threads_than_one():
    with pytest.raises(InputError, match="threads is 0"):
        Index.build(vectors([{}])).search_many([], threads=0)


def test_a_query_of_another_model_is_refused(tmp_path):
    index = Index.build(vectors([{1: 1.0}], "a" * 64))
    index.save(tmp_path / "index")

    for built in (index, Index.open(tmp_path / "index")):
        with pytest.raises(ModelMismatchError, match="bbbbbbbbbbbb and of model aaaaaaaaaaaa"):
            built.search(vector({1: 1.0}, "b" * 64))
        with pytest.raises(ModelMismatchError, match="over 99 and 12 terms"):
            built.search_many([SparseVector([1], [1.0], 99)])


def test_vectors_of_unknown_models_are_searched():
    known, unknown = Index.build(vectors([{1: 1.0}], "a")), Index.build(vectors([{1: 1.0}]))

    assert known.search(vector({1: 1.0})) == unknown.search(vector({1: 1.0}, "b"))
    assert known.search(vector({1: 1.0}, "a")) == known.search(vector({1: 1.0}))


def test_long_lists_of_an_opened_index_stay_on_disk(tmp_path, large_index):
    large_index.save(tmp_path / "index")
    (segment,) = Index.open(tmp_path / "index")._state.view.segments

    for array in (segment.postings.numbers, segment.postings.impacts):
        assert array.nbytes > MAPPED_FROM
        while isinstance(array, np.ndarray):
            array = array.base
        assert isinstance(array.obj, mmap.mmap)


def state(folder):
    """Return what stands in a folder, and when each thing was last changed."""
    return {path: os.stat(path).st_mtime_ns for path in [folder, *folder.rglob("*")]}


def test_opening_and_searching_change_nothing_on_disk(tmp_path):
    folder = tmp_path / "index"
    Index.build(vectors([{1: 1.0}, {2: 1.0}])).save(folder)
    before = state(tmp_path)

    index = Index.open(folder)
    index.search(vector({1: 1.0}))
    index.document(1)

    assert state(tmp_path) == before


@pytest.mark.parametrize("place", ["none", "file", "folder"])
def test_where_no_index_is_none_is_found(tmp_path, place):
    (tmp_path / "file").write_text("text")
    (tmp_path / "folder").mkdir()

    with pytest.raises(IndexNotFoundError, match="spladelet index FILE"):
        Index.open(tmp_path / place)


def test_real_vectors_are_searched_as_brute_force_has_it(encoder):
    texts = ["The cat purrs.", "Yeast makes dough rise.", "", "Kittens and cats.", "Snow falls."]
    rows = encoder.encode_documents(texts)
    query = encoder.encode_query("cat")
    index = Index.build(rows, texts)

    hits = index.search(query, lexical=0)

    assert {hit.text for hit in hits[:2]} == {"The cat purrs.", "Kittens and cats."}
    for hit in hits:
        assert hit.score == pytest.approx(query.dot(rows[hit.number]), rel=1e-5)
    assert len(hits) == sum(query.dot(row) > 0 for row in rows)


def test_what_can_only_mean_one_thing_is_taken():
    rows = [vector({1: 1.0}), vector({2: 2.0})]
    whole = SparseVectors.from_rows(rows, VOCAB)
    index = Index.build(whole, [Document(7, "seven"), Document("8", "eight")])

    assert Index.build(rows).search(rows[1]) == Index.build(whole.to_csr()).search(rows[1])
    for query in (rows[1], whole[1:2][0], SparseVectors.from_rows(rows[1:], VOCAB)):
        assert [hit.id for hit in index.search(query, np.int64(3))] == ["8"]
    assert [hit.id for hit in index.search(rows[0], ids=[7, np.int32(8)])] == ["7"]
    assert (index.find(7), index.document(np.int64(0)).id) == (0, "7")
    for queries in (rows, tuple(rows), whole, whole.to_csr(), iter(rows)):
        assert [[hit.id for hit in hits] for hits in index.search_many(queries)] == [["7"], ["8"]]


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda index, rows: index.search(rows), "got 2 vectors .*; use search_many"),
        (lambda index, rows: index.search(list(rows)), "got 2 vectors .*; use search_many"),
        (lambda index, rows: index.search("cat"), r"encode it first: encoder.encode_query\('cat'"),
        (lambda index, rows: index.search({1: 2.0}), "SparseVector.from_dict"),
        (lambda index, rows: index.search_many(rows[0]), "use search"),
        (lambda index, rows: index.search_many("cat"), "encode it first"),
        (lambda index, rows: index.search_many(["cat"]), "encode it first"),
        (lambda index, rows: index.search(rows[0], 2.0), r"k is 2.0 .*give 2"),
        (lambda index, rows: index.search(rows[0], True), "k is True"),
        (lambda index, rows: index.search(rows[0], "3"), "k is '3'"),
        (lambda index, rows: index.search(rows[0], min_score="1"), "min_score is '1'"),
        (lambda index, rows: index.search(rows[0], ids="7"), r"expected several, as in \['7'\]"),
        (lambda index, rows: index.search_many(rows, threads=1.5), "threads is 1.5"),
        (lambda index, rows: index.document("7"), "for an id use find"),
        (lambda index, rows: index.document(1.0), "no document number 1.0"),
        (lambda index, rows: index.find(1.5), "expected a str or a whole number"),
        (lambda index, rows: Index.build(["cat"]), "item 0 of the vectors: .* encode it first"),
        (lambda index, rows: Index.build([rows]), "give the SparseVectors themselves"),
        (lambda index, rows: Index.build(rows, weight_type=["uint8"]), "weight_type is"),
        (lambda index, rows: Index.build(rows, encoding={"a": object()}), "encoding is"),
    ],
)
def test_anything_else_is_refused_with_the_right_call(use, message):
    rows = vectors([{1: 1.0}, {2: 2.0}])

    with pytest.raises(InputError, match=message):
        use(Index.build(rows), rows)


@pytest.mark.parametrize("weight_type", ["float32", "float16", "uint8"])
def test_the_vector_of_one_document_is_its_row(tmp_path, weight_type):
    rows = [{1: 1.0, 5: 3.0}, {}, {5: 0.5}, {0: 2.0, 11: 0.25}]
    with IndexWriter(tmp_path / "index", weight_type=weight_type) as opened:
        opened.add(vectors(rows, "m"), [Document(str(n), "") for n in range(4)])
        opened.delete(["1"])
    index = Index.open(tmp_path / "index")

    assert [index.vector(n) for n in range(3)] == list(index.vectors())
    assert (index.vector(0).model, index.vector(0).vocab_size) == ("m", VOCAB)
    with pytest.raises(InputError, match="no document number 3"):
        index.vector(3)


def test_the_facts_are_values_of_json():
    index = Index.build(
        vectors([{1: 1.0}, {}], "m"),
        [Document("a", "", metadata={"year": 1}), Document("b", "")],
        model_name="toy",
        encoding={"long_texts": "cut"},
    )

    facts = json.loads(json.dumps(index.facts()))
    assert facts["documents"] == 2
    assert (facts["metadata_fields"], facts["active_dims"]) == (["year"], 0.5)
    assert (facts["model_name"], facts["fingerprint"]) == ("toy", "m")
    assert facts["encoding"] == {"long_texts": "cut"}


@pytest.mark.parametrize("name", [3, b"x", ["m"]])
def test_a_name_that_is_no_text_is_refused_before_anything_is_written(tmp_path, name):
    Index.build(vectors([{1: 1.0}])).save(tmp_path / "index")

    with pytest.raises(InputError, match="model_name is"):
        Index.build(vectors([{1: 1.0}]), model_name=name)
    with pytest.raises(InputError, match="model_name is"):
        IndexWriter.anew(tmp_path / "index", model_name=name)
    with pytest.raises(InputError, match="model is"):
        Index.build(SparseVectors.from_rows([], VOCAB, name))
    assert len(Index.open(tmp_path / "index")) == 1


def test_no_name_is_an_empty_one(tmp_path):
    Index.build(vectors([{1: 1.0}]), model_name=None).save(tmp_path / "index")

    assert Index.open(tmp_path / "index").model_name == ""


@pytest.mark.parametrize("ids", [b"0", bytearray(b"01"), memoryview(b"0")])
def test_bytes_are_no_ids(tmp_path, ids):
    with IndexWriter(tmp_path / "index") as opened:
        opened.add(vectors([{1: 1.0}] * 60), [Document(str(n), "") for n in range(60)])
        with pytest.raises(InputError, match="expected several texts"):
            opened.delete(ids)
    with pytest.raises(InputError, match="expected several texts"):
        Index.open(tmp_path / "index").search(vector({1: 1.0}), ids=ids)


def test_an_index_is_refreshed_and_written_to_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Index.build(vectors([{1: 1.0}])).save("index")
    index = Index.open("index")
    with IndexWriter("index") as opened:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        opened.add(vectors([{1: 1.0}]), [Document("new", "")])

    assert index.refresh()
    assert len(index) == 2


def test_an_index_of_another_version_of_the_model_says_what_to_do():
    index = Index.build(vectors([{1: 1.0}], "a" * 64), model_name="toy")

    with pytest.raises(ModelMismatchError, match=r"of the model 'toy'; .* build the index again"):
        index.search(vector({1: 1.0}, "b" * 64))


@pytest.mark.parametrize("path", [None, b"index", 7])
def test_what_is_no_path_is_refused(path):
    index = Index.build(vectors([{1: 1.0}]))
    for use in (Index.open, IndexWriter, IndexWriter.anew, index.save):
        with pytest.raises(InputError, match="expected a path"):
            use(path)


@pytest.mark.parametrize("score", [10**400, np.complex64(1), True, None])
def test_a_minimum_score_that_is_no_number_is_refused(score):
    with pytest.raises(InputError, match="min_score is"):
        Index.build(vectors([{1: 1.0}])).search(vector({1: 1.0}), min_score=score)
