"""The systems that hold and search sparse vectors, each behind the same two functions.

A system is built from a matrix (documents x terms) into a folder, and opened from there in another
process. Queries are turned into what the system takes before they are timed.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array, load_npz, save_npz

from spladelet import Index, IndexWriter, SparseVector, SparseVectors

OURS = "spladelet"
PLAIN = "csc[:, terms] @ weights"

Search = Callable[[Any, int], Sequence[int]]  # what `take` returned, k -> document numbers


@dataclass(frozen=True, slots=True)
class Opened:
    """A system that can be searched.

    Attributes:
        take: Turns a query into what the system takes.
        search: Returns the numbers of the k best documents.
    """

    take: Callable[[SparseVector], Any]
    search: Search


@dataclass(frozen=True, slots=True)
class System:
    """How to build and open a system.

    Attributes:
        build: Puts documents into a folder.
        open: Opens the folder.
        most: With more documents than these it takes too long to be measured here.
        note: What is to be known of the figures.
    """

    build: Callable[[csr_array, Path], None]
    open: Callable[[Path], Opened]
    most: int | None = None
    note: str = ""


def ours(weights: str) -> System:
    """Our index."""

    def build(matrix: csr_array, folder: Path) -> None:
        with IndexWriter(folder / "index", weight_type=weights) as writer:
            writer.add(SparseVectors.from_csr(matrix))

    def open_(folder: Path) -> Opened:
        index = Index.open(folder / "index")
        return Opened(lambda q: q, lambda q, k: [hit.number for hit in index.search(q, k)])

    return System(build, open_)


def plain() -> System:
    """What one writes by hand: a matrix by columns, and argpartition."""

    def open_(folder: Path) -> Opened:
        by_term = load_npz(folder / "matrix.npz")

        def search(query: SparseVector, k: int) -> list[int]:
            return best(by_term[:, query.term_ids] @ query.weights, k)

        return Opened(lambda q: q, search)

    return System(
        lambda matrix, folder: save_npz(folder / "matrix.npz", matrix.tocsc(), compressed=False),
        open_,
    )


def scan() -> System:
    """Every document's dot product with a dense query."""

    def open_(folder: Path) -> Opened:
        matrix = load_npz(folder / "matrix.npz")

        def take(query: SparseVector) -> np.ndarray[Any, np.dtype[np.float32]]:
            dense = np.zeros(query.vocab_size, np.float32)
            dense[query.term_ids] = query.weights
            return dense

        return Opened(take, lambda dense, k: best(matrix @ dense, k))

    return System(
        lambda matrix, folder: save_npz(folder / "matrix.npz", matrix, compressed=False), open_
    )


def best(scores: np.ndarray[Any, np.dtype[np.float32]], k: int) -> list[int]:
    """Return the k highest by argpartition."""
    top = np.argpartition(-scores, min(k, len(scores) - 1))[:k]
    return [int(i) for i in top[np.argsort(-scores[top], kind="stable")] if scores[i] > 0]


def splade_index() -> System:
    """The package splade-index, with its fastest back end; a model that returns given vectors."""

    class Model:
        def __init__(self, vectors: csr_array) -> None:
            self.vectors = vectors
            self.tokenizer = self

        def get_vocab(self) -> dict[str, int]:
            return {str(i): i for i in range(self.vectors.shape[1])}

        def encode_document(self, *_: object, **__: object) -> Any:  # noqa: ANN401
            import torch

            m = self.vectors
            parts = (torch.from_numpy(a) for a in (m.indptr, m.indices, m.data))
            return torch.sparse_csr_tensor(*parts, size=m.shape)

        def encode_query(self, queries: list[Any], **_: object) -> list[Any]:
            return queries

    def build(matrix: csr_array, folder: Path) -> None:
        from splade_index import SPLADE

        made = SPLADE(backend="numba")
        made.index(
            Model(matrix), [""] * matrix.shape[0], show_progress=False, compile_numba_code=False
        )
        made.save(folder / "splade")

    def open_(folder: Path) -> Opened:
        import torch
        from splade_index import SPLADE

        opened = SPLADE.load(folder / "splade", model=Model(csr_array((1, 1))), mmap=False)

        def take(query: SparseVector) -> Any:  # noqa: ANN401
            ids = torch.from_numpy(query.term_ids.astype(np.int64)[None].copy())
            values = torch.from_numpy(query.weights.copy())
            return torch.sparse_coo_tensor(ids, values, (query.vocab_size,)).coalesce()

        def search(query: Any, k: int) -> list[int]:  # noqa: ANN401
            found = opened.retrieve(
                [query], k=k, return_as="tuple", show_progress=False, n_threads=0
            )
            return [int(i) for i in found.doc_ids[0]]

        return Opened(take, search)

    return System(build, open_)


