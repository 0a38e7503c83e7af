"""The direction of imports: rooms stand above each other, and no arrow runs back or in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import spladelet
import spladelet_export

# A room may import from those below it, and from itself; what is in no room is the ground.
ROOMS = "cli server engines evaluation explaining encoder index lexical bundle".split()
NEVER = {("encoder", "index"), ("index", "encoder"), ("index", "bundle"), ("lexical", "bundle")}
PACKAGES = {
    package.__name__: Path(package.__path__[0]) for package in (spladelet, spladelet_export)
}


def modules(package):
    top = PACKAGES[package]
    for path in sorted(top.rglob("*.py")):
        parts = path.relative_to(top).with_suffix("").parts
        yield ".".join([package, *(part for part in parts if part != "__init__")]), path


def imported(name, path, known):
    """Return the modules that one imports, those for type checking included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (module if module in known else node.module for module in inner)


def arrows(package):
    """Return who imports whom; the package's own door, which loads all when asked, left out."""
    known = dict(modules(package))
    found = {name: set(imported(name, path, known)) - {name} for name, path in known.items()}
    del found[package]
    return {name: others - {package} for name, others in found.items()}


def room(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else "ground"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_imports_go_in_a_circle(package):
    try:
        TopologicalSorter(arrows(package)).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_rooms_import_only_from_those_below():
    floors = {name: place for place, name in enumerate([*ROOMS, "ground"])}
    wrong = {
        f"{name} -> {other}"
        for name, others in arrows("spladelet").items()
        for other in others
        if floors[room(name)] > floors[room(other)] or (room(name), room(other)) in NEVER
    }
    assert wrong == set()


def test_nothing_lies_deeper_than_two_levels_and_no_two_modules_have_one_name():
    names = [name for package in PACKAGES for name, _ in modules(package)]
    own = [name for name in names if name not in PACKAGES]
    last = [name.rsplit(".", 1)[1] for name in own]
    allowed = {
        "cli",
        "errors",
        "__main__",
        "encoder",
        "index",
        "checkpoint",
    }  # a room and its chief module
    assert max(name.count(".") for name in own) == 2
    assert {name for name in last if last.count(name) > 1} <= allowed


def test_only_the_command_prints():
    printing = {
        name
        for name, path in modules("spladelet")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "print"
    }
    assert printing <= {name for name, _ in modules("spladelet") if room(name) == "cli"}
