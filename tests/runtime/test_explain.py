"""Explaining a score: the parts sum to the whole, and each says whose word it is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spladelet import Document, Index

QUERY = "Why does my cat purr?"
DOCUMENT = "Cats purr when they are content, but purring can also mean pain."

WORDS = st.lists(
    st.sampled_from("cat cats kitten purr purring snow yeast dough ☃ unbelievable the , ?".split()),
    max_size=12,
).map(" ".join)


@pytest.fixture(scope="session")
def explanation(encoder):
    return encoder.explain(QUERY, DOCUMENT)


@pytest.fixture(scope="session")
def by_term(explanation):
    return {term.term: term for term in explanation.terms}


@pytest.fixture(scope="session")
def by_word(explanation):
    return {word.term: word for word in explanation.words}


@settings(max_examples=15)
@given(WORDS, WORDS)
def test_terms_and_words_sum_to_the_score_of_search(encoder, query, document):
    index = Index.build(encoder.encode_documents([document]), [document])
    asked = encoder.encode_query(query)
    hits = index.search(asked)
    score = hits[0].score if hits else 0.0

    result = encoder.explain(query, document, lexical=index.word_scores(asked, 0))

    assert result.score == pytest.approx(score, rel=1e-5)
    lexical = sum(word.score for word in result.lexical)
    assert sum(term.score for term in result.terms) + lexical == pytest.approx(score, rel=1e-5)
    assert sum(word.score for word in result.words) + lexical == pytest.approx(score, rel=1e-5)
    assert lexical == pytest.approx(hits[0].lexical if hits else 0.0, rel=1e-5)
    assert result.lexical_share == pytest.approx(lexical / score if score else 0.0)
    assert 0.0 <= result.added_share <= 1.0


@settings(max_examples=8)
@given(WORDS, WORDS)
def test_every_shared_term_is_in_exactly_one_word(encoder, query, document):
    result = encoder.explain(query, document)
    shared = set(encoder.encode_query(query).to_dict()) & set(
        encoder.encode_document(document).to_dict()
    )

    assert sorted(term.term_ids[0] for term in result.terms) == sorted(shared)
    assert sorted(i for word in result.words for i in word.term_ids) == sorted(shared)


def test_a_term_has_its_weights_and_their_product(encoder, explanation):
    query, document = encoder.encode_query(QUERY), encoder.encode_document(DOCUMENT)

    for term in explanation.terms:
        assert term.query_weight == query.to_dict()[term.term_ids[0]]
        assert term.document_weight == document.to_dict()[term.term_ids[0]]
        assert term.score == term.query_weight * term.document_weight


def test_the_largest_share_comes_first(explanation):
    for parts in (explanation.terms, explanation.words):
        scores = [part.score for part in parts]
        assert scores == sorted(scores, reverse=True)


def test_terms_say_in_which_text_they_stand(encoder, explanation, by_term):
    query = {i for _, ids in encoder.query_words(QUERY) for i in ids}
    document = {i for _, ids in encoder.document_words(DOCUMENT) for i in ids}

    for term in explanation.terms:
        assert term.in_query == (term.term_ids[0] in query)
        assert term.in_document == (term.term_ids[0] in document)
    assert (by_term["cat"].in_query, by_term["cat"].in_document) == (True, False)
    assert (by_term["cats"].in_query, by_term["cats"].in_document) == (False, True)
    assert (by_term["pu"].in_query, by_term["pu"].in_document) == (True, True)


def test_the_pieces_of_a_word_are_shown_as_that_word(by_term, by_word):
    pieces = by_term["pu"], by_term["##rr"]

    word = by_word["purr"]

    assert not {"pu", "##rr"} & set(by_word)
    assert set(word.term_ids) == {piece.term_ids[0] for piece in pieces}
    for share in ("score", "query_weight", "document_weight"):
        assert getattr(word, share) == pytest.approx(sum(getattr(piece, share) for piece in pieces))
    assert word.in_query
    assert word.in_document


def test_words_of_one_piece_stay_terms(by_term, by_word):
    assert by_word["cat"] == by_term["cat"]


def test_the_added_share_is_that_of_terms_not_in_both_texts(explanation):
    added = sum(t.score for t in explanation.terms if not (t.in_query and t.in_document))

    assert explanation.added_share == pytest.approx(added / explanation.score)
    assert 0.0 < explanation.added_share < 1.0


@pytest.mark.parametrize(("query", "document"), [("", "cats"), ("cats", ""), ("", "")])
def test_an_empty_text_shares_nothing(encoder, query, document):
    result = encoder.explain(query, document)

    assert (result.score, result.terms, result.words, result.added_share) == (0.0, (), (), 0.0)


def test_a_document_is_explained_with_its_title(encoder):
    document = Document("1", "They purr.", "Cats")

    assert encoder.explain("cats", document) == encoder.explain("cats", "Cats They purr.")


def test_the_last_word_that_the_model_reads_is_explained(encoder):
    document = "international " * 320 + "kitten"

    assert encoder.document_words(document)[-1][0] == "kitten"
    (term,) = [t for t in encoder.explain("kitten", document).terms if t.term == "kitten"]
    assert term.in_document
