"""From text to words: what BM25 counts.

A word is a run of letters and digits, in lower case, its accents folded, as its stem. What is
written together with signs (`ERR_42`, `foo.bar`, `10.1.2.3`, `covid-19`, `C++`) gives its parts,
and itself besides, so that it is found by either; a hyphen or an apostrophe between letters only
parts, or is passed over, as in ordinary words. Scripts that do not part their words (Chinese,
Japanese, Thai and others) give single characters and pairs of neighbours. An emoji is a word.

Does not know which language a text is in: it is told. Python's tables of Unicode decide what a
letter is, so that a character younger than the Python at hand may be none.
"""

import re
import threading
import unicodedata
from collections.abc import Callable, Container, Iterable, Iterator
from functools import cache
from itertools import pairwise

from spladelet.lexical.languages import NONE, stemmer, stop_words

# Vowel signs, points and the like belong to the letter before; Python's \w has none of them. Those
# of Unicode 14, with the letters between; not those of scripts that part no words, see below.
_MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1-\u05c2\u05c4-\u05c5\u05c7"
    "\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u0711-\u07f3"
    "\u07fd\u0816-\u082d\u0859-\u085b\u0898-\u08e1\u08e3-\u0963\u0981-\u09e3\u09fe-\u0a75"
    "\u0a81-\u0ae3\u0afa-\u0b63\u0b82-\u0bd7\u0c00-\u0c63\u0c81-\u0c83\u0cbc-\u0d4d\u0d57"
    "\u0d62-\u0d63\u0d81-\u0df3\u135d-\u135f\u1712-\u1734\u1752-\u1773\u180b-\u180d"
    "\u180f-\u193b\u1a17-\u1a1b\u1a55-\u1a7f\u1ab0-\u1b44\u1b6b-\u1b73\u1b80-\u1bf3"
    "\u1c24-\u1c37\u1cd0-\u1cd2\u1cd4-\u1dff\u20d0-\u20f0\u2cef-\u2cf1\u2d7f-\u2dff"
    "\u302a-\u302f\ua66f-\ua672\ua674-\ua67d\ua69e-\ua6f1\ua802-\ua827\ua82c\ua880-\ua8c5"
    "\ua8e0-\ua8f1\ua8ff-\ua92d\ua947-\ua953\ua980-\ua9c0\ua9e5-\uaa4d\uaa7b-\uaac1"
    "\uaaeb-\uaaef\uaaf5-\uaaf6\uabe3-\uabea\uabec-\uabed\ufb1e\ufe20-\ufe2f"
    "\U000101fd-\U000102e0\U00010376-\U0001037a\U00010a01-\U00010a3f\U00010ae5-\U00010ae6"
    "\U00010d24-\U00010d27\U00010eab-\U00010eac\U00010f46-\U00010f50\U00010f82-\U00010f85"
    "\U00011000-\U00011046\U00011070-\U000110ba\U000110c2\U00011100-\U00011134"
    "\U00011145-\U00011173\U00011180-\U000111c0\U000111c9-\U000111cc\U000111ce-\U000111cf"
    "\U0001122c-\U00011237\U0001123e\U000112df-\U00011446\U0001145e-\U000114c3"
    "\U000115af-\U000115c0\U000115dc-\U00011640\U000116ab-\U000116b7\U0001171d-\U0001172b"
    "\U0001182c-\U0001183a\U00011930-\U00011943\U000119d1-\U000119e0\U000119e4-\U00011a3e"
    "\U00011a47-\U00011a99\U00011c2f-\U00011c3f\U00011c92-\U00011ef6\U00016af0-\U00016af4"
    "\U00016b30-\U00016b36\U00016f4f-\U00016f92\U00016fe4-\U00016ff1\U0001bc9d-\U0001bc9e"
    "\U0001cf00-\U0001cf46\U0001d165-\U0001d169\U0001d16d-\U0001d172\U0001d17b-\U0001d182"
    "\U0001d185-\U0001d18b\U0001d1aa-\U0001d1ad\U0001d242-\U0001d244\U0001da00-\U0001da36"
    "\U0001da3b-\U0001da6c\U0001da75\U0001da84\U0001da9b-\U0001e136\U0001e2ae-\U0001e2ef"
    "\U0001e8d0-\U0001e94a"
)
_LETTER = rf"[\w{_MARKS}]"
_EMOJI = "\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
# What stands between blanks, but for signs at either end.
_SURFACE = re.compile(rf"{_LETTER}+(?:[-.:@/'+#&]{_LETTER}+)*[+#]*|[{_EMOJI}]")
_ASCII_SURFACE = re.compile(r"\w+(?:[-.:@/'+#&]\w+)*[+#]*", re.ASCII)  # the same, faster
_PART = re.compile(rf"(?:(?!_){_LETTER})+")
_PART_WITH_APOSTROPHE = re.compile(rf"(?:(?!_){_LETTER})+(?:'(?:(?!_){_LETTER})+)*")
# Kept whole, too: what has a digit, or a sign that is no hyphen, slash or apostrophe.
_NAME = re.compile(r"[\d_.:@+#&]")
# Han, kana, Thai, Lao, Tibetan, Burmese, Khmer and what goes with them.
_UNPARTED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_APOSTROPHES = {ord(sign): "'" for sign in "\u2018\u2019\u02bc\uff07"}
# Soft hyphens and joiners of no width are no part of what a word is called.
_CLEANED = {
    **_APOSTROPHES,
    **dict.fromkeys((0xAD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFE0E, 0xFE0F, 0xFEFF)),
}
_MOST_MARKS = 30
_LONG_RUN = re.compile(rf"[{_MARKS}]{{{_MOST_MARKS + 1},}}")
_ACCENTS = re.compile("[\u0300-\u036f]+")
_LONGEST = 255  # characters of a word; what is longer is known by its beginning
_KEPT = 1 << 19  # surfaces whose words are remembered, some 150 bytes each


