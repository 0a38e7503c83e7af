import json
import re
from pathlib import Path

import pytest

from spladelet import Document, Encoder, Index, read_documents
from spladelet.cli.main import main


@pytest.fixture(scope="module")
def index_folder(encoder, tmp_path_factory):
    data = tmp_path_factory.mktemp("index")
    file = data / "documents.jsonl"
    texts = [
        ("cat", "A cat purrs when it is content."),
        ("brake", "Brakes turn motion into heat."),
        ("jury", "A jury decides whether the accused is guilty."),
    ]
    file.write_text("\n".join(json.dumps({"id": i, "text": text}) for i, text in texts))
    documents = list(read_documents(file))
    index = Index.build(encoder.encode_documents(documents), documents, model_name="default")
    index.save(data / "index")
    return data / "index"


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize("engine", ["elasticsearch", "opensearch", "qdrant"])
def test_push_and_search(capsys, request, monkeypatch, tmp_path, index_folder, engine):
    monkeypatch.chdir(tmp_path)
    url = request.getfixturevalue(f"{engine}_server").url
    status, out, _ = run(
        capsys, "push", engine, index_folder, "--collection", "texts", "--url", url
    )
    assert (status, out) == (0, f"texts in {engine}: 3 of 3 documents\n")
    assert [f for f in tmp_path.iterdir() if f.is_file()] == []
    question = "who finds a person guilty"
    status, out, _ = run(capsys, "search", "--engine", engine, "--url", url, "texts", question)
    assert status == 0
    assert re.search(r"jury +A jury decides whether the accused is guilty\.", out.splitlines()[0])
    _, out, _ = run(
        capsys, "search", "--engine", engine, "--url", url, "texts", question, "--json", "-k", 1
    )
    (hit,) = json.loads(out)
    here = Index.open(index_folder).search(Encoder.load().encode_query(question), 1)[0]
    assert hit["id"] == here.id
    assert hit["score"] == pytest.approx(here.score, rel=2**-8)


