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
        MissingDependencyError: It is not installed, or cannot be imported.
    """
    return _load(module, f"'spladelet[{extra}]'", purpose)


def required(module: str, distribution: str, purpose: str) -> ModuleType:
    """Import a package that comes with ours, unless somebody left it out; see `load`.

    Args:
        module: What to import.
        distribution: What brings it.
        purpose: What it is needed for, as the start of a sentence.
    """
    return _load(module, distribution, purpose)


def _load(module: str, wanted: str, purpose: str) -> ModuleType:
    package = module.partition(".")[0]
    try:
        with unforked():
            return import_module(module)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            raise MissingDependencyError(
                f"{purpose} needs {package}, which is not installed. Install it with "
                f"`pip install {wanted}`."
            ) from error
        # It is there, and what it imports itself is not, or is of another version.
        raise MissingDependencyError(
            f"{purpose} needs {package}, which is installed and cannot be imported: {error}. "
            f"Install it again with `pip install --force-reinstall {wanted}`."
        ) from error
