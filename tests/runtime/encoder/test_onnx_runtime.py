"""Nothing of ours phones home: not even what we import."""

import pytest

SCRIPT = """
import os
import sys
{}
sys.stdout.write(os.environ.get("ORT_DISABLE_TELEMETRY", "unset"))
"""
ENCODE = 'from spladelet import Encoder; Encoder.load(threads=1).encode_query("cat")'


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    names = ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "XDG_DATA_HOME", "LOCALAPPDATA")
    return folder, dict.fromkeys(names, str(folder))


def test_encoding_leaves_nothing_in_the_users_folder(home, run_python):
    folder, env = home

    result = run_python(SCRIPT.format(ENCODE), env=env)

    # ONNX Runtime keeps what it means to send in a database there, from its import on
    assert (result.returncode, result.stderr) == (0, "")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("stated", ["unset", "0", "1"])
def test_the_environment_is_as_it_was(stated, home, run_python):
    variable = {} if stated == "unset" else {"ORT_DISABLE_TELEMETRY": stated}

    result = run_python(SCRIPT.format(ENCODE), env=home[1] | variable)

    assert result.stdout == stated
