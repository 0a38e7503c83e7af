"""Why hits were found: the same score, term by term, with the words behind them."""

import numpy as np
import pytest

from spladelet import Document, Index
from spladelet.encoder.encoding import Encoding
from spladelet.errors import InputError, ModelMismatchError
from spladelet.explaining import Explainer

DOCUMENTS = [
    Document("cats", "They purr when they are content.", "Cats"),
    Document("snow", "Snow falls in winter and covers the roofs."),
    Document("dough", "Yeast makes bread dough rise."),
]
QUERY = "Why does my kitten make a vibrating noise?"


@pytest.fixture(scope="module", params=["float32", "uint8"])
def index(encoder, request):
    vectors = encoder.encode_documents(DOCUMENTS)
    return Index.build(vectors, DOCUMENTS, weight_type=request.param)


@pytest.mark.parametrize("lexical", [None, 0, 2.5, "only"])
def test_parts_sum_to_the_score_of_the_hit(encoder, index, lexical):
    query = encoder.encode_query("why do cats purr in winter")
    explainer = Explainer(index, encoder, query, lexical=lexical)
    hits = index.search(query, 3, lexical=lexical)
    assert hits
    for hit in hits:
        why = explainer.explain(hit.number)
        assert why.score == pytest.approx(hit.score, rel=1e-5)
        parts = sum(term.score for term in why.terms) + sum(word.score for word in why.lexical)
        assert parts == pytest.approx(why.score)
        assert bool(why.terms) == (lexical != "only")


def test_sources_are_told_of_both_texts(encoder, index):
    query = encoder.encode_query(QUERY)
    why = Explainer(index, encoder, query).explain(0)
    cat = next(term for term in why.words if term.term == "cat")
    assert cat.query_source.word == "kitten"
    assert cat.document_source.word == "Cats"


def test_a_snippet_marks_what_stands_behind_the_score(encoder, index):
    found = Explainer(index, encoder, encoder.encode_query(QUERY)).snippet(0, width=60)
    assert found.text == DOCUMENTS[0].text
    assert found.title_marks[0].terms[0] == "cat"
    assert "purr" in [found.text[mark.start : mark.end] for mark in found.marks]


def test_several_are_explained_as_each_is_alone(encoder, index):
    explainer = Explainer(index, encoder, encoder.encode_query("why do cats purr in winter"))

    assert explainer.explain_several([2, 0, 1]) == [explainer.explain(n) for n in (2, 0, 1)]
    assert explainer.snippets([2, 0, 1]) == [explainer.snippet(n) for n in (2, 0, 1)]
    assert explainer.snippets([]) == []


def test_words_alone_need_no_model(encoder, index):
    words = Index.build(None, DOCUMENTS)
    for searched in (words, index):
        explainer = Explainer(searched, None, "snow in winter", lexical="only")
        assert {word.word for word in explainer.explain(1).lexical} == {"snow", "winter"}
        marks = explainer.snippet(1).marks
        assert [DOCUMENTS[1].text[m.start : m.end] for m in marks] == ["Snow", "winter"]


def test_what_was_not_found_has_score_0(encoder, index):
    query = encoder.encode_query("bread")
    why = Explainer(index, encoder, query, lexical=0).explain(1)
    assert why.score == pytest.approx(sum(term.score for term in why.terms))


def test_another_models_query_is_refused(encoder, index):
    query = encoder.encode_query("snow")
    object.__setattr__(query, "model", "other")
    with pytest.raises(ModelMismatchError):
        Explainer(index, encoder, query)


def test_of_documents_read_in_windows_all_windows_are_looked_at(encoder):
    text = "Bread rises. " * 300 + "A kitten purrs."
    documents = [Document("long", text)]
    (batch,) = encoder.encode_batches(documents, Encoding("merge"), progress=False)
    index = Index.build(batch[0], batch[1], encoding=Encoding("merge").to_dict())
    found = Explainer(index, encoder, encoder.encode_query("cat sounds")).snippet(0, width=60)
    assert "kitten" in found.text
    own = Explainer(index, encoder, encoder.encode_query("kitten purrs"))
    kitten = next(term for term in own.explain(0).words if term.term == "kitten")
    assert kitten.in_document
    assert not own.snippet(0, width=60).marks[0].added


@pytest.mark.parametrize("width", [0, -5, 2.5, "wide"])
def test_a_width_that_is_none_is_refused(encoder, index, width):
    with pytest.raises(InputError, match="width"):
        Explainer(index, encoder, encoder.encode_query("snow")).snippet(0, width=width)


def test_weights_among_are_those_of_the_whole_vector(encoder, index):
    query = encoder.encode_query("why do cats purr in winter")
    for number in range(len(index)):
        whole = index.vector(number).to_dict()
        some = index.vector(number, among=query).to_dict()
        assert some == {i: w for i, w in whole.items() if i in set(query.term_ids.tolist())}
    assert np.all(np.diff(index.vector(0, among=query).term_ids) > 0)
