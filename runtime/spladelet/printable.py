r"""Text that a terminal shows, and does not obey.

What others wrote (ids, titles, names, error messages) may hold control characters: a terminal acts
on them, and a line break in a name looks like a row that is not there. They are shown as Python
writes them, such as \x1b. Does not draw: see `display`.
"""

import json
import re
import textwrap

# Control characters, what ends lines, what turns the direction of writing around, and halves of
# characters, which no output can encode. Marks and joiners that scripts need are left alone.
_UNSAFE = r"\x7f-\x9f\u061c\u2028-\u202e\u2066-\u2069\ud800-\udfff"
# Where text begins to stand out, and ends to: no characters of Unicode, so that no text has them by
# right; one that does shows them escaped. `styled` makes of them what a terminal obeys.
BOLD, UNDERLINED, PLAIN = "\ufdd0", "\ufdd1", "\ufdd2"
_STYLES = {ord(BOLD): "\x1b[1m", ord(UNDERLINED): "\x1b[4m", ord(PLAIN): "\x1b[0m"}
_IN_LINES = re.compile(rf"[\x00-\x08\x0b-\x1f{_UNSAFE}]")
_IN_FIELDS = re.compile(rf"[\x00-\x1f{BOLD}-{PLAIN}{_UNSAFE}]")
_IN_JSON = re.compile(rf"[\x00-\x08\x0b-\x1f{BOLD}-{PLAIN}{_UNSAFE}]")
_LONGEST_LINE = 2000
_LONGEST_FIELD = 200


def clean_lines(text: str) -> str:
    """Return text of several lines, with only line breaks and tabs left of what controls."""
    return _IN_LINES.sub(_shown, text)


def styled(text: str) -> str:
    """Return clean text with its styles as a terminal has them."""
    return text.translate(_STYLES)


def clean(text: str) -> str:
    r"""Return text that is part of a line, without any character that controls.

    >>> clean("a\x1b[2J\nb")
    'a\\x1b[2J\\nb'
    """
    return _IN_FIELDS.sub(_shown, text)


def field(text: str, width: int = _LONGEST_FIELD) -> str:
    """Return a name, cleaned and cut, in time that does not grow with it."""
    cleaned = clean(text[: width + 1])
    return cleaned if len(cleaned) <= width else f"{cleaned[: width - 1]}…"


def one_line(message: str) -> str:
    """Return a message as one line, which is not endless."""
    start = message[: 2 * _LONGEST_LINE]
    return field(" ".join(filter(None, map(str.strip, start.splitlines()))), _LONGEST_LINE)


def to_json(value: object) -> str:
    """Return a value as JSON of which a terminal obeys nothing."""
    return clean_json(json.dumps(value, ensure_ascii=False))


def clean_json(text: str) -> str:
    """Return JSON that says the same and of which a terminal obeys nothing."""
    return _IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _shown(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def snippet(title: str, text: str, width: int) -> str:
    """Return title and text on one line of at most `width` characters, however long they are."""
    width = max(width, 20)
    start = _start(text, width)
    line = clean(f"{_start(title, width)}: {start}".rstrip() if title else start)
    short = textwrap.shorten(line, width, placeholder=" …")
    # Writing without spaces is cut anywhere, for whole words would leave little of it.
    return short if len(short) >= min(len(line), width // 2) else line[: width - 2] + " …"


def _start(text: str, width: int) -> str:
    r"""Return the start of a text, its words with single spaces between, past `width` if it is.

    >>> _start("  a  cat\npurrs and purrs", 8)
    'a cat purrs'
    """
    words, length = [], 0
    for match in re.finditer(rf"\S{{1,{width + 1}}}", text):
        words.append(match[0])
        length += len(match[0]) + 1
        if length > width + 1:
            break
    return " ".join(words)
