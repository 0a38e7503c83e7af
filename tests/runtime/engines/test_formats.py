"""Files for engines without an adapter, read back by other means than those that wrote them."""

import json

import pytest
from runtime.engines.test_contract import random_index, small_index, vector

from spladelet import Document, Index, SparseVector, SparseVectors
from spladelet.engines import FORMATS, TermNames, convert, seismic_mapping, write_topics
from spladelet.engines.formats import format_names
from spladelet.errors import InputError

NAMES = TermNames(["zero", "cat", "u.s.", "purr", "two words"].__getitem__, "keep")


@pytest.fixture
def index():
    return small_index([{1: 1.9, 2: 0.8, 3: 0.004}, {}])


def written(index, name, tmp_path, names=NAMES):
    path = tmp_path / name
    assert convert(index, name, path, names) == len(index)
    assert [p for p in tmp_path.iterdir() if p.suffix == ".tmp"] == []
    return path.read_bytes()


def lines(data):
    return [json.loads(line) for line in data.decode().splitlines()]


def test_vespa_has_a_tensor_to_rank_and_whole_numbers_to_find_by(index, tmp_path):
    first, second = lines(written(index, "vespa", tmp_path))
    assert first["put"] == "id:spladelet:document::d0"
    assert first["fields"]["splade"]["cells"] == pytest.approx(
        {"cat": 1.9, "u.s.": 0.8, "purr": 0.004}
    )
    assert first["fields"]["splade_impacts"] == {"cat": 190, "u.s.": 80}
    assert second["fields"]["splade"] == {"cells": {}}


def test_anserini_has_whole_numbers(index, tmp_path):
    first, second = lines(written(index, "anserini", tmp_path))
    assert first == {
        "id": "d0",
        "contents": "title 0 text 0",
        "vector": {"cat": 190, "u.s.": 80},
    }
    assert second["vector"] == {}


def test_anserinis_topics_repeat_terms(tmp_path):
    path = tmp_path / "topics.tsv"
    write_topics(path, [("1", vector({1: 0.03, 3: 0.02}))], NAMES)
    assert path.read_text() == "1\tcat cat cat purr purr\n"
    assert write_topics(path, [("1", vector({1: 0.03})), ("2", vector({}))], NAMES) == ["2"]
    assert path.read_text() == "1\tcat cat cat\n"
    with pytest.raises(InputError, match="white space"):
        write_topics(path, [("1 a", vector({1: 0.03}))], NAMES)
    with pytest.raises(InputError, match="'two words'"):
        write_topics(path, [("1", vector({4: 0.03}))], NAMES)
    assert path.read_text() == "1\tcat cat cat\n"


def test_opensearch_seismic_has_ids_as_text(index, tmp_path):
    action, source, _, empty = lines(written(index, "opensearch-seismic", tmp_path))
    assert action == {"index": {"_id": "d0"}}
    assert source["splade"] == pytest.approx({"1": 1.9, "2": 0.8, "3": 0.004})
    assert "splade" not in empty
    body = seismic_mapping(index.vectors())
    method = body["mappings"]["properties"]["splade"]["method"]
    assert 1.9 <= method["parameters"]["quantization_ceiling_ingest"] < 1.92
    assert body["settings"] == {"index": {"sparse": True}}


def test_opensearch_seismic_refuses_terms_that_would_meet(tmp_path):
    rows = SparseVectors.from_rows([SparseVector([40_000], [1.0], 50_000)], 50_000)
    with pytest.raises(InputError, match="modulo 32768"):
        convert(Index.build(rows), "opensearch-seismic", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_pgvector_counts_from_one(index, tmp_path):
    first, second = written(index, "pgvector", tmp_path).decode().splitlines()
    identity, title, text, cells = first.split("\t")
    assert (identity, title, text) == ("d0", "title 0", "text 0")
    assert cells == "{2:1.89999998,3:0.800000012,4:0.00400000019}/100"
    assert second.endswith("\t{}/100")


def test_pgvectors_rows_escape_what_copy_reads(tmp_path):
    rows = SparseVectors.from_rows([vector({1: 1.0})], 100)
    index = Index.build(rows, [Document("a\tb", "line\nbreak \\N \0", "t\r")])
    (row,) = written(index, "pgvector", tmp_path).decode().splitlines()
    assert row.split("\t") == ["a\\tb", "t\\r", "line\\nbreak \\\\N ", "{2:1}/100"]


@pytest.mark.parametrize("name", format_names())
@pytest.mark.parametrize("identity", ["a\0", "\0a", "a\ud800", "\udfff"])
def test_ids_that_would_become_others_are_refused(tmp_path, name, identity):
    if name == "ciff":
        pytest.importorskip("google.protobuf", reason="needs the extra `ciff`")
    rows = SparseVectors.from_rows([vector({1: 1.0})] * 2, 100)
    index = Index.build(rows, [Document("a", ""), Document(identity, "")])
    with pytest.raises(InputError, match=r"the id .* Rename it"):
        convert(index, name, tmp_path / "x")
    with pytest.raises(InputError, match=r"the id .* Rename it"):
        write_topics(tmp_path / "x", [(identity, vector({1: 1.0}))])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["vespa", "anserini", "opensearch-seismic", "pgvector", "jsonl"])
