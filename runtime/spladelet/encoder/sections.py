"""Parts of long texts: what is tokenized at once, cut at white space where there is some."""

from collections.abc import Iterator, Sequence

# No more characters than these are read in search of enough tokens. A section of a text that is
# read wholly has half of them: it is read to its end even behind a title and a prompt.
MOST_CHARACTERS = 1 << 19
SECTION = MOST_CHARACTERS // 2
_TOGETHER = 1 << 20  # characters of sections that are tokenized at once


def sections_of(text: str) -> Iterator[tuple[int, str]]:
    """Cut a text into what is tokenized at once, each part with its place."""
    begin = 0
    while True:
        section = head_of(text[begin : begin + SECTION + 1], SECTION)
        yield begin, section
        begin += len(section)
        if begin >= len(text):
            return


def sections_together(texts: Sequence[str]) -> Iterator[tuple[list[int], list[str]]]:
    """Group the sections of texts to be tokenized at once, each with its text's number."""
    numbers: list[int] = []
    sections: list[str] = []
    for number, text in enumerate(texts):
        for _, section in sections_of(text):
            if sections and sum(map(len, sections)) + len(section) > _TOGETHER:
                yield numbers, sections
                numbers, sections = [], []
            numbers.append(number)
            sections.append(section)
    if sections:
        yield numbers, sections


def head_of(text: str, limit: int) -> str:
    """Cut a long text at white space, where no tokenizer joins what stands on both sides.

    Writing without spaces is cut anywhere: what the cut spoils lies past the length limit, or the
    text is read on.
    """
    if len(text) <= limit:
        return text
    for end in range(limit, limit // 2, -1):  # not to the start: one word may be all there is
        if text[end].isspace():
            return text[:end]
    return text[:limit]


def tail_of(text: str, limit: int) -> str:
    """Return the end of a long text, from white space on where there is some; see `head_of`."""
    if len(text) <= limit:
        return text
    for start in range(len(text) - limit, len(text) - limit // 2):
        if text[start].isspace():
            return text[start:]
    return text[-limit:]
