"""Turn SPLADE checkpoints into bundles that `spladelet` runs without torch.

The heavy packages (torch, transformers, optimum) come with the extra `export` and load when first
used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from spladelet_export.errors import CheckpointError, ExportError, FidelityError, GraphError

if TYPE_CHECKING:
    from spladelet_export.export import Int8, export_checkpoint, export_logits, fuse_logits
    from spladelet_export.gate import Limits

__all__ = [
    "CheckpointError",
    "ExportError",
    "FidelityError",
    "GraphError",
    "Int8",
    "Limits",
    "export_checkpoint",
    "export_logits",
    "fuse_logits",
]

_HOME = {
    "Int8": "export",
    "Limits": "gate",
    "export_checkpoint": "export",
    "export_logits": "export",
    "fuse_logits": "export",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'spladelet_export' has no attribute {name!r}")
    return getattr(import_module(f"spladelet_export.{_HOME[name]}"), name)
