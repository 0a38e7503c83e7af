"""Recipes: what is known of real checkpoints; `--write` puts their table into models/recipes."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spladelet import Encoder
from spladelet.bundle.description import ACTIVATIONS, POOLINGS, QUERY_MODES, TOKEN_RULES
from spladelet_export import CheckpointError, export_checkpoint
from spladelet_export.checkpoint.checkpoint import read_checkpoint
from spladelet_export.checkpoint.families import FAMILIES
from spladelet_export.checkpoint.recipes import Recipe, find_recipe, recipes
from spladelet_export.cli import main

README = Path(__file__).parents[2] / "models" / "recipes" / "README.md"
KNOWN = recipes()
EXPORTED = [recipe for recipe in KNOWN if not recipe.refused]
GOLDEN = [recipe for recipe in KNOWN if recipe.golden]
_MARK = "<!-- table -->\n"


def table():
    """Draw what the recipes say, for the README beside them."""
    lines = [
        "| checkpoint | supported | queries | special tokens | verified |",
        "|---|---|---|---|---|",
    ]
    for recipe in KNOWN:
        if recipe.refused:
            lines.append(f"| {recipe.source} | refused: {recipe.refused} | | | message tested |")
            continue
        family = FAMILIES[recipe.family].architecture
        zeroed = recipe.semantics["special_tokens"] == "zero_dims"
        verified = "family and query mode, on random weights"
        if recipe.golden:
            verified += "; Anserini's impacts, when online"
        lines.append(
            f"| {recipe.source} | {family}{', gated' if recipe.gated else ''} | "
            f"{recipe.query_mode} | {'left out' if zeroed else 'kept'} | {verified} |"
        )
    return "\n".join(lines) + "\n"


def test_the_readmes_table_is_what_the_recipes_say():
    assert README.read_text().partition(_MARK)[2] == table()


@pytest.mark.parametrize("recipe", KNOWN, ids=lambda recipe: recipe.source)
def test_a_recipe_makes_sense(recipe):
    assert recipe.source.count("/") == 1
    assert all(figure > 1 for figure in recipe.published.values())
    if recipe.refused:
        assert recipe.refused.endswith(".")
        return
    assert recipe.family in FAMILIES
    assert recipe.query_mode in QUERY_MODES
    allowed = {"pooling": POOLINGS, "activation": ACTIVATIONS}
    allowed |= {"special_tokens": TOKEN_RULES, "unknown_token": TOKEN_RULES}
    assert recipe.semantics.keys() == allowed.keys()
    assert all(value in allowed[name] for name, value in recipe.semantics.items())


def test_there_are_recipes_for_those_that_people_use():
    assert len(EXPORTED) >= 20
    assert {recipe.query_mode for recipe in EXPORTED} == set(QUERY_MODES)
    assert len(GOLDEN) == 3


def test_the_list_has_every_recipe(capsys):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [recipe.source for recipe in KNOWN]
    assert main(["--list", "--json"]) == 0
    assert [raw["source"] for raw in json.loads(capsys.readouterr().out)] == [
        recipe.source for recipe in KNOWN
    ]


@pytest.mark.parametrize("recipe", [r for r in KNOWN if r.refused], ids=lambda r: r.source)
def test_what_cannot_work_is_refused_before_it_is_downloaded(recipe, tmp_path):
    with pytest.raises(CheckpointError, match="cannot be exported"):
        export_checkpoint(f"{recipe.source}@main", tmp_path / "out")


def test_a_hub_id_picks_its_recipe_in_any_case_and_revision():
    assert find_recipe("NAVER/Splade-v3@abc").source == "naver/splade-v3"
    assert find_recipe("somebody/else") is None


def test_a_recipe_says_what_the_files_do_not(checkpoint):
    semantics = {"special_tokens": "zero_dims", "activation": "log1p_log1p"}
    recipe = Recipe("a/b", family="bert", semantics=semantics)

    found = recipe.apply(read_checkpoint(checkpoint("bert")))
    for side in (found.query, found.document):
        assert (side.special_tokens, side.activation) == ("zero_dims", "log1p_log1p")


@pytest.mark.parametrize("change", [{"family": "roberta"}, {"query_mode": "idf"}])
def test_a_checkpoint_that_is_not_the_recipes_is_refused(checkpoint, change):
    recipe = replace(Recipe("a/b", family="bert"), **change)

    with pytest.raises(CheckpointError, match=r"a/b has .*but its recipe expects"):
        recipe.apply(read_checkpoint(checkpoint("bert")))


def test_a_folder_is_read_by_the_recipe_that_is_named(checkpoint, tmp_path, capsys):
    source = "opensearch-project/opensearch-neural-sparse-encoding-v1"
    arguments = [str(checkpoint("bert")), "-o", str(tmp_path / "out"), "--recipe", source]
    assert main(arguments) == 0
    encoder = Encoder.load(tmp_path / "out")

    assert encoder.description.document.special_tokens == "zero_dims"
    special = {"[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"}
    assert not special & set(encoder.decode(encoder.encode_document("the cat 日")))
    assert main([*arguments[:-1], "some/other"]) == 1
    assert "no recipe for 'some/other'" in capsys.readouterr().err


@pytest.mark.online
@pytest.mark.parametrize("recipe", GOLDEN, ids=lambda recipe: recipe.source)
def test_a_checkpoint_from_the_hub_gives_the_published_impacts(recipe, tmp_path):
    export_checkpoint(recipe.source, tmp_path / "out")
    encoder = Encoder.load(tmp_path / "out")

    weights = encoder.decode(encoder.encode_query(recipe.golden["text"]))
    special = {"[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"}
    found = {t: round(w / 5 * 256) for t, w in weights.items() if t not in special}
    expected = recipe.golden["impacts"]
    assert found.keys() == expected.keys()
    differences = [abs(found[term] - expected[term]) for term in expected]
    assert np.max(differences) <= 1  # rounded on another machine


if __name__ == "__main__" and "--write" in sys.argv:
    head = README.read_text().partition(_MARK)[0]
    README.write_text(head + _MARK + table())
