import contextlib
import gzip
import os
import random
import shutil
import sys
import types
from pathlib import Path

import pytest
from runtime.evaluation.small_collection import DOCUMENTS, QRELS, QUERIES, write_collection

from spladelet.errors import (
    CollectionError,
    DuplicateIdError,
    InputError,
    MissingDependencyError,
    RecordError,
    SpladeletError,
)
from spladelet.evaluation import Collection, demo_collection, read_collections


def read(folder, split="test"):
    (collection,) = read_collections(folder, split)
    return collection


def test_reads_beirs_layout(collection_folder):
    collection = read(collection_folder)
    assert collection.name == collection.label == "small"
    assert [d.id for d in collection.documents] == list(DOCUMENTS)
    assert collection.documents[0].content == "Cats A cat purrs when it is content."
    assert dict(collection.queries) == QUERIES
    assert collection.qrels == QRELS
    assert collection.notes == ()


def test_gzipped_files_windows_line_ends_and_byte_order_mark(collection_folder):
    for name in ("corpus.jsonl", "queries.jsonl"):
        file = collection_folder / name
        text = "\ufeff" + file.read_text().replace("\n", "\r\n")
        (collection_folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        file.unlink()
    qrels = collection_folder / "qrels" / "test.tsv"
    qrels.write_bytes(b"\xef\xbb\xbf" + qrels.read_bytes().replace(b"\n", b"\r\n"))
    collection = read(collection_folder)
    assert collection.qrels == QRELS
    assert dict(collection.queries) == QUERIES


@pytest.mark.parametrize("inner", ["", "small"])
def test_a_zip_of_the_files_or_of_their_folder(collection_folder, tmp_path, inner):
    root = collection_folder.parent if inner else collection_folder
    archive = shutil.make_archive(str(tmp_path / "small"), "zip", root, inner or None)
    collection = read(archive)
    assert collection.name == "small"
    assert collection.qrels == QRELS


def test_a_folder_of_collections_is_one_in_parts(tmp_path):
    for part in ("unix", "android"):
        write_collection(tmp_path / "cqadupstack" / part)
    collections = read_collections(tmp_path / "cqadupstack")
    assert [c.label for c in collections] == ["cqadupstack/android", "cqadupstack/unix"]


def test_qrels_without_header_and_in_trecs_four_columns(collection_folder):
    file = collection_folder / "qrels" / "test.tsv"
    file.write_text("1 0 cat 2\n2 0 bread 1\n")
    assert read(collection_folder).qrels == {"1": {"cat": 2}, "2": {"bread": 1}}


def test_odd_things_are_noted(tmp_path):
    folder = write_collection(
        tmp_path / "odd",
        documents=DOCUMENTS | {"blank": ("", "")},
        queries=QUERIES | {"4": " "},
        qrels=QRELS | {"4": {"cat": 0}, "9": {"cat": 1}, "2": {"bread": 1, "gone": 1}},
    )
    notes = "\n".join(read(folder).notes)
    assert "judged queries that are not there, left out: 1 (9)" in notes
    assert "judged documents that are not there, so nothing finds them: 1 (gone)" in notes
    assert "documents without text, so nothing finds them: 1 (blank)" in notes
    assert "queries without text: 1 (4)" in notes
    assert "queries without a relevant document, counted as 0: 1 (4)" in notes


def test_another_split_by_name(collection_folder):
    write_collection(collection_folder, qrels={"2": {"bread": 1}}, split="train")
    assert read(collection_folder, "train").qrels == {"2": {"bread": 1}}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("corpus.jsonl", None, "has no corpus.jsonl"),
        ("queries.jsonl", None, "has no queries.jsonl"),
        ("qrels/test.tsv", None, "it has no qrels"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n", "has no judgements"),
        ("qrels/test.tsv", "1\tcat\tgood\n", "line 1 is '1\\\\tcat\\\\tgood'"),
        ("qrels/test.tsv", "1\tcat\n", "whole number"),
        ("qrels/test.tsv", "1\tcat\t1\n1\tcat\t2\n", "grade 2, an earlier line 1"),
        ("qrels/test.tsv", "8\tcat\t1\n", "none of the 1 judged queries"),
        ("qrels/test.tsv", "1\tgone\t1\n", "none of the 1 judged documents"),
        ("corpus.jsonl", "", "none of the 3 judged documents|is among the 0 documents"),
        ("corpus.jsonl", '{"id": "cat", "text": "a"}', 'line 1 has no "_id"'),
        ("queries.jsonl", '{"text": "a"}', 'line 1 has no "_id"'),
        ("corpus.jsonl", '{"_id": "\\ud800", "text": "a"}', "which is no text"),
    ],
)
def test_what_is_missing_or_broken_is_named(collection_folder, name, text, message):
    file = collection_folder / name
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(CollectionError, match=message):
        read(collection_folder)


def test_a_missing_split_names_those_that_are_there(collection_folder):
    with pytest.raises(CollectionError, match="its splits are test: choose with --split"):
        read(collection_folder, "dev")


