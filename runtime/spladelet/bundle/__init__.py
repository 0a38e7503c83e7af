"""The bundle: the contract between export and runtime."""

from spladelet.bundle.description import Description, Semantics
from spladelet.bundle.find import find_bundle
from spladelet.bundle.folder import Bundle

__all__ = ["Bundle", "Description", "Semantics", "find_bundle"]
