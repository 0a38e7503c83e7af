"""How large an index is in memory, how fast it is, and how it will be when it has grown.

Search looks at every posting of the query's terms, so its time grows with the documents; what it
takes beside, however small the index is, is measured on an index of one document.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spladelet.files import MAPPED_FROM
from spladelet.index.index import Index
from spladelet.vector import SparseVector, SparseVectors

GROWTH = 10
SLOW_MS = 100.0  # what a person still feels to be at once

_QUERIES, _ROUNDS = 15, 3
_QUERY_TERMS = 32
_LEAST_DOCUMENTS = 10_000  # fewer take no time that could be told from the rest
_MAPS = Path("/proc/self/smaps")


@dataclass(frozen=True, slots=True)
class Speed:
    """How long a query of 32 terms takes, on one thread, from memory.

    Its terms are drawn as often as documents have them.

    Attributes:
        now_ms: Milliseconds now.
        grown_ms: Milliseconds with `GROWTH` times as many documents.
        limit: At how many documents it takes `SLOW_MS`.
    """

    now_ms: float
    grown_ms: float
    limit: int


def measure_speed(index: Index) -> Speed | None:
    """Search an index a hundred times; None if it is too small to tell."""
    if len(index) < _LEAST_DOCUMENTS or not index.postings:
        return None
    queries = _queries(index)
    _milliseconds(index, queries)  # reads what is not in memory yet
    alone = Index.build(SparseVectors.from_rows(queries[:1], index.vocab_size))
    fixed = _milliseconds(alone, queries[:1] * len(queries))
    now = _milliseconds(index, queries)
    growing = max(now - fixed, 1e-6)
    return Speed(
        now_ms=now,
        grown_ms=now + (GROWTH - 1) * growing,
        limit=int(len(index) * max(SLOW_MS - fixed, 0) / growing),
    )


def advice(documents: int, limit: int) -> str:
    """Say whether an index of so many documents can grow `GROWTH` times, in a sentence."""
    reached = f"a query takes {SLOW_MS:.0f} ms at about {_round(limit):,} documents"
    if limit > GROWTH * documents:
        return f"stay: {reached}"
    return f"{reached}; before that, hand over to an engine: spladelet push"


def resident_bytes(folder: Path) -> int | None:
    """Return how many bytes of an open index's files this process has in memory.

    Files that are not mapped were read whole. Of the others only Linux tells: None elsewhere.
    """
    try:
        lines = _MAPS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    inside = f"{folder.resolve()}/"
    sizes = (file.stat().st_size for file in folder.rglob("*") if file.is_file())
    total, counts = sum(size for size in sizes if size < MAPPED_FROM), False
    for line in lines:
        name, _, value = line.partition(":")
        if name == "Rss" and counts:
            total += 1024 * int(value.split()[0])
        elif "-" in name.split(" ", 1)[0]:  # the head of a mapping, which ends in the file's path
            counts = inside in line
    return total


def _queries(index: Index) -> list[SparseVector]:
    """Draw terms as often as documents have them, from the same places at every call."""
    random = np.random.default_rng(0)
    lengths = index.list_lengths()
    present = np.flatnonzero(lengths)
    terms = min(_QUERY_TERMS, len(present))
    shares = lengths[present] / lengths.sum()
    return [
        SparseVector(
            random.choice(present, terms, replace=False, p=shares),
            np.ones(terms),
            index.vocab_size,
            index.model,
        )
        for _ in range(_QUERIES)
    ]


def _milliseconds(index: Index, queries: Sequence[SparseVector]) -> float:
    """Return the median over the queries of each one's best time."""
    best = []
    for query in queries:
        times = []
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            index.search(query)
            times.append(1000 * (time.perf_counter() - start))
        best.append(min(times))
    return statistics.median(best)


def _round(count: int) -> int:
    """Round to one digit that counts."""
    unit = int(10 ** (len(str(count)) - 1))
    return unit * round(count / unit)