def test_a_split_cannot_lead_out_of_the_folder(collection_folder):
    with pytest.raises(CollectionError, match="expected a name such as test"):
        read(collection_folder, "../../secret")


@pytest.mark.parametrize(("name", "what"), [("corpus", "documents"), ("queries", "queries")])
def test_duplicate_ids_are_an_error(collection_folder, name, what):
    file = collection_folder / f"{name}.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, lines[0]]))
    with pytest.raises(DuplicateIdError, match=f"two {what} with id"):
        read(collection_folder)


@pytest.mark.parametrize("name", ["./nothing", "nothing.zip"])
def test_a_path_that_is_not_there(name):
    with pytest.raises(CollectionError, match="there is no collection at"):
        read_collections(name)


def test_a_file_that_is_no_zip(tmp_path):
    file = tmp_path / "set.zip"
    file.write_text("no archive")
    with pytest.raises(CollectionError, match=r"neither a folder nor a \.zip"):
        read_collections(file)


def test_a_name_of_ir_datasets():
    pytest.importorskip("ir_datasets", reason="needs the extra `datasets`")
    with pytest.raises(CollectionError, match="nor a name of ir_datasets"):
        read_collections("no-such-set")


def test_without_ir_datasets_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(MissingDependencyError, match=r"spladelet\[datasets\]"):
        read_collections("beir/scifact/test")


def test_a_set_of_ir_datasets_is_read_as_title_and_text(monkeypatch):
    """The real library, with a set of its own registry made of what is on disk here."""
    ir_datasets = pytest.importorskip("ir_datasets", reason="needs the extra `datasets`")
    formats = pytest.importorskip("ir_datasets.datasets.beir", reason="needs `datasets`")
    document, query = formats.BeirTitleDoc, formats.GenericQuery
    qrel = formats.TrecQrel
    made = types.SimpleNamespace(
        has_docs=lambda: True,
        has_queries=lambda: True,
        has_qrels=lambda: True,
        docs_iter=lambda: [document("d1", "A text.", "A title")],
        queries_iter=lambda: [query("q1", "asked")],
        qrels_iter=lambda: [qrel("q1", "d1", 1, "0")],
    )
    monkeypatch.setattr(ir_datasets, "load", lambda name: made)
    (part,) = read_collections("beir/cqadupstack/android")
    assert (part.part_of, part.name) == ("cqadupstack", "android")
    (collection,) = read_collections("beir/made/test")
    assert collection.name == "beir-made-test"
    assert collection.documents[0].content == "A title A text."
    assert collection.qrels == {"q1": {"d1": 1}}


def test_the_demo_is_whole():
    (demo,) = read_collections("demo")
    ids = {document.id for document in demo.documents}
    assert (len(ids), len(demo.queries)) == (200, 40)
    assert all(set(grades) <= ids for grades in demo.qrels.values())
    assert demo == demo_collection()


