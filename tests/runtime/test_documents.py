"""Reading documents: the files people have, and a message that names the line that is none."""

import gzip
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spladelet import Document, read_documents
from spladelet.documents import (
    as_documents,
    check_id_list,
    check_ids,
    to_document,
    to_line,
    to_record,
)
from spladelet.errors import InputError, RecordError

# What a line of plain text cannot hold, or loses at its ends, is left out.
LINES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Zs"]), min_size=1)


def read(text):
    return list(read_documents(io.StringIO(text)))


@pytest.fixture
def write(tmp_path):
    """Return a function that writes bytes to a file and returns its path."""

    def write(content, name="documents.jsonl"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize(
    ("record", "document"),
    [
        ({"id": "a", "text": "Cats"}, Document("a", "Cats")),
        ({"_id": "b", "text": "Cats"}, Document("b", "Cats")),
        ({"id": "a", "_id": "b", "text": "Cats"}, Document("a", "Cats")),
        ({"text": "Cats"}, Document("1", "Cats")),
        ({"id": 7, "text": "Cats"}, Document("7", "Cats")),
        ({"id": 0, "text": "Cats"}, Document("0", "Cats")),
        ({"id": "a", "title": "On cats", "text": "Cats"}, Document("a", "Cats", "On cats")),
        ({"id": "a", "title": None, "text": "Cats"}, Document("a", "Cats")),
        ({"id": "a", "text": ""}, Document("a", "")),
        ({"id": "a", "text": "Cats", "url": "x", "metadata": {}}, Document("a", "Cats")),
        ({"text": None}, Document("1", "")),
        ({"text": float("nan"), "title": float("nan")}, Document("1", "")),
        ({"docid": "D7", "contents": "Cats"}, Document("D7", "Cats")),
        ({"doc_id": 7, "body": "Cats"}, Document("7", "Cats")),
        ({"docid": "7", "id": 7, "content": "Cats"}, Document("7", "Cats")),
        ({"id": "p1", "doc_id": "d1", "passage": "Cats"}, Document("p1", "Cats")),
        ({"text": "Cats", "contents": "Of cats"}, Document("1", "Cats")),
    ],
)
def test_a_record_is_a_document(record, document):
    assert read(json.dumps(record)) == [document]


@given(st.lists(st.builds(Document, st.text(), st.text(), st.text())))
def test_documents_come_back_from_jsonl(documents):
    lines = [json.dumps({"_id": d.id, "title": d.title, "text": d.text}) for d in documents]

    assert read("\n".join(lines)) == documents


@given(st.lists(LINES.filter(lambda line: not line.startswith("{"))))
def test_plain_text_is_one_document_a_line(lines):
    expected = [Document(str(number), line) for number, line in enumerate(lines, start=1)]

    assert read("\n".join(lines)) == expected


def test_blank_lines_are_skipped_but_counted():
    assert read('\n{"text": "a"}\n  \n\n{"text": "b"}\n') == [
        Document("2", "a"),
        Document("5", "b"),
    ]
    assert read("\na\n \t\nb") == [Document("2", "a"), Document("4", "b")]


def test_nothing_gives_no_documents():
    assert read("") == read("\n \n") == []


def test_the_first_line_says_whether_it_is_jsonl():
    assert read('cats\n{"text": "dogs"}') == [
        Document("1", "cats"),
        Document("2", '{"text": "dogs"}'),
    ]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b'{"text": "caf\xc3\xa9"}\n{"text": "b"}\n', id="plain"),
        pytest.param(b'{"text": "caf\xc3\xa9"}\n{"text": "b"}', id="no newline at the end"),
        pytest.param(b'{"text": "caf\xc3\xa9"}\r\n{"text": "b"}\r\n', id="Windows line ends"),
        pytest.param(b'\xef\xbb\xbf{"text": "caf\xc3\xa9"}\n{"text": "b"}', id="byte order mark"),
    ],
)
@pytest.mark.parametrize("name", ["documents.jsonl", "documents.jsonl.gz"])
def test_files_are_read_however_they_were_saved(write, content, name):
    path = write(gzip.compress(content) if name.endswith(".gz") else content, name)

    assert list(read_documents(path)) == [Document("1", "café"), Document("2", "b")]
    assert list(read_documents(str(path))) == list(read_documents(path))


