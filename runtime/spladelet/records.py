"""The layouts in which files hold records, told apart by suffix and first line.

JSONL       an object a line, which begins with "{"
JSON        an array of objects or texts, in all at most `sources.MAX_LINE` long
CSV, TSV    a header with "text" and maybe "id" and "title", whatever the suffix; a .csv has one
MS MARCO    a .tsv without header: id and text, or id, url, title and body
plain text  all else: a text a line

A record is a text or an object; which field of it means what is `documents`' to say, apart from
the names that `IDS` and `TEXTS` hold, which people use.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, TypeAlias

from spladelet.errors import InputError, RecordError
from spladelet.sources import MAX_LINE, Source, name_of, raw_lines, suffix_of
from spladelet.text import shown

Record: TypeAlias = Mapping[str, Any] | str
Lines: TypeAlias = Iterator[tuple[int, str]]

IDS = (
    *("id", "_id", "docid", "doc_id", "docno", "document_id", "pid", "passage_id"),
    *("qid", "query_id"),
)
TEXTS = ("text", "contents", "content", "body", "passage")
TITLE = "title"

_DELIMITERS = "\t,;"
_MSMARCO = {2: ("id", "text"), 4: ("id", "url", "title", "body")}
_NUMBERED = re.compile(r"\d+\t[^\t]+")  # MS MARCO's lines where no suffix tells
# A text may begin with "[", too, but hardly goes on as an array of objects or texts does.
_ARRAY_START = re.compile(r"\[\s*(\{|\]?$)")


def read_records(source: Source) -> Iterator[tuple[str, int, Record]]:
    """Read records one by one: ("line" or "item", its number from 1, the record).

    Raises:
        InputError: The file cannot be read, is no UTF-8 text, or has columns that say nothing.
        RecordError: A line is not what the first one promised; the message names file and line.
    """
    name, lines = name_of(source), enumerate(raw_lines(source), start=1)
    for number, line in lines:
        first = line.strip()
        if first:
            yield from _layout(first, line.rstrip("\r\n"), name, chain([(number, line)], lines))


def _layout(first: str, line: str, name: str, lines: Lines) -> Iterator[tuple[str, int, Record]]:
    """Read a file's lines in the layout that the first one tells.

    Args:
        first: The first line that is not blank, stripped.
        line: The same without its line end; a tab at its start would be a column.
        name: The file's.
        lines: All lines, that one included.
    """
    suffix = suffix_of(name)
    if first.startswith("{") or suffix in (".jsonl", ".ndjson"):
        if first.startswith("[") and _ARRAY_START.match(first):
            return _items(lines, name)
        return _objects(lines, name)
    if suffix == ".json" or _ARRAY_START.match(first):
        return _items(lines, name)
    delimiter = _delimiter(line)
    if suffix == ".csv" or delimiter in (",", ";"):
        return _csv(lines, name, delimiter or ",")
    if suffix == ".tsv" or delimiter == "\t":
        return _tsv(lines, name)
    if not suffix and _NUMBERED.fullmatch(line):
        head = list(islice(lines, 2))  # one line alone may be a text that begins with a year
        is_numbered = all(_NUMBERED.fullmatch(line.rstrip("\r\n")) for _, line in head)
        return (_tsv if is_numbered else _plain)(chain(head, lines), name)
    return _plain(lines, name)


def json_object(line: str, number: int, name: str) -> dict[str, Any]:
    """Parse a line of a file.

    Raises:
        RecordError: It is no JSON object; the message names file and line.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{name}, line {number} is no JSON: {error}.") from error
    if not isinstance(record, dict):
        raise RecordError(
            f"{name}, line {number} is a JSON {type(record).__name__}; expected an object such as "
            '{"id": "1", "title": "…", "text": "…"}.'
        )
    return record


def _plain(lines: Lines, name: str) -> Iterator[tuple[str, int, Record]]:
    del name  # a text is never wrong
    for number, raw in lines:
        line = raw.lstrip("\ufeff").strip()
        if line:
            yield "line", number, line


def _objects(lines: Lines, name: str) -> Iterator[tuple[str, int, Record]]:
    for number, raw in lines:
        line = raw.lstrip("\ufeff").strip()
        if line:
            yield "line", number, json_object(line, number, name)


