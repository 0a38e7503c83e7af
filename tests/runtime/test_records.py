"""The layouts in which people have documents."""

import csv
import gzip
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spladelet import Document, read_documents
from spladelet.errors import InputError, RecordError

CATS, SNOW = Document("a", "Cats purr, always.", "Cats"), Document("b", 'A "white" rain')


@pytest.fixture
def read(tmp_path):
    """Return a function that reads documents from a file of a name and a content."""

    def read(content, name):
        path = tmp_path / name
        path.write_bytes(content.encode())
        return list(read_documents(path))

    return read


def stream(content):
    return list(read_documents(io.StringIO(content)))


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["d.json", "d.jsonl", "d.txt", "stdin"])
def test_an_array_of_objects(read, name, indent):
    records = [{"id": d.id, "title": d.title, "text": d.text} for d in (CATS, SNOW)]
    content = json.dumps(records, indent=indent)

    assert read(content, name) == stream(content) == [CATS, SNOW]
    assert stream("[]") == read("[]", name) == []


def test_an_array_of_texts_in_a_json_file(read):
    assert read('["cats", "snow"]', "d.json") == [Document("1", "cats"), Document("2", "snow")]
    assert read('{"text": "cats"}\n{"text": "snow"}', "d.json") == read(
        '["cats", "snow"]', "d.json"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"text": "a"}, {"text": 5}]', r"d\.json, item 2: text is 5"),
        ('[{"text": "a"}, 5]', r"d\.json, item 2 is 5"),
        ('[{"text": "a"}', r"d\.json is no JSON"),
        ('"a"', "is a JSON str; expected an array"),
        ("cats", r"d\.json is no JSON"),
        ("[" * 100_000, r"d\.json is no JSON"),
        ("[" + "1" * 5000 + "]", r"d\.json is no JSON"),
    ],
)
def test_an_array_that_is_none_is_refused(read, content, message):
    with pytest.raises(InputError, match=message):
        read(content, "d.json")


def test_an_array_has_a_largest_size(read, monkeypatch):
    monkeypatch.setattr("spladelet.records.MAX_LINE", 30)
    assert len(read('[\n"a",\n"b"\n]', "d.json")) == 2
    with pytest.raises(InputError, match=r"more than .*jq -c '\.\[\]'"):
        read("[\n" + '"a",\n' * 9 + '"b"\n]', "d.json")


def test_a_jsonl_file_holds_no_plain_text(read):
    with pytest.raises(RecordError, match="line 1 is no JSON"):
        read("cats", "d.jsonl")
    assert read("[1] cats\n[2] snow", "d.txt") == [
        Document("1", "[1] cats"),
        Document("2", "[2] snow"),
    ]


@pytest.mark.parametrize(("name", "delimiter"), [("d.csv", ","), ("d.csv", ";"), ("d.txt", ",")])
def test_csv_is_read_by_its_header(read, name, delimiter):
    file = io.StringIO()
    rows = csv.writer(file, delimiter=delimiter)
    rows.writerow(["", "ID", "Title", "text", "url"])
    rows.writerow([0, CATS.id, CATS.title, CATS.text, "x"])
    rows.writerow([1, "c", "", 'two\n\nlines; of "text"', ""])

    assert read(file.getvalue(), name) == [CATS, Document("c", 'two\n\nlines; of "text"')]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.tuples(TEXTS.filter(bool), TEXTS, TEXTS)))
def test_csv_comes_back(rows):
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("id", "text", "title"), *rows])

    found = list(read_documents(io.BytesIO(file.getvalue().encode())))

    assert found == [Document(*row) for row in rows]


