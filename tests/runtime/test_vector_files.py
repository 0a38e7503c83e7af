"""Vectors written for others and read back: the same ids, the same weights to the bit."""

import gzip
import io
import json
import os
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spladelet import Document, Index, SparseVector, SparseVectors
from spladelet.engines.formats import convert
from spladelet.engines.payload import TermNames
from spladelet.errors import InputError, RecordError
from spladelet.vector_files import read_vectors, write_npz, write_splade_index

scipy_sparse = pytest.importorskip("scipy.sparse")

TERMS = ["cat", "purr", "7", "a.b", "☃"]
VOCAB = len(TERMS)
TERM_IDS = {term: number for number, term in enumerate(TERMS)}
NAMES = TermNames(TERMS.__getitem__, "keep")

rows = st.lists(
    st.dictionaries(
        st.integers(0, VOCAB - 1),
        st.floats(2.0**-126, 2.0**127, width=32, allow_subnormal=False),
    ),
    max_size=6,
)


def parts_of(index):
    """Return an index's vectors and documents."""
    return index.vectors(), [index.document(number) for number in range(len(index))]


def index_of(rows, weights="float32"):
    vectors = [SparseVector.from_dict(row, VOCAB) for row in rows]
    documents = [
        Document(f"id {n}", f"text\n{n} ☃", "T" * (n % 2), {"n": n} if n % 3 else {})
        for n in range(len(rows))
    ]
    return Index.build(SparseVectors.from_rows(vectors, VOCAB), documents, weight_type=weights)


def rows_of(vectors):
    return [vector.to_dict() for vector in vectors]


def read(path, **options):
    batches = list(read_vectors(path, VOCAB, **options))
    documents = [document for _, batch in batches for document in batch]
    return [row for vectors, _ in batches for row in rows_of(vectors)], documents


@given(rows)
def test_jsonl_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("exchange") / "vectors.jsonl.gz"
    index = index_of(rows)
    for names, term_ids in ((NAMES, TERM_IDS), (TermNames(), None)):
        convert(index, "jsonl", path, names)

        found, documents = read(path, term_ids=term_ids)
        assert found == rows_of(index.vectors())
        assert documents == [index.document(n) for n in range(len(index))]


