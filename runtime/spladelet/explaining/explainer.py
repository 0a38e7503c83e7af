"""Why a query found the documents that it did: for each, its score taken apart, and a snippet."""

from collections.abc import Sequence

from spladelet.encoder.encoder import Encoder
from spladelet.encoder.encoding import OVERLAP, Encoding
from spladelet.explain import Explanation, ReadText, Sources, explain, of_words_alone
from spladelet.explaining.snippets import WIDTH, Snippet, snippet
from spladelet.index.index import Index
from spladelet.index.queries import Lexical
from spladelet.lazy import lazy
from spladelet.lexical.analyzer import Analyzer, analyzer_of
from spladelet.parameters import as_whole
from spladelet.vector import SparseVector

# Of documents that were read in windows, so many characters are looked at: some sixteen windows.
_READ = 1 << 15
_WHOLE = 1 << 18  # characters of a document of which the words are known


class Explainer:
    """Explains what one query finds in an index.

    Where weights come from is told if the model's bundle can say it, which costs one encoding of
    the query, and one of each document.

    >>> query = encoder.encode_query("Why do cats purr?")  # doctest: +SKIP
    >>> explainer = Explainer(index, encoder, query)  # doctest: +SKIP
    >>> found = [hit.number for hit in index.search(query)]  # doctest: +SKIP
    >>> for snippet in explainer.snippets(found):  # doctest: +SKIP
    ...     print(snippet.text)

    Args:
        index: What is searched.
        encoder: The model; None for words alone.
        query: As `encode_query` gives it; for words alone, its text will do.
        lexical: See `Index.search`.

    Raises:
        InputError: The query's text is not known, or `lexical` makes no sense.
        ModelMismatchError: The query was encoded by another model than the documents.
    """

    def __init__(
        self,
        index: Index,
        encoder: Encoder | None,
        query: SparseVector | str,
        *,
        lexical: Lexical = None,
    ) -> None:
        self._index = index
        self._query = query
        self._lexical = lexical
        is_model_asked = lexical != "only" and not index.has_words_alone
        self._encoder = encoder if is_model_asked and isinstance(query, SparseVector) else None
        if isinstance(query, SparseVector) and self._encoder is not None:
            index.check_model(query)
        self._text = query if isinstance(query, str) else query.text or ""

    def explain(self, number: int) -> Explanation:
        """Take the score of a document apart; one that was not found has score 0.

        Raises:
            InputError: There is no document of that number.
            IndexFormatError: A file of the index is damaged.
            BundleGraphError: The model fails.
        """
        return self.explain_several([number])[0]

    def explain_several(self, numbers: Sequence[int]) -> list[Explanation]:
        """Return `explain` of several documents, in less time than one after the other."""
        found = [self._unsourced(number) for number in numbers]
        if self._encoder is None or not self._encoder.can_trace:
            return found
        matched = [i for i, why in enumerate(found) if why.terms]
        contents = [self._index.document(numbers[i]).content for i in matched]
        for i, sources in zip(matched, self._sources(self._encoder, contents), strict=True):
            found[i] = found[i].with_sources(self._query_sources, sources)
        return found

    def marks(self, number: int, why: Explanation, *, width: int | None = None) -> Snippet:
        """Return the snippet of a document that is explained already.

        Args:
            number: The document's number.
            why: What `explain` returned of it.
            width: How many characters it has at most; None for the whole document.
        """
        document = self._index.document(number)
        most = max(1, len(document.text)) if width is None else _as_width(width)
        return snippet(document, why, self._analyzer, most)

    def snippet(self, number: int, *, width: int = WIDTH) -> Snippet:
        """Return the passage of a document that its score comes from; see `explain`.

        Args:
            number: The document's number.
            width: How many characters it has at most.
        """
        return self.snippets([number], width=width)[0]

    def snippets(self, numbers: Sequence[int], *, width: int = WIDTH) -> list[Snippet]:
        """Return `snippet` of several documents, in less time than one after the other."""
        _as_width(width)
        return [
            self.marks(number, why, width=width)
            for number, why in zip(numbers, self.explain_several(numbers), strict=True)
        ]

    def _unsourced(self, number: int) -> Explanation:
        words = self._index.word_scores(self._query, number, lexical=self._lexical)
        if self._encoder is None or isinstance(self._query, str):
            return of_words_alone(words)
        content = self._index.document(number).content[:_WHOLE]
        return explain(
            ReadText(self._query, self._encoder.query_words(self._text)),
            ReadText(
                self._index.vector(number, among=self._query),
                self._encoder.document_words(content, overlap=self._overlap),
            ),
            self._encoder.term,
            words,
        )

    @lazy
    def _analyzer(self) -> Analyzer | None:
        settings = self._index.words
        return None if settings is None else analyzer_of(settings.language)

    @lazy
    def _query_sources(self) -> Sources:
        return {} if self._encoder is None else self._encoder.sources(self._text, side="query")

    def _sources(self, encoder: Encoder, contents: Sequence[str]) -> Sequence[Sources]:
        """Return where the documents' weights come from, as the index had them encoded."""
        if self._overlap is not None:  # together they take no longer than one may
            most = _READ // max(1, len(contents))
            contents = [content[:most] for content in contents]
        return encoder.sources_of_several(contents, overlap=self._overlap)

    @lazy
    def _overlap(self) -> int | None:
        is_wholly_read = Encoding.of_index(self._index.encoding).long_texts == "merge"
        return OVERLAP if is_wholly_read else None


def _as_width(given: object) -> int:
    expected = "a whole number of characters, 1 or more"
    return as_whole(given, "width", range(1, 1 << 31), expected)
