"""OpenSearch encodes with this server: `pytest -m live`, with OPENSEARCH_URL set.

The bodies are those of examples/engines. The server must be reachable for it at 127.0.0.1.
"""

import json
import os
import re
import time
import urllib.request
import uuid
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "examples" / "engines" / "README.md"
URL = os.environ.get("OPENSEARCH_URL")
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(URL is None, reason="OPENSEARCH_URL is not set"),
    pytest.mark.skipif(not PAGE.is_file(), reason="needs a checkout"),
]
DOCUMENTS = {
    "cats": "They purr when they are content.",
    "snow": "Snow falls in winter and covers the roofs.",
    "dough": "Yeast makes bread dough rise.",
}


def ask(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(
        f"{URL}/{path}", data, {"Content-Type": "application/json"}, method=method
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return json.loads(answer.read())


def bodies(page):
    """Return the page's requests: path to body."""
    blocks = re.findall(r"```json\n(?:PUT|POST) (\S+)\n(.*?)```", page, re.DOTALL)
    return {path: json.loads(body) for path, body in blocks}


def deploy(connector):
    identity = ask("POST", "_plugins/_ml/connectors/_create", connector)["connector_id"]
    model = {"name": connector["name"], "function_name": "remote", "connector_id": identity}
    task = ask("POST", "_plugins/_ml/models/_register?deploy=true", model)["task_id"]
    for _ in range(120):
        found = ask("GET", f"_plugins/_ml/tasks/{task}")
        if found["state"] == "COMPLETED":
            return found["model_id"]
        time.sleep(0.5)
    raise AssertionError(found)


def test_opensearch_encodes_with_this_server(start, encoder):
    server = start(env={"SPLADELET_TOKEN": "secret"})
    page = PAGE.read_text().replace("http://spladelet:8080", server.url)
    settings, connector = list(bodies(page.replace("THE TOKEN", "secret")).values())[:2]
    settings["persistent"]["plugins.ml_commons.trusted_connector_endpoints_regex"] = [".*"]
    ask("PUT", "_cluster/settings", settings)
    documents = deploy(connector)
    queries = deploy(json.loads(json.dumps(connector).replace("side=document", "side=query")))
    name = f"spladelet-test-{uuid.uuid4().hex[:12]}"
    try:
        field = {"field_map": {"text": "vector"}, "model_id": documents}
        ask("PUT", f"_ingest/pipeline/{name}", {"processors": [{"sparse_encoding": field}]})
        mappings = {"properties": {"vector": {"type": "rank_features"}, "text": {"type": "text"}}}
        settings = {"default_pipeline": name, "number_of_shards": 1}
        ask("PUT", name, {"settings": settings, "mappings": mappings})
        for identity, text in DOCUMENTS.items():
            ask("PUT", f"{name}/_doc/{identity}?refresh=true", {"text": text})
        asked = {"query_text": "why do kittens purr", "model_id": queries}
        found = ask("POST", f"{name}/_search", {"query": {"neural_sparse": {"vector": asked}}})
        best = found["hits"]["hits"][0]
        query = encoder.encode_query("why do kittens purr").to_dict()
        document = encoder.encode_document(DOCUMENTS["cats"]).to_dict()
        score = sum(weight * document.get(term, 0) for term, weight in query.items())
        assert (best["_id"], best["_score"]) == ("cats", pytest.approx(score, rel=0.01))
    finally:
        ask("DELETE", name)
        ask("DELETE", f"_ingest/pipeline/{name}")
