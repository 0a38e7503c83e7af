"""All of an index that changes at once when it is refreshed, and what it is asked with."""

from dataclasses import dataclass

from spladelet.errors import ModelMismatchError
from spladelet.index import segment_files
from spladelet.index.format import Manifest
from spladelet.index.queries import Families, Lexical, Query
from spladelet.index.view import View
from spladelet.origins import warn_of_rounding
from spladelet.vector import SparseVector, check_same_model
from spladelet.vector_arguments import as_query


@dataclass(frozen=True, slots=True)
class State:
    """What an index is at a time; a search keeps to one, whatever `refresh` does meanwhile.

    Attributes:
        manifest: What the index consists of; in memory, what is known of it.
        view: Its segments, to be searched.
        opened: What was read from disk; None in memory.
    """

    manifest: Manifest
    view: View
    opened: segment_files.Opened | None = None

    @classmethod
    def of(cls, opened: segment_files.Opened) -> "State":
        """Return the state of an index that was read from disk."""
        return cls(opened.manifest, View(opened.segments), opened)

    @property
    def vocab_size(self) -> int:
        """How many terms the model has."""
        return self.manifest.vocab_size

    @property
    def model(self) -> str | None:
        """Its fingerprint; None if unknown."""
        return self.manifest.model

    def ask(self, query: object, lexical: Lexical) -> Query:
        """Return what a query asks, once it is known to be of the same model."""
        if not isinstance(query, str):
            query = as_query(query)
            self.check_model(query)
        is_empty = not self.vocab_size and self.manifest.words is None  # whatever is asked
        return Families(bool(self.vocab_size) or is_empty, self.manifest.words).ask(query, lexical)

    def check_model(self, query: SparseVector) -> None:
        """Raise ModelMismatchError if a query was encoded by another model than the documents."""
        try:
            if self.vocab_size:
                check_same_model(query, self)
                warn_of_rounding(query.origin, self.manifest.origins)
        except ModelMismatchError as error:
            name = self.manifest.model_name or "unnamed"
            raise ModelMismatchError(
                f"{error} This index is of the model {name!r}; if the query's is another version "
                "of it, build the index again with that."
            ) from error
