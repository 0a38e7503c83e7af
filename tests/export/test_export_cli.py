import json
import subprocess
import sys

import pytest

from spladelet.bundle.folder import Bundle
from spladelet_export.checks.fidelity_texts import built_in_texts
from spladelet_export.cli import main

BUILT_IN = len(built_in_texts())


def refused(capfd, arguments, *, steps=()):
    """Run a command that must fail; return the one sentence it says."""
    assert main([str(argument) for argument in arguments]) == 1

    out, err = capfd.readouterr()
    *progress, message = err.splitlines()
    assert out == ""
    assert progress == [f"{step} …" for step in steps]
    return message


def test_success_prints_the_figures(checkpoint, tmp_path, capfd):
    out = tmp_path / "out"

    assert main([str(checkpoint("bert")), "-o", str(out)]) == 0

    figures = Bundle.open(out).description.fidelity
    printed, progress = capfd.readouterr()
    assert printed.startswith(f"{out}: bert, 0.3 MB, 300 terms, max pooling, log1p\n")
    assert f"against torch, float32 on {BUILT_IN} texts" in printed
    assert f"difference {figures['max_abs_difference']:.1e}, 0 terms on one side only" in printed
    assert f"{figures['active_dims']:.0f} terms a text\n" in printed
    assert progress.splitlines() == [
        "reading the checkpoint …",
        "exporting the graph …",
        "fusing the pooling into it …",
        "comparing with torch, float32 …",
        "writing down vectors, for other languages …",
    ]


def test_json_is_the_description_and_nothing_else(checkpoint, tmp_path, capfd):
    out = tmp_path / "out"

    status = main(
        [str(checkpoint("distilbert-prompt")), "-o", str(out), "--json", "--name", "Mine"]
    )

    printed = capfd.readouterr().out
    assert status == 0
    assert json.loads(printed)["name"] == "Mine"
    assert json.loads(printed)["query"]["prompt"] == "the question: "
    assert printed.strip() == (out / "spladelet.json").read_text(encoding="utf-8").strip()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("more.txt", "river\nthe cat sat on the mat\n\nwinter\n"),
        ("more.jsonl", '{"text": "river"}\n{"title": "a", "text": "cat"}\n{"text": "winter"}\n'),
    ],
    ids=["lines", "jsonl"],
)
def test_more_texts_are_compared_on_request(checkpoint, tmp_path, capfd, name, content):
    (tmp_path / name).write_text(content)
    arguments = [checkpoint("bert"), "-o", tmp_path / "out", "--texts", tmp_path / name]

    assert main([str(argument) for argument in arguments]) == 0

    assert f"against torch, float32 on {BUILT_IN + 3} texts" in capfd.readouterr().out


class TestErrors:
    def test_no_such_checkpoint(self, tmp_path, capfd):
        message = refused(
            capfd, ["./nowhere", "-o", tmp_path / "out"], steps=["reading the checkpoint"]
        )

        assert message.startswith("error: there is no folder './nowhere'. Give a checkpoint's")
        assert list(tmp_path.iterdir()) == []

    def test_a_dense_encoder(self, edited, tmp_path, capfd):
        folder = edited("bert", {"config.json": {"architectures": ["BertModel"]}})

        message = refused(capfd, [folder, "-o", tmp_path / "out"], steps=["reading the checkpoint"])

        assert "states architecture BertModel" in message

    def test_an_output_that_is_something_else(self, checkpoint, tmp_path, capfd):
        (tmp_path / "mine.txt").write_text("mine")

        message = refused(capfd, [checkpoint("bert"), "-o", tmp_path])

        assert message.startswith(f"error: {tmp_path} exists and is not a bundle.")

    def test_no_such_texts(self, checkpoint, tmp_path, capfd):
        texts = tmp_path / "none.txt"

        message = refused(capfd, [checkpoint("bert"), "-o", tmp_path / "out", "--texts", texts])

        assert message == f"error: cannot read {texts}: No such file or directory."

    def test_texts_that_are_no_documents(self, checkpoint, tmp_path, capfd):
        texts = tmp_path / "bad.jsonl"
        texts.write_text('{"text": "fine"}\n{"text": 3}\n')

        message = refused(capfd, [checkpoint("bert"), "-o", tmp_path / "out", "--texts", texts])

        assert message.startswith(f"error: {texts}, line 2")

    @pytest.mark.parametrize(
        "arguments", [[], ["checkpoint"], ["-o", "out"], ["a", "b", "-o", "c"]]
    )
    def test_wrong_usage_exits_2(self, arguments, capfd):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)

        assert stopped.value.code == 2
        assert "usage: spladelet-export" in capfd.readouterr().err


# What a light installation is: the import system knows nothing of the extra's packages.
_LIGHT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "optimum", "onnx"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse())
from spladelet_export.cli import main
sys.exit(main(["checkpoint", "-o", {output!r}]))
"""


def test_a_light_installation_is_told_what_to_install(tmp_path):
    script = _LIGHT.format(output=str(tmp_path / "out"))

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: exporting needs torch, which is not installed.")
    assert "pip install 'spladelet[export]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("package", ["torch", "transformers", "onnx"])
def test_a_missing_package_of_the_extra_is_named_with_its_cure(
    package, tmp_path, capfd, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed

    message = refused(capfd, ["checkpoint", "-o", tmp_path / "out"])

    assert message.startswith(f"error: exporting needs {package}, which is not installed.")
    assert "pip install 'spladelet[export]'" in message
