"""Learned sparse search without PyTorch: encode, search and explain with SPLADE models.

Names load when first used, so that `import spladelet` costs no more than numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from spladelet import errors
from spladelet._version import __version__
from spladelet.errors import SpladeletError
from spladelet.vector import SparseVector, SparseVectors

if TYPE_CHECKING:
    from spladelet.documents import Document, read_documents
    from spladelet.encoder import Encoder
    from spladelet.exchange import read_vectors
    from spladelet.explain import Explanation
    from spladelet.hits import Hit
    from spladelet.index import Index
    from spladelet.writer import IndexWriter

__all__ = [
    "Document",
    "Encoder",
    "Explanation",
    "Hit",
    "Index",
    "IndexWriter",
    "SparseVector",
    "SparseVectors",
    "SpladeletError",
    "__version__",
    "errors",
    "read_documents",
    "read_vectors",
]

_HOME = {
    "Document": "documents",
    "Encoder": "encoder",
    "Explanation": "explain",
    "Hit": "hits",
    "Index": "index",
    "IndexWriter": "writer",
    "read_documents": "documents",
    "read_vectors": "exchange",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'spladelet' has no attribute {name!r}")
    return getattr(import_module(f"spladelet.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
