"""What is known of checkpoints that people use: one small file each, in models/recipes.

A recipe says what a checkpoint's own files do not (whether special tokens count, for example), and
what is to be found in them: another family or query mode than expected is an error, because then
the checkpoint is not the one that the recipe describes.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spladelet_export.checkpoint.checkpoint import Checkpoint
from spladelet_export.errors import CheckpointError

_FOLDERS = (
    Path(__file__).parents[1] / "recipes",  # installed
    Path(__file__).parents[3] / "models" / "recipes",  # in the repository
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is known of one checkpoint.

    Attributes:
        source: Its hub id.
        family: Its encoder family; None if it is refused.
        query_mode: How queries get their weights.
        semantics: What holds on both sides, by the names of `spladelet.bundle.Semantics`.
        revision: The commit that the recipe was written for; None if unknown.
        license: Its licence; None if unknown.
        gated: Whether the hub asks to accept terms first.
        refused: Why it cannot be exported; empty if it can.
        published: Its authors' figures, by measure.
        golden: A text and the impacts of its terms, round(weight / 5 * 256), from another
            implementation; empty if none is known.
    """

    source: str
    family: str | None = None
    query_mode: str = "same"
    semantics: Mapping[str, Any] = field(default_factory=dict)
    revision: str | None = None
    license: str | None = None
    gated: bool = False
    refused: str = ""
    published: Mapping[str, float] = field(default_factory=dict)
    golden: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, found: Checkpoint) -> Checkpoint:
        """Return the checkpoint with the recipe's semantics.

        Raises:
            CheckpointError: It is of another family or query mode than the recipe says.
        """
        family = None if found.family is None else found.family.model_type
        expected = {"family": self.family, "query_mode": self.query_mode}
        stated = {"family": family, "query_mode": found.query_mode}
        if stated != expected:
            raise CheckpointError(
                f"{self.source} has {stated}, but its recipe expects {expected}. The checkpoint "
                "has changed, or some of its files are missing: get it again."
            )
        return replace(
            found,
            query=replace(found.query, **self.semantics),
            document=replace(found.document, **self.semantics),
        )


def recipes() -> list[Recipe]:
    """Return all recipes, by source."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    paths = [] if folder is None else folder.glob("*.toml")
    found = [Recipe(**tomllib.loads(path.read_text(encoding="utf-8"))) for path in paths]
    return sorted(found, key=lambda recipe: recipe.source.lower())


def find_recipe(source: str) -> Recipe | None:
    """Return the recipe of a hub id, owner/name or owner/name@revision; None if there is none.

    Raises:
        CheckpointError: The checkpoint is known not to work; the message says why.
    """
    name = source.partition("@")[0].lower()
    found = next((recipe for recipe in recipes() if recipe.source.lower() == name), None)
    if found is not None and found.refused:
        raise CheckpointError(f"{found.source} cannot be exported. {found.refused}")
    return found
