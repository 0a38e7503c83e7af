"""Where weights come from: the word of the text at whose position the model gives a term most."""

import random
from dataclasses import replace

import numpy as np
import pytest

from spladelet import Encoder, read_documents
from spladelet.bundle.description import DESCRIPTION, EXPLAIN
from spladelet.bundle.folder import Bundle
from spladelet.encoder.encoding import OVERLAP
from spladelet.errors import BundleError, BundleGraphError, InputError, ModelMismatchError

KITTEN = "Why does my kitten make a vibrating noise?"


@pytest.fixture(scope="module")
def demo(encoder):
    from importlib.resources import files

    return list(read_documents(str(files("spladelet") / "data" / "demo.jsonl")))


@pytest.mark.parametrize("side", ["query", "document"])
def test_weights_are_the_encoders_to_the_bit(encoder, demo, side):
    encode = encoder.encode_query if side == "query" else encoder.encode_document
    for document in demo[::10]:
        found = encoder.explain_terms(document.content, side=side)
        assert {term.term_id: term.weight for term in found} == encode(document.content).to_dict()
        weights = [term.weight for term in found]
        assert weights == sorted(weights, reverse=True)


def test_added_words_say_which_word_added_them(encoder):
    sources = {t.term: t.source for t in encoder.explain_terms(KITTEN, side="query")}

    assert sources["cat"].word == "kitten"
    assert sources["vibration"].word == "vibrating"
    start = KITTEN.index("kitten")
    assert (sources["cat"].start, sources["cat"].end) == (start, start + len("kitten"))


def test_spans_are_words_of_the_text(encoder, demo):
    for document in demo[::20]:
        text = document.content
        for term in encoder.explain_terms(text):
            source = term.source
            if not source.special:
                assert source.word == text[source.start : source.end] != ""
                assert source.word.strip() == source.word
            else:
                assert (source.start, source.end) == (0, 0)
                assert source.word.startswith("[")


def test_without_its_source_word_a_terms_weight_falls(encoder, demo):
    terms = [
        (document.content, term)
        for document in demo[::3]
        for term in encoder.explain_terms(document.content)
        if not term.source.special
    ]
    cases = random.Random(0).sample(terms, 500)
    cut = [text[: t.source.start] + text[t.source.end :] for text, t in cases]
    vectors = encoder.encode_documents(cut, progress=False)
    fell = sum(
        vector.to_dict().get(term.term_id, 0.0) < term.weight
        for vector, (_, term) in zip(vectors, cases, strict=True)
    )
    assert fell >= 475


def test_of_a_long_text_all_windows_are_looked_at(encoder):
    text = "Snow falls in winter. " * 200 + "A kitten purrs."
    beginning, whole = encoder.sources(text), encoder.sources(text, overlap=OVERLAP)
    cat = next(i for i in whole if encoder.term(i) == "cat")

    assert cat not in beginning
    assert whole[cat].start >= text.index("kitten")
    assert text[whole[cat].start : whole[cat].end] == whole[cat].word == "kitten"
    vectors = encoder.encode_documents([text], overlap=OVERLAP, progress=False)
    terms = encoder.explain_terms(text, overlap=OVERLAP)
    assert {term.term_id: term.weight for term in terms} == vectors[0].to_dict()


@pytest.mark.parametrize("text", ["", "   ", "\ud83d", "\x00", "🦊", "猫が鳴く", "x" * 3000])
def test_odd_texts(encoder, text):
    terms = encoder.explain_terms(text)

    assert {t.term_id: t.weight for t in terms} == encoder.encode_document(text).to_dict()


def test_several_texts_have_the_reasons_that_each_has_alone(encoder, demo):
    texts = [document.content for document in demo[:9]] + ["", "snow", "x " * 700]

    assert encoder.sources_of_several(texts) == [encoder.sources(text) for text in texts]
    assert encoder.sources_of_several([]) == []


def test_only_the_terms_of_a_vector_are_explained(encoder):
    vector = encoder.encode_query(KITTEN, max_active_dims=3)
    terms = encoder.explain_terms(KITTEN, vector, side="query")

    assert len(terms) == 3
    assert all(term.source for term in terms)
    with pytest.raises(ModelMismatchError):
        encoder.explain_terms(KITTEN, replace(vector, model="other"))
    with pytest.raises(InputError, match="side"):
        encoder.sources(KITTEN, side="both")
    with pytest.raises(InputError, match="str"):
        encoder.sources(3)


