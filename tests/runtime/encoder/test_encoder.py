"""Encoding: any text gives a clean vector, alone or among others, on any thread."""

import itertools
import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as LoadedTokenizer

from spladelet import Document, Encoder, SparseVector
from spladelet.bundle.description import TOKENIZER, Semantics
from spladelet.bundle.folder import Bundle
from spladelet.encoder.encoder import TEXTS_PER_WINDOW
from spladelet.encoder.notices import TruncationWarning
from spladelet.encoder.session import GraphSession
from spladelet.encoder.sides import TOKENS_PER_BATCH
from spladelet.errors import BundleGraphError, InputError, ModelMismatchError

# Of mixed lengths, with empty ones among them.
TEXTS = [
    "The cat purrs on the windowsill.",
    "",
    "Bread dough rises because yeast makes gas. " * 4,
    "snow",
    " \t\n",
    "Why do pipes burst in winter?",
    "雪が降る ☃ naïve café",
    "A jury decides whether the accused is guilty. " * 2,
]


@pytest.fixture(scope="session")
def vectors(encoder):
    return encoder.encode_documents(TEXTS)


def assert_close(left, right):
    """Compare two vectors as different batches make them: equal but for rounding."""
    one, other = (np.zeros(left.vocab_size, np.float32) for _ in range(2))
    one[left.term_ids], other[right.term_ids] = left.weights, right.weights
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert set(np.flatnonzero(one > 1e-4)) <= set(np.flatnonzero(other))
    assert set(np.flatnonzero(other > 1e-4)) <= set(np.flatnonzero(one))


@pytest.mark.parametrize("text", ["", " ", "\n\t \r\n", "\x00\x01\x02", "\u200b\u200e\ufeff"])
def test_a_text_with_nothing_to_read_gives_no_terms(encoder, text):
    for vector in (encoder.encode_query(text), encoder.encode_document(text)):
        assert vector.active_dims == 0
        assert vector.vocab_size == encoder.vocab_size


def test_a_text_is_found_again_in_its_terms(encoder):
    terms = encoder.decode(encoder.encode_document("cat"))

    assert next(iter(terms)) == "cat"
    assert len(terms) > 1


def test_vectors_know_their_model(encoder, vectors):
    assert vectors.model == vectors[0].model == encoder.fingerprint
    assert vectors.vocab_size == encoder.vocab_size == encoder.description.vocab_size


def test_order_is_kept_for_texts_of_mixed_lengths(encoder, vectors):
    assert len(vectors) == len(TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert_close(encoder.encode_document(text), vector)


def test_rows_are_clean_as_any_vector_is(vectors):
    for row in vectors:
        assert row == SparseVector(row.term_ids, row.weights, row.vocab_size)
        assert row.active_dims == len(row.weights)


@settings(max_examples=15)
@given(st.lists(st.text(max_size=60), max_size=5))
def test_any_text_gives_the_same_vector_among_others(encoder, texts):
    for text, vector in zip(texts, encoder.encode_documents(texts), strict=True):
        assert_close(encoder.encode_document(text), vector)


def test_the_same_texts_give_the_same_vectors_to_the_last_bit(encoder, vectors):
    assert list(encoder.encode_documents(TEXTS)) == list(vectors)


def test_texts_beyond_one_batch_and_one_window_keep_their_place(encoder):
    few, many = "cat", TEXTS_PER_WINDOW + 2
    assert 395 * 3 > TOKENS_PER_BATCH
    texts = [""] * many
    texts[0] = texts[-1] = few
    texts[5:400] = ["snow"] * 395

    vectors = encoder.encode_documents(texts)

    assert len(vectors) == many
    assert vectors.active_dims[1:5].tolist() == [0] * 4
    assert_close(vectors[0], vectors[-1])
    assert_close(vectors[-1], encoder.encode_document(few))
    assert_close(vectors[5], vectors[399])


def test_a_generator_of_texts_is_taken(encoder, vectors):
    assert list(encoder.encode_documents(text for text in TEXTS)) == list(vectors)


def test_no_texts_give_no_vectors(encoder):
    assert len(encoder.encode_queries([])) == 0
    assert len(encoder.encode_documents(iter(()))) == 0


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        (5, "5 (int)"),
        (float("inf"), "inf (float)"),
        (True, "True (bool)"),
        (np.array("cat"), "array('cat', dtype='<U3') (ndarray)"),
        (b"cat", "b'cat' (bytes)"),
        (["a"], "['a'] (list)"),
    ],
)
def test_what_is_no_text_is_refused_by_number_and_type(encoder, item, shown):
    for encode in (encoder.encode_queries, encoder.encode_documents):
        with pytest.raises(InputError) as caught:
            encode(["fine", item])
        assert f"text number 1 is {shown}; expected a str" in str(caught.value)
    with pytest.raises(InputError, match="text number 0"):
        encoder.encode_query(item)


@pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan")])
def test_what_tables_have_for_no_text_is_an_empty_text(encoder, missing):
    for encode in (encoder.encode_queries, encoder.encode_documents):
        assert encode(["cat", missing]).active_dims.tolist()[1] == 0
    assert encoder.encode_query(missing).active_dims == 0
    assert encoder.encode_document(missing).active_dims == 0
    assert encoder.query_words(missing) == encoder.document_words(missing) == []
    assert encoder.explain("cat", missing).score == encoder.explain(missing, "cat").score == 0


def test_queries_keep_their_texts_and_documents_do_not(encoder):
    queries = encoder.encode_queries(["cats", None, "snow"])

    assert queries.texts == ("cats", "", "snow")
    assert [query.text for query in queries] == ["cats", "", "snow"]
    assert encoder.encode_query("cats", max_active_dims=3).text == "cats"
    assert queries[0].prune(max_active_dims=2).text == "cats"
    documents = encoder.encode_documents(["cats"])
    assert (documents.texts, documents[0].text, documents.language) == (None, None, "en")
    ((batch, _),) = encoder.encode_batches([Document("d", "cats")])
    assert (batch.texts, batch.language) == (None, "en")


def test_strings_of_numpy_are_texts(encoder):
    texts = np.array(["cat", "snow"])

    assert list(encoder.encode_queries(texts)) == list(encoder.encode_queries(["cat", "snow"]))


@pytest.mark.parametrize("texts", [5, None, {"id": "text"}])
def test_what_gives_no_texts_is_refused(encoder, texts):
    for encode in (encoder.encode_queries, encoder.encode_documents):
        with pytest.raises(InputError, match=r"texts is .*expected a list"):
            encode(texts)


def test_other_objects_are_told_what_to_call(encoder, vectors):
    with pytest.raises(InputError, match="expected a Document"):
        encoder.split("a text")
    with pytest.raises(InputError, match="got SparseVectors, expected a SparseVector"):
        encoder.decode(vectors)
    with pytest.raises(InputError, match=r"Use Encoder\.load"):
        Encoder("default")
    for ask in (encoder.query_words, encoder.document_words):
        with pytest.raises(InputError, match=r"is 5 \(int\); expected a str"):
            ask(5)


def test_the_number_of_a_wrong_text_counts_on_over_windows(encoder):
    texts = itertools.chain(itertools.repeat("", TEXTS_PER_WINDOW + 7), [5])

    with pytest.raises(InputError, match=f"text number {TEXTS_PER_WINDOW + 7} "):
        encoder.encode_documents(texts)


@pytest.mark.parametrize("one", ["cat", b"cat", Document("1", "cat")])
def test_one_text_where_several_belong_is_refused(encoder, one):
    for encode in (encoder.encode_queries, encoder.encode_documents):
        with pytest.raises(InputError, match=f"got one {type(one).__name__} where several"):
            encode(one)


def test_a_document_is_encoded_as_title_and_text(encoder):
    document = Document("1", "They purr when content.", "Cats")

    assert encoder.encode_document(document) == encoder.encode_document(
        "Cats They purr when content."
    )


@pytest.mark.parametrize("limits", [{"max_active_dims": 5}, {"min_weight": 0.5}])
def test_limits_prune_each_vector_as_prune_does(encoder, vectors, limits):
    documents = encoder.encode_documents(TEXTS, **limits)
    queries = encoder.encode_queries(TEXTS, **limits)

    assert list(documents) == [vector.prune(**limits) for vector in vectors]
    assert list(queries) == [vector.prune(**limits) for vector in encoder.encode_queries(TEXTS)]
    assert len(documents.weights) < len(vectors.weights)


def test_limits_prune_one_text_too(encoder):
    limits = {"max_active_dims": 3, "min_weight": 0.01}

    assert encoder.encode_query("cat", **limits) == encoder.encode_query("cat").prune(**limits)
    assert encoder.encode_document("cat", **limits).active_dims == 3


def test_limits_of_numpy_are_numbers(encoder):
    limits = {"max_active_dims": np.int64(3), "min_weight": np.float32(0.01)}

    assert encoder.encode_query("cat", **limits).active_dims == 3