@given(rows)
def test_npz_comes_back_and_is_scipys(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("exchange") / "vectors.npz"
    index = index_of(rows)
    convert(index, "npz", path)

    matrix = scipy_sparse.load_npz(path)
    assert matrix.format == "csr"
    assert matrix.dtype == np.float32
    assert (matrix != index.vectors().to_csr()).nnz == 0
    found, documents = read(path)
    assert found == rows_of(index.vectors())
    assert [d.id for d in documents] == [f"id {n}" for n in range(len(rows))]


@given(rows)
def test_splade_index_comes_back(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("exchange") / "splade"
    index = index_of(rows)
    convert(index, "splade-index", folder, NAMES)

    found, documents = read(folder)
    assert found == rows_of(index.vectors())
    assert documents == [index.document(n) for n in range(len(index))]


def test_the_splade_index_folder_is_that_of_version_0_2(tmp_path):
    index = index_of([{0: 1.5, 4: 0.5}, {0: 2.0}])
    write_splade_index(*parts_of(index), tmp_path / "splade", TERM_IDS)

    def content(name):
        return (tmp_path / "splade" / name).read_bytes()

    arrays = np.load(tmp_path / "splade" / "csc.index.npz", allow_pickle=False)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "data": [1.5, 2.0, 0.5],
        "indices": [0, 1, 0],
        "indptr": [0, 2, 2, 2, 2, 3],
        "document_ids": ["id 0", "id 1"],
    }
    assert arrays["indices"].dtype == arrays["indptr"].dtype == np.int32
    assert json.loads(content("vocab.index.json")) == TERM_IDS
    assert json.loads(content("params.index.json")) == {
        "dtype": "float32",
        "int_dtype": "int32",
        "num_docs": 2,
        "version": "0.2.0",
        "backend": "numpy",
    }
    starts = json.loads(content("corpus.mmindex.json"))
    lines = [json.loads(content("corpus.jsonl")[start:].splitlines()[0]) for start in starts]
    assert [line["text"] for line in lines] == ["text\n0 ☃", "text\n1 ☃"]


def test_splade_index_itself_searches_what_is_written(tmp_path):
    peer = pytest.importorskip("splade_index", reason="needs splade-index (extra `dev`)")
    index = index_of([{0: 1.5, 4: 0.5}, {0: 2.0}, {1: 9.0}])
    convert(index, "splade-index", tmp_path / "splade", NAMES)

    for mmap in (False, True):
        opened = peer.SPLADE.load(tmp_path / "splade", model=None, mmap=mmap)
        scores = opened.get_scores(np.array([0, 4]), np.array([1.0, 2.0], np.float32))
        assert scores.tolist() == [2.5, 2.0, 0.0]
        assert list(opened.document_ids) == ["id 0", "id 1", "id 2"]
        assert "text\n1 ☃" in str(opened.corpus[1])


@pytest.mark.filterwarnings("ignore:Sparse CSC tensor support")  # torch's, of what it calls
def test_what_splade_index_saves_is_read(tmp_path):
    peer = pytest.importorskip("splade_index", reason="needs splade-index (extra `dev`)")

    class Tokenizer:
        def get_vocab(self):
            return TERM_IDS

    class Model:
        tokenizer = Tokenizer()

        def encode_document(self, texts, **_):
            import torch

            return torch.tensor([[1.5, 0, 0, 0, 0.5], [2.0, 0, 0, 0, 0]])

    made = peer.SPLADE()
    made.index(Model(), ["one", "two"], document_ids=["a", "b"], show_progress=False)
    made.save(tmp_path / "theirs")

    found, documents = read(tmp_path / "theirs")
    assert found == [{0: 1.5, 4: 0.5}, {0: 2.0}]
    assert documents == [Document("a", "one"), Document("b", "two")]


def test_other_formats_of_scipy_are_read_and_rows_numbered(tmp_path):
    matrix = index_of([{0: 1.0}, {}, {3: 2.0}]).vectors().to_csr()
    for name in ("csc", "coo", "bsr"):
        path = tmp_path / f"{name}.npz"
        scipy_sparse.save_npz(path, matrix.asformat(name))

        found, documents = read(path)
        assert found == [{0: 1.0}, {}, {3: 2.0}]
        assert [document.id for document in documents] == ["0", "1", "2"]


def test_what_was_rounded_is_written_as_it_is_searched(tmp_path):
    index = index_of([{0: 1.0, 1: 0.3}, {0: 0.7}], weights="uint8")
    write_npz(*parts_of(index), tmp_path / "v.npz")

    assert read(tmp_path / "v.npz")[0] == rows_of(index.vectors())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"text": "a"}, r"has vector None; expected an object"),
        ({"vector": [1, 2]}, r"expected an object"),
        ({"vector": {"dog": 1}}, r"the term 'dog'"),
        ({"vector": {"cat": -1}}, "expected finite numbers"),
        ({"vector": {"cat": float("nan")}}, "expected finite numbers"),
        ({"vector": {"cat": "heavy"}}, "not numbers"),
        ({"vector": {"cat": None}}, "expected finite numbers"),
        ({"vector": {"cat": 1}, "text": 5}, "expected"),
    ],
)
def test_a_line_without_a_sound_vector_is_named(tmp_path, line, message):
    path = tmp_path / "v.jsonl"
    path.write_text('{"vector": {}}\n' + json.dumps(line) + "\n")

    with pytest.raises(RecordError, match=rf"v\.jsonl, line 2.*{message}"):
        read(path, term_ids=TERM_IDS)