def _items(lines: Lines, name: str) -> Iterator[tuple[str, int, Record]]:
    """Read an array of objects or texts, which JSON's parser wants as a whole."""
    parts, size = [], 0
    for _, line in lines:
        parts.append(line)
        size += len(line)
        if size > MAX_LINE:
            raise InputError(
                f"{name} is a JSON array of more than {MAX_LINE >> 20} MiB, which is read whole. "
                "Make it JSONL first: `jq -c '.[]'`."
            )
    try:
        items = json.loads("".join(parts))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{name} is no JSON: {error}. Give an array of objects, or JSONL: an object a line."
        ) from error
    if not isinstance(items, list):
        raise InputError(f"{name} is a JSON {type(items).__name__}; expected an array of objects.")
    for number, item in enumerate(items, start=1):
        if not isinstance(item, (dict, str)):
            raise RecordError(
                f"{name}, item {number} is {shown(item)}; expected an object such as "
                '{"id": "1", "title": "…", "text": "…"}, or a text.'
            )
        yield "item", number, item


def _delimiter(line: str) -> str | None:
    """Return what separates the names of a header; None if the line is no header."""
    for delimiter in _DELIMITERS:
        names = _names(line.split(delimiter))
        if len(names) > 1 and {*names} & {*TEXTS} and {*names} & {*IDS, TITLE}:
            return delimiter
    return None


def _names(cells: Iterable[str]) -> list[str]:
    return [cell.strip().strip('"').casefold() for cell in cells]


def _csv(lines: Lines, name: str, delimiter: str) -> Iterator[tuple[str, int, Record]]:
    # A setting of the whole process, whose default of 128 KiB is less than many texts have.
    csv.field_size_limit(max(MAX_LINE, csv.field_size_limit()))
    # A record may span lines, and csv counts from where it began: blank lines went before.
    place = 0

    def texts() -> Iterator[str]:
        nonlocal place
        for number, line in lines:
            place = number
            yield line

    rows = csv.reader(texts(), delimiter=delimiter, strict=True)
    try:
        columns = _columns(next(rows), name)
        for row in rows:
            if row:  # csv gives an empty one for a blank line
                yield "line", place, _record(row, columns, name, place)
    except csv.Error as error:
        raise RecordError(f"{name}, line {place} is no CSV: {error}.") from error


def _tsv(lines: Lines, name: str) -> Iterator[tuple[str, int, Record]]:
    """Read lines with tabs between columns; only files with a header have quotes around texts."""
    rows: Iterator[tuple[int, list[str]]] = (
        (number, raw.rstrip("\r\n").split("\t")) for number, raw in lines
    )
    number, first = next(rows)
    if {*_names(first)} & {*TEXTS}:
        columns = _columns(first, name)
        rows = ((number, [_unquoted(cell) for cell in row]) for number, row in rows)
    else:
        # Two or four columns could be anything else, but in MS MARCO the second of four is a URL.
        columns = _MSMARCO.get(len(first), ())
        if not columns or ("url" in columns and not first[1].startswith("http")):
            raise InputError(
                f"{name} has {len(first)} columns without names; expected id and text, or a first "
                "line with their names, such as id, title and text, and tabs between."
            )
        rows = chain([(number, first)], rows)
    for number, row in rows:
        if row != [""]:
            yield "line", number, _record(row, columns, name, number)


def _columns(header: Sequence[str], name: str) -> Sequence[str]:
    names = _names(header)
    known = [column for column in names if column in (*IDS, *TEXTS, TITLE)]
    if not {*known} & {*TEXTS} or len({*known}) < len(known):
        raise InputError(
            f"{name} has the columns {shown(names)}; expected a first line with their names, one "
            'of them "text", maybe "id" and "title", each once.'
        )
    return names


def _record(row: Sequence[str], columns: Sequence[str], name: str, number: int) -> Record:
    if len(row) != len(columns):
        raise RecordError(
            f"{name}, line {number} has {len(row)} columns, the first line {len(columns)}. Where "
            "a text has the delimiter or a line's end in it, write JSONL."
        )
    wanted = (*IDS, *TEXTS, TITLE)
    record = {key: cell for key, cell in zip(columns, row, strict=True) if key in wanted}
    for key in record.keys() & {*IDS}:
        if not record[key]:
            raise RecordError(f"{name}, line {number} has an empty {key!r}. Give each its own.")
    return record


def _unquoted(cell: str) -> str:
    """Take the quotes off a text that has them in pairs, as pandas writes those with quotes."""
    inner = cell[1:-1]
    is_quoted = len(cell) > 1 and cell[0] == cell[-1] == '"'
    if is_quoted and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell
