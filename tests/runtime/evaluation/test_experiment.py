"""Whole experiments against computations that share no code with the package."""

import math
from dataclasses import replace

import numpy as np
import pytest

from spladelet.errors import InputError, RunError
from spladelet.evaluation import (
    Collection,
    Settings,
    VectorCache,
    demo_collection,
    evaluate,
    read_collections,
    wins_and_losses,
)
from spladelet.lexical.analyzer import Analyzer

ALONE = "spladelet alone"

pytest.importorskip("ir_measures", reason="needs the extra `evaluate`")


@pytest.fixture(scope="module")
def demo():
    return demo_collection()


@pytest.fixture(scope="module")
def vectors(encoder, tmp_path_factory):
    return VectorCache(encoder, tmp_path_factory.mktemp("vectors"))


@pytest.fixture(scope="module")
def outcome(vectors, demo):
    return evaluate(vectors, demo, Settings(fusion="weighted", share=0.5))


def test_ndcg_is_that_of_dense_products_and_a_formula(encoder, demo, outcome):
    documents = encoder.encode_documents([f"{d.title} {d.text}" for d in demo.documents])
    scores = encoder.encode_queries(demo.queries.values()).to_csr() @ documents.to_csr().T
    total = 0.0
    for row, (query, grades) in zip(scores.toarray(), demo.qrels.items(), strict=True):
        (answer,) = grades
        order = sorted(
            ((score, d.id) for score, d in zip(row, demo.documents, strict=True) if score > 0),
            reverse=True,
        )[:10]
        gain = next((1 / math.log2(i + 2) for i, (_, d) in enumerate(order) if d == answer), 0.0)
        assert outcome.systems[ALONE].values["nDCG@10"][query] == pytest.approx(gain, abs=1e-6)
        total += gain
    assert outcome.systems[ALONE].figures()["nDCG@10"] == pytest.approx(
        total / len(demo.qrels), abs=1e-4
    )


def test_bm25_is_lucenes_formula(demo, outcome):
    """k1 1.2, b 0.75 over words, summed one by one."""
    words = Analyzer("english").words
    bags = [words(d.content) for d in demo.documents]
    mean = np.mean([len(bag) for bag in bags])
    for query, text in demo.queries.items():
        expected = {}
        holders = {word: sum(word in bag for bag in bags) for word in words(text)}
        for document, bag in zip(demo.documents, bags, strict=True):
            score = 0.0
            for word in words(text):
                frequency = bag.count(word)
                idf = math.log(1 + (len(bags) - holders[word] + 0.5) / (holders[word] + 0.5))
                norm = 1.2 * (1 - 0.75 + 0.75 * len(bag) / mean)
                score += idf * frequency / (frequency + norm)
            if score > 0:
                expected[document.id] = score
        found = outcome.systems["bm25"].run[query]
        assert found == pytest.approx(expected, rel=1e-4)


def test_the_model_is_searched_with_its_words(outcome):
    alone, words = outcome.systems[ALONE].run, outcome.systems["bm25"].run
    for query, found in outcome.model.run.items():
        for document, score in found.items():
            parts = alone[query].get(document, 0.0) + 0.8 * words[query].get(document, 0.0)
            assert score == pytest.approx(parts, rel=1e-5)
        assert set(found) == set(alone[query]) | set(words[query])


def test_the_model_comes_first_then_the_baseline_then_their_fusion(outcome):
    assert list(outcome.systems) == ["spladelet", ALONE, "bm25", f"{ALONE} + bm25"]
    assert outcome.systems["bm25"].comparison is None
    comparison = outcome.model.comparison
    assert comparison.wins + comparison.losses + comparison.ties == 40
    figures = [system.figures()["nDCG@10"] for system in outcome.systems.values()]
    assert comparison.difference == pytest.approx(figures[0] - figures[2])


def test_a_fusion_that_gives_the_other_nothing_is_the_model(vectors, demo):
    found = evaluate(vectors, demo, Settings(fusion="weighted", share=1.0))
    alone, fused = found.systems[ALONE], found.systems[f"{ALONE} + bm25"]
    assert fused.values["RR@10"] == alone.values["RR@10"]


def test_wins_are_wins_and_losses_are_losses(encoder, outcome):
    wins, losses = wins_and_losses(encoder, outcome, 3)
    assert len(wins) == 3
    assert all(e.ours > e.theirs for e in wins)
    assert all(e.ours < e.theirs for e in losses)
    first = wins[0]
    assert first.our_rank == 1 / outcome.model.values["RR@10"][first.query_id]
    assert first.relevant.id in outcome.collection.qrels[first.query_id]
    assert any(not term.in_text and term.source for term in first.terms)
    weights = [term.weight for term in first.terms]
    assert weights == sorted(weights, reverse=True)


def test_without_a_baseline_nothing_is_compared(encoder, vectors, demo):
    found = evaluate(vectors, demo, Settings(baseline=None))
    assert list(found.systems) == ["spladelet", ALONE]
    assert found.model.comparison is None
    assert wins_and_losses(encoder, found) == ([], [])


