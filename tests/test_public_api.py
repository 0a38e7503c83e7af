"""The public names: complete, sorted, documented and annotated."""

import importlib
import inspect
import pkgutil
import re

import pytest

import spladelet
from spladelet import errors
from spladelet.errors import SpladeletError

MODULES = sorted(
    module.name for module in pkgutil.walk_packages(spladelet.__path__, prefix="spladelet.")
)


def public_members():
    """Return (name, object) of every public class, function and method of the package."""
    found = {}
    for name in ["spladelet", *MODULES]:
        module = importlib.import_module(name)
        for label, item in vars(module).items():
            if not label.startswith("_") and getattr(item, "__module__", None) == name:
                found[f"{name}.{label}"] = item
    for label, item in list(found.items()):
        if inspect.isclass(item):
            found |= {f"{label}.{name}": member for name, member in public_methods(item)}
    return sorted(found.items())


def public_methods(cls):
    for name, member in vars(cls).items():
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(function):
            yield name, function


PUBLIC = [(name, item) for name, item in public_members() if callable(item)]
FUNCTIONS = [(name, item) for name, item in PUBLIC if inspect.isfunction(item)]
ERRORS = [item for _, item in PUBLIC if inspect.isclass(item) and issubclass(item, SpladeletError)]


def test_all_is_sorted_and_names_what_dir_shows():
    assert spladelet.__all__ == sorted(spladelet.__all__)
    assert dir(spladelet) == spladelet.__all__


def test_every_name_of_all_exists_and_no_other_is_made_up():
    for name in spladelet.__all__:
        assert getattr(spladelet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Encodr'"):
        _ = spladelet.Encodr


def test_a_star_import_brings_all_names():
    space = {}
    exec("from spladelet import *", space)

    assert set(spladelet.__all__) <= set(space)


@pytest.mark.parametrize("module", ["spladelet", *MODULES])
def test_every_module_says_what_it_is_for(module):
    assert importlib.import_module(module).__doc__


@pytest.mark.parametrize(("name", "item"), PUBLIC, ids=[name for name, _ in PUBLIC])
def test_every_public_name_is_documented(name, item):
    documented = (item.__doc__ or "").strip()

    assert documented
    # A dataclass without docstring gets its signature as one.
    assert not documented.startswith(f"{name.rpartition('.')[2]}(")


@pytest.mark.parametrize(("name", "function"), FUNCTIONS, ids=[name for name, _ in FUNCTIONS])
def test_every_public_function_is_annotated(name, function):
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]

    assert signature.return_annotation is not signature.empty
    assert [p.name for p in parameters if p.annotation is p.empty] == []


def test_the_search_above_finds_the_public_names():
    # Else the tests of each name would hold for none.
    names = {name for name, _ in PUBLIC}

    assert {"spladelet.index.index.Index", "spladelet.index.index.Index.search"} <= names
    assert {
        "spladelet.vector.SparseVectors.active_dims",
        "spladelet.index.index.Index.open",
    } <= names
    assert errors.BundleGraphError in ERRORS


@pytest.mark.parametrize("error", ERRORS, ids=[error.__name__ for error in ERRORS])
def test_every_error_stands_in_the_tree_under_its_base(error):
    lines = re.findall(r"^([│├└─ ]*)(\w+Error)\b", errors.__doc__ or "", re.MULTILINE)
    depths = {name: len(indent) for indent, name in lines}

    assert error.__name__ in depths
    base = error.__bases__[0].__name__
    if error is not SpladeletError:
        assert depths[error.__name__] == depths[base] + 4


def test_the_tree_names_no_error_that_does_not_exist():
    named = set(re.findall(r"\b\w+Error\b", errors.__doc__ or "")) - {"ValueError"}

    assert named == {error.__name__ for error in ERRORS}
