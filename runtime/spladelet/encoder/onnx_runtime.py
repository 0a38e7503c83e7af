"""ONNX Runtime, imported so that it sends nothing home.

From 1.29 on it reports its use over the network, and keeps a file of it in the user's folder,
unless a variable of the environment tells it not to before its first import. Does not undo that an
application has imported it before.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from spladelet.errors import MissingDependencyError
from spladelet.forks import unforked

_VARIABLE = "ORT_DISABLE_TELEMETRY"


def load_onnx_runtime() -> Any:  # noqa: ANN401 - an untyped module
    """Import ONNX Runtime without its telemetry.

    Raises:
        MissingDependencyError: It cannot be imported, or not on this system.
    """
    try:
        with unforked(), no_telemetry():
            import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            f"ONNX Runtime cannot be imported: {error}. Install it again with `pip install "
            "--force-reinstall onnxruntime`."
        ) from error
    return onnxruntime


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Import what imports ONNX Runtime; what the environment says already is respected.

    The variable is read at the import, so it need not stay: the environment is the application's.
    """
    if _VARIABLE in os.environ:
        yield
        return
    os.environ[_VARIABLE] = "1"
    try:
        yield
    finally:
        os.environ.pop(_VARIABLE, None)