@pytest.mark.parametrize("key", ["5", "-1", "cat", "1e3"])
def test_an_id_that_is_none_is_refused(tmp_path, key):
    (tmp_path / "v.jsonl").write_text(json.dumps({"vector": {key: 1.0}}))

    with pytest.raises(RecordError, match="line 1"):
        read(tmp_path / "v.jsonl")


def forged(**changes):
    """Return the arrays of a matrix of two documents, some of them changed."""
    arrays = {
        "indices": np.array([0, 1]),
        "indptr": np.array([0, 1, 2]),
        "format": np.array(b"csr"),
        "shape": np.array([2, VOCAB]),
        "data": np.array([1.0, 2.0]),
    } | changes
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.mark.parametrize(
    "changes",
    [
        {"indices": np.array([0, VOCAB])},
        {"indices": np.array([0, -1])},
        {"indices": None},
        {"indptr": np.array([0, 2, 1])},
        {"indptr": np.array([0, 1, 9])},
        {"shape": np.array([2, VOCAB + 1])},
        {"data": np.array([1.0, np.nan])},
        {"data": np.array([1.0, -2.0])},
        {"data": np.array([object(), 1], object)},
        {"format": np.array(b"none")},
        {"ids": np.array(["one"])},
        {"ids": np.array([1.5, 2.5])},
        {"ids": np.array([object(), None])},
        {"ids": np.array("one")},
        {"format": np.array(5)},
        {"shape": np.array([2 * VOCAB])},
        {"indptr": None, "format": np.array(b"coo"), "row": np.array([0, 1]), "col": np.array([0])},
    ],
)
def test_a_matrix_that_is_none_is_refused(tmp_path, changes):
    np.savez(tmp_path / "v.npz", **forged(**changes))

    with pytest.raises(InputError):
        read(tmp_path / "v.npz")


@pytest.mark.parametrize("content", [b"", b"garbage", gzip.compress(b"x", mtime=0)])
def test_garbage_is_no_matrix(tmp_path, content):
    (tmp_path / "v.npz").write_bytes(content)

    with pytest.raises(InputError, match=r"v\.npz does not hold the arrays"):
        read(tmp_path / "v.npz")
    with pytest.raises(InputError, match=r"cannot read .*csc\.index\.npz: No such file"):
        read(tmp_path)


def test_an_array_that_claims_more_than_there_is_is_refused(tmp_path):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f8", "fortran_order": False, "shape": (10**14,)}
    )
    with zipfile.ZipFile(tmp_path / "v.npz", "w") as packed:
        for name in ("indices", "indptr", "format", "shape", "data"):
            packed.writestr(f"{name}.npy", head.getvalue())
    with pytest.raises(InputError, match="does not hold the arrays"):
        read(tmp_path / "v.npz")

    np.save(tmp_path / "v.npy", np.ones(3))
    (tmp_path / "v.npy").rename(tmp_path / "v.npz")
    with pytest.raises(InputError, match="does not hold the arrays"):
        read(tmp_path / "v.npz")


def test_a_file_that_would_fill_the_memory_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("spladelet.vector_files._MAX_BYTES", 1000)
    write_npz(*parts_of(index_of([{0: 1.0}] * 100)), tmp_path / "v.npz")

    with pytest.raises(InputError, match="unpacks to"):
        read(tmp_path / "v.npz")


def test_a_splade_index_that_lacks_texts_is_refused(tmp_path):
    write_splade_index(*parts_of(index_of([{0: 1.0}, {}])), tmp_path / "splade", {})
    corpus = tmp_path / "splade" / "corpus.jsonl"
    corpus.write_text(corpus.read_text().splitlines()[0])

    with pytest.raises(InputError, match="has 1 documents, expected 2"):
        read(tmp_path / "splade")
    corpus.unlink()
    assert [document.text for document in read(tmp_path / "splade")[1]] == ["", ""]


