"""The exporter's errors.

SpladeletError
└── ExportError                 an export did not succeed; nothing was written
    ├── CheckpointError         the checkpoint is not one that can be exported
    ├── GraphError              the exported graph does not have the expected form
    └── FidelityError           the bundle's vectors differ from the reference's
"""

from collections.abc import Iterator
from contextlib import contextmanager

from spladelet import extras
from spladelet.encoder.onnx_runtime import no_telemetry
from spladelet.errors import SpladeletError


class ExportError(SpladeletError):
    """An export did not succeed; nothing was written."""


class CheckpointError(ExportError):
    """The checkpoint is not one that can be exported."""


class GraphError(ExportError):
    """The exported graph does not have the expected form."""


class FidelityError(ExportError):
    """The bundle's vectors differ from the reference's."""


@contextmanager
def door(what: str, kind: type[ExportError] = ExportError) -> Iterator[None]:
    """Let nothing out of a public function but the package's own errors.

    A checkpoint's files are other people's, and torch, transformers, onnx and tokenizers each have
    errors of their own for what is wrong with them; tokenizers' panics are no Exception even.

    Args:
        what: What did not succeed, as the beginning of a sentence.
        kind: The error to raise.
    """
    try:
        yield
    except SpladeletError:
        raise
    except BaseException as error:
        is_panic = type(error).__name__ == "PanicException"
        if not (isinstance(error, Exception) or is_panic):
            raise
        if isinstance(error, OSError):
            advice = "See that it is there, readable, and that there is room."
        else:
            advice = "If the files are whole, please report the checkpoint."
        raise kind(f"{what}: {type(error).__name__}: {error}. {advice}") from error


def require(*packages: str, extra: str = "export") -> None:
    """Raise MissingDependencyError unless all packages of an extra are there."""
    with no_telemetry():  # optimum imports ONNX Runtime
        for package in packages:
            extras.load(package, extra, "exporting")
