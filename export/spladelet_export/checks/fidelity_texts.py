"""Texts that every export is checked on: many scripts, lengths and oddities."""

_WORDS = (
    "river stone bread winter engine doctor music paper window garden letter market bridge salt "
    "teacher cloud metal horse island mirror"
).split()

_ODDITIES = (
    "a",
    "?",
    "The cat sat on the mat.",
    "how long do goldfish live",
    "What is the capital of France?",
    "e=mc^2, π≈3.14159 and 1/3 = 0.333…",
    "UPPER lower MiXeD cAsE",
    "naïve café, Ångström, Übergröße, señor",
    "日本語の文章と中文句子",
    "Пример русского текста",
    "نص عربي قصير",
    "हिन्दी में एक वाक्य",
    "한국어 문장 하나",
    "ประโยคภาษาไทย",
    "😀 🚀 family: 👩‍👩‍👧‍👦 flag: 🇫🇷",
    "tabs\tand\nnew\r\nlines",
    "    spaces   around    and   between    ",
    "http://example.org/a?b=c&d=%20#e user@example.org",
    "pneumonoultramicroscopicsilicovolcanoconiosis",
    "x" * 120,
    "word " * 600,
    "!!! --- ??? ... ,,, ;;;",
    "[CLS] [SEP] [MASK] [UNK] written out",
    "<b>bold</b> &amp; <script>alert(1)</script>",
    "def f(x): return x ** 2  # squares",
    "1234567890 3.14 -42 1e-9 0xff",
    "zero\u200bwidth and soft\u00adhyphen and e\u0301 combined",
)


def built_in_texts() -> list[str]:
    """Return about 60 texts: oddities, and runs of words from 1 to 700."""
    lengths = (*range(1, 24), 32, 48, 64, 96, 128, 192, 256, 384, 510, 512, 700)
    runs = [
        " ".join(_WORDS[(start + i * (start % 7 + 1)) % len(_WORDS)] for i in range(length))
        for start, length in enumerate(lengths)
    ]
    return [*_ODDITIES, *runs]
