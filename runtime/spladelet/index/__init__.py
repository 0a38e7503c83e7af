"""Documents that can be searched, in memory and on disk."""

from spladelet.index.hits import Hit
from spladelet.index.index import Index
from spladelet.index.queries import StemmerWarning
from spladelet.index.writer import IndexWriter

__all__ = ["Hit", "Index", "IndexWriter", "StemmerWarning"]
