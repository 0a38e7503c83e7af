"""Published clients of text-embeddings-inference, which know nothing of this server."""

import json
import os
import subprocess

import pytest

CLIENT = "SPLADELET_TEI_CLIENT"
HAYSTACK = """
import json, sys
from haystack import Document
from haystack_integrations.components.embedders import huggingface_api as tei

url, query, *texts = sys.argv[1:]
asked = tei.HuggingFaceTEISparseTextEmbedder(api_base_url=url + "/query").run(query)
documents = tei.HuggingFaceTEISparseDocumentEmbedder(api_base_url=url, progress_bar=False)
found = documents.run([Document(content=text) for text in texts])["documents"]
vectors = [asked["sparse_embedding"], *(one.sparse_embedding for one in found)]
print(json.dumps([dict(zip(v.indices, v.values)) for v in vectors]))
"""


@pytest.mark.skipif(
    CLIENT not in os.environ,
    reason=f"needs {CLIENT}, a Python with huggingface-api-haystack; .ci/run makes one",
)
def test_haystacks_embedders_get_the_librarys_vectors(start, encoder):
    server = start()
    texts = [f"cats purr when they are content, number {number}" for number in range(70)]
    done = subprocess.run(
        [os.environ[CLIENT], "-c", HAYSTACK, server.url, "why do kittens purr", *texts],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HAYSTACK_TELEMETRY_ENABLED": "False"},
    )
    assert done.returncode == 0, done.stderr
    query, *documents = [
        {int(term): weight for term, weight in vector.items()} for vector in json.loads(done.stdout)
    ]
    assert query == encoder.encode_query("why do kittens purr").to_dict()
    assert documents == [vector.to_dict() for vector in encoder.encode_documents(texts)]
