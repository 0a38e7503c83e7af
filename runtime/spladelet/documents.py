"""Documents, and reading them from files; `records` has the layouts.

A record has a text and maybe an id, a title and "metadata", an object; other fields are ignored.
The text is "text", or what others call it: "contents", "content", "body" or "passage". The id is
"id" or BEIR's "_id", or one of `records.IDS`; without one, the line number counts.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from spladelet.errors import DuplicateIdError, InputError, RecordError
from spladelet.metadata import plain_metadata
from spladelet.records import IDS, TEXTS, TITLE, read_records
from spladelet.sources import Source, name_of
from spladelet.text import MAX_ID, as_id, as_text, shown

# What the metadata of a passage have beside those of the document that it was cut from.
PARENT, PLACE = "document", "passage"


@dataclass(frozen=True, slots=True)
class Document:
    """A text that can be found.

    Attributes:
        id: Its name, unique in an index.
        text: What is encoded, after the title.
        title: May be empty.
        metadata: What searches can be narrowed by: text, finite numbers, true, false or None by
            name, or lists of these; or objects, which are only kept.

    A whole number as id is its digits; None, NaN and pandas' NA as text or title are empty.

    Raises:
        InputError: The id, text or title is something else.
    """

    id: str
    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if type(self.id) is type(self.text) is type(self.title) is str:
            return
        object.__setattr__(self, "id", as_id(self.id, "the id of a document"))
        for name in ("text", "title"):
            where = f"the {name} of document {self.id!r:.80}"
            object.__setattr__(self, name, as_text(getattr(self, name), where))

    @property
    def content(self) -> str:
        """Title and text as one, as BEIR has it."""
        return f"{self.title} {self.text}".strip()


def read_documents(source: Source) -> Iterator[Document]:
    """Read documents one by one: JSONL, a JSON array, CSV, TSV, or plain text, one a line.

    Text is UTF-8, standard input too. What gzip, bzip2 or xz has packed is unpacked.

    Args:
        source: A path, a file in a folder or .zip, or an open file.

    Raises:
        InputError: The file cannot be read, or is no UTF-8 text.
        RecordError: A line is no document, or too long; the message names file and line.
    """
    name = name_of(source)
    for unit, number, record in read_records(source):
        if isinstance(record, str):
            yield Document(str(number), record)
        else:
            yield to_document(record, number, name, unit=unit)


def to_document(
    record: Mapping[str, Any],
    number: int,
    name: str,
    *,
    identity: str | None = None,
    unit: str = "line",
) -> Document:
    """Make a document of a record; see the module for its fields.

    Args:
        record: The record.
        number: Its number in the file, which is its id if it has none.
        name: The file's, for messages.
        identity: Its id, where that is known otherwise.
        unit: What the number counts.

    Raises:
        RecordError: A field is missing, of another type or ambiguous; the message names the place.
    """
    try:
        text = as_text(record[text_name(record)], "text")
        title = as_text(record.get(TITLE), TITLE)
        named = _record_id(record, number) if identity is None else identity
        metadata = record.get("metadata") or {}
        if metadata:
            metadata = plain_metadata(metadata, named)
    except InputError as error:
        raise RecordError(f"{name}, {unit} {number}: {error}") from error
    return Document(named, text, title, metadata)


def text_name(record: Mapping[str, Any]) -> str:
    """Return what a record calls its text.

    Raises:
        InputError: It has none; or two that differ, neither of them called "text".
    """
    if "text" in record:
        return "text"
    names = [name for name in TEXTS if name in record]
    if not names:
        raise InputError('there is no "text"; expected one, and maybe "id" and "title".')
    if len({as_text(record[name], name) for name in names}) > 1:
        raise InputError(f'{" and ".join(names)} differ. Call that which is meant "text".')
    return names[0]


def _record_id(record: Mapping[str, Any], number: int) -> str:
    # "id" and "_id" come first; a passage with one may have the doc_id of what it was cut from.
    # But "docid" is Anserini's word for the same.
    names = [name for name in IDS if name in record]
    if not names:
        return str(number)
    if names[0] in IDS[:2]:
        names = [names[0], *(name for name in names if name == "docid")]
    ids = [as_id(record[name], name) for name in names]
    if any(identity != ids[0] for identity in ids):
        raise InputError(
            f'{" and ".join(names)} differ ({shown(ids)}). Leave one, and call it "id".'
        )
    return ids[0]


def passage_id(identity: str, place: int) -> str:
    """Return the id of a document's passage by its place, from 0."""
    return f"{identity}#{place}"