def test_a_term_of_a_table_comes_from_its_own_token(copy_bundle, redescribe):
    folder = copy_bundle()
    redescribe(folder, query_mode="bow")
    encoder = Encoder.load(folder)
    text = "snow on the roofs, and snow again"
    terms = encoder.explain_terms(text, side="query")

    assert {t.term_id: t.weight for t in terms} == encoder.encode_query(text).to_dict()
    for term in terms:
        assert term.in_text
        assert term.source.word.startswith(term.term.removeprefix("##"))
        assert term.source.start == text.index(term.source.word)  # where it first stands


def test_an_explanation_takes_sources(encoder):
    text = "They purr when they are content. Cats."
    plain = encoder.explain(KITTEN, text)
    why = plain.with_sources(encoder.sources(KITTEN, side="query"), encoder.sources(text))

    assert all(term.query_source is None for term in plain.terms)
    assert [term.term for term in why.words] == [term.term for term in plain.words]
    cats = next(term for term in why.words if term.term == "cats")
    assert (cats.query_source.word, cats.document_source.word) == ("kitten", "Cats")
    assert why.score == plain.score


def test_nothing_is_loaded_until_it_is_asked(encoder):
    fresh = Encoder.load()
    fresh.encode_query(KITTEN)
    graphs = fresh._document._graphs
    assert graphs.tracer._session is None
    fresh.sources(KITTEN)
    assert graphs.tracer._session is not None


def test_a_bundle_without_the_graph_says_so(copy_bundle, overwrite):
    folder = copy_bundle()
    description = Bundle.open(folder).description
    overwrite(folder / DESCRIPTION, replace(description, auxiliary={}).to_json().encode())
    (folder / EXPLAIN).unlink()
    encoder = Encoder.load(folder)

    assert encoder.fingerprint == Encoder.load().fingerprint
    assert not encoder.can_trace
    with pytest.raises(BundleGraphError, match=r"no explain\.onnx.*spladelet-export explain"):
        encoder.sources(KITTEN)


def test_a_listed_graph_that_is_not_there_is_passed_over(copy_bundle):
    folder = copy_bundle()
    (folder / EXPLAIN).unlink()

    assert not Encoder.load(folder).can_trace
    assert Bundle.open(folder).verify() == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cafe\u0301 noir", {"cafe\u0301", "noir"}),
        ("猫は" + "な" * 60, {"猫", "は" + "な" * 3}),
    ],
)
def test_words_end_where_readers_see_them_end(encoder, text, words):
    found = {source.word for source in encoder.sources(text).values() if not source.special}
    assert found & words
    assert all(len(word) <= 40 for word in found)


def test_a_word_at_the_border_of_windows_is_whole(encoder):
    text = "word " * 508 + "photosynthesis in leaves"
    found = encoder.sources(text, overlap=32).values()
    assert "photosynthesis" in {source.word for source in found}
    assert all(source.word in text.split() for source in found if not source.special)


@pytest.mark.parametrize("content", [b"", b"\x08\x01", b"not a graph at all"])
def test_a_damaged_graph_spoils_explanations_alone(copy_bundle, overwrite, content):
    folder = copy_bundle()
    entry = Bundle.open(folder).description.auxiliary[EXPLAIN]
    overwrite(folder / EXPLAIN, content.ljust(entry.size, b"\0")[: entry.size])
    encoder = Encoder.load(folder)

    assert len(encoder.encode_query(KITTEN).term_ids)
    with pytest.raises(BundleError):
        encoder.sources(KITTEN)
    with pytest.raises(BundleError, match="sha256"):
        Bundle.open(folder).verify()


def test_a_graph_that_lies_of_positions_does_no_harm(encoder, monkeypatch):
    graph = encoder._document._graphs.tracer
    run = graph._run

    def lying(input_ids, mask):
        weights, positions = run(input_ids, mask)
        return weights, positions + np.where(positions % 2, 1 << 40, -(1 << 40))

    monkeypatch.setattr(graph, "_run", lying)
    assert all(source.word for source in encoder.sources(KITTEN).values())


def test_a_graph_outside_of_the_folder_explains_nothing(copy_bundle, overwrite):
    folder = copy_bundle()
    text = (folder / DESCRIPTION).read_text()
    overwrite(folder / DESCRIPTION, text.replace(f'"{EXPLAIN}"', '"../explain.onnx"').encode())
    with pytest.raises(BundleError, match="leads out of"):
        Bundle.open(folder)
