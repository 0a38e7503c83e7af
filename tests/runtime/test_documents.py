"""Reading documents: the files people have, and a message that names the line that is none."""

import gzip
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spladelet import Document, read_documents
from spladelet.documents import to_document, to_line, to_record
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
        ('{"id": "a"}', "has text None"),
        ('{"text": null}', "has text None"),
        ('{"text": 5}', "has text 5"),
        ('{"text": ["a"]}', "has text"),
        ('{"text": "a", "title": 5}', "title 5"),
        ('{"text": "a", "title": ["t"]}', "title"),
        ('{"text": "a", "id": 1.5}', "has id 1.5"),
        ('{"text": "a", "id": true}', "has id True"),
        ('{"text": "a", "id": ["x"]}', "has id"),
        ('{"text": "a", "_id": {}}', "has id {}"),
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
    assert str(caught.value).startswith(f"{path}, line 3 ")
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