def to_record(document: Document) -> dict[str, Any]:
    """Return a document as a record that `to_document` reads."""
    fields: dict[str, Any] = {"id": document.id, "text": document.text}
    if document.title:
        fields["title"] = document.title
    if document.metadata:
        fields["metadata"] = dict(document.metadata)
    return fields


def to_line(document: Document) -> bytes:
    """Return a document as a line of JSONL, in half the time of its record's."""
    quote = json.encoder.encode_basestring_ascii
    fields = f'"id": {quote(document.id)}, "text": {quote(document.text)}'
    if document.title:
        fields += f', "title": {quote(document.title)}'
    if document.metadata:
        fields += f', "metadata": {json.dumps(dict(document.metadata))}'
    return f"{{{fields}}}\n".encode()


def as_documents(
    documents: Iterable[str | Document] | None, expected: int | None, first: int = 0
) -> list[Document]:
    """Return as many documents as expected; a str gets its number, counted from `first`, as id.

    Args:
        documents: The documents; None stands for as many as expected, without texts.
        expected: How many there are vectors for; None takes any number.
        first: The number of the first.

    Raises:
        InputError: There are more or fewer, one is something else, or metadata of one cannot be
            kept.
    """
    if isinstance(documents, (str, Document)):
        raise InputError(
            f"documents is one {type(documents).__name__}; expected as many as there are vectors."
        )
    if documents is not None and not isinstance(documents, Iterable):
        raise InputError(f"documents is {shown(documents)}; expected several, or None.")
    given = [""] * (expected or 0) if documents is None else documents
    kept = [
        item if isinstance(item, Document) else Document(str(number), item)
        for number, item in enumerate(given, start=first)
    ]
    if expected is not None and len(kept) != expected:
        raise InputError(f"{expected} vectors came with {len(kept)} documents; give one for each.")
    for number, document in enumerate(kept):
        if document.metadata != {}:
            metadata = plain_metadata(document.metadata, document.id)
            if metadata is not document.metadata:
                kept[number] = replace(document, metadata=metadata)
    return kept


def check_ids(documents: Sequence[Document]) -> None:
    """Check ids that an index is to have.

    Raises:
        DuplicateIdError: Two documents have one id.
        InputError: An id is too long to be one.
    """
    seen: dict[str, int] = {}
    for number, document in enumerate(documents):
        first = seen.setdefault(document.id, number)
        if first != number:
            raise DuplicateIdError(
                f"documents {first} and {number} (from 0) both have id {document.id!r}. Give each "
                "its own."
            )
        if len(document.id) > MAX_ID:
            raise InputError(
                f"document {number} (from 0) has an id of {len(document.id)} characters "
                f"({shown(document.id)}); at most {MAX_ID} are kept. Give it a shorter one."
            )


def check_id_list(ids: Iterable[str | int]) -> list[str]:
    """Return ids, each once; a whole number is its digits.

    Raises:
        InputError: It is one id, not several, or one of them is no id.
    """
    if isinstance(ids, (str, int)):
        raise InputError(f"ids is {shown(ids)}; expected several, as in [{shown(ids)}].")
    if isinstance(ids, (bytes, bytearray, memoryview)):  # whose items are numbers, too
        raise InputError(f"ids is {shown(ids)}; expected several texts, as in ['1', '2'].")
    try:
        asked = list(ids)
    except TypeError as error:
        raise InputError(f"ids is {shown(ids)}; expected several, as in ['1', '2'].") from error
    return list(dict.fromkeys(as_id(identity, "one of ids") for identity in asked))
