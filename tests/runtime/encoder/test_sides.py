"""Queries weighed by a table, by their own graph, or by their own tokens only."""

import io
import json
import shutil

import numpy as np
import pytest

from spladelet import Encoder, Index
from spladelet.bundle.description import (
    GRAPH,
    GRAPH_DATA,
    QUERY_GRAPH,
    QUERY_GRAPH_DATA,
    QUERY_TOKENIZER,
    QUERY_WEIGHTS,
    TOKENIZER,
    Semantics,
)
from spladelet.bundle.folder import Bundle
from spladelet.errors import BundleError, BundleFileError, BundleFormatError
from spladelet.files import FileEntry

QUERY = "who decides whether the accused is guilty? [SEP]"


def as_file(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.fixture
def table(encoder):
    """Return a weight for each term: its id's last digit, so that some have none."""
    return (np.arange(encoder.vocab_size) % 10).astype(np.float32)


@pytest.fixture
def by_table(copy_bundle, redescribe, replace_file, table):
    """Return `make(mode, **fields)`: the default model, its queries weighed in another way."""

    def make(mode, content=None, **query):
        folder = copy_bundle(mode)
        if mode in ("idf", "lexical"):
            replace_file(folder, QUERY_WEIGHTS, as_file(table) if content is None else content)
        return folder, redescribe(folder, query_mode=mode, query=Semantics(**query))

    return make


def own_ids(encoder, text):
    """Return the ids of a query's words; the [SEP] that is written in it is none."""
    return sorted({i for _, ids in encoder.query_words(text) for i in ids} - {102})


def test_a_table_gives_each_own_token_its_weight_once(by_table, encoder, table):
    folder, described = by_table("idf", special_tokens="zero_dims")
    loaded = Encoder.load(folder)
    query = loaded.encode_query(f"{QUERY} guilty guilty")

    ids = [i for i in own_ids(encoder, QUERY) if table[i]]
    assert query.term_ids.tolist() == ids
    assert query.weights.tolist() == table[ids].tolist()
    assert described.fingerprint != encoder.fingerprint
    assert np.array_equal(
        loaded.encode_document(QUERY).weights, encoder.encode_document(QUERY).weights
    )


def test_a_bag_of_words_has_ones(by_table, encoder):
    query = Encoder.load(by_table("bow", special_tokens="zero_dims")[0]).encode_query(QUERY)

    assert query.term_ids.tolist() == own_ids(encoder, QUERY)
    assert set(query.weights.tolist()) == {1.0}


def test_lexical_queries_have_own_tokens_with_the_graphs_weight(by_table, encoder, table):
    query = Encoder.load(by_table("lexical")[0]).encode_query(QUERY)
    full = encoder.encode_query(QUERY).to_dict()

    assert 0 < query.active_dims < len(full)
    for number, weight in query.to_dict().items():
        assert number in [*own_ids(encoder, QUERY), 101, 102]
        assert weight == np.float32(full[number]) * table[number]


def test_queries_may_have_a_graph_of_their_own(copy_bundle, redescribe, encoder):
    folder = copy_bundle()
    (folder / "query").mkdir()
    names = {QUERY_GRAPH: GRAPH, QUERY_GRAPH_DATA: GRAPH_DATA, QUERY_TOKENIZER: TOKENIZER}
    for target, source in names.items():
        shutil.copyfile(folder / source, folder / target)
    files = dict(encoder.description.files)
    files |= {name: FileEntry.of(folder / name) for name in names}
    redescribe(folder, query_mode="separate", files=files)

    query = Encoder.load(folder).encode_query(QUERY)
    assert query.to_dict() == encoder.encode_query(QUERY).to_dict()
    Bundle.open(folder).verify()
    (folder / QUERY_GRAPH).unlink()
    with pytest.raises(BundleFileError, match=r"query/model\.onnx is missing"):
        Encoder.load(folder)


def test_a_query_by_table_searches_documents_by_graph(by_table, encoder):
    folder, _ = by_table("bow", special_tokens="zero_dims")
    loaded = Encoder.load(folder)
    texts = ["The jury decides who is guilty.", "Bread needs yeast."]
    index = Index.build(loaded.encode_documents(texts), texts)

    assert index.search(loaded.encode_query("guilty jury"))[0].text == texts[0]
    assert loaded.encode_query("").active_dims == 0
    assert loaded.encode_queries(["jury", "", "bread"]).active_dims.tolist() == [1, 0, 1]
    assert loaded.explain("guilty jury", texts[0]).score > 0


def test_neither_graph_nor_onnxruntime_is_loaded_for_it(by_table, overwrite, run_python):
    folder, _ = by_table("idf")
    overwrite(folder / GRAPH, b"\0" * (folder / GRAPH).stat().st_size)
    script = """
    import sys
    from spladelet import Encoder
    print(Encoder.load(sys.argv[1]).encode_query("guilty jury").active_dims)
    assert "onnxruntime" not in sys.modules
    """

    result = run_python(script, folder)
    assert (result.stdout, result.stderr) == ("2\n", "")


@pytest.mark.parametrize(
    "content",
    [
        b"garbage",
        b"",
        as_file(np.ones(5, np.float32)),
        as_file(np.ones(30522, np.float64)),
        as_file(np.full(30522, np.nan, np.float32)),
        as_file(np.full(30522, -1, np.float32)),
        as_file(np.ones((30522, 1), np.float32)),
        as_file(np.ones(30522, ">f4")),
        as_file(np.ones(30522, bool)),
        as_file(np.full(30522, np.inf, np.float32)),
        as_file(np.ones(30522, np.float32))[:-4],
        as_file(np.ones(30522, np.float32)) + b"more",
        as_file(np.ones(3, np.float32)).replace(b"(3,)", b"(9999999999999999,)"),
        as_file(np.ones(3, np.float32)).replace(b"(3,)", b"(-3,)"),
        as_file(np.ones(3, np.float32)).replace(b"(3,)", b"((((("),
        as_file(np.ones(3, np.float32)).replace(b"'<f4'", b"'\xff\xff'"),
        b"\x93NUMPY\x01\x00\xff\xff",
        b"\x93NUMPY\x09\x00\xff\xff",
        bytes(1 << 20),
    ],
)
def test_a_table_that_is_none_is_refused(by_table, content):
    folder, _ = by_table("idf", content)

    with pytest.raises(BundleFileError, match=r"query_weights\.npy"):
        Encoder.load(folder)


def test_a_pickled_table_is_refused_unread(by_table, tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "exploded"), "w")

    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb()], object), allow_pickle=True)
    folder, _ = by_table("idf", buffer.getvalue())

    with pytest.raises(BundleFileError, match="is no array of 30522 float32"):
        Encoder.load(folder)
    assert not (tmp_path / "exploded").exists()