def test_plain_text_files_may_have_windows_line_ends_and_a_mark(write):
    path = write("\ufeffcafé\r\nsnow\r\n".encode(), "documents.txt")

    assert list(read_documents(path)) == [Document("1", "café"), Document("2", "snow")]


def test_a_stream_may_begin_with_a_byte_order_mark():
    # Open files were decoded by somebody else, as standard input is.
    assert read('\ufeff{"id": "a", "text": "cats"}') == [Document("a", "cats")]


def test_only_line_feeds_end_a_line(write):
    # Other separators of Unicode stand inside texts.
    path = write("a\u2028b\x85c\x0bd\re\nf".encode(), "documents.txt")

    assert [document.text for document in read_documents(path)] == ["a\u2028b\x85c\x0bd\re", "f"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a"}', 'there is no "text"'),
        ('{"text": 5}', "text is 5 (int)"),
        ('{"text": ["a"]}', "text is ['a'] (list)"),
        ('{"text": "a", "title": 5}', "title is 5 (int)"),
        ('{"text": "a", "title": ["t"]}', "title is ['t']"),
        ('{"text": "a", "id": 1.5}', "id is 1.5 (float)"),
        ('{"text": "a", "id": true}', "id is True (bool)"),
        ('{"text": "a", "id": null}', "id is None"),
        ('{"text": "a", "id": NaN}', "id is nan"),
        ('{"text": "a", "id": ["x"]}', "id is ['x']"),
        ('{"text": "a", "_id": {}}', "_id is {}"),
        ('{"text": "a", "doc_id": "x", "pid": "y"}', "doc_id and pid differ (['x', 'y'])"),
        ('{"text": "a", "id": "x", "docid": "y"}', "id and docid differ"),
        ('{"contents": "a", "body": "b"}', "contents and body differ"),
        ('{"text": ' + "[" * 900 + "]" * 900 + "}", "text is "),
        ('["a"]', "is a JSON list; expected an object"),
        ('"a"', "is a JSON str; expected an object"),
        ("5", "is a JSON int; expected an object"),
        ('{"text": "a"', "is no JSON"),
        ("cats", "is no JSON"),
        ('{"text": "a"} {"text": "b"}', "is no JSON"),
    ],
)
def test_a_line_that_is_no_document_is_named(write, line, message):
    path = write(b'{"text": "fine"}\n\n' + line.encode() + b"\n")

    with pytest.raises(RecordError) as caught:
        list(read_documents(path))
    assert str(caught.value).startswith(f"{path}, line 3")
    assert message in str(caught.value)


def test_documents_before_a_bad_line_are_read():
    documents = read_documents(io.StringIO('{"text": "fine"}\n{"text": 5}'))

    assert next(documents) == Document("1", "fine")
    with pytest.raises(RecordError, match="input, line 2"):
        next(documents)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*none\.jsonl: No such file"):
        list(read_documents(tmp_path / "none.jsonl"))


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(InputError, match="Is a directory"):
        list(read_documents(tmp_path))


def test_text_of_another_encoding_is_refused_with_a_way_out(write):
    path = write("café\n".encode("latin-1"), "documents.txt")

    with pytest.raises(InputError, match=r"documents\.txt is no UTF-8 text .*iconv"):
        list(read_documents(path))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda packed: packed[:-20], id="truncated"),
        pytest.param(lambda packed: packed[:15] + b"\xff" * 20 + packed[35:], id="changed"),
        pytest.param(lambda packed: packed[:-8] + bytes(8), id="wrong checksum"),
        pytest.param(lambda packed: b"not gzip at all", id="not gzip"),
        pytest.param(lambda packed: packed + b"trailing", id="trailing"),
    ],
)
def test_a_broken_gzip_is_refused(write, damage):
    lines = b"".join(b'{"text": "document %d"}\n' % number for number in range(300))
    path = write(damage(gzip.compress(lines)), "documents.jsonl.gz")

    with pytest.raises(InputError, match=r"documents\.jsonl\.gz"):
        list(read_documents(path))


@pytest.mark.parametrize(
    ("title", "text", "content"),
    [
        ("Cats", "They purr.", "Cats They purr."),
        ("", "They purr.", "They purr."),
        ("Cats", "", "Cats"),
    ],
)
def test_content_joins_title_and_text(title, text, content):
    assert Document("1", text, title).content == content


