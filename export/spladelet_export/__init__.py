"""Turn SPLADE checkpoints into bundles that `spladelet` runs without torch.

The heavy packages (torch, transformers, optimum) come with the extra `export` and load when first
used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from spladelet_export.errors import CheckpointError, ExportError, FidelityError, GraphError

if TYPE_CHECKING:
    from spladelet_export.bundle_writer import Int8
    from spladelet_export.checks.gate import Limits
    from spladelet_export.conformance_files import conform_bundle
    from spladelet_export.explain_graphs import explain_bundle
    from spladelet_export.export import export_checkpoint, export_logits, fuse_logits
    from spladelet_export.rewriting import rewrite_bundle

__all__ = [
    "CheckpointError",
    "ExportError",
    "FidelityError",
    "GraphError",
    "Int8",
    "Limits",
    "conform_bundle",
    "explain_bundle",
    "export_checkpoint",
    "export_logits",
    "fuse_logits",
    "rewrite_bundle",
]

_HOME = {
    "Int8": "bundle_writer",
    "Limits": "checks.gate",
    "conform_bundle": "conformance_files",
    "explain_bundle": "explain_graphs",
    "export_checkpoint": "export",
    "export_logits": "export",
    "fuse_logits": "export",
    "rewrite_bundle": "rewriting",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'spladelet_export' has no attribute {name!r}")
    return getattr(import_module(f"spladelet_export.{_HOME[name]}"), name)
