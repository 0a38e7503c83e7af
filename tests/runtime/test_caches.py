"""Where caches lie, on each system."""

import os
import sys
from pathlib import Path

import pytest

from spladelet.caches import cache_folder, private_folders


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return a home of this test, with no other setting."""
    for name in ("SPLADELET_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("linux", ".cache/spladelet"),
        ("freebsd14", ".cache/spladelet"),
        ("darwin", "Library/Caches/spladelet"),
        ("win32", "AppData/Local/spladelet/spladelet/Cache"),
    ],
)
def test_each_system_has_its_place(place, monkeypatch, platform, expected):
    monkeypatch.setattr(sys, "platform", platform)

    assert cache_folder() == place / expected


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", "spladelet"),
        ("win32", "LOCALAPPDATA", "spladelet/spladelet/Cache"),
    ],
)
def test_what_the_user_set_comes_first(place, monkeypatch, platform, variable, expected):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(place / "mine"))
    assert cache_folder() == place / "mine" / expected

    monkeypatch.setenv(variable, "relative")  # to be ignored, as the standard says
    assert cache_folder().is_relative_to(place)
    monkeypatch.setenv("SPLADELET_CACHE", str(place / "ours"))
    assert cache_folder() == place / "ours"


def test_platformdirs_would_say_the_same(place):
    platformdirs = pytest.importorskip("platformdirs", reason="platformdirs is not installed")

    assert cache_folder() == Path(platformdirs.user_cache_dir("spladelet"))


def test_folders_are_ours_alone_and_made_when_their_turn_comes(place, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(place / "temporary"))
    (first, second) = private_folders("things")

    assert first == cache_folder() / "things"
    assert second.parent == place / "temporary"
    if os.name != "nt":
        assert {folder.stat().st_mode & 0o777 for folder in (first, second)} == {0o700}
    second.rmdir()
    next(private_folders("things"))
    assert not second.exists()


def test_nobody_without_a_home_writes_into_the_current_folder(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as it does without one
    monkeypatch.setattr("tempfile.tempdir", str(place / "temporary"))

    assert [folder.parent for folder in private_folders("things")] == [place / "temporary"]
    assert [path.name for path in place.iterdir()] == ["temporary"]