class Analyzer:
    """What makes words of texts, in one language.

    Safe for threads: each has a stemmer of its own.

    >>> Analyzer("english").words("The cats' naïve ERR_42")
    ['cat', 'naiv', 'err', '42', 'err_42']

    Args:
        language: A name of `languages.LANGUAGES`.

    Raises:
        MissingDependencyError: PyStemmer is not installed, and the language is not "none".
    """

    def __init__(self, language: str) -> None:
        self._language = language
        self._stop_words = frozenset(map(_folded, stop_words(language))) | stop_words(language)
        # English has no accents that its stemmer would look for; others' stemmers read theirs.
        self._folds_first = language in ("english", NONE)
        self._part = _PART_WITH_APOSTROPHE if language == "english" else _PART
        self._of_thread = _OfThread(language)

    def words(self, text: str) -> list[str]:
        """Return a text's words, in their order, each as often as it comes."""
        surfaces = _surfaces(text)
        known = self._of_thread.known
        found: list[str] = []
        for surface in surfaces:
            words = known.get(surface)
            if words is None:
                words = self._of_thread.remember(surface, tuple(self._words_of(surface)))
            found += words
        return found

    def spelled(self, text: str) -> dict[str, str]:
        """Return a text's words, in their order, each with how the text first spells it."""
        found: dict[str, str] = {}
        for surface in _surfaces(text):
            for word in self.words(surface):
                found.setdefault(word, surface)
        return found

    def places(self, text: str, words: Container[str]) -> Iterator[tuple[int, int, str]]:
        """Yield where some words stand in a text, in characters, in their order.

        What is written together, such as a name with a hyphen in it, is one place; of scripts that
        do not part their words, each character or pair is.
        """
        for match in _SURFACE.finditer(text.translate(_APOSTROPHES)):
            surface, start = match[0], match.start()
            for word in dict.fromkeys(self.words(surface)):
                if word not in words:
                    continue
                if _UNPARTED.search(word):
                    for inside in re.finditer(re.escape(word), surface):
                        yield start + inside.start(), start + inside.end(), word
                else:
                    yield start, match.end(), word

    def _words_of(self, surface: str) -> Iterable[str]:
        parts = self._part.findall(surface)
        for part in parts or [surface]:
            yield from self._words_of_part(part)
        if surface not in parts and parts and _NAME.search(surface):
            yield _folded(surface)[:_LONGEST]

    def _words_of_part(self, part: str) -> Iterable[str]:
        end = 0
        for run in _UNPARTED.finditer(part):
            yield from self._stem(part[end : run.start()])
            yield from _pairs(run[0])
            end = run.end()
        yield from self._stem(part[end:])

    def _stem(self, part: str) -> Iterable[str]:
        word = _folded(part) if self._folds_first else part
        if word not in self._stop_words and (
            stem := _folded(self._of_thread.stem(word[:_LONGEST]))
        ):
            yield stem


class _OfThread(threading.local):
    """A thread's stemmer, which is not to be shared, and what it has stemmed already."""

    def __init__(self, language: str) -> None:
        self.stem: Callable[[str], str] = stemmer(language)
        self.known: dict[str, tuple[str, ...]] = {}

    def remember(self, surface: str, words: tuple[str, ...]) -> tuple[str, ...]:
        if len(self.known) >= _KEPT:
            self.known.clear()
        if len(surface) <= _LONGEST:
            self.known[surface] = words
        return words


@cache
def analyzer_of(language: str) -> Analyzer:
    """Return the analyzer of a language, one and the same for all."""
    return Analyzer(language)


def _surfaces(text: str) -> list[str]:
    """Cut up a text, in lower case and in one of Unicode's several ways of writing it."""
    if text.isascii():
        return _ASCII_SURFACE.findall(text.lower())
    bounded = _LONG_RUN.sub(_without_piles, text.translate(_CLEANED))
    return _SURFACE.findall(unicodedata.normalize("NFKC", bounded).lower())


def _without_piles(run: re.Match[str]) -> str:
    """Leave no more than so many marks on a letter: sorting them takes time by the square.

    Source: the stream-safe text format, https://unicode.org/reports/tr15/
    """
    kept, piled = [], 0
    for character in run[0]:
        piled = piled + 1 if unicodedata.combining(character) else 0
        if piled <= _MOST_MARKS:
            kept.append(character)
    return "".join(kept)


def _folded(word: str) -> str:
    """Return a word without the accents of Latin, Greek and Cyrillic letters.

    >>> _folded("naïveté"), _folded("हिन्दी") == "हिन्दी"
    ('naivete', True)
    """
    if word.isascii():
        return word
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", word)))


def _pairs(run: str) -> Iterable[str]:
    """Yield characters and neighbouring pairs."""
    yield from run
    yield from map("".join, pairwise(run))
