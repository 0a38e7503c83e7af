"""Turn SPLADE checkpoints into bundles that `spladelet` runs without torch.

The heavy packages (torch, transformers, optimum) come with the extra `export` and load when first
used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from spladelet_export.errors import CheckpointError, ExportError, FidelityError, GraphError

if TYPE_CHECKING:
    from spladelet_export.export import export_checkpoint

__all__ = ["CheckpointError", "ExportError", "FidelityError", "GraphError", "export_checkpoint"]


def __getattr__(name: str) -> object:
    if name != "export_checkpoint":
        raise AttributeError(f"module 'spladelet_export' has no attribute {name!r}")
    return import_module("spladelet_export.export").export_checkpoint
