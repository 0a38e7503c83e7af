"""Terms and words as one matrix: words stand behind the vocabulary, and products are the sum."""

from collections.abc import Iterator

from spladelet import extras
from spladelet.documents import Document
from spladelet.engines.payload import Weights
from spladelet.index.index import Index
from spladelet.index.queries import count_query_words
from spladelet.lexical.words import LEXICAL, Words
from spladelet.vector import SparseVector, SparseVectors
from spladelet.vector_arguments import no_vectors


def join_documents(index: Index) -> tuple[SparseVectors, list[str]]:
    """Return documents x (terms, then words), and the words; without words, the vectors as such."""
    vectors, impacts = index.vectors(), index.word_impacts()
    if impacts is None:
        return vectors, []
    return _beside(vectors, impacts.vectors), impacts.words


def join_queries(
    queries: SparseVectors, words: list[str], settings: Words, vocab_size: int
) -> SparseVectors:
    """Return queries x (terms, then words), weighted as a search weights them by default.

    Args:
        queries: The queries, with their texts.
        words: The index's words.
        settings: How they were counted.
        vocab_size: How many terms the index has; with none, words are all that is asked.
    """
    places = {word: place for place, word in enumerate(words)}
    asked = [query_words(text, settings) for text in queries.texts or [""] * len(queries)]
    rows = [
        SparseVector.from_dict({places[w]: n for w, n in row.items() if w in places}, len(words))
        for row in asked
    ]
    terms = queries if vocab_size else no_vectors(len(queries))
    return _beside(terms, SparseVectors.from_rows(rows, len(words)))


def query_words(text: str | None, settings: Words | None) -> dict[str, float]:
    """Return what each word of a query weighs by default; none where an index has no words."""
    if text is None or settings is None:
        return {}
    return {word: LEXICAL * n for word, n in count_query_words(text, settings).items()}


def rows(index: Index) -> Iterator[tuple[Document, Weights]]:
    """Yield the documents, with what their terms and words weigh."""
    vectors, impacts = index.vectors(), index.word_impacts()
    for number in range(len(index)):
        words = {} if impacts is None else impacts.of_document(number)
        yield index.document(number), Weights(vectors[number], words)


def _beside(left: SparseVectors, right: SparseVectors) -> SparseVectors:
    sparse = extras.required("scipy.sparse", "scipy", "putting words beside terms")

    joined = sparse.hstack([left.to_csr(), right.to_csr()], format="csr")
    return SparseVectors.from_csr(joined, left.model)
