"""Passages: what becomes of a document that is longer than a model reads.

A passage knows the document that it is of by its metadata, for an id may have a "#" of its own.
"""

from spladelet.documents import PARENT, PLACE, Document, passage_id
from spladelet.encoder.sides import Side
from spladelet.text import valid_unicode


def split(document: Document, side: Side, overlap: int) -> list[Document]:
    """Cut a document into passages that a side of a model reads wholly; see `Encoder.split`."""
    tokenizer = side.tokenizer
    text = valid_unicode(document.text)
    title, reserved = tokenizer.beginning(document.title, side.semantics.max_length // 2)
    spans = tokenizer.spans(text, overlap, reserved)
    (whole,) = tokenizer.tokenize([document.content])
    if not whole.truncated:
        return [document]
    return [
        Document(
            passage_id(document.id, place),
            text[start:end],
            title,
            {**document.metadata, PARENT: document.id, PLACE: place},
        )
        for place, (start, end) in enumerate(spans)
    ]
