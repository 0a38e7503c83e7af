"""What tests of commands share: documents, indexes, and functions that run a command."""

import io
import json
import re
import shutil
import sys

import pytest
from runtime.engines.conftest import (  # noqa: F401
    elasticsearch_server,
    milvus_lite,
    milvus_path,
    opensearch_server,
    qdrant_server,
)
from runtime.evaluation.conftest import collection_folder  # noqa: F401

from spladelet import Document, Index
from spladelet.cli.main import main

DOCUMENTS = [
    {"id": "cats", "title": "Cats", "text": "They purr when they are content."},
    {"id": "snow", "text": "Snow falls in winter and covers the roofs."},
    {"id": "dough", "text": "Yeast makes bread dough rise."},
]


@pytest.fixture(autouse=True)
def _commands_share_a_model(one_model):
    """Have every command find the default model loaded."""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps(document) + "\n" for document in DOCUMENTS))
    return path


@pytest.fixture(scope="session")
def saved(encoder, tmp_path_factory):
    """Return the folder of an index of the documents, made without the command."""
    folder = tmp_path_factory.mktemp("cli") / "index"
    documents = [Document(d["id"], d["text"], d.get("title", "")) for d in DOCUMENTS]
    vectors = encoder.encode_documents(documents)
    Index.build(vectors, documents, model_name=encoder.description.name).save(folder)
    return folder


@pytest.fixture
def run(capsys):
    """Return a function that runs the command and returns what it printed; it must succeed."""

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert status == 0, printed.err
        return printed.out

    return run


@pytest.fixture
def fail(capsys):
    """Return a function that runs the command and returns its one sentence; it must fail."""

    def fail(*arguments):
        status = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert (status, printed.out) == (1, "")
        assert re.fullmatch(r"error: [^\n]+\n", printed.err)
        return printed.err

    return fail


@pytest.fixture
def stdin(monkeypatch):
    """Return a function that puts text on standard input."""
    return lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(text))


@pytest.fixture
def growing(saved, tmp_path):
    """Return the folder of an index that may be changed."""
    return shutil.copytree(saved, tmp_path / "growing")


@pytest.fixture
def dated(run, tmp_path):
    """Return the folder of an index whose documents have years."""
    path = tmp_path / "dated.jsonl"
    records = [d | {"metadata": {"year": 2020 + n}} for n, d in enumerate(DOCUMENTS)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    run("index", path, "-o", tmp_path / "dated")
    return tmp_path / "dated"
