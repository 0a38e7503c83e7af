"""Text to sparse vectors.

Texts are read a window at a time, tokenized, and turned into rows by their side of the model (see
`sides`): memory stays bounded whatever the texts. Does not search: see `index`.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from spladelet.batches import batched
from spladelet.bundle.description import Description
from spladelet.bundle.find import find_bundle
from spladelet.bundle.folder import Bundle
from spladelet.documents import Document
from spladelet.encoder.cpus import thread_count
from spladelet.encoder.encoding import OVERLAP, Encoding
from spladelet.encoder.language import is_plainly_not_english
from spladelet.encoder.notices import Notes
from spladelet.encoder.passages import split
from spladelet.encoder.reading import read_ahead
from spladelet.encoder.sides import Side, open_sides
from spladelet.encoder.tokenizer import TokenizedText
from spladelet.encoder.tracing import sources
from spladelet.errors import InputError
from spladelet.explain import (
    Explanation,
    ReadText,
    Source,
    WeightedTerm,
    WordScore,
    explain,
)
from spladelet.progress import Progress
from spladelet.pruning import Pruning, Row
from spladelet.text import as_text
from spladelet.vector import SparseVector, SparseVectors, check_same_model, join

# Texts read ahead and sorted by length together.
TEXTS_PER_WINDOW = 2048
_LONG_TEXTS = 64  # the same where texts are read wholly, however long they are


class Encoder:
    """A SPLADE model: queries and documents in, sparse vectors out.

    Thread-safe; in a forked process the model is loaded again at the first use.

    Args:
        bundle: The model; `Encoder.load` finds one by path or name.
        threads: Threads per run; None means the processors this process may use, which in a
            container is its limit.
    """

    def __init__(self, bundle: Bundle, *, threads: int | None = None) -> None:
        if not isinstance(bundle, Bundle):
            raise InputError(
                f"bundle is {bundle!r:.200} ({type(bundle).__name__}). Use Encoder.load for a path "
                "or a name."
            )
        self.description: Description = bundle.description
        self.fingerprint = bundle.fingerprint
        stated = bundle.description.source.get("language")
        self._language = stated if isinstance(stated, str) else None
        self._bundle, self._threads = bundle, thread_count(threads)
        self._query, self._document = open_sides(bundle, self._threads)

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        threads: int | None = None,
    ) -> "Encoder":
        """Load a model.

        A .zip is unpacked once, to `bundles` in $SPLADELET_CACHE or the system's folder for caches
        (on Linux ~/.cache/spladelet), and found there from then on; where that cannot be written,
        to `spladelet-bundles-...` in the temporary folder. Deleting either is always safe while no
        process is about to load.

        Args:
            model: A bundle (folder or .zip); a hub id, "owner/name" (extra `hub`); None for the
                model that comes with the package.
            revision: Of a hub id: a branch, tag or commit; None is the main branch.
            threads: See the class.

        Raises:
            InputError: A revision is given for a path, or an argument is of the wrong kind.
            BundleError: There is no bundle, or it cannot be used; the message says why.
            MissingDependencyError: A hub id without the extra `hub`.
        """
        return cls(find_bundle(model, revision), threads=threads)

    @property
    def language(self) -> str | None:
        """What the model reads, as it says, such as "en"; None if it does not say."""
        return self._language

    def with_threads(self, threads: int | None) -> "Encoder":
        """Return the same model with other threads per run, whose weights are loaded once more.

        Several that run on one thread each, side by side, take less time than one after the other
        on all.

        Raises:
            InputError: That is no number of threads.
        """
        return Encoder(self._bundle, threads=threads)

    @property
    def threads(self) -> int:
        """Threads per run of the model."""
        return self._threads

    @property
    def vocab_size(self) -> int:
        """How many terms the model knows."""
        return self.description.vocab_size

    def encode_query(
        self, text: str, *, max_active_dims: int | None = None, min_weight: float = 0.0
    ) -> SparseVector:
        """Encode one query; see `encode_queries`."""
        pruning = Pruning(max_active_dims, min_weight)
        notes = Notes(self._query.semantics.max_length, [])
        bar = Progress("queries", None, show=False)
        return self._encode([text], self._query, pruning, bar, notes)[0]

    def encode_document(
        self, text: str | Document, *, max_active_dims: int | None = None, min_weight: float = 0.0
    ) -> SparseVector:
        """Encode one document; see `encode_documents`."""
        pruning = Pruning(max_active_dims, min_weight)
        notes = Notes(self._document.semantics.max_length)
        return self._encode([text], self._document, pruning, Progress("", None, show=False), notes)[
            0
        ]

    def encode_queries(
        self,
        texts: Iterable[str],
        *,
        max_active_dims: int | None = None,
        min_weight: float = 0.0,
    ) -> SparseVectors:
        """Encode queries, in order; their vectors keep the texts, whose words an index may have.

        A text that is empty, None or NaN, or holds nothing the model reads, gives a vector without
        terms.

        Args:
            texts: The queries.
            max_active_dims: Keep at most so many terms of each, the heaviest; None keeps all.
            min_weight: Drop terms that weigh less.

        Raises:
            InputError: A text is not a str, or a limit makes no sense.
            BundleGraphError: The model does not load (it does so at the first text).

        Warns:
            TruncationWarning: Texts were longer than the model reads; `truncated` of the result
                has their numbers.
            LanguageWarning: The model knows English only, and texts are plainly not English.

        Source: Formal et al. 2021, https://arxiv.org/abs/2109.10086
        """
        pruning = Pruning(max_active_dims, min_weight)
        notes = Notes(self._query.semantics.max_length, [])
        return self._encode(
            texts, self._query, pruning, Progress("queries", None, show=False), notes
        )

    def encode_documents(
        self,
        texts: Iterable[str | Document],
        *,
        max_active_dims: int | None = None,
        min_weight: float = 0.0,
        overlap: int | None = None,
        progress: bool | None = None,
    ) -> SparseVectors:
        """Encode documents, in order; a `Document` is encoded as title and text.

        See `encode_queries` for the rest; memory grows with the result only, so `texts` may be a
        generator over any number of them.

        Args:
            texts: The documents.
            max_active_dims: Keep at most so many terms of each, the heaviest; None keeps all.
            min_weight: Drop terms that weigh less.
            overlap: None cuts what is longer than the model reads. A number reads all of it, in
                windows that share so many tokens, and keeps of each term the highest weight. For a
                vector for each part of a document, see `split`.
            progress: True draws a bar on standard error, False nothing; None draws one on a
                terminal, and writes a line every half minute elsewhere.
        """
        total = len(texts) if isinstance(texts, Sequence) else None
        pruning = Pruning(max_active_dims, min_weight)
        bar = Progress("encoding", total, show=progress)
        notes = Notes(self._document.semantics.max_length)
        return self._encode(texts, self._document, pruning, bar, notes, overlap)

    def encode_batches(
        self,
        documents: Iterable[Document],
        encoding: Encoding | None = None,
        *,
        total: int | None = None,
        progress: bool | None = None,
    ) -> Iterator[tuple[SparseVectors, list[Document]]]:
        """Encode any number of documents, a batch at a time: what `IndexWriter.add` takes.

        >>> with IndexWriter("notes-index") as writer:  # doctest: +SKIP
        ...     for batch in encoder.encode_batches(read_documents("notes.jsonl")):
        ...         writer.add(*batch)

        Args:
            documents: The documents.
            encoding: How; None means what `Encoding` means by default.
            total: How many there are, for the progress bar; None if unknown.
            progress: See `encode_documents`.

        Yields:
            Vectors, and the documents that they are of: passages, where `encoding` says so.

        Raises:
            InputError: A limit of `encoding` makes no sense, or an item is no Document.
            BundleGraphError: The model does not load (it does so at the first batch).

        Warns:
            TruncationWarning, LanguageWarning: As `encode_queries`, once, when all are encoded.
        """
        how = Encoding() if encoding is None else encoding
        pruning = Pruning(how.max_active_dims, how.min_weight)
        overlap = OVERLAP if how.long_texts == "merge" else None
        notes = Notes(self._document.semantics.max_length)
        with Progress("encoding", total, show=progress) as bar:
            if how.long_texts == "split":
                for batch in batched(documents, _LONG_TEXTS):
                    parts = [part for d in batch for part in self.split(d, overlap=OVERLAP)]
                    silent = Progress("", None, show=False)  # one counts passages, one documents
                    yield self._rows_of(parts, self._document, pruning, silent, None, notes), parts
                    bar.advance(len(batch))
            else:
                for batch in batched(documents, TEXTS_PER_WINDOW):
                    yield (
                        self._rows_of(batch, self._document, pruning, bar, overlap, notes),
                        batch,
                    )
        notes.warn(2)

    def tokenize(
        self,
        texts: Iterable[str | Document],
        *,
        side: Literal["query", "document"] = "document",
        keep: Literal["beginning", "end"] = "beginning",
    ) -> list[TokenizedText]:
        """Return the tokens of texts, as the model reads them: for who makes batches of several.

        Args:
            texts: The texts.
            side: As what they are read.
            keep: Of a text that is longer than the model reads, what is kept.

        Raises:
            InputError: A text is not a str.
        """
        window = [text for part in read_ahead(texts, TEXTS_PER_WINDOW) for text in part]
        tokenizer = self._side(side).tokenizer
        if keep == "end":
            return tokenizer.tokenize_endings(window)
        return tokenizer.tokenize(window)

    def encode_tokenized(
        self,
        texts: Sequence[TokenizedText],
        *,
        side: Literal["query", "document"] = "document",
        max_active_dims: int | None = None,
        min_weight: float = 0.0,
    ) -> SparseVectors:
        """Encode what `tokenize` returned, of several calls together if need be.

        A text has the same vector whatever it is encoded together with.

        Args:
            texts: The texts' tokens.
            side: As what they were tokenized.
            max_active_dims: Keep at most so many terms of each, the heaviest; None keeps all.
            min_weight: Drop terms that weigh less.

        Raises:
            InputError: A limit makes no sense.
            BundleGraphError: The model does not load (it does so at the first text).
        """
        pruning = Pruning(max_active_dims, min_weight)
        silent = Progress("", None, show=False)
        rows = self._encode_parts([[text] for text in texts], self._side(side), pruning, silent)
        cut = tuple(number for number, text in enumerate(texts) if text.truncated)
        made = SparseVectors.from_arrays(rows, self.vocab_size, self.fingerprint, cut)
        return replace(made, language=self._language, origin=self._side(side).origin)

    def _side(self, name: str) -> Side:
        if name not in ("query", "document"):
            raise InputError(f"side is {name!r:.60}; expected query or document.")
        return self._query if name == "query" else self._document

    def split(self, document: Document, *, overlap: int = OVERLAP) -> list[Document]:
        """Cut a document that is longer than the model reads into passages that are not.

        Passages have the title of the document, cut to half of what the model reads, and its
        metadata, with its id and their place beside: "document" and "passage". Their ids are the
        document's with "#" and the place. A document that fits is returned as it is.

        Args:
            document: The document.
            overlap: How many tokens neighbours share.

        Raises:
            InputError: `overlap` is too large for windows to move on, or this is no Document.
        """
        if not isinstance(document, Document):
            raise InputError(
                f"document is {document!r:.60} ({type(document).__name__}); expected a Document: "
                "Document(id, text)."
            )
        return split(document, self._document, overlap)

    def decode(self, vector: SparseVector) -> dict[str, float]:
        """Return `{term: weight}`, heaviest first.

        Raises:
            ModelMismatchError: The vector is of another model.
            InputError: It is no single vector.
        """
        if not isinstance(vector, SparseVector):
            raise InputError(
                f"got {type(vector).__name__}, expected a SparseVector. Decode one at a time: "
                "`for vector in vectors`."
            )
        check_same_model(vector, self._no_terms)
        return {self.term(i): weight for i, weight in vector.to_dict().items()}

    def terms(
        self, text: str, vector: SparseVector, *, side: Literal["query", "document"] = "document"
    ) -> tuple[WeightedTerm, ...]:
        """Return a text's terms, heaviest first, and which of them the model added.

        Args:
            text: The text that was encoded.
            vector: Its vector.
            side: As what it was.

        Raises:
            InputError: The text is no str.
            ModelMismatchError: The vector is of another model.
        """
        words = self.query_words(text) if side == "query" else self.document_words(text)
        own = {i for _, ids in words for i in ids}
        check_same_model(vector, self._no_terms)
        return tuple(
            WeightedTerm(self.term(i), i, weight, i in own)
            for i, weight in vector.to_dict().items()
        )

    def explain_terms(
        self,
        text: str,
        vector: SparseVector | None = None,
        *,
        side: Literal["query", "document"] = "document",
        overlap: int | None = None,
    ) -> tuple[WeightedTerm, ...]:
        """Return a text's terms, heaviest first, each with the word that its weight comes from.

        Args:
            text: The text.
            vector: Its vector, if not all terms are wanted, or others' weights; None encodes it.
            side: As what it is encoded.
            overlap: See `sources`.

        Raises:
            InputError: The text is no str.
            ModelMismatchError: The vector is of another model.
            BundleGraphError: See `sources`.
        """
        (found,) = self._traced([text], side, overlap)
        if vector is None:
            weights = [weight for weight, _ in found.values()]
            vector = SparseVector([*found], weights, self.vocab_size, self.fingerprint)
        return tuple(
            replace(term, source=found[term.term_id][1] if term.term_id in found else None)
            for term in self.terms(text, vector, side=side)
        )

    def sources(
        self,
        text: str,
        *,
        side: Literal["query", "document"] = "document",
        overlap: int | None = None,
    ) -> dict[int, Source]:
        """Return of each of a text's terms the word that its weight comes from, by its number.

        The model takes the largest of a term's weights at all positions of a text: the word at that
        position is why the term is there. Costs about as much as encoding the text.

        Args:
            text: The text; for a `Document`, its `content`.
            side: As what it is encoded.
            overlap: None looks at what the model reads at once; a number at all of the text, in
                windows that share so many tokens.

        Raises:
            InputError: The text is no str, or `overlap` is too large for windows to move on.
            BundleGraphError: The bundle has no graph that says it, see `can_trace`.
        """
        return self.sources_of_several([text], side=side, overlap=overlap)[0]

    def sources_of_several(
        self,
        texts: Sequence[str],
        *,
        side: Literal["query", "document"] = "document",
        overlap: int | None = None,
    ) -> list[dict[int, Source]]:
        """Return `sources` of several texts, in less time than one after the other."""
        found = self._traced(texts, side, overlap)
        return [{i: source for i, (_, source) in terms.items()} for terms in found]

    @property
    def can_trace(self) -> bool:
        """Whether the bundle has what `sources` needs."""
        return self._query.traces and self._document.traces

    def _traced(
        self, texts: Sequence[str], side: str, overlap: int | None
    ) -> list[dict[int, tuple[float, Source]]]:
        return sources(self._side(side), [as_text(text, "a text") for text in texts], overlap)

    def vocabulary(self) -> dict[str, int]:
        """Return the number of each term."""
        return {self.term(i): i for i in range(self.vocab_size)}

    def term(self, term_id: int) -> str:
        """Return the vocabulary's entry for a term id."""
        return self._document.tokenizer.term(term_id)

    def query_words(self, text: str) -> list[tuple[str, list[int]]]:
        """Return the words of a query that the model reads, each with its term ids.

        Raises:
            InputError: It is no str.
        """
        return self._query.tokenizer.word_pieces(as_text(text, "the query"))

    def document_words(
        self, text: str, *, overlap: int | None = None
    ) -> list[tuple[str, list[int]]]:
        """Return the words of a document that the model reads, each with its term ids.

        Args:
            text: The document.
            overlap: See `encode_documents`.

        Raises:
            InputError: It is no str.
        """
        return self._document.tokenizer.word_pieces(as_text(text, "the document"), overlap)

    def explain(
        self,
        query: str,
        document: str | Document,
        *,
        query_vector: SparseVector | None = None,
        document_vector: SparseVector | None = None,
        lexical: Sequence[WordScore] = (),
    ) -> Explanation:
        """Say which terms make a document's score for a query, and where they come from.

        Args:
            query: The query.
            document: The document.
            query_vector: Its vector, if it is there already; None encodes it.
            document_vector: The document's; likewise. One that was pruned, or read in windows, must
                be given to be explained.
            lexical: What shared words add, from `Index.word_scores`; without, the model's part of
                the score is explained.

        Raises:
            ModelMismatchError: A vector is of another model.
        """
        content = document.content if isinstance(document, Document) else document
        asked = self.encode_query(query) if query_vector is None else query_vector
        found = self.encode_document(content) if document_vector is None else document_vector
        for vector in (asked, found):
            check_same_model(vector, self._no_terms)
        return explain(
            ReadText(asked, self.query_words(query)),
            ReadText(found, self.document_words(content)),
            self.term,
            lexical,
        )

    @property
    def _no_terms(self) -> SparseVector:
        return SparseVector([], [], self.vocab_size, self.fingerprint)

    def _encode(
        self,
        texts: Iterable[str | Document],
        side: Side,
        pruning: Pruning,
        bar: Progress,
        notes: Notes,
        overlap: int | None = None,
    ) -> SparseVectors:
        with bar:
            vectors = self._rows_of(texts, side, pruning, bar, overlap, notes)
        notes.warn(3)
        return vectors

    def _rows_of(
        self,
        texts: Iterable[str | Document],
        side: Side,
        pruning: Pruning,
        bar: Progress,
        overlap: int | None,
        notes: Notes,
    ) -> SparseVectors:
        rows: list[Row] = []
        truncated: list[int] = []
        for window in read_ahead(texts, TEXTS_PER_WINDOW if overlap is None else _LONG_TEXTS):
            if overlap is None:
                parts = [[text] for text in side.tokenizer.tokenize(window)]
            else:
                parts = side.tokenizer.windows(window, overlap)
            is_cut = [text.truncated for text, *_ in parts]
            is_foreign = [self._language == "en" and is_plainly_not_english(t) for t in window]
            notes.take(window, is_cut, is_foreign)
            truncated += [len(rows) + i for i, cut in enumerate(is_cut) if cut]
            rows += self._encode_parts(parts, side, pruning, bar)
        made = SparseVectors.from_arrays(rows, self.vocab_size, self.fingerprint, tuple(truncated))
        texts_of = None if notes.texts is None else tuple(notes.texts)
        return replace(made, texts=texts_of, language=self._language, origin=side.origin)

    def _encode_parts(
        self, texts: list[list[TokenizedText]], side: Side, pruning: Pruning, bar: Progress
    ) -> list[Row]:
        """Return a row for each text, of all its parts; the bar counts texts."""
        found: list[list[Row]] = [[] for _ in texts]
        filled = [(i, part) for i, parts in enumerate(texts) for part in parts if part.content]
        left = [sum(part.content > 0 for part in parts) for parts in texts]
        bar.advance(left.count(0))
        for place, row in side.rows([part for _, part in filled]):
            text = filled[place][0]
            found[text].append(row)
            bar.advance(len(found[text]) == left[text])
        return [pruning.apply(_highest(rows)) for rows in found]

    def __repr__(self) -> str:
        return f"Encoder({self.description.name!r}, vocab_size={self.vocab_size})"


def _highest(rows: list[Row]) -> Row:
    """Return each term's highest weight."""
    if len(rows) == 1:
        return rows[0]
    ids, weights = join(rows)
    order = np.lexsort((-weights, ids))
    terms, first = np.unique(ids[order], return_index=True)
    return terms, weights[order][first]
