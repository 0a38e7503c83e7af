"""The demo corpus, and what the default model is for: answers that share no word with the question.

Most questions must find their document, not all: it is a small model.
"""

import json
import re
from importlib.resources import files

import pytest

from spladelet import Index, read_documents

# Words that carry no subject; what questions and documents may share.
STOP_WORDS = set(
    """
    a about after again against all also am an and any are as at away be because been before being
    between both but by can could did do does doing down each end few for from further get give had
    has have having he her here hers him his how i if in into is it its itself just let like made
    make makes many may me might more most much must my no nor not of off on once one only or other
    our out over own same she should so some such take than that the their them then there these
    they this those through to too under until up upon use used very was we were what when where
    which while who whom whose why will with would you your
    """.split()
)


def stems(text):
    """Return the content words of a text by their first five letters."""
    return {word[:5] for word in re.findall(r"[a-z]+", text.lower()) if word not in STOP_WORDS}


@pytest.fixture(scope="session")
def questions():
    """Return a function that reads a file of questions as (question, id) pairs."""

    def read(path):
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [(record["question"], record["id"]) for record in records]

    return read


@pytest.fixture(scope="session")
def ranks(encoder):
    """Return a function that gives the rank of each question's document; None if not found."""

    def rank(documents, pairs):
        index = Index.build(encoder.encode_documents(documents), documents)
        queries = encoder.encode_queries(question for question, _ in pairs)
        found = [[hit.id for hit in hits] for hits in index.search_many(queries, len(documents))]
        return [
            ids.index(identity) + 1 if identity in ids else None
            for ids, (_, identity) in zip(found, pairs, strict=True)
        ]

    return rank


@pytest.fixture(scope="session")
def demo_questions(questions):
    return questions(files("spladelet") / "data" / "demo-questions.jsonl")


@pytest.fixture(scope="session")
def demo():
    return list(read_documents(str(files("spladelet") / "data" / "demo.jsonl")))


def test_the_demo_corpus_has_two_hundred_different_documents(demo):
    assert len(demo) == 200
    assert len({document.id for document in demo}) == 200
    assert len({document.text for document in demo}) == 200
    assert all(document.title and document.text for document in demo)


def test_every_question_has_its_document(demo, demo_questions, data, questions):
    eight = list(read_documents(data / "eight-documents.jsonl"))

    assert {i for _, i in demo_questions} <= {d.id for d in demo}
    assert {i for _, i in questions(data / "eight-questions.jsonl")} == {d.id for d in eight}
    assert len(demo_questions) == 40


def test_the_eight_questions_share_no_word_with_their_documents(data, questions):
    documents = {d.id: d.content for d in read_documents(data / "eight-documents.jsonl")}
    pairs = questions(data / "eight-questions.jsonl")

    assert len(pairs) == 8
    for question, identity in pairs:
        assert len(stems(question)) >= 2
        assert stems(question) & stems(documents[identity]) == set()


def test_for_most_of_the_eight_questions_the_right_document_comes_first(data, questions, ranks):
    documents = list(read_documents(data / "eight-documents.jsonl"))

    found = ranks(documents, questions(data / "eight-questions.jsonl"))

    assert found.count(1) >= 6, found


def test_for_many_demo_questions_the_right_document_is_among_the_first_three(
    demo, demo_questions, ranks
):
    found = ranks(demo, demo_questions)

    assert sum(rank is not None and rank <= 3 for rank in found) >= 16, found
