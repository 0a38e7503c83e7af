import json
from dataclasses import replace

import pytest

from spladelet.evaluation import (
    Settings,
    VectorCache,
    evaluate,
    published,
    read_collections,
    to_dict,
    to_markdown,
    write_report,
)
from spladelet.evaluation.tables import BEIR_13, averages, published_for, published_means

pytest.importorskip("ir_measures", reason="needs the extra `evaluate`")


@pytest.fixture(scope="module")
def outcome(encoder, tmp_path_factory):
    from runtime.evaluation.small_collection import write_collection

    folder = write_collection(tmp_path_factory.mktemp("set") / "scifact")
    (collection,) = read_collections(folder)
    return evaluate(VectorCache(encoder), collection, Settings(fusion="rrf"))


def renamed(outcome, name, part_of="", value=None):
    """Return the outcome as of another collection; `value` replaces every measured value."""
    systems = outcome.systems
    if value is not None:
        systems = {
            label: replace(
                s, values={m: dict.fromkeys(values, value) for m, values in s.values.items()}
            )
            for label, s in systems.items()
        }
    collection = replace(outcome.collection, name=name, part_of=part_of)
    return replace(outcome, collection=collection, systems=systems)


def test_parts_of_a_collection_are_averaged_first(outcome):
    outcomes = [
        renamed(outcome, "scifact", value=1.0),
        renamed(outcome, "android", "cqadupstack", value=0.2),
        renamed(outcome, "unix", "cqadupstack", value=0.4),
    ]
    means = averages(outcomes)
    assert means["spladelet"]["nDCG@10"] == pytest.approx((1.0 + 0.3) / 2)
    assert "mean of 2 collections" in to_markdown(outcomes)


def test_markdown_has_every_figure_and_the_published_ones(outcome):
    text = to_markdown([outcome])
    for system in outcome.systems.values():
        assert f"| {system.name}" in text
        for value in system.figures().values():
            assert f"{value:.4f}" in text
    assert "Published nDCG@10: " in text
    assert "0.6647" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert len({len(line) for line in table}) == 1


def test_json_has_the_same_and_each_query_when_asked(outcome):
    found = json.loads(json.dumps(to_dict([outcome], per_query=True)))
    (collection,) = found["collections"]
    assert collection["name"] == "scifact"
    ours = collection["systems"]["spladelet"]
    assert ours["nDCG@10"] == pytest.approx(outcome.model.figures()["nDCG@10"])
    assert set(ours["queries"]["nDCG@10"]) == set(outcome.collection.queries)
    assert "queries" not in to_dict([outcome])["collections"][0]["systems"]["spladelet"]


@pytest.mark.parametrize("name", ["scifact", "SciFact", "beir-scifact-test"])
def test_published_figures_are_found_by_any_spelling(name):
    found = published_for(name, "nDCG@10")
    assert found["BM25 (title and text as two fields)"] == 0.6647


def test_parts_have_published_figures_too():
    assert published_for("cqadupstack/android", "nDCG@10") == published_for(
        "beir-cqadupstack-android", "nDCG@10"
    )
    assert published_for("cqadupstack/android", "nDCG@10")


def test_published_figures_name_their_source():
    for entry in published():
        assert entry.url.startswith("https://")
        assert entry.source
        assert all(0 < value < 1 for value in entry.values.values())


def test_a_report_has_it_all_and_needs_no_network(outcome, encoder, tmp_path):
    path = tmp_path / "report.html"
    write_report(path, [outcome, renamed(outcome, "other")], encoder)
    page = path.read_text(encoding="utf-8")
    assert page.count("<svg") == 8
    assert "Mean of the collections" in page
    for query in outcome.collection.queries.values():
        if query in page:
            break
    else:
        assert not outcome.model.comparison.wins
    for loaded in ("<script", "<link", "<img", "@import", 'src="http'):
        assert loaded not in page
    assert list(tmp_path.iterdir()) == [path]


def test_texts_cannot_break_out_of_a_report(outcome, encoder, tmp_path):
    evil = "<script>alert(1)</script> & <b>cats</b> purr"
    collection = outcome.collection
    documents = [replace(d, title=evil, text=evil) for d in collection.documents]
    queries = dict.fromkeys(collection.queries, evil)
    changed = replace(collection, documents=documents, queries=queries, name=evil)
    ours = dict.fromkeys(outcome.model.values["nDCG@10"], 1.0)
    theirs = dict.fromkeys(ours, 0.0)
    systems = dict(outcome.systems)
    systems["spladelet"] = replace(outcome.model, values={"nDCG@10": ours})
    systems["bm25"] = replace(systems["bm25"], values={"nDCG@10": theirs})
    del systems["spladelet alone + bm25"]
    path = tmp_path / "report.html"
    write_report(path, [replace(outcome, collection=changed, systems=systems)], encoder)
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_same_outcome_gives_the_same_report(outcome, encoder, tmp_path):
    for name in ("one.html", "two.html"):
        write_report(tmp_path / name, [outcome], encoder)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_figures_of_the_test_split_do_not_stand_beside_another(outcome):
    train = replace(outcome, collection=replace(outcome.collection, split="train"))
    assert "Published" not in to_markdown([train])


def test_the_mean_over_beirs_13_sets_has_published_ones_beside_it(outcome):
    outcomes = [renamed(outcome, name) for name in BEIR_13]
    figures = published_means(outcomes, "nDCG@10")
    assert figures["SPLADE-v3"] == 0.517
    assert figures["BM25 (title and text as two fields)"] == pytest.approx(0.4477, abs=1e-4)
    assert "Published mean nDCG@10: " in to_markdown(outcomes)
    assert to_dict(outcomes)["published_mean"] == figures
    assert published_means(outcomes[1:], "nDCG@10") == {}
    assert published_means(outcomes, "R@100") == {}


def test_nothing_is_an_empty_answer():
    assert to_dict([])["collections"] == []
    assert to_markdown([]) == ""


@pytest.mark.parametrize("name", ["$x$", "$\\foo$", "_hidden", "模型", "a & <b>"])
def test_any_name_can_stand_in_a_report(outcome, encoder, tmp_path, name):
    systems = {**outcome.systems, name: replace(outcome.systems["bm25"], name=name)}
    write_report(tmp_path / "r.html", [replace(outcome, systems=systems)], encoder)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "a & <b>" not in page
    assert page.count("<svg") == 4
