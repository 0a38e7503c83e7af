"""The exporter's errors.

SpladeletError
└── ExportError                 an export did not succeed; nothing was written
    ├── CheckpointError         the checkpoint is not one that can be exported
    ├── GraphError              the exported graph has not the expected shape
    └── FidelityError           the bundle's vectors differ from the reference's
"""

from importlib import import_module

from spladelet.errors import MissingDependencyError, SpladeletError


class ExportError(SpladeletError):
    """An export did not succeed; nothing was written."""


class CheckpointError(ExportError):
    """The checkpoint is not one that can be exported."""


class GraphError(ExportError):
    """The exported graph has not the expected shape."""


class FidelityError(ExportError):
    """The bundle's vectors differ from the reference's."""


def require(*packages: str, extra: str = "export") -> None:
    """Raise MissingDependencyError unless all packages of an extra are there."""
    for package in packages:
        try:
            import_module(package)
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"exporting needs {error.name}, which is not installed. Install the exporter with "
                f"`pip install 'spladelet[{extra}]'`."
            ) from error
