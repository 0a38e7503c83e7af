"""Packages that come with an extra: loaded when first used, with a clear message when missing."""

from importlib import import_module
from types import ModuleType

from spladelet.errors import MissingDependencyError
from spladelet.forks import unforked


def load(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a package of an extra.

    Args:
        module: What to import.
        extra: The extra of spladelet that brings it.
        purpose: What it is needed for, as the start of a sentence.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        with unforked():
            return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise  # it is there, and one of its own imports is not
        raise MissingDependencyError(
            f"{purpose} needs {module.partition('.')[0]}. Install it with "
            f"`pip install 'spladelet[{extra}]'`."
        ) from error