def test_csv_holds_long_texts_and_numbers_its_lines(read):
    assert read("text\n" + "x" * 200_000 + "\n\nb\n", "d.csv") == [
        Document("2", "x" * 200_000),
        Document("4", "b"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,Cats purr\nb,Snow", r"d\.csv has the columns \['a', 'cats purr'\]; expected a first"),
        ("id,text,text\n", "each once"),
        ("id,text\na,Cats\nb\n", r"d\.csv, line 3 has 1 columns, the first line 2"),
        ("id,text\n,Cats", r"line 2 has an empty 'id'"),
        ('id,text\na,"Cats', r"d\.csv, line 2 is no CSV"),
        ('id,text\na,"Cats" purr', "is no CSV"),
        ("id,doc_id,text\na,b,Cats", None),
        ("pid,doc_id,text\na,b,Cats", "doc_id and pid differ"),
    ],
)
def test_csv_that_says_too_little_is_refused(read, content, message):
    if message is None:
        assert read(content, "d.csv") == [Document("a", "Cats")]
        return
    with pytest.raises(InputError, match=message):
        read(content, "d.csv")


def test_ms_marcos_files(read, tmp_path):
    passages = '0\tThe "Manhattan Project".  \n1\t"Unpaired\n'
    expected = [Document("0", 'The "Manhattan Project".  '), Document("1", '"Unpaired')]
    assert read(passages, "collection.tsv") == stream(passages) == expected
    (tmp_path / "collection.tsv.gz").write_bytes(gzip.compress(passages.encode()))
    assert list(read_documents(tmp_path / "collection.tsv.gz")) == expected
    assert read("D1\thttps://a.b/\tCats\tThey purr.", "docs.tsv") == [
        Document("D1", "They purr.", "Cats")
    ]


def test_tsv_with_a_header(read):
    content = 'id\ttext\ttitle\n1\t"Cats ""purr"""\tOf cats\n2\t"Snow" falls\t\n'

    assert read(content, "psgs.tsv") == read(content, "psgs.txt") == stream(content)
    assert stream(content) == [
        Document("1", 'Cats "purr"', "Of cats"),
        Document("2", '"Snow" falls'),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cats", "has 1 columns without names"),
        ("1\tCats\tThey purr.", "has 3 columns without names"),
        ("1\t0\tD5\t1", "has 4 columns without names"),
        ("1\tCats\n2\tSnow\tfalls", r"line 2 has 3 columns, the first line 2"),
        ("1\tCats\n\tSnow", "line 2 has an empty 'id'"),
        ("id\ttitle\ttext\n1\tCats", "line 2 has 2 columns"),
    ],
)
def test_tsv_that_says_too_little_is_refused(read, content, message):
    with pytest.raises(InputError, match=message):
        read(content, "d.tsv")


def test_plain_text_may_have_tabs_and_commas():
    for content in ("cats\tpurr\nsnow", "text, and more\nsnow", "1 cats\n2 snow", "12\t\t3"):
        expected = [Document(str(n), line) for n, line in enumerate(content.split("\n"), start=1)]
        assert stream(content) == expected


@pytest.mark.parametrize(
    "lines",
    [
        ["ORCA whales hunt in packs", "and so on"],
        ["[ ] feed the cat", "[x] sleep"],
        ["[]no array", "text"],
        ["2024\tA year of cats", "and of dogs"],
        ["2024\tA year of cats"],
    ],
)
def test_plain_text_that_begins_as_something_else_does_is_plain_text(tmp_path, lines):
    (tmp_path / "notes.txt").write_text("\n".join(lines))

    found = list(read_documents(tmp_path / "notes.txt"))
    assert [document.text for document in found] == lines


def test_an_orc_file_is_still_named(tmp_path):
    (tmp_path / "table").write_bytes(b"ORC\x08\x03\x10\x00" * 20)

    with pytest.raises(InputError, match="is an ORC file"):
        list(read_documents(tmp_path / "table"))


@pytest.mark.parametrize(("second", "ids"), [("8\tdogs", ["7", "8"]), ("only words", ["1", "2"])])
def test_numbered_lines_without_a_name_are_so_if_the_second_is_too(second, ids):
    lines = io.StringIO(f"7\tcats\n{second}\n")

    assert [document.id for document in read_documents(lines)] == ids