def add_token(folder, number, *, special):
    raw = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
    token = {**raw["added_tokens"][0], "id": number, "content": "[NEW]", "special": special}
    raw["added_tokens"].append(token)
    return json.dumps(raw).encode()


@pytest.mark.parametrize("mode", ["same", "bow", "idf", "lexical"])
@pytest.mark.parametrize("special", [True, False])
def test_a_tokenizer_of_more_terms_than_the_model_is_refused(by_table, replace_file, mode, special):
    folder, _ = by_table(mode)
    replace_file(folder, TOKENIZER, add_token(folder, 30522, special=special))

    with pytest.raises(BundleFileError, match="has term 30522, and the model 30522 terms"):
        Encoder.load(folder)


@pytest.mark.parametrize("mode", ["bow", "lexical"])
def test_a_term_beyond_the_table_is_a_bundle_error(by_table, replace_file, mode):
    # As many terms as the model has, but one of them has a number of its own.
    folder, _ = by_table(mode)
    raw = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
    raw["model"]["vocab"]["cat"] = 40_000
    replace_file(folder, TOKENIZER, json.dumps(raw).encode())

    with pytest.raises(BundleError, match=r"term 40000 \(cat\)|the graph failed"):
        Encoder.load(folder).encode_query("cat")


@pytest.mark.parametrize("mode", ["idf", "lexical", "separate"])
def test_a_mode_whose_files_are_not_listed_is_refused(copy_bundle, redescribe, mode):
    folder = copy_bundle()
    redescribe(folder, query_mode=mode)

    with pytest.raises(BundleFormatError, match="the list of files lacks query"):
        Bundle.open(folder)
