"""What an index does with words: a value that it keeps, so that documents and queries agree."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from spladelet.errors import InputError
from spladelet.lexical.languages import as_language, known_language, stemmer_version
from spladelet.parameters import as_real
from spladelet.text import shown

# How much words count beside the model: chosen on scifact, qed, med, cran and the demo's questions,
# where all from .5 to 1.5 are about as good (benchmarks/words.py).
LEXICAL = 0.8


@dataclass(frozen=True, slots=True)
class Words:
    """How the words of documents are counted and weighted.

    Attributes:
        language: Whose stop words are left out and whose stems are taken: a language that Snowball
            has, by its name or code, or "none" for neither.
        k1: How much is added by a word that comes again, from 0 to 1000; 0 counts it once.
        b: How far long documents are held back, from 0 to 1.
        stemmer: The release of Snowball that stems; empty means the one that is installed.

    Raises:
        InputError: One of them is nothing that could be done.
        MissingDependencyError: PyStemmer is not installed, and the language is not "none".

    Source: Robertson and Zaragoza 2009, https://doi.org/10.1561/1500000019, as Lucene has it.
    """

    language: str = "english"
    k1: float = 1.2
    b: float = 0.75
    stemmer: str = ""

    def __post_init__(self) -> None:
        language = as_language(self.language)
        object.__setattr__(self, "language", language)
        object.__setattr__(self, "k1", _within(self.k1, "k1", 1000))
        object.__setattr__(self, "b", _within(self.b, "b", 1))
        if not isinstance(self.stemmer, str):
            raise InputError(f"stemmer is {self.stemmer!r:.60}; expected a version, or ''.")
        object.__setattr__(self, "stemmer", self.stemmer or stemmer_version(language))

    @classmethod
    def of_index(cls, kept: Mapping[str, Any]) -> "Words":
        """Read what an index keeps.

        Raises:
            InputError, KeyError: It is of another version.
        """
        return cls(kept["language"], kept["k1"], kept["b"], kept["stemmer"])

    def check_stemmer(self) -> None:
        """Raise InputError unless words are stemmed as those were that the index has."""
        here = stemmer_version(self.language)
        if here != self.stemmer:
            raise InputError(
                f"the index has words as Snowball {self.stemmer or '(none)'} stems them, and here "
                f"is {here}, which may find other stems. Install PyStemmer {self.stemmer}, or "
                f"count its words anew with `spladelet compact INDEX --language {self.language}`."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return it as an index keeps it."""
        return asdict(self)


def as_words(given: object, language: str | None) -> Words | None:
    """Return how words are counted; None if they are not.

    Args:
        given: What a caller said: `Words`, None, or "auto".
        language: What "auto" takes; None, or one that has no stemmer, means that none are counted.

    Raises:
        InputError: It is something else.
    """
    if given is None or isinstance(given, Words):
        return given
    if not isinstance(given, str) or given != "auto":
        raise InputError(
            f"words is {shown(given)}; expected Words(...), such as Words('german'), None or "
            "'auto'."
        )
    known = known_language(language)
    return None if known is None else Words(known)


def _within(value: object, name: str, most: int) -> float:
    expected = f"a number from 0 to {most}"
    number = as_real(value, name, expected)
    if not 0 <= number <= most:
        raise InputError(f"{name} is {value!r:.40}; expected {expected}.")
    return number