def test_no_folder_is_written_over(tmp_path):
    (tmp_path / "splade").mkdir()
    write_splade_index(*parts_of(index_of([{0: 1.0}])), tmp_path / "splade", {})
    with pytest.raises(InputError, match="exists"):
        write_splade_index(*parts_of(index_of([])), tmp_path / "splade", {})

    assert read(tmp_path / "splade")[0] == [{0: 1.0}]
    assert [path.name for path in tmp_path.iterdir()] == ["splade"]


def test_an_id_that_numpy_would_cut_is_refused(tmp_path):
    vectors = SparseVectors.from_rows([SparseVector([0], [1.0], VOCAB)], VOCAB)
    index = Index.build(vectors, [Document("a\0", "")])

    for name in ("npz", "splade-index"):
        with pytest.raises(InputError, match="NUL"):
            convert(index, name, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_one_long_id_does_not_make_all_as_long(tmp_path, monkeypatch):
    monkeypatch.setattr("spladelet.vector_files._MAX_PADDED", 4 * 100)
    vectors = SparseVectors.from_rows([SparseVector([0], [1.0], VOCAB)] * 50, VOCAB)
    documents = [Document(str(n), "") for n in range(49)]

    write_npz(*parts_of(Index.build(vectors, [*documents, Document("99", "")])), tmp_path / "v.npz")
    index = Index.build(vectors, [*documents, Document("x" * 2000, "")])
    for name in ("npz", "splade-index"):
        with pytest.raises(InputError, match="has 2000 characters; numpy would make all 50"):
            convert(index, name, tmp_path / "out")


def test_anserinis_file_brings_its_texts(tmp_path):
    index = index_of([{0: 1.5}, {1: 0.5}])
    convert(index, "anserini", tmp_path / "v.jsonl", NAMES)

    found, documents = read(tmp_path / "v.jsonl", term_ids=TERM_IDS)
    assert found == [{0: 150.0}, {1: 50.0}]
    assert documents == [Document("id 0", "text\n0 ☃"), Document("id 1", "T text\n1 ☃")]


def test_long_lines_come_in_smaller_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("spladelet.vector_files.MAX_LINE", 100)
    line = json.dumps({"vector": {"cat": 1.5}, "text": "x" * 30})
    (tmp_path / "v.jsonl").write_text(f"{line}\n" * 5)

    batches = list(read_vectors(tmp_path / "v.jsonl", VOCAB, term_ids=TERM_IDS))
    assert [len(documents) for _, documents in batches] == [2, 2, 1]


def test_a_splade_index_names_its_documents_beside_the_texts(tmp_path):
    write_splade_index(*parts_of(index_of([{0: 1.0}])), tmp_path / "splade", {})
    corpus = tmp_path / "splade" / "corpus.jsonl"
    corpus.write_text('{"id": 5, "docid": "other", "contents": "A text."}')

    assert read(tmp_path / "splade")[1] == [Document("id 0", "A text.")]


@pytest.mark.parametrize(
    "changes",
    [
        {"format": np.array(b"coo"), "row": np.array([0, 1]), "col": np.array([0, 1])},
        {"format": np.array(b"csc"), "indptr": np.zeros(VOCAB + 1, int), "data": np.ones(0)},
        {"format": np.array(b"dia"), "data": np.ones((1, 1)), "offsets": np.array([0])},
        {"format": np.array(b"bsr"), "data": np.empty((0, 10**8, 1)), "indptr": np.zeros(5, int)},
    ],
)
def test_a_small_file_that_says_it_is_large_is_refused(tmp_path, changes):
    rows = 4 * 10**8
    empty = {"indices": np.empty(0, int)} if "row" not in changes else {}
    np.savez(tmp_path / "v.npz", **forged(**empty, **changes, shape=np.array([rows, VOCAB])))

    with pytest.raises(InputError, match=f"says that it holds {rows} documents"):
        read(tmp_path / "v.npz")


def test_ids_that_take_no_room_are_counted(tmp_path):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<U0", "fortran_order": False, "shape": (10**9,)}
    )
    with zipfile.ZipFile(tmp_path / "csc.index.npz", "w") as packed:
        packed.writestr("document_ids.npy", head.getvalue())

    with pytest.raises(InputError, match=r"csc\.index\.npz"):
        read(tmp_path)