NAMES = st.text(st.characters(exclude_characters="\0"))


@given(st.builds(Document, st.text(), st.text(), st.text(), st.dictionaries(NAMES, st.text())))
def test_a_line_is_the_json_of_the_record(document):
    assert to_line(document) == f"{json.dumps(to_record(document))}\n".encode()
    assert to_document(json.loads(to_line(document)), 1, "here") == document


@pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan"), np.datetime64("NaT")])
def test_an_empty_cell_is_an_empty_text(missing):
    document = Document("a", missing, missing)

    assert (document.text, document.title, document.content) == ("", "", "")
    assert as_documents([missing], 1) == [Document("0", "")]


@pytest.mark.parametrize(
    ("given", "identity"), [(7, "7"), (np.int64(7), "7"), (np.uint8(0), "0"), (np.str_("a"), "a")]
)
def test_a_whole_number_is_an_id(given, identity):
    document = Document(given, np.str_("Cats"))

    assert document == Document(identity, "Cats")
    assert (type(document.id), type(document.text)) == (str, str)
    assert check_id_list([given, identity]) == [identity]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((None, "Cats"), "the id of a document is None"),
        ((float("nan"), "Cats"), "the id of a document is nan"),
        ((7.0, "Cats"), r"the id of a document is 7\.0 \(float\)"),
        ((True, "Cats"), r"the id of a document is True \(bool\)"),
        (("a", 5), r"the text of document 'a' is 5 \(int\); expected a str"),
        (("a", "Cats", b"On cats"), r"the title of document 'a' is b'On cats' \(bytes\)"),
        pytest.param((10**5000, "Cats"), "the id of a document is", id="a huge id"),
    ],
)
def test_what_is_no_document_is_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Document(*fields)


@pytest.mark.parametrize("ids", ["a", 7, None, [None], [1.0], [b"a"]])
def test_what_is_no_list_of_ids_is_refused(ids):
    with pytest.raises(InputError, match="ids"):
        check_id_list(ids)


def test_an_id_has_a_longest_length():
    check_ids([Document("x" * 2048, "")])
    with pytest.raises(InputError, match=r"document 1 .* id of 2049 characters .*at most 2048"):
        check_ids([Document("a", ""), Document("x" * 2049, "")])


def test_documents_are_as_many_as_expected_and_no_single_one():
    for single in ("Cats", Document("a", "Cats")):
        with pytest.raises(InputError, match="expected as many as there are vectors"):
            as_documents(single, 1)
    with pytest.raises(InputError, match="2 vectors came with 1 documents"):
        as_documents(["Cats"], 2)


def test_metadata_of_numpy_is_kept_as_pythons():
    given = {
        "year": np.int64(2024),
        "share": np.float32(0.5),
        "open": np.bool_(True),
        "place": np.str_("Oslo"),
        "tags": np.array(["a", "b"]),
        "more": {"deep": [np.int8(1), (2, None)]},
    }

    (document,) = as_documents([Document("a", "Cats", "", given)], 1)

    assert json.loads(to_line(document))["metadata"] == document.metadata
    assert document.metadata == {
        "year": 2024,
        "share": 0.5,
        "open": True,
        "place": "Oslo",
        "tags": ["a", "b"],
        "more": {"deep": [1, [2, None]]},
    }


@pytest.mark.parametrize(
    "value",
    [
        np.datetime64("2024-05-01"),
        np.datetime64("2024-05-01T00:00:00.000000001"),
        np.array(["2024-05-01"], "datetime64[D]"),
        np.complex128(1),
        np.array([object()]),
        np.float64("inf"),
        b"bytes",
        pytest.param(10**5000, id="a huge number"),
    ],
)
def test_metadata_that_cannot_be_kept_is_refused(value):
    with pytest.raises(InputError, match="the metadata of document 'a' cannot be kept"):
        as_documents([Document("a", "Cats", "", {"field": value})], 1)


def test_metadata_nested_too_deep_is_refused():
    value = []
    for _ in range(5000):
        value = [value]
    with pytest.raises(InputError, match="the metadata of document 'a' cannot be kept"):
        as_documents([Document("a", "Cats", "", {"field": value})], 1)


def test_json_nested_too_deep_is_no_document():
    with pytest.raises(RecordError):
        read('{"text": "a"}\n{"text": ' + "[" * 100_000)