def test_documents_with_the_querys_id_are_left_out_unless_kept(vectors, collection_folder):
    (small,) = read_collections(collection_folder)
    query, answer = "1", "cat"
    same = replace(
        small,
        queries={answer if q == query else q: text for q, text in small.queries.items()},
        qrels={answer if q == query else q: grades for q, grades in small.qrels.items()},
    )
    dropped = evaluate(vectors, same, Settings(baseline=None))
    assert answer not in dropped.model.run[answer]
    assert dropped.model.values["RR@10"][answer] == 0.0
    assert "which BEIR's convention drops: 1" in "\n".join(dropped.notes)
    kept = evaluate(vectors, same, Settings(baseline=None, keep_same_ids=True))
    assert kept.model.values["RR@10"][answer] == 1.0
    assert kept.notes == ()


def test_another_run_can_be_the_baseline(vectors, demo, outcome):
    other = {query: dict(found) for query, found in outcome.model.run.items()}
    found = evaluate(vectors, demo, Settings(baseline="dense"), runs={"dense": other})
    assert list(found.systems) == ["spladelet", ALONE, "dense"]
    assert found.model.comparison.ties == 40


def test_a_run_named_bm25_takes_its_place(vectors, demo):
    given = {query: {demo.documents[0].id: 1.0} for query in demo.queries}
    found = evaluate(vectors, demo, runs={"bm25": given})
    assert found.systems["bm25"].run == given


def test_a_run_of_other_queries_is_refused(vectors, demo):
    with pytest.raises(RunError, match="none of the queries of demo"):
        evaluate(vectors, demo, runs={"dense": {"other": {"d": 1.0}}})


def test_two_systems_of_one_name_are_refused(vectors, demo, outcome):
    with pytest.raises(InputError, match="two systems are named 'spladelet'"):
        evaluate(vectors, demo, runs={"spladelet": outcome.model.run})


def test_an_unknown_baseline_is_refused(vectors, demo):
    with pytest.raises(InputError, match="baseline 'dense' is none of the runs"):
        evaluate(vectors, demo, Settings(baseline="dense"))


def test_no_document_at_all(vectors):
    empty = Collection("none", [], {"q": "cats"}, {"q": {"gone": 1}})
    found = evaluate(vectors, empty)
    assert found.model.figures()["nDCG@10"] == 0.0
    assert found.systems["bm25"].figures()["nDCG@10"] == 0.0


@pytest.mark.parametrize(
    "settings",
    [
        {"fusion": "sum"},
        {"share": 1.5},
        {"share": math.nan},
        {"depth": 0},
        {"depth": 2.0},
        {"measures": []},
    ],
)
def test_settings_that_make_no_sense(settings):
    with pytest.raises(InputError, match=r"expected|at least one"):
        Settings(**settings)


def test_depth_bounds_every_system(vectors, demo):
    found = evaluate(vectors, demo, Settings(depth=3, fusion="rrf"))
    assert max(len(f) for s in found.systems.values() for f in s.run.values()) == 3


def run_of(collection, score=1.0):
    return {query: {collection.documents[0].id: score} for query in collection.queries}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\nb", "a\x00b", "\ud800"])
def test_names_that_no_file_can_have_are_refused(vectors, demo, name):
    with pytest.raises(InputError, match="expected a name that a file can have"):
        evaluate(vectors, demo, runs={name: run_of(demo)})


def test_a_run_with_the_name_of_a_fusion_is_refused(vectors, demo):
    runs = {"spladelet + bm25": run_of(demo)}
    with pytest.raises(InputError, match=r"two systems are named 'spladelet \+ bm25'"):
        evaluate(vectors, demo, Settings(fusion="rrf"), runs=runs)


def test_there_must_be_something_to_fuse_with(vectors, demo):
    with pytest.raises(InputError, match="nothing to fuse with"):
        evaluate(vectors, demo, Settings(baseline=None, fusion="rrf"))


def test_what_a_run_lacks_and_what_the_collection_lacks_is_noted(vectors, demo):
    run = {"question-1": {"gone": 1.0, demo.documents[0].id: 0.5}}
    notes = "\n".join(evaluate(vectors, demo, runs={"dense": run}).notes)
    assert "queries that run 'dense' does not have, counted as 0: 39" in notes
    assert "documents of run 'dense' that are not in the collection: 1" in notes


def test_a_depth_below_a_cutoff_is_noted(vectors, demo):
    found = evaluate(vectors, demo, Settings(depth=50, measures=["nDCG@10", "R@100", "AP"]))
    assert "only 50 documents a query were found, so R@100 is lower" in found.notes


@pytest.mark.parametrize("queries", [{}, {"other": "text"}])
def test_queries_and_judgements_must_be_of_the_same(vectors, demo, queries):
    with pytest.raises(InputError, match="expected the same, and at least one"):
        evaluate(vectors, replace(demo, queries=queries))


def test_wrong_measures_are_found_before_anything_is_encoded(demo):
    with pytest.raises(InputError, match="is unknown"):
        evaluate(None, demo, Settings(measures=["nope"]))