def seismic() -> System:
    """Seismic, approximate, with the parameters of its README."""

    def build(matrix: csr_array, folder: Path) -> None:
        from seismic import SeismicDataset, SeismicIndex

        vectors = SeismicDataset(dim=matrix.shape[1])
        ids = [str(i) for i in range(matrix.shape[0])]
        indices, offsets = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
        vectors.add_documents_by_id(ids, indices, matrix.data, offsets)
        made = SeismicIndex.build_from_dataset(
            vectors, n_postings=3500, centroid_fraction=0.1, summary_energy=0.4
        )
        made.save(str(folder / "seismic"))

    def open_(folder: Path) -> Opened:
        from seismic import SeismicIndex, get_seismic_string

        opened = SeismicIndex.load(str(folder / "seismic.index.seismic"))
        text = get_seismic_string()

        def take(query: SparseVector) -> Any:  # noqa: ANN401
            return np.array([str(i) for i in query.term_ids.tolist()], dtype=text), query.weights

        def search(query: Any, k: int) -> list[int]:  # noqa: ANN401
            found = opened.search("q", *query, k=k, query_cut=10, heap_factor=0.8)
            return [int(hit[2]) for hit in found]

        return Opened(take, search)

    return System(build, open_, most=120_000, note="approximate")


def qdrant_edge() -> System:
    """Qdrant's engine inside the process."""

    def build(matrix: csr_array, folder: Path) -> None:
        import qdrant_edge as edge

        parameters = {"splade": edge.EdgeSparseVectorParams()}
        (folder / "qdrant").mkdir()
        shard = edge.EdgeShard.create(
            str(folder / "qdrant"), edge.EdgeConfig(sparse_vectors=parameters)
        )
        for start in range(0, matrix.shape[0], 1000):
            rows = SparseVectors.from_csr(matrix[start : start + 1000])
            points = [
                edge.Point(
                    start + n,
                    {"splade": edge.SparseVector(v.term_ids.tolist(), v.weights.tolist())},
                    {},
                )
                for n, v in enumerate(rows)
            ]
            shard.update(edge.UpdateOperation.upsert_points(points))
        shard.flush()
        shard.close()

    def open_(folder: Path) -> Opened:
        import qdrant_edge as edge

        shard = edge.EdgeShard.load(str(folder / "qdrant"))

        def take(query: SparseVector) -> Any:  # noqa: ANN401
            vector = edge.SparseVector(query.term_ids.tolist(), query.weights.tolist())
            return edge.Query.Nearest(vector, using="splade")

        def search(query: Any, k: int) -> list[int]:  # noqa: ANN401
            found = shard.query(edge.QueryRequest(limit=k, query=query))
            return [int(str(point.id)) for point in found]

        return Opened(take, search)

    return System(build, open_, most=500_000)


def milvus_lite() -> System:
    """Milvus Lite 2.5.1, Milvus's engine in a process of its own beside this one."""

    def client(folder: Path) -> Any:  # noqa: ANN401
        from pymilvus import MilvusClient

        return MilvusClient(str(folder / "milvus.db"))

    def build(matrix: csr_array, folder: Path) -> None:
        from pymilvus import DataType

        opened = client(folder)
        schema = opened.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("splade", DataType.SPARSE_FLOAT_VECTOR)
        parameters = opened.prepare_index_params()
        parameters.add_index("splade", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
        opened.create_collection("vectors", schema=schema, index_params=parameters)
        for start in range(0, matrix.shape[0], 2000):
            rows = SparseVectors.from_csr(matrix[start : start + 2000])
            opened.insert(
                "vectors",
                [{"id": start + n, "splade": v.to_dict()} for n, v in enumerate(rows)],
            )
        opened.close()

    def open_(folder: Path) -> Opened:
        opened = client(folder)
        opened.load_collection("vectors")

        def search(query: dict[int, float], k: int) -> list[int]:
            (found,) = opened.search("vectors", [query], anns_field="splade", limit=k)
            return [int(hit["id"]) for hit in found]

        return Opened(lambda query: query.to_dict(), search)

    return System(build, open_, most=120_000, note="its engine's own process is not counted")


SYSTEMS: dict[str, System] = {
    OURS: ours("float32"),
    f"{OURS}, uint8": ours("uint8"),
    PLAIN: plain(),
    "D @ q, dense q": scan(),
    "splade-index": splade_index(),
    "qdrant-edge": qdrant_edge(),
    "milvus-lite": milvus_lite(),
    "seismic": seismic(),
}


def disk_bytes(folder: Path) -> int:
    """Return what a system's files take on disk; blocks that were never written do not count."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(min(path.stat().st_size, 512 * path.stat().st_blocks) for path in files)


def resident_mb() -> float:
    """Return the memory this process holds now, mapped files that are in memory included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def read_queries(path: Path) -> list[SparseVector]:
    """Read what `write_queries` wrote."""
    raw = json.loads(path.read_text())
    return [SparseVector(ids, weights, raw["vocab_size"]) for ids, weights in raw["queries"]]


def write_queries(path: Path, queries: Sequence[SparseVector]) -> None:
    """Write queries for the workers."""
    rows = [(q.term_ids.tolist(), q.weights.tolist()) for q in queries]
    path.write_text(json.dumps({"vocab_size": queries[0].vocab_size, "queries": rows}))
