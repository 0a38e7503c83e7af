"""Only the package's own errors leave its public functions."""

import pytest

from spladelet.errors import SpladeletError
from spladelet_export import CheckpointError, ExportError, export_checkpoint, fuse_logits
from spladelet_export.cli import main
from spladelet_export.errors import GraphError, door

PanicException = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        ValueError("embedded null byte"),
        RecursionError("too deep"),
        MemoryError(),
        KeyError("weight"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
        PanicException("index out of bounds"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_of_others_become_ours(error):
    with pytest.raises(ExportError, match=f"the work failed: {type(error).__name__}") as caught:
        with door("the work failed", CheckpointError):
            raise error

    assert type(caught.value) is CheckpointError
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [GraphError("of ours"), KeyboardInterrupt(), SystemExit(3)])
def test_our_own_and_the_users_wish_to_stop_pass(error):
    with pytest.raises(type(error)) as caught, door("the work failed"):
        raise error

    assert caught.value is error


@pytest.mark.parametrize("place", ["a\0b", "x" * 300, "\ud800"])
def test_names_that_no_file_can_have(place, checkpoint, tmp_path):
    with pytest.raises(SpladeletError):
        export_checkpoint(checkpoint("bert"), tmp_path / place)
    with pytest.raises(SpladeletError):
        export_checkpoint(tmp_path / place, tmp_path / "out")
    with pytest.raises(SpladeletError):
        fuse_logits(tmp_path / place, tmp_path / place, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 100, b"\x08\x07"], ids=["empty", "noise", "cut"]
)
def test_a_file_that_is_no_graph(content, checkpoint, tmp_path):
    (tmp_path / "model.onnx").write_bytes(content)

    with pytest.raises(ExportError):
        fuse_logits(
            tmp_path / "model.onnx", checkpoint("bert") / "tokenizer.json", tmp_path / "out"
        )


def test_the_command_says_it_in_a_sentence(checkpoint, tmp_path, capfd):
    arguments = [str(checkpoint("bert")), "-o", str(tmp_path / "out"), "--also-logits", "x" * 300]

    assert main(arguments) == 1
    assert capfd.readouterr().err.startswith("error: the export failed: OSError: [Errno 36] File")