def test_a_file_may_unpack_to_no_more_than_many_times_its_size(tmp_path):
    np.savez_compressed(tmp_path / "v.npz", **forged(data=np.zeros(12 << 20)))

    with pytest.raises(InputError, match=r"unpacks to .* compressed=False"):
        read(tmp_path / "v.npz")


@pytest.mark.parametrize("name", ["csr", "csc", "bsr"])
@pytest.mark.parametrize("middle", [5000, -1, 2**40])
def test_offsets_that_end_at_nothing_are_checked(tmp_path, name, middle):
    """Of which scipy's check says nothing, and its conversions end the process."""
    lists = VOCAB if name == "csc" else 2
    offsets = np.array([0] + [middle] * (lists - 1) + [0])
    data = np.empty((0, 1, 1)) if name == "bsr" else np.empty(0)
    changes = {"indptr": offsets, "indices": np.empty(0, int), "data": data}
    np.savez(tmp_path / "v.npz", **forged(**changes, format=np.array(name.encode())))

    with pytest.raises(InputError, match=r"v\.npz does not hold sound vectors: .*do not ascend"):
        read(tmp_path / "v.npz")


def test_offsets_of_a_splade_index_are_checked(tmp_path):
    write_splade_index(*parts_of(index_of([{0: 1.0}, {}])), tmp_path / "splade", {})
    path = tmp_path / "splade" / "csc.index.npz"
    arrays = dict(np.load(path))
    empty = np.empty(0, np.int32)
    np.savez(path, **arrays | {"indptr": np.array([0, 5000, 0]), "indices": empty, "data": empty})

    with pytest.raises(InputError, match="do not ascend"):
        list(read_vectors(tmp_path / "splade", 2))


@pytest.mark.parametrize("dtype", ["float16", "int8", "uint64", "bool", "longdouble"])
def test_weights_of_any_real_type_are_read(tmp_path, dtype):
    np.savez(tmp_path / "v.npz", **forged(data=np.array([1, 1]).astype(dtype)))

    assert read(tmp_path / "v.npz")[0] == [{0: 1.0}, {1: 1.0}]


@pytest.mark.parametrize("dtype", ["complex64", "S3", "U3", "M8[s]", "m8[s]", "V4", "O"])
@pytest.mark.parametrize("array", ["data", "indices", "indptr", "shape"])
def test_arrays_of_other_types_are_refused(tmp_path, dtype, array):
    arrays = forged()
    np.savez(tmp_path / "v.npz", **arrays | {array: np.zeros(arrays[array].shape, dtype)})

    with pytest.raises(InputError):
        read(tmp_path / "v.npz")


@pytest.mark.parametrize("array", ["indices", "indptr", "shape"])
def test_places_are_whole_numbers(tmp_path, array):
    np.savez(tmp_path / "v.npz", **forged(**{array: forged()[array] + 0.25}))

    with pytest.raises(InputError, match="numbers of type float64; expected whole ones"):
        read(tmp_path / "v.npz")


@pytest.mark.parametrize("path", ["none.npz", "none.jsonl", "x" * 5000, "a\0b"])
def test_a_file_that_cannot_be_there_is_an_error(path):
    with pytest.raises(InputError, match="cannot read"):
        read(path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_arrays_are_in_a_regular_file(tmp_path):
    os.mkfifo(tmp_path / "v.npz")
    (tmp_path / "splade").mkdir()
    (tmp_path / "splade" / "csc.index.npz").symlink_to("/dev/zero")

    for path in (tmp_path / "v.npz", tmp_path / "splade"):
        with pytest.raises(InputError, match="is a pipe or a device; expected a file"):
            read(path)
