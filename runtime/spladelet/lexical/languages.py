"""Languages: what Snowball calls them, their stop words, and the stemmer for one.

Stop words are those of the Snowball project, https://snowballstem.org (BSD licence), in
`data/stop_words`, for the languages that it has some for; elsewhere BM25's own weighting has to do.
"""

from collections.abc import Callable
from functools import cache
from importlib.resources import files

from spladelet import extras
from spladelet.errors import InputError

NONE = "none"  # no stemming and no stop words: for text in several languages, or in others

# By the codes of ISO 639-1, which models state; `yi` is Yiddish, whose letters are Hebrew's.
_CODES = {
    "ar": "arabic",
    "hy": "armenian",
    "eu": "basque",
    "ca": "catalan",
    "da": "danish",
    "nl": "dutch",
    "en": "english",
    "fi": "finnish",
    "fr": "french",
    "de": "german",
    "el": "greek",
    "hi": "hindi",
    "hu": "hungarian",
    "id": "indonesian",
    "ga": "irish",
    "it": "italian",
    "lt": "lithuanian",
    "ne": "nepali",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "es": "spanish",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
    "yi": "yiddish",
}
LANGUAGES = (*sorted(_CODES.values()), NONE)


def as_language(given: object) -> str:
    """Return a language's name.

    >>> as_language("en"), as_language("German"), as_language("none")
    ('english', 'german', 'none')

    Raises:
        InputError: It is none that there is a stemmer for.
    """
    known = known_language(given)
    if known is None:
        raise InputError(
            f"language is {given!r:.60}; expected one of {', '.join(LANGUAGES)}, or its code, such "
            "as 'en'."
        )
    return known


def known_language(given: object) -> str | None:
    """Return a language's name; None if it is none that there is a stemmer for."""
    if not isinstance(given, str):
        return None
    name = given.strip().casefold()
    name = _CODES.get(name.partition("-")[0], name)
    return name if name in LANGUAGES else None


@cache
def stop_words(language: str) -> frozenset[str]:
    """Return a language's stop words; none where Snowball has none."""
    file = files("spladelet") / "data" / "stop_words" / f"{language}.txt"
    return frozenset(file.read_text(encoding="utf-8").split()) if file.is_file() else frozenset()


def stemmer(language: str) -> Callable[[str], str]:
    """Return what makes a word's stem; not to be shared by threads.

    Raises:
        MissingDependencyError: PyStemmer is not installed, or does not know the language.
    """
    if language == NONE:
        return str
    module = extras.required("Stemmer", "PyStemmer", f"stemming {language} words")
    try:
        # Kept by who analyzes, for a surface at a time; twice would be memory for nothing.
        stem: Callable[[str], str] = module.Stemmer(language, 0).stemWord
    except KeyError as error:
        raise InputError(
            f"PyStemmer {module.version()} has no {language}. Upgrade it, or choose language "
            f"{NONE!r}."
        ) from error
    return stem


def stemmer_version(language: str) -> str:
    """Return the release of Snowball that stems a language; empty where nothing does."""
    if language == NONE:
        return ""
    return str(extras.required("Stemmer", "PyStemmer", f"stemming {language} words").version())
