"""Learned sparse search without PyTorch: encode, search and explain with SPLADE models.

Names load when first used, so that `import spladelet` costs no more than numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from spladelet import errors
from spladelet._version import __version__
from spladelet.errors import SpladeletError
from spladelet.forks import unforked
from spladelet.vector import SparseVector, SparseVectors

if TYPE_CHECKING:
    from spladelet.bundle import Bundle
    from spladelet.documents import Document, read_documents
    from spladelet.encoder import Encoder, Encoding, LanguageWarning, TruncationWarning
    from spladelet.explain import Explanation, WordScore
    from spladelet.explaining import Explainer
    from spladelet.index import Hit, Index, IndexWriter, StemmerWarning
    from spladelet.lexical import Words
    from spladelet.origins import Origin, RoundingWarning
    from spladelet.vector_files import read_vectors

__all__ = [
    "Bundle",
    "Document",
    "Encoder",
    "Encoding",
    "Explainer",
    "Explanation",
    "Hit",
    "Index",
    "IndexWriter",
    "LanguageWarning",
    "Origin",
    "RoundingWarning",
    "SparseVector",
    "SparseVectors",
    "SpladeletError",
    "StemmerWarning",
    "TruncationWarning",
    "WordScore",
    "Words",
    "__version__",
    "errors",
    "read_documents",
    "read_vectors",
]

_HOME = {
    "Bundle": "bundle",
    "Document": "documents",
    "Encoder": "encoder",
    "Encoding": "encoder",
    "Explainer": "explaining",
    "Explanation": "explain",
    "Hit": "index",
    "Index": "index",
    "IndexWriter": "index",
    "LanguageWarning": "encoder",
    "Origin": "origins",
    "RoundingWarning": "origins",
    "StemmerWarning": "index",
    "TruncationWarning": "encoder",
    "WordScore": "explain",
    "Words": "lexical",
    "read_documents": "documents",
    "read_vectors": "vector_files",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'spladelet' has no attribute {name!r}")
    with unforked():
        return getattr(import_module(f"spladelet.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
