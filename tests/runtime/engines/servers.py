"""Engines for tests, spoken to by the official clients over HTTP.

Elasticsearch and OpenSearch are small servers that enforce the real ones' documented limits and
compute Lucene's arithmetic; Qdrant's REST interface leads to the real engine, in process.
"""

import json
import struct
import threading
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import numpy as np


class Refused(Exception):
    """What the engine answers with an error."""

    def __init__(self, status, kind, reason):
        super().__init__(reason)
        self.status, self.kind, self.reason = status, kind, reason


class Server:
    """An HTTP server on a free port; `faults` are taken, one a request, before it is answered.

    A fault is a status to answer with, or "cut" for a connection that ends without an answer, or
    "cut after" for one that ends when the request has been carried out.
    """

    headers: ClassVar[dict[str, str]] = {}

    def __init__(self):
        self.requests = []
        self.faults = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # or each body waits 40 ms for its head to be received

            def log_message(self, *args):
                pass

            def _handle(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = self.path.partition("?")[0]
                outer.requests.append((self.command, path, body))
                fault = outer.faults.pop(0) if outer.faults else None
                if fault == "cut":
                    self.close_connection = True
                    return
                if isinstance(fault, int):
                    self._answer(fault, {"error": {"type": "fault", "reason": "injected"}})
                    return
                try:
                    status, value = outer.answer(self.command, path, body)
                except Refused as error:
                    status, value = error.status, outer.error(error)
                if fault == "cut after":
                    self.close_connection = True
                    return
                self._answer(status, value)

            def _answer(self, status, value):
                text = b"" if self.command == "HEAD" else json.dumps(value).encode()
                self.send_response(status)
                accepted = self.headers.get("Accept") or "application/json"
                self.send_header("Content-Type", accepted.split(",")[0])
                for name, content in outer.headers.items():
                    self.send_header(name, content)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _handle

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def error(self, error):
        return {
            "error": {"type": error.kind, "reason": error.reason, "root_cause": []},
            "status": error.status,
        }

    @contextmanager
    def running(self):
        thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join()


def nine_bits(weight):
    (bits,) = struct.unpack("<I", struct.pack("<f", weight))
    return struct.unpack("<f", struct.pack("<I", bits >> 15 << 15))[0]


class Lucene(Server):
    """What Elasticsearch and OpenSearch have in common: indices, bulk, FeatureField scores."""

    version = "9.1.0"
    largest = 10 << 20

    def __init__(self):
        super().__init__()
        self.indices = {}

    def answer(self, method, path, body):
        parts = [part for part in path.split("/") if part]
        if not parts:
            return 200, {"version": {"number": self.version}, "tagline": "You Know, for Search"}
        if len(body) > self.largest:
            raise Refused(413, "too_large", "request entity too large")
        if parts == ["_bulk"]:
            return 200, self.bulk([json.loads(line) for line in body.splitlines()])
        index, action = parts[0], parts[1] if len(parts) > 1 else ""
        if method == "PUT" and not action:
            return self.make(index, json.loads(body))
        if index not in self.indices:
            if method == "HEAD":
                return 404, {}
            raise Refused(404, "index_not_found_exception", f"no such index [{index}]")
        return 200, self.act(method, index, action, body)

    def act(self, method, index, action, body):
        stored = self.indices[index]
        if action == "_mapping":
            return {index: {"mappings": stored["mappings"]}}
        if action == "_count":
            return {"count": len(stored["documents"])}
        if action == "_search":
            return self.search(stored, json.loads(body))
        if method == "DELETE":
            del self.indices[index]
        return {"acknowledged": True}

    def make(self, index, body):
        if index in self.indices:
            raise Refused(400, "resource_already_exists_exception", f"index [{index}] exists")
        self.check_mapping(body["mappings"]["properties"]["splade"])
        self.indices[index] = {"mappings": body["mappings"], "documents": {}}
        return 200, {"acknowledged": True, "index": index}

    def bulk(self, lines):
        items = []
        for action, source in zip(lines[::2], lines[1::2], strict=True):
            (head,) = action.values()
            try:
                self.check_document(head["_id"], source)
                stored = self.indices[head["_index"]]["documents"]
                status = 200 if head["_id"] in stored else 201
                stored[head["_id"]] = source
                items.append({"index": {"_id": head["_id"], "status": status}})
            except Refused as error:
                cause = {"type": error.kind, "reason": error.reason}
                items.append(
                    {"index": {"_id": head["_id"], "status": error.status, "error": cause}}
                )
        return {"errors": any(i["index"]["status"] >= 300 for i in items), "items": items}

    def check_document(self, identity, source):
        if len(identity.encode()) > 512:
            raise Refused(400, "illegal_argument_exception", "id is too long")
        for name, weight in source.get("splade", {}).items():
            if not (isinstance(weight, float) and np.finfo(np.float32).tiny <= weight < 3.4e38):
                raise Refused(
                    400,
                    "document_parsing_exception",
                    f"featureValue must be a positive normal float, got: {weight} for {name}",
                )

    def search(self, stored, body):
        weights = self.query_weights(body["query"])
        if len(weights) > 1024:
            raise Refused(400, "too_many_clauses", "maxClauseCount is set to 1024")
        scores = {
            identity: sum(
                np.float32(weight) * np.float32(nine_bits(source["splade"][name]))
                for name, weight in weights.items()
                if name in source.get("splade", {})
            )
            for identity, source in stored["documents"].items()
        }
        found = sorted((-s, i) for i, s in scores.items() if s > 0)[: body.get("size", 10)]
        kept = body.get("_source") or []
        return {
            "hits": {
                "hits": [
                    {
                        "_id": i,
                        "_score": float(-s),
                        "_source": {
                            key: value
                            for key, value in stored["documents"][i].items()
                            if key in kept
                        },
                    }
                    for s, i in found
                ]
            }
        }


class ElasticsearchServer(Lucene):
    headers: ClassVar[dict[str, str]] = {"X-Elastic-Product": "Elasticsearch"}

    def check_mapping(self, field):
        if field["type"] != "sparse_vector":
            raise Refused(400, "mapper_parsing_exception", f"no handler for {field['type']}")
        if "index_options" in field and self.version < "9.1":
            raise Refused(400, "mapper_parsing_exception", "unknown parameter [index_options]")

    def query_weights(self, query):
        asked = query["sparse_vector"]
        assert asked["prune"] is False, "the engine would prune the query"
        assert asked["field"] == "splade"
        return asked["query_vector"]


class OpenSearchServer(Lucene):
    version = "3.3.0"

    def check_mapping(self, field):
        assert field == {"type": "rank_features"}

    def check_document(self, identity, source):
        super().check_document(identity, source)
        for name in source.get("splade", {}):
            if "." in name:
                raise Refused(
                    400, "mapper_parsing_exception", f"do not support dots in feature names: {name}"
                )

    def query_weights(self, query):
        weights = query["neural_sparse"]["splade"]["query_tokens"]
        for name, weight in weights.items():
            if not 0 < weight <= 64:
                raise Refused(
                    400, "illegal_argument_exception", f"weight must be in (0, 64]: {name}"
                )
        return weights


class QdrantServer(Server):
    """Qdrant's REST interface before its real engine (qdrant-edge-py)."""

    def __init__(self, folder):
        super().__init__()
        import qdrant_edge

        self.edge = qdrant_edge
        self.folder = folder
        self.collections = {}

    def error(self, error):
        return {"status": {"error": error.reason}, "time": 0.0}

    def answer(self, method, path, body):
        parts = path.strip("/").split("/")
        name, rest = parts[1], "/".join(parts[2:])
        value = json.loads(body) if body else {}
        return 200, {"result": self.act(method, name, rest, value), "status": "ok", "time": 0.0}

    def act(self, method, name, rest, value):
        if rest == "exists":
            return {"exists": name in self.collections}
        if method == "PUT" and not rest:
            return self.make(name, value)
        if name not in self.collections:
            raise Refused(404, "not_found", f"Collection `{name}` doesn't exist!")
        shard, description = self.collections[name]
        if method == "DELETE":
            shard.close()
            del self.collections[name]
            return True
        if not rest:
            return self.info(description)
        if rest == "points" and method == "PUT":
            shard.update(self.edge.UpdateOperation.upsert_points(self.points(value["points"])))
            return {"operation_id": 0, "status": "completed"}
        if rest == "points/count":
            return {"count": shard.count(self.edge.CountRequest(exact=True))}
        assert rest == "points/query", rest
        return {"points": self.query(shard, value)}

    def make(self, name, value):
        folder = self.folder / f"{name}-{uuid.uuid4().hex}"
        folder.mkdir()
        (vector,) = value["sparse_vectors"]
        assert value["sparse_vectors"][vector].get("modifier") is None, "idf would change scores"
        config = self.edge.EdgeConfig(sparse_vectors={vector: self.edge.EdgeSparseVectorParams()})
        self.collections[name] = (self.edge.EdgeShard.create(str(folder), config), value)
        return True

    def info(self, description):
        return {
            "status": "green",
            "optimizer_status": "ok",
            "segments_count": 1,
            "payload_schema": {},
            "points_count": 0,
            "config": {
                "params": {"sparse_vectors": description["sparse_vectors"]},
                "hnsw_config": {
                    "m": 16,
                    "ef_construct": 100,
                    "full_scan_threshold": 10000,
                },
                "optimizer_config": {
                    "deleted_threshold": 0.2,
                    "vacuum_min_vector_number": 1000,
                    "default_segment_number": 0,
                    "flush_interval_sec": 5,
                },
                "metadata": description.get("metadata"),
            },
        }

    def points(self, given):
        return [
            self.edge.Point(
                id=uuid.UUID(point["id"]),
                vector={name: self.edge.SparseVector(**v) for name, v in point["vector"].items()},
                payload=point["payload"],
            )
            for point in given
        ]

    def query(self, shard, value):
        vector = self.edge.SparseVector(**value["query"]["nearest"])
        found = shard.query(
            self.edge.QueryRequest(
                limit=value["limit"],
                query=self.edge.Query.Nearest(vector, using=value["using"]),
                with_payload=True,
            )
        )
        return [
            {"id": str(p.id), "version": 0, "score": p.score, "payload": p.payload} for p in found
        ]
