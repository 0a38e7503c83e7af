"""Where the parts of a checkpoint are: which folder encodes queries, which documents, and how.

Three layouts: a plain Hugging Face masked language model; the same with a table of query weights
beside it (OpenSearch's idf.json or query_token_weights.txt); and sentence-transformers'
SparseEncoder (modules.json), also with a Router (once Asym) that sends queries and documents
different ways. Modules are known by the last part of their type, which releases have moved about.
Does not say what weights mean: see `checkpoint`.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spladelet_export.checkpoint.checkpoint_files import inside, read_json
from spladelet_export.errors import CheckpointError

_KINDS = {
    "MLMTransformer": "encoder",
    "Transformer": "encoder",
    "SpladePooling": "pooling",
    "SparseStaticEmbedding": "table",
    "IDF": "table",
    "Router": "router",
    "Asym": "router",
}
# What a side's texts may go through.
_ROUTES = (["encoder", "pooling"], ["table"], ["encoder", "pooling", "table"])
# A table of query weights beside a plain checkpoint.
TABLES = ("idf.json", "query_token_weights.txt")


@dataclass(frozen=True, slots=True)
class _Module:
    """A module: its kind, or its own name if it is of none that is known here, and its folder."""

    name: str
    folder: Path

    @property
    def kind(self) -> str:
        return _KINDS.get(self.name, self.name)


@dataclass(frozen=True, slots=True)
class Route:
    """What the texts of one side go through.

    Attributes:
        encoder: The folder of the masked language model; None if there is none.
        pooling: The settings of its pooling.
        table: The folder of a table with a weight for each term; None if there is none.
    """

    encoder: Path | None
    pooling: Mapping[str, Any] = field(default_factory=dict)
    table: Path | None = None


def read_routes(top: Path) -> tuple[Route, Route]:
    """Return what queries and what documents go through.

    Raises:
        CheckpointError: Modules of other kinds are among it, or it leads out of the checkpoint.
    """
    modules = read_json(top / "modules.json", list)
    if modules is None:
        has_table = any((top / name).is_file() for name in TABLES)
        return Route(None, {}, top) if has_table else Route(top), Route(top)
    if not all(isinstance(module, dict) for module in modules):
        raise CheckpointError(
            f"{top}/modules.json does not list modules. Get the checkpoint again."
        )
    chain = [
        _module(top, str(module.get("type", "")), module.get("path"), "modules.json")
        for module in modules
    ]
    if chain and chain[0].kind == "router":
        router = _Router.read(chain[0].folder, top)
        return tuple(_route([*router.modules(side), *chain[1:]], top) for side in _SIDES)  # type: ignore[return-value]
    both = _route(chain, top)
    return both, both


_SIDES = ("query", "document")


@dataclass(frozen=True, slots=True)
class _Router:
    """sentence-transformers' Router: named routes, and which texts take which."""

    folder: Path
    top: Path
    types: Mapping[str, Any]
    structure: Mapping[str, Any]
    mappings: Mapping[Any, str]

    @classmethod
    def read(cls, folder: Path, top: Path) -> "_Router":
        path = folder / "router_config.json"
        raw = read_json(path, dict) or read_json(folder / "config.json", dict) or {}
        types, structure = raw.get("types"), raw.get("structure")
        if not isinstance(types, dict) or not isinstance(structure, dict):
            raise CheckpointError(
                f"{path} does not say which modules its routes have. Get the checkpoint again."
            )
        parameters = raw.get("parameters")
        stated = parameters.get("route_mappings") if isinstance(parameters, dict) else None
        try:
            mappings = {ast.literal_eval(key): str(name) for key, name in (stated or {}).items()}
        except (ValueError, SyntaxError, AttributeError, TypeError, RecursionError) as error:
            raise CheckpointError(f"{path} has route_mappings {stated!r:.60}: {error}.") from error
        return cls(folder, top, types, structure, mappings)

    def modules(self, side: str) -> list[_Module]:
        """Return the modules of a side's route."""
        keys = ((side, "text"), (side, None), (None, "text"), (None, None))
        name = next((self.mappings[key] for key in keys if key in self.mappings), side)
        listed = self.structure.get(name)
        is_list = isinstance(listed, list) and all(isinstance(part, str) for part in listed)
        if not is_list or not listed:
            raise CheckpointError(
                f"{self.top} has no route for {side} texts, only {', '.join(self.structure)}. Only "
                "models with routes for query and document can be exported."
            )
        return [
            _module(
                self.folder, str(self.types.get(name, "")), name, "router_config.json", self.top
            )
            for name in listed
        ]


def _module(folder: Path, kind: str, path: object, where: str, top: Path | None = None) -> _Module:
    name = kind.rsplit(".", 1)[-1]
    if not isinstance(path, str):
        raise CheckpointError(
            f"{folder}/{where} has a module with path {path!r}; expected a folder's name. Get the "
            "checkpoint again."
        )
    return _Module(name, inside(top or folder, folder / path, where))


def _route(chain: Sequence[_Module], top: Path) -> Route:
    if [module.kind for module in chain] not in _ROUTES:
        names = ", ".join(module.name for module in chain)
        raise CheckpointError(
            f"{top} is made of the modules {names or 'none'}; expected a masked "
            "language model and SpladePooling, or a table of query weights. A dense encoder has "
            "no term weights to export."
        )
    folders = {module.kind: module.folder for module in chain}
    pooling = read_json(folders["pooling"] / "config.json", dict) if "pooling" in folders else None
    return Route(folders.get("encoder"), pooling or {}, folders.get("table"))
