"""Texts to encode, read ahead and checked, however many there are."""

from collections.abc import Iterable, Iterator, Mapping

from spladelet.batches import batched
from spladelet.documents import Document
from spladelet.errors import InputError
from spladelet.text import as_text


def read_ahead(texts: Iterable[str | Document], count: int) -> Iterator[list[str]]:
    """Read texts ahead, so many at a time, checking each."""
    if isinstance(texts, (str, bytes, Document)):
        raise InputError(
            f"got one {type(texts).__name__} where several texts are expected. Use "
            "encode_query or encode_document for one text, or pass a list."
        )
    try:
        if isinstance(texts, Mapping):  # would give its keys
            raise TypeError
        iterator = iter(texts)
    except TypeError as error:
        raise InputError(
            f"texts is {texts!r:.60} ({type(texts).__name__}); expected a list, or anything that "
            "gives texts one by one."
        ) from error
    start = 0
    for window in batched(iterator, count):
        yield [_text(item, start + i) for i, item in enumerate(window)]
        start += len(window)


def _text(item: str | Document, number: int) -> str:
    return item.content if isinstance(item, Document) else as_text(item, f"text number {number}")
