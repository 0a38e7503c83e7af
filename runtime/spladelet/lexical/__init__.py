"""Words: what texts say by themselves, beside the terms that a model gives them, and their BM25.

Does not know documents, an index or a model: texts in, words out; counts in, impacts out.
"""

from spladelet.lexical.words import Words

__all__ = ["Words"]
