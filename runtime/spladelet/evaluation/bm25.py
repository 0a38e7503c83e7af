"""The baseline: BM25 by `bm25s`, as near to Lucene's English analysis as its parts allow.

Lucene's variant with k1 = 0.9 and b = 0.4, as in the published figures; lower case, Lucene's 33
stop words and words of one letter out, Porter's stemmer. Title and text are one field. nDCG@10 on
SciFact is .671 (published for Lucene: .665 with two fields, .679 with one). Extra `evaluate`.
"""

from collections.abc import Mapping, Sequence

from spladelet import extras
from spladelet.documents import Document

K1, B = 0.9, 0.4


def stems(texts: Sequence[str]) -> list[list[str]]:
    """Return what BM25 counts of each text: its words' stems, without stop words.

    Raises:
        MissingDependencyError: The extra `evaluate` is not installed.
    """
    bm25s = extras.load("bm25s", "evaluate", "the baseline BM25")
    stemmer = extras.load("Stemmer", "evaluate", "the baseline BM25").Stemmer("porter")
    found: list[list[str]] = bm25s.tokenize(
        list(texts),
        stopwords="en",
        stemmer=stemmer,
        return_ids=False,
        show_progress=False,
    )
    return found


def bm25_run(
    documents: Sequence[Document], queries: Mapping[str, str], depth: int = 1000
) -> dict[str, dict[str, float]]:
    """Search with BM25: query id to document id to score, at most `depth` a query.

    Raises:
        MissingDependencyError: The extra `evaluate` is not installed.

    Source: Lù 2024, https://arxiv.org/abs/2407.03618
    """
    bm25s = extras.load("bm25s", "evaluate", "the baseline BM25")
    corpus = stems([document.content for document in documents])
    if not any(corpus):  # bm25s fails on a vocabulary of no words
        return {query: {} for query in queries}
    retriever = bm25s.BM25(method="lucene", k1=K1, b=B)
    retriever.index(corpus, show_progress=False)
    numbers, scores = retriever.retrieve(
        stems(list(queries.values())), k=min(depth, len(documents)), show_progress=False
    )
    return {
        query: {
            documents[number].id: score
            for number, score in zip(numbers[row].tolist(), scores[row].tolist(), strict=True)
            if score > 0
        }
        for row, query in enumerate(queries)
    }
