"""Packages of extras that are missing, or broken."""

import json

import pytest

from spladelet import extras
from spladelet.errors import MissingDependencyError


def test_a_package_that_is_there_is_loaded():
    assert extras.load("json", "reading", "reading JSON") is json


@pytest.mark.parametrize("module", ["no_such_package", "no_such_package.inner"])
def test_a_missing_package_is_named_with_its_extra(module):
    with pytest.raises(MissingDependencyError) as caught:
        extras.load(module, "purring", "purring")
    assert str(caught.value) == (
        "purring needs no_such_package, which is not installed. Install it with "
        "`pip install 'spladelet[purring]'`."
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("import no_such_package", "No module named 'no_such_package'"),
        ("from json import purr", "cannot import name 'purr' from 'json'"),
        ("from broken_package import inner", "cannot import name 'inner' from partially"),
    ],
)
def test_a_package_whose_own_imports_fail_is_said_to_be_broken(
    tmp_path, monkeypatch, content, reason
):
    (tmp_path / "broken_package.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(
        MissingDependencyError, match=f"cannot be imported: {reason}.*Install it again"
    ):
        extras.load("broken_package", "purring", "purring")
