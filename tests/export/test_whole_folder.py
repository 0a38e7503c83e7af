"""A folder is replaced as a whole, or what was there stays and nothing is left beside it."""

from pathlib import Path

import pytest

from spladelet_export import ExportError
from spladelet_export.whole_folder import is_fixed, replacing_folder


def anything(target):
    """Allow whatever is there to be replaced."""


def contents(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def write(target, check, *actions):
    """Replace a folder, doing something meanwhile."""
    with replacing_folder(target, check) as folder:
        for action in actions:
            action(folder)


def fail(error):
    raise error


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old").write_text("mine")
    return folder


def test_it_appears_when_it_is_whole(target):
    with replacing_folder(target, anything) as folder:
        (folder / "new").write_text("made")
        (folder.with_name("scratch")).mkdir()
        assert contents(target) == {"old": "mine"}

    assert contents(target.parent) == {"out/new": "made"}
    assert [path.name for path in target.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [ValueError("a mistake"), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there_and_nothing_else(error, target):
    with pytest.raises(type(error)):
        write(target, anything, lambda f: (f / "new").write_text("half"), lambda f: fail(error))

    assert contents(target.parent) == {"out/old": "mine"}
    assert [path.name for path in target.parent.iterdir()] == ["out"]


def test_folders_above_are_made_and_go_again_unless_others_use_them(tmp_path):
    def late(folder):
        (tmp_path / "a/others").write_text("theirs")
        raise ValueError("late")

    with pytest.raises(ValueError, match="late"):
        write(tmp_path / "a/b/c", anything, late)

    assert contents(tmp_path) == {"a/others": "theirs"}
    assert not (tmp_path / "a/b").exists()


def test_a_folder_that_cannot_be_moved_leaves_the_old_one(target, monkeypatch):
    rename = Path.rename

    def rename_once(path, to):
        if path.name == "new":
            raise OSError(28, "No space left on device")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", rename_once)
    with pytest.raises(ExportError, match=r"cannot write .*out: No space left .*Nothing was left"):
        write(target, anything)

    assert contents(target.parent) == {"out/old": "mine"}


def test_what_somebody_puts_there_meanwhile_is_not_replaced(tmp_path):
    def check(target):
        if target.exists():
            raise ExportError("it is somebody's")

    def thesis(folder):
        (tmp_path / "out").mkdir()
        (tmp_path / "out/thesis").write_text("years of work")

    with pytest.raises(ExportError, match="somebody's"):
        write(tmp_path / "out", check, thesis)

    assert contents(tmp_path) == {"out/thesis": "years of work"}


def test_where_the_process_is_and_where_a_disk_is_mounted_cannot_be_renamed(tmp_path, monkeypatch):
    assert not is_fixed(tmp_path / "none")
    assert not is_fixed(tmp_path)
    assert is_fixed(Path(tmp_path.anchor))
    monkeypatch.chdir(tmp_path)
    assert is_fixed(Path())
