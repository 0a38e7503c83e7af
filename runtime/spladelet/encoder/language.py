"""Is a text plainly not English?

Says so only when there is no doubt: most letters are of another script, or function words of one
other language abound and English ones do not. Names, formulas, key words and short texts pass.
Does not say which language it is.
"""

import re

_READ = 400  # characters that are looked at
_FEWEST_LETTERS = 4
_FEWEST_FOREIGN = 3  # different function words
_LATIN_ENDS = 0x24F  # what comes later, but for Latin Extended Additional, is of another script
_ADDITIONAL = range(0x1E00, 0x1F00)
_WORD = re.compile(r"[^\W\d_]+")

_ENGLISH = frozenset(
    "the of and to in is for with that on by are was from this it as be at which or not have has "
    "how what why who when where does do can an we you they but their its were been".split()
)
# Frequent words of other languages, a set each, that are no English words.
_OTHERS = tuple(
    frozenset(words.split())
    for words in (
        "der und das ist nicht ein eine den dem mit von zu auf für sich auch wie werden wird sind",
        "le la les des est une dans pour que qui sur avec du au ne pas plus sont ce cette",
        "el los las del una por para con que es en se su al como más pero sus son está",
        "il lo gli della di che per una con non sono nel alla del è dei anche più come",
        "os um uma da do das dos não com para que em por se mais como ao são foi seu",
        "het een van en niet dat op te zijn met voor aan ook er maar naar wordt bij uit",
        "och att det som en på är av för med till den inte har ett om var jag",
        "nie jest się na to że do jak od po przez dla przy są ale czy ich",
        "ve bir bu için ile da de olarak çok daha gibi olan kadar en mi ne",
    )
)


def is_plainly_not_english(text: str) -> bool:
    """Say whether there is no doubt that a text is in another language.

    >>> is_plainly_not_english("Die Katze sitzt auf der Matte und schnurrt, das ist nicht laut.")
    True
    >>> is_plainly_not_english("Das Kapital")
    False
    """
    words = _WORD.findall(text[:_READ].casefold())
    letters = "".join(words)
    if len(letters) < _FEWEST_LETTERS:
        return False
    if not letters.isascii() and 2 * sum(map(_is_latin, letters)) < len(letters):
        return True
    distinct = set(words)
    foreign = max(len(distinct & language) for language in _OTHERS)
    return foreign >= _FEWEST_FOREIGN and foreign > 2 * len(distinct & _ENGLISH)


def _is_latin(letter: str) -> bool:
    return ord(letter) <= _LATIN_ENDS or ord(letter) in _ADDITIONAL