@pytest.mark.parametrize(
    "limits",
    [
        {"max_active_dims": 0},
        {"max_active_dims": 2.0},
        {"max_active_dims": True},
        {"max_active_dims": "5"},
        {"min_weight": -1.0},
        {"min_weight": float("nan")},
        {"min_weight": True},
        {"min_weight": "0.5"},
        {"min_weight": None},
        {"min_weight": 10**400},
    ],
)
def test_limits_that_make_no_sense_are_refused_before_any_text_is_read(encoder, limits):
    def texts():
        yield pytest.fail("a text was read")

    with pytest.raises(InputError, match=next(iter(limits))):
        encoder.encode_documents(texts(), **limits)


@pytest.fixture(scope="session")
def room(encoder):
    """Return how many tokens of a document the model reads, beside the two it adds itself."""
    return encoder.description.document.max_length - 2


def test_texts_that_are_cut_are_numbered_and_warned_of(encoder, room):
    long = "cat " * (room + 1)
    with pytest.warns(
        TruncationWarning, match=rf"2 of 4 texts .* {room + 2} tokens .* is number 1\)"
    ):
        vectors = encoder.encode_documents(["cat", long, "", long])

    assert vectors.truncated == (1, 3)


def test_the_numbers_of_cut_texts_count_on_over_windows(encoder, room):
    texts = itertools.chain(itertools.repeat("", TEXTS_PER_WINDOW + 3), ["cat " * (room + 1)])

    with pytest.warns(TruncationWarning, match=f"the first is number {TEXTS_PER_WINDOW + 3}"):
        assert encoder.encode_documents(texts).truncated == (TEXTS_PER_WINDOW + 3,)


def test_a_cut_text_is_encoded_as_what_was_read_of_it(encoder, room):
    with pytest.warns(TruncationWarning):
        cut = encoder.encode_document("cat " * room + "volcano " * 3000)

    assert_close(cut, encoder.encode_document("cat " * room))


def test_the_warning_of_one_query_names_the_callers_line(encoder):
    with pytest.warns(TruncationWarning) as caught:
        encoder.encode_query("cat " * 600)

    assert caught[0].filename == __file__


def test_a_text_that_just_fits_is_not_warned_of(encoder, room):
    assert encoder.encode_documents(["cat " * room]).truncated == ()


def test_a_length_limit_beyond_the_graphs_is_a_bundle_error(encoder, copy_bundle, redescribe, room):
    folder = copy_bundle()
    redescribe(folder, document=replace(encoder.description.document, max_length=10 * room))

    with pytest.raises(BundleGraphError, match="max_length"):
        Encoder.load(folder).encode_document("cat " * (2 * room))


def test_decode_names_terms_heaviest_first(encoder):
    number = LoadedTokenizer.from_file(str(encoder_path(encoder))).token_to_id("cat")

    decoded = encoder.decode(SparseVector([number, 100], [0.5, 2.0], encoder.vocab_size))

    assert list(decoded.items()) == [("[UNK]", 2.0), ("cat", 0.5)]


def test_decode_refuses_a_vector_of_another_model(encoder):
    with pytest.raises(ModelMismatchError):
        encoder.decode(SparseVector([1], [1.0], 10))
    with pytest.raises(ModelMismatchError):
        encoder.decode(SparseVector([1], [1.0], encoder.vocab_size, "f" * 64))


@pytest.mark.parametrize("threads", [0, -1, 2147483648, 2.0, True, "2"])
def test_what_is_no_number_of_threads_is_refused(bundle_folder, threads):
    with pytest.raises(InputError, match=r"threads is .*expected a whole number from 1"):
        Encoder(Bundle.open(bundle_folder), threads=threads)


def test_the_number_of_threads_hardly_matters_to_the_result(encoder, bundle_folder):
    alone = Encoder.load(bundle_folder, threads=1)

    assert_close(alone.encode_document(TEXTS[2]), encoder.encode_document(TEXTS[2]))


def test_many_threads_share_one_encoder_from_its_first_text_on(bundle_folder, vectors):
    shared = Encoder.load(bundle_folder)
    start = threading.Barrier(8)
    results = [None] * 8

    def work(number):
        start.wait()
        results[number] = list(shared.encode_documents(TEXTS))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert results == [list(vectors)] * 8