def test_half_a_surrogate_pair_in_a_text_is_an_unknown_character(tmp_path, name):
    rows = SparseVectors.from_rows([vector({1: 1.0})], 100)
    index = Index.build(rows, [Document("a", "b\ud800c \U0001f408")])
    text = written(index, name, tmp_path).decode()
    assert "b\ufffdc \U0001f408" in text


def test_pgvector_has_a_limit(tmp_path):
    many = SparseVector(range(16_001), [1.0] * 16_001, 20_000)
    with pytest.raises(InputError, match="16001 terms and words; a sparsevec holds 16000"):
        convert(Index.build(SparseVectors.from_rows([many], 20_000)), "pgvector", tmp_path / "x")


def test_jsonl_has_exact_weights(index, tmp_path):
    first, _ = lines(written(index, "jsonl", tmp_path, TermNames()))
    assert {int(k): v for k, v in first["vector"].items()} == index.vectors()[0].to_dict()


def test_ciff_read_by_a_parser_of_its_own(tmp_path):
    pytest.importorskip("google.protobuf", reason="needs the extra `ciff`")
    index = random_index(30)
    messages = list(_messages(written(index, "ciff", tmp_path, TermNames())))
    header = _fields(messages[0])
    lists = [_fields(m) for m in messages[1 : 1 + header[2][0]]]
    records = [_fields(m) for m in messages[1 + header[2][0] :]]
    assert header[1] == [1]
    assert header[3] == header[5] == [30]
    assert len(records) == 30
    vectors = index.vectors()
    scale = 255 / float(vectors.weights.max())
    terms = [entry[1][0].decode() for entry in lists]
    assert terms == sorted(terms)
    seen = 0
    for entry in lists:
        document, counts = 0, []
        for posting in entry[4]:
            gap, count = (_fields(posting).get(n, [0])[0] for n in (1, 2))
            document += gap
            counts.append(count)
            weight = vectors[document].to_dict()[int(entry[1][0])]
            assert count == pytest.approx(weight * scale, abs=0.5 + 1e-6)
            assert 1 <= count <= 255
        assert entry[2] == [len(counts)]
        assert entry[3] == [sum(counts)]
        seen += len(counts)
    assert seen == sum(round(w * scale) > 0 for w in vectors.weights.tolist())
    assert [r[2][0].decode() for r in records] == [f"d{i}" for i in range(30)]
    assert [r.get(1, [0])[0] for r in records] == list(range(30))


def _varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _messages(data):
    at = 0
    while at < len(data):
        length, at = _varint(data, at)
        yield data[at : at + length]
        at += length


def _fields(message):
    """Return field number to values, by protobuf's wire format."""
    found, at = {}, 0
    while at < len(message):
        key, at = _varint(message, at)
        if key % 8 == 0:
            value, at = _varint(message, at)
        elif key % 8 == 1:
            value, at = message[at : at + 8], at + 8
        else:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        found.setdefault(key // 8, []).append(value)
    return found


def test_an_unknown_format_is_named(index, tmp_path):
    with pytest.raises(InputError, match="expected one of anserini, ciff"):
        convert(index, "solr", tmp_path / "x")


def test_a_full_disk_leaves_what_was_there(index, tmp_path, monkeypatch):
    path = tmp_path / "out.jsonl"
    convert(index, "jsonl", path, NAMES)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="No space"):
        convert(small_index([{1: 2.0}]), "jsonl", path, NAMES)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_index_makes_a_file_without_documents(tmp_path, name):
    if name == "ciff":
        pytest.importorskip("google.protobuf", reason="needs the extra `ciff`")
    data = written(small_index([]), name, tmp_path)
    assert len(data) == 0 or name == "ciff"
