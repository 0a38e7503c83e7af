"""What an engine is.

To add one, derive from `Engine`: set the class attributes, write `connect` and the methods that
begin with an underscore, three of which say what its client raises, and `register` it. Everything
else (checks, error translation, retries, progress, resuming) is here and in `transfer`.
"""

import secrets
import ssl
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, cast, final
from urllib.parse import urlsplit

from spladelet.documents import Document
from spladelet.engines.facts import Facts
from spladelet.engines.payload import Dots, TermNames, Weights
from spladelet.errors import (
    EngineError,
    EngineMismatchError,
    EngineRequestError,
    EngineUnavailableError,
    InputError,
    ModelMismatchError,
    SpladeletError,
)
from spladelet.index.queries import Families, Lexical, Query, as_lexical
from spladelet.lexical.words import Words
from spladelet.parameters import as_count
from spladelet.text import valid_unicode
from spladelet.vector import SparseVector
from spladelet.vector_arguments import as_query

# Fields of a collection.
VECTOR, TITLE, TEXT, METADATA, ID = "splade", "title", "text", "metadata", "document_id"
# What an HTTP status says, in every engine that has them.
TRANSIENT_STATUSES = (408, 429, 500, 502, 503, 504)
CONTENT_STATUSES = (400, 413, 422)  # it is about the documents that were sent