def test_a_relative_bundle_survives_a_change_of_folder(encoder, copy_bundle, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(copy_bundle("mine").parent)
    loaded = Encoder.load("mine")
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert loaded.encode_query("cat") == encoder.encode_query("cat")


def test_the_graph_is_loaded_at_the_first_text_and_not_before(bundle_folder):
    encoder = Encoder.load(bundle_folder)
    graph = encoder._document._graphs.model
    assert isinstance(graph, GraphSession)
    assert graph._session is None

    encoder.encode_query("cat")

    assert graph._session is not None


FORK_BEFORE_THE_FIRST_TEXT = """
import os
from spladelet import Encoder

encoder = Encoder.load()
read, write = os.pipe()
child = os.fork()
weights = repr(encoder.encode_query("the cat purrs").to_dict())
if child == 0:
    os.write(write, weights.encode())
    os._exit(0)
os.close(write)
with open(read) as pipe:
    assert pipe.read() == weights
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_child_forked_before_the_first_text_encodes_as_its_parent_does(run_python):
    result = run_python(FORK_BEFORE_THE_FIRST_TEXT)

    assert result.returncode == 0, result.stderr


def test_encoding_writes_nothing_to_standard_error(run_python):
    result = run_python("from spladelet import Encoder; Encoder.load().encode_query('cat')")

    assert (result.returncode, result.stderr) == (0, "")


def test_documents_are_encoded_where_there_is_no_standard_error(run_python):
    result = run_python("""
    import sys
    from spladelet import Encoder

    sys.stderr = None  # as under pythonw
    sys.stdout.write(str(len(Encoder.load().encode_documents(["cat", "snow"]))))
    """)

    assert result.stdout == "2"


def encoder_path(encoder):
    return encoder._document._graphs.model._bundle.path(TOKENIZER)


@pytest.fixture(scope="module")
def cat(encoder):
    return LoadedTokenizer.from_file(str(encoder_path(encoder))).token_to_id("cat")


@pytest.fixture
def edit_tokenizer(copy_bundle, replace_file):
    """Return a function that makes a copy of the bundle with an edited tokenizer.json."""

    def edit(change):
        folder = copy_bundle()
        raw = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
        change(raw)
        replace_file(folder, TOKENIZER, json.dumps(raw).encode())
        return folder

    return edit


@pytest.fixture
def encode_with(redescribe):
    """Return a function that encodes "cat" as query and document under rules for tokens."""

    def encode(folder, **rules):
        plain = Semantics()
        redescribe(folder, query=plain, document=replace(plain, **rules))
        loaded = Encoder.load(folder)
        return loaded.encode_query("cat"), loaded.encode_document("cat")

    return encode


def without(vector, term_id):
    weights = vector.to_dict()
    del weights[term_id]
    return SparseVector.from_dict(weights, vector.vocab_size)


def test_special_tokens_are_zeroed_where_the_bundle_says_so(edit_tokenizer, encode_with, cat):
    # No text gives the real ones a weight, so one that has is declared special.
    def declare(raw):
        raw["added_tokens"].append(
            {**raw["added_tokens"][0], "id": cat, "content": "cat", "special": True}
        )

    folder = edit_tokenizer(declare)
    query, kept = encode_with(folder)
    same_query, zeroed = encode_with(folder, special_tokens="zero_dims")
    _, unaffected = encode_with(folder, special_tokens="keep", unknown_token="zero_dims")

    assert query == same_query == kept == unaffected
    assert zeroed == without(kept, cat)


def test_the_unknown_token_is_zeroed_where_the_bundle_says_so(edit_tokenizer, encode_with, cat):
    folder = edit_tokenizer(lambda raw: raw["model"].update(unk_token="cat"))
    query, kept = encode_with(folder)
    same_query, zeroed = encode_with(folder, unknown_token="zero_dims")
    _, unaffected = encode_with(folder, unknown_token="keep", special_tokens="zero_dims")

    assert query == same_query == kept == unaffected
    assert zeroed == without(kept, cat)


def test_the_prompt_of_a_side_is_put_before_its_texts(encoder, copy_bundle, redescribe):
    folder = copy_bundle()
    redescribe(folder, query=replace(encoder.description.query, prompt="about snow: "))
    prompted = Encoder.load(folder)

    assert prompted.encode_query("cat") == encoder.encode_query("about snow: cat")
    assert prompted.encode_document("cat") == encoder.encode_document("cat")


def test_the_length_limit_of_a_side_is_the_bundles(encoder, copy_bundle, redescribe):
    folder = copy_bundle()
    redescribe(folder, query=replace(encoder.description.query, max_length=4))
    limited = Encoder.load(folder)

    with pytest.warns(TruncationWarning, match="longer than 4 tokens"):
        query = limited.encode_query("cat dog snow volcano")

    assert query == encoder.encode_query("cat dog")
    assert limited.encode_document("cat dog snow") == encoder.encode_document("cat dog snow")
