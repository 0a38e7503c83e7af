"""The exporter's modules import one way: only what stands below them."""

import ast
from pathlib import Path

import spladelet_export

HOUSE = Path(spladelet_export.__file__).parent
# Of each floor, only those under it are imported, and a room's own modules without a circle.
FLOORS = (
    {"errors", "conformance_texts"},
    {"checkpoint", "graph", "whole_folder", "card"},
    {"int8", "checks", "torch_export", "logits_folder", "amending"},
    {"explain_graphs", "conformance_files"},
    {"bundle_writer"},
    {"export"},
    {"rewriting"},
    {"cli", "__init__"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def names():
    """Return every module by its path below the package, without the packages' own files."""
    paths = (path.relative_to(HOUSE).with_suffix("") for path in HOUSE.rglob("*.py"))
    return {path.as_posix().replace("/", ".") for path in paths}


def imports(module):
    """Return what a module imports of the package, anywhere in it."""
    tree = ast.parse((HOUSE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    known = names()
    for node in froms:
        top, _, rest = (node.module or "").partition(".")
        if top == "spladelet_export" and rest:
            yield from {rest, *(f"{rest}.{alias.name}" for alias in node.names)} & known


def room(module):
    return module.partition(".")[0]


def test_every_module_has_a_floor():
    assert {room(module) for module in names()} == FLOOR.keys()


def test_imports_go_down():
    upwards = [
        (module, other)
        for module in names()
        for other in imports(module)
        if room(other) != room(module) and FLOOR[room(other)] >= FLOOR[room(module)]
    ]
    assert upwards == []