def test_a_folder_named_demo_comes_before_the_built_in_one(tmp_path, monkeypatch):
    write_collection(tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    assert len(read("demo").documents) == 4


@pytest.mark.parametrize("text", ["cat\tA cat purrs.", '[{"_id": "cat", "text": "A cat."}]'])
def test_lines_that_are_no_json_objects_are_refused(collection_folder, text):
    (collection_folder / "corpus.jsonl").write_text(text)
    with pytest.raises(RecordError, match="line 1 is"):
        read(collection_folder)


def test_beirs_id_is_the_one_with_the_underscore(collection_folder):
    file = collection_folder / "corpus.jsonl"
    file.write_text(file.read_text().replace('{"_id"', '{"id": 17, "_id"'))
    assert [d.id for d in read(collection_folder).documents] == list(DOCUMENTS)


def test_grades_too_large_to_be_any(collection_folder):
    (collection_folder / "qrels" / "test.tsv").write_text("1\tcat\t99999999999\n")
    with pytest.raises(InputError, match="expected at most 1000"):
        read(collection_folder)


def test_a_zip_of_a_collection_in_parts(tmp_path):
    for part in ("android", "unix"):
        write_collection(tmp_path / "all" / "cqadupstack" / part)
    (tmp_path / "all" / "__MACOSX").mkdir()
    archive = shutil.make_archive(str(tmp_path / "download"), "zip", tmp_path / "all")
    assert [c.label for c in read_collections(archive)] == [
        "cqadupstack/android",
        "cqadupstack/unix",
    ]


def test_one_part_alone_still_says_of_what(tmp_path):
    write_collection(tmp_path / "cqadupstack" / "android")
    (collection,) = read_collections(tmp_path / "cqadupstack")
    assert collection.label == "cqadupstack/android"


def test_a_header_may_follow_blank_lines_and_have_other_names(collection_folder):
    (collection_folder / "qrels" / "test.tsv").write_text("\n\nquery_id doc_id rel\n1 cat 1\n")
    assert read(collection_folder).qrels == {"1": {"cat": 1}}


def test_an_encrypted_zip_is_an_error(tmp_path, collection_folder):
    archive = shutil.make_archive(str(tmp_path / "small"), "zip", collection_folder)
    data = bytearray(Path(archive).read_bytes())
    for mark, flag in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + flag] |= 1
            at = data.find(mark, at + 4)
    (tmp_path / "secret.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"cannot read .*password"):
        read_collections(tmp_path / "secret.zip")


def test_nothing_is_no_collection():
    with pytest.raises((CollectionError, MissingDependencyError)):
        read_collections("")


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_linked_collection_has_the_links_name(collection_folder, tmp_path, monkeypatch):
    """As the folders of a download cache have their names only in links to them."""
    (tmp_path / "scifact").symlink_to(collection_folder, target_is_directory=True)
    assert read(tmp_path / "scifact").name == "scifact"
    assert read(f"{tmp_path / 'scifact'}{os.sep}").name == "scifact"
    assert read(collection_folder / "qrels" / "..").name == "small"
    monkeypatch.chdir(collection_folder)
    assert read(".").name == "small"


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_linked_files_are_read(collection_folder, tmp_path):
    blobs = collection_folder.rename(tmp_path / "blobs")
    (tmp_path / "linked" / "qrels").mkdir(parents=True)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        (tmp_path / "linked" / name).symlink_to(blobs / name)
    assert read(tmp_path / "linked").qrels == QRELS


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_what_is_no_regular_file_is_not_read(collection_folder, name):
    for make in (os.mkfifo, lambda path: os.symlink("/dev/zero", path), os.mkdir):
        path = collection_folder / name
        path.rmdir() if path.is_dir() else path.unlink()
        make(path)
        with pytest.raises(CollectionError, match="has no"):
            read(collection_folder)
    for source in ("/dev/zero", collection_folder / "queries.jsonl"):
        with pytest.raises(CollectionError):
            read(source)


def test_a_missing_text_is_empty(collection_folder):
    (collection_folder / "corpus.jsonl").write_text(
        '{"_id": "cat", "title": null, "text": NaN}\n{"_id": "jury", "text": null}'
    )
    assert [d.content for d in read(collection_folder).documents] == ["", ""]
    made = Collection("made", [], {"1": float("nan"), "2": "cats"}, {"1": {}, "2": {}})
    assert made.queries == {"1": "", "2": "cats"}
    with pytest.raises(InputError, match="query '1' is 5"):
        Collection("made", [], {"1": 5}, {"1": {}})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("corpus.jsonl", '{"_id": 1.5, "text": "a"}'),
        ("corpus.jsonl", '{"_id": null, "text": "a"}'),
        ("corpus.jsonl", '{"_id": "1", "text": ' + "[" * 100_000),
        ("queries.jsonl", '{"_id": "1", "text": ' + "[" * 900 + "]" * 900 + "}"),
        ("queries.jsonl", '{"_id": ' + "1" * 5000 + ', "text": "a"}'),
    ],
)
def test_lines_that_are_no_records_are_named(collection_folder, name, text):
    (collection_folder / name).write_text(text)
    with pytest.raises(RecordError, match="line 1"):
        read(collection_folder)


@pytest.mark.parametrize("grade", ["1" * 5000, "1e3", "0x1", "", "²"])
def test_grades_are_whole_numbers(collection_folder, grade):
    (collection_folder / "qrels" / "test.tsv").write_text(f"1\tcat\t{grade}\n")
    with pytest.raises(CollectionError, match="line 1 is"):
        read(collection_folder)


def test_files_in_another_encoding_are_named(collection_folder):
    for name in ("qrels/test.tsv", "queries.jsonl", "corpus.jsonl"):
        path = collection_folder / name
        path.write_bytes(path.read_text().encode("utf-16"))
        with pytest.raises(InputError, match=f"{path.name} is utf-16 text"):
            read(collection_folder)


def test_a_damaged_zip_is_an_error(tmp_path, collection_folder):
    """Whatever byte is another one: what is read is what was there, or an error of the package."""
    archive = Path(shutil.make_archive(str(tmp_path / "small"), "zip", collection_folder))
    content = archive.read_bytes()
    rng = random.Random(0)
    for place in rng.sample(range(len(content)), 300):
        archive.write_bytes(
            content[:place] + bytes([content[place] ^ rng.randrange(1, 256)]) + content[place + 1 :]
        )
        with contextlib.suppress(SpladeletError):
            read(archive)
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(CollectionError):
        read(archive)


def test_a_set_of_ir_datasets_that_fails_is_an_error(monkeypatch):
    ir_datasets = pytest.importorskip("ir_datasets", reason="needs the extra `datasets`")

    def fail():
        raise RuntimeError("the download is gone")

    made = types.SimpleNamespace(
        has_docs=lambda: True, has_queries=lambda: True, has_qrels=lambda: True, docs_iter=fail
    )
    monkeypatch.setattr(ir_datasets, "load", lambda name: made)
    with pytest.raises(CollectionError, match=r"cannot read .*'beir/made': the download is gone"):
        read_collections("beir/made")
