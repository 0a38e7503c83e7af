"""Texts by which an implementation in another language can be checked: what it may get wrong.

A few dozen, because each bundle carries them with their vectors. Most are about what libraries for
tokenizing differ in: truncation, special tokens, normalization, odd characters.
"""

from spladelet.evaluation import demo_collection

# Attention grows with the square of a text's length: longer ones are not worth the wait.
_MOST_WORDS = 1024

_TEXTS = (
    # plain
    "how long do goldfish live",
    "The cat sat on the mat.",
    "What is the capital of France?",
    "goldfish",
    "a",
    "UPPER lower MiXeD cAsE",
    # nothing that a model reads, and little more than nothing
    "",
    " ",
    " \t\r\n ",
    "?",
    "!!! --- ... ,,, ;;;",
    # other scripts, among them some without spaces and some from right to left
    "東京は日本の首都です",
    "你好世界 hello 世界",
    "한국어 텍스트 테스트",
    "Привет мир, как дела?",
    "مرحبا بالعالم",
    "हिन्दी में एक वाक्य",
    "ประโยคภาษาไทย",
    # normalization: composed, decomposed, wide, and what changes its length in lower case
    "Café crème brûlée à l'hôtel, naïve Ångström",
    "Cafe\u0301 cre\u0300me bru\u0302le\u0301e na\u00efve",
    "e\u0301\u0323\u0304 many marks on one letter",
    "ＦＵＬＬＷＩＤＴＨ ① ﬁ ligature Straße İstanbul ǅ",  # noqa: RUF001
    # beyond 16 bits
    "I ❤️ 🍕 and 👩‍👩‍👧 family 🇩🇪 emoji",
    "𝒻𝒶𝓃𝒸𝓎 𝕞𝕒𝕥𝕙 𐍈 𠮷野家",  # noqa: RUF001
    # control characters and odd spaces
    "before\x00after \x00 nul",
    "a\x01b\x07c\x1bd\x7fe\x85f",
    "zero\u200bwidth soft\u00adhyphen bom\ufeff nbsp\u00a0wide\u3000line\u2028end",
    "tabs\tand\nnew\r\nlines   and    spaces",
    # special tokens, spelled out, of every kind of model
    "[CLS] raw [SEP] special [MASK] tokens [UNK] and [PAD] in text",
    "<s> raw </s> special <mask> tokens <unk> and <pad> in text",
    "[SEP]",
    "almost[SEP]joined [sep] [ SEP ] <S>",
    # what a vocabulary does not have, and words without an end
    "\ue000 private \ufffd replacement \U0010fffd",
    "pneumonoultramicroscopicsilicovolcanoconiosis",
    "x" * 150,
    # halves of surrogate pairs, which are no Unicode
    "lone \ud83d surrogate",
    "\udc00\ud800",
    # numbers, addresses, code
    "1234567890 3.14 -42 1e-9 0xff $100,000.50 50% 1/3",
    "https://example.org/a?b=c&d=%20#e foo.bar@example.org",
    "don't can't U.S.A. e-mail C++ C# def f(x): return x ** 2",
)


def conformance_texts(max_length: int) -> list[str]:
    """Return the texts.

    Args:
        max_length: How many tokens the model reads at most. One text has more, unless that would be
            more than 1,024 words.
    """
    words = [word for document in demo_collection().documents for word in document.text.split()]
    length = min(max_length + 1, _MOST_WORDS)
    repeated = words * (length // len(words) + 1)
    return [*_TEXTS, " ".join(repeated[:length])]