def test_push_to_milvus(capsys, monkeypatch, tmp_path, index_folder, milvus_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MILVUS_URL", milvus_path)
    status, out, _ = run(capsys, "push", "milvus", index_folder, "--collection", "texts", "--json")
    assert status == 0
    assert json.loads(out) == {
        "documents": 3,
        "sent": 3,
        "failed": {},
        "without_terms": 0,
        "words": 12,
        "words_sharing": 0,
        "others": 0,
    }
    status, out, _ = run(capsys, "search", "--engine", "milvus", "texts", "kitten")
    assert status == 0
    assert " cat " in out


def test_refused_documents_end_in_status_1_and_are_listed(
    capsys, monkeypatch, tmp_path, index_folder, elasticsearch_server
):
    from runtime.engines.servers import Refused

    monkeypatch.chdir(tmp_path)
    original = elasticsearch_server.check_document

    def check(identity, source):
        if identity == "brake":
            raise Refused(400, "document_parsing_exception", "no place")
        original(identity, source)

    elasticsearch_server.check_document = check
    status, out, err = run(
        capsys, "push", "elasticsearch", index_folder, "--collection", "texts",
        "--url", elasticsearch_server.url, "--failures", tmp_path / "failed.jsonl",
    )  # fmt: skip
    assert status == 1
    assert "refused: brake: document_parsing_exception: no place" in out
    assert "1 of 3 documents were refused" in err
    failed = json.loads((tmp_path / "failed.jsonl").read_text())
    assert failed == {"id": "brake", "reason": "document_parsing_exception: no place"}


def test_a_refusal_is_shown_and_not_obeyed(
    capsys, monkeypatch, tmp_path, encoder, elasticsearch_server
):
    from runtime.engines.servers import Refused

    def refuse(identity, source):
        raise Refused(400, "no\x1b[2J", "for\nged: \x9b2J")

    monkeypatch.chdir(tmp_path)
    elasticsearch_server.check_document = refuse
    documents = [Document("a\x1b\nb", "the cat")]
    Index.build(encoder.encode_documents(documents), documents).save("index")
    status, out, _ = run(
        capsys, "push", "elasticsearch", "index", "--collection", "x",
        "--url", elasticsearch_server.url,
    )  # fmt: skip
    assert status == 1
    assert r"refused: a\x1b\nb: no\x1b[2J: for ged: \x9b2J" in out


def test_replace_deletes_what_was_there(capsys, monkeypatch, tmp_path, index_folder, qdrant_server):
    monkeypatch.chdir(tmp_path)
    arguments = ("push", "qdrant", index_folder, "--collection", "x", "--url", qdrant_server.url)
    run(capsys, *arguments)
    first = qdrant_server.collections["x"]
    assert run(capsys, *arguments, "--replace")[0] == 0
    assert qdrant_server.collections["x"] is not first


def test_preview_of_lines_and_of_a_collection(capsys, tmp_path, index_folder):
    queries = tmp_path / "queries.txt"
    queries.write_text("why do cats purr\nhow do brakes work\n")
    status, out, _ = run(capsys, "preview", "opensearch-seismic", index_folder, queries)
    assert status == 0
    assert "top 10 kept" in out
    assert "nDCG" not in out
    status, out, _ = run(capsys, "preview", "all", index_folder, queries, "--json")
    assert {item["engine"] for item in json.loads(out)} >= {"elasticsearch", "qdrant", "vespa"}


def test_preview_with_judgements(capsys, tmp_path, index_folder):
    pytest.importorskip("ir_measures", reason="needs the extra `evaluate`")
    from runtime.evaluation.small_collection import write_collection

    collection = write_collection(tmp_path / "small")
    status, out, _ = run(capsys, "preview", "elasticsearch", index_folder, collection)
    assert status == 0
    assert "nDCG@10" in out


def test_convert_with_topics(capsys, tmp_path, index_folder):
    queries = tmp_path / "queries.txt"
    queries.write_text("why do cats purr\n")
    output = tmp_path / "vectors.jsonl"
    status, out, _ = run(
        capsys, "convert", "anserini", index_folder, "-o", output, "--topics", queries
    )
    assert status == 0
    assert "3 documents for anserini" in out
    assert len(output.read_text().splitlines()) == 3
    topics = (tmp_path / "vectors.jsonl.topics.tsv").read_text()
    assert topics.startswith("1\t")
    assert "cats" in topics


def test_convert_for_seismic_says_how_to_make_the_index(capsys, tmp_path, index_folder):
    status, out, _ = run(
        capsys, "convert", "opensearch-seismic", index_folder, "-o", tmp_path / "bulk", "--json"
    )
    assert status == 0
    body = json.loads(Path(json.loads(out)["index_body"]).read_text())
    assert "quantization_ceiling_ingest" in json.dumps(body)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["push", "qdrant", "{index}", "--collection", "*"], "expected a name of letters"),
        (["convert", "vespa", "{index}", "-o", "no/such/folder/x"], "No such file"),
        (["preview", "qdrant", "{index}", "./nothing"], "there is no collection at"),
        (["search", "--engine", "elasticsearch", "x", "q", "--url", "http://a:b@c"], "password"),
    ],
)
def test_what_is_wrong_is_said(capsys, tmp_path, index_folder, arguments, message):
    given = [a.format(none=tmp_path / "none", index=index_folder) for a in arguments]
    status, _, err = run(capsys, *given)
    assert status == 1
    assert message in err


def test_a_file_of_documents_is_encoded_and_sent(
    capsys, monkeypatch, tmp_path, index_folder, elasticsearch_server
):
    monkeypatch.chdir(tmp_path)
    file = index_folder.parent / "documents.jsonl"
    status, out, _ = run(
        capsys, "push", "elasticsearch", file, "--collection", "texts",
        "--url", elasticsearch_server.url,
    )  # fmt: skip
    assert (status, out) == (0, "texts in elasticsearch: 3 of 3 documents\n")
    assert set(elasticsearch_server.indices["texts"]["documents"]) == {"cat", "brake", "jury"}


def test_a_file_without_queries_is_no_preview(capsys, tmp_path, index_folder):
    (tmp_path / "none.txt").write_text("\n")
    status, _, err = run(capsys, "preview", "qdrant", index_folder, tmp_path / "none.txt")
    assert status == 1
    assert "has no queries" in err


def test_a_file_that_is_not_there_is_said(capsys, tmp_path, qdrant_server):
    status, _, err = run(
        capsys, "push", "qdrant", tmp_path / "none", "--collection", "x",
        "--url", qdrant_server.url,
    )  # fmt: skip
    assert status == 1
    assert "cannot read" in err