@dataclass(frozen=True, slots=True)
class Record:
    """A document with its vector, as it goes to an engine.

    Attributes:
        document: The document.
        vector: Its vector.
        words: What its words weigh; see `Index.word_impacts`.
    """

    document: Document
    vector: SparseVector
    words: Mapping[str, float] = field(default_factory=dict)

    @property
    def weights(self) -> Weights:
        """Terms and words together."""
        return Weights(self.vector, self.words)


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch; what is in neither was taken.

    Attributes:
        failed: Position in the batch to why the engine refused it.
        again: Positions of those that it had no room for at the moment.
    """

    failed: Mapping[int, str] = field(default_factory=dict)
    again: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class EngineHit:
    """A document that an engine found.

    Attributes:
        id: The document's id.
        score: What the engine computed; it may round stored weights.
        title: The document's title, if it was sent.
        text: Its text, if it was sent.
        metadata: Its metadata, if they were sent.
    """

    id: str
    score: float
    title: str = ""
    text: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Engine(ABC):
    """One collection in an external search engine.

    Args:
        client: The engine's official client; `connect` makes one.
        collection: The collection's (index's) name there.
        names: What terms are called; only term-keyed engines look at it.
    """

    name: ClassVar[str]
    default_url: ClassVar[str]
    is_term_keyed: ClassVar[bool] = False
    default_dots: ClassVar[Dots] = "keep"
    max_id_bytes: ClassVar[int] = 512
    max_text_bytes: ClassVar[int | None] = None
    max_query_terms: ClassVar[int | None] = None

    @final
    def __init__(self, client: Any, collection: str, names: TermNames | None = None) -> None:  # noqa: ANN401
        self.client = client
        self.collection = collection
        self.names = names if names is not None and self.is_term_keyed else TermNames()
        self._known: Facts | None = None

    @classmethod
    def check_address(cls, address: str) -> None:
        """Raise InputError unless a client can use an address, and it holds no credentials."""
        if "@" in address:
            raise InputError(
                f"the address of {cls.name} holds a user or a password, which command lines and "
                "logs would show. Put them into the environment."
            )
        try:
            parts = urlsplit(address)
            sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            sound = False
        if not sound:
            raise InputError(
                f"the address of {cls.name} is {address!r}; expected one such as {cls.default_url}."
            )

    @classmethod
    @abstractmethod
    def connect(cls, collection: str, names: TermNames, url: str, ca_certs: str | None) -> Self:
        """Make the official client, with credentials from the environment."""

    @abstractmethod
    def _create(self, facts: Facts) -> None: ...
    def _complete(self) -> None:  # noqa: B027 - most need none
        """Do what else a new collection needs; it may have been done already, or in part."""

    @abstractmethod
    def _facts(self) -> Facts | None: ...
    @abstractmethod
    def _exists(self) -> bool: ...
    @abstractmethod
    def _write(self, batch: Sequence[Record]) -> Written: ...
    @abstractmethod
    def _search(self, query: Weights, k: int) -> list[EngineHit]: ...
    @abstractmethod
    def _count(self) -> int: ...
    @abstractmethod
    def _delete(self) -> None: ...
    def _refresh(self) -> None:  # noqa: B027 - most need none
        """Make what was written visible, where that takes a call."""

    @classmethod
    @abstractmethod
    def _client_errors(cls) -> tuple[type[Exception], ...]: ...
    @classmethod
    @abstractmethod
    def _is_transient(cls, error: Exception) -> bool: ...
    @classmethod
    @abstractmethod
    def _is_about_content(cls, error: Exception) -> bool: ...

    @final
    def create(self, facts: Facts) -> Facts:
        """Make the collection unless it is there already, made by an earlier push of this model.

        Returns:
            What the collection says of itself: the facts, with a name of this collection alone.

        Raises:
            EngineMismatchError: It is there and holds something else.
            EngineUnavailableError: The engine does not answer.
            EngineError: It refuses.
        """
        with self._translated():
            there = self._exists()
        if there:
            stored = self.check(facts)
        else:
            stored = replace(facts, made=secrets.token_hex(8))
            with self._translated():
                self._create(stored)
        # Done for one that is there, too: a push may have ended between the two.
        with self._translated():
            self._complete()
        self._known = stored
        self._call_words_as(stored)
        return stored

    @final
    def check(self, facts: Facts) -> Facts:
        """Raise EngineMismatchError unless the collection holds this model's vectors."""
        stored = self.facts()
        if stored is None:
            raise self._not_ours()
        other_model = stored.model and facts.model and stored.model != facts.model
        if other_model or not stored.same_terms(facts) or stored.words != facts.words:
            raise EngineMismatchError(
                f"{self.collection!r} in {self.name} holds vectors of {stored}; these are of "
                f"{facts}. Use that model and these settings, or another name."
            )
        return stored

    @final
    def facts(self) -> Facts | None:
        """Return what the collection says of itself; None if spladelet did not make it."""
        with self._translated():
            return self._facts()

    @final
    def write(self, batch: Sequence[Record]) -> Written:
        """Add or replace documents; see `push` for whole collections.

        Raises:
            EngineUnavailableError: The engine does not answer, or has no room at the moment.
            EngineError: It refuses the batch as a whole.
        """
        # Held back here: for one of them, some would refuse the whole batch.
        refused = {i: reason for i, record in enumerate(batch) if (reason := self._refuse(record))}
        kept = [i for i in range(len(batch)) if i not in refused]
        if not kept:
            return Written(refused)
        with self._translated():
            written = self._write([batch[i] for i in kept])
        failed = refused | {kept[i]: reason for i, reason in written.failed.items()}
        return Written(failed, [kept[i] for i in written.again])

    @final
    def search(
        self, query: SparseVector | str, k: int = 10, *, lexical: Lexical = None
    ) -> list[EngineHit]:
        """Return the k documents with the highest score; of equal scores, in the engine's order.

        Args:
            query: Its vector; where the engine has a limit, the heaviest terms are asked. For words
                alone, the text itself will do.
            k: Hits wanted, at least 1.
            lexical: How much words count; see `Index.search`.

        Raises:
            InputError: `query` is not the vector of one query, k no whole number above 0, or
                `lexical` asks for words that the collection or the query does not have.
            ModelMismatchError: The collection holds another model's vectors.
            EngineMismatchError: It was not made by spladelet, or calls terms by other names.
            EngineUnavailableError: The engine does not answer.
            EngineError: It refuses.
        """
        k, weight = as_count(k, "k"), as_lexical(lexical)
        # Asked once, not at every query; only this object's own `create` and `delete` change it.
        stored = self._known = self._known or self.facts()
        if stored is None:
            raise self._not_ours()
        self._call_words_as(stored)
        words = self._words_of(stored)
        families = Families(bool(stored.vocab_size) or words is None, words)
        if not isinstance(query, str):
            query = as_query(query)
            if families.terms:
                self._check_query(query, stored)
        weights = self._weights(families.ask(query, weight), stored)
        if not weights:
            return []
        with self._translated():
            return self._search(weights, k)

    def _words_of(self, stored: Facts) -> Words | None:
        """Return how a collection's words were counted."""
        try:
            return None if stored.words is None else Words.of_index(stored.words)
        except (KeyError, TypeError, InputError) as error:
            raise EngineMismatchError(
                f"{self.collection!r} in {self.name} says of its words {stored.words!r:.200}, "
                "which this version does not know. Upgrade with `pip install -U spladelet`, or "
                "push again."
            ) from error

    def _call_words_as(self, stored: Facts) -> None:
        """Write dots in words as the collection has them, whatever terms are called here."""
        self.names = replace(self.names, word_dots=cast(Dots, stored.dots))

    def _check_query(self, query: SparseVector, stored: Facts) -> None:
        if stored.model and query.model and stored.model != query.model:
            raise ModelMismatchError(
                f"{self.collection!r} holds vectors of model {stored.model[:12]}, the query is of "
                f"{query.model[:12]}. Encode queries with the same model."
            )
        if not stored.same_terms(self._facts_of(query.vocab_size)):
            raise EngineMismatchError(
                f"{self.collection!r} in {self.name} holds vectors of {stored}; this query has "
                f"{query.vocab_size} terms, called by {self.names.keys}. Open it with the names it "
                "was pushed with."
            )

    def _weights(self, asked: Query, stored: Facts) -> Weights:
        """Return what is asked for; no more than the engine takes, which would refuse all of it."""
        vector = SparseVector(asked.term_ids, asked.weights, stored.vocab_size)
        most, words = self.max_query_terms, dict[str, float]()
        if asked.words is not None:
            words = {word: asked.words.weight * n for word, n in asked.words.counts.items()}
        if most is not None:  # the lightest terms move a score the least
            words = dict(sorted(words.items(), key=lambda item: -item[1])[: most // 2])
            vector = vector.prune(max_active_dims=most - len(words))
        return Weights(vector, words)

    @final
    def count(self) -> int:
        """Return how many documents the collection holds."""
        with self._translated():
            self._refresh()
            return self._count()

    @final
    def delete(self) -> None:
        """Delete the collection, if it is there.

        Raises:
            EngineMismatchError: It was not made by spladelet.
        """
        with self._translated():
            there = self._exists()
        if there and self.facts() is None:
            raise self._not_ours()
        self._known = None
        if there:
            with self._translated():
                self._delete()

    @final
    def refresh(self) -> None:
        """Make what was written visible to searches."""
        with self._translated():
            self._refresh()

    def _facts_of(self, vocab_size: int) -> Facts:
        return Facts(vocab_size, keys=self.names.keys, dots=self.names.dots)

    def _not_ours(self) -> EngineMismatchError:
        return EngineMismatchError(
            f"{self.name} has {self.collection!r}, and it was not made by spladelet. Choose "
            "another name, or delete it first."
        )

    def _refuse(self, record: Record) -> str:
        """Say why the engine would not take a document; empty if it would."""
        for part in ("id", "title", "text"):
            value = getattr(record.document, part)
            if valid_unicode(value) != value:
                return f"its {part} has half of a surrogate pair in it, which is no text"
        if "\0" in record.document.id:
            return "its id has a NUL in it, which not every engine keeps"
        size = len(record.document.id.encode())
        if not 0 < size <= self.max_id_bytes:
            return f"its id has {size} bytes; {self.name} takes 1 to {self.max_id_bytes}"
        limit = self.max_text_bytes
        for part in ("title", "text"):
            size = len(getattr(record.document, part).encode())
            if limit is not None and size > limit:
                return (
                    f"its {part} has {size} bytes; {self.name} takes {limit}. Push without texts, "
                    "or split it"
                )
        return ""

    @classmethod
    @contextmanager
    def _translated(cls) -> Iterator[None]:
        try:
            yield
        except SpladeletError:
            raise
        except cls._client_errors() as error:
            text = " ".join(str(error).split())[:500]  # some clients quote a page of HTML
            if _is_about_tls(error):
                raise EngineError(
                    f"{cls.name} cannot be trusted: {text}. If its certificate is of an authority "
                    "of your own, give that with --ca-certs."
                ) from error
            if cls._is_transient(error):
                raise EngineUnavailableError(
                    f"{cls.name} does not answer, or is busy: {text}. See that it runs, and that "
                    "the address is right."
                ) from error
            kind = EngineRequestError if cls._is_about_content(error) else EngineError
            raise kind(f"{cls.name} refuses: {text}") from error
        # What a proxy or another program at this address answers has none of the expected fields.
        except (KeyError, ValueError, TypeError, AttributeError, AssertionError) as error:
            raise EngineError(
                f"{cls.name} answered something else than expected ({type(error).__name__}: "
                f"{error}). See that the address is that of a supported version."
            ) from error


def _is_about_tls(error: BaseException) -> bool:
    """Look for a failed certificate among the causes, which clients wrap in their own errors."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:  # clients do make circles of them
        if isinstance(cause, ssl.SSLError) or "certificate" in str(cause).casefold():
            return True
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    return False
