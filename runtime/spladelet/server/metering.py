"""What the server counts, as Prometheus reads it."""

import os
from pathlib import Path
from typing import Any

from spladelet import extras
from spladelet.index.index import Index

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # where several worker processes add up what they count


class Meters:
    """The server's counters.

    Of several worker processes each counts for itself, in files of a folder that the environment
    names; whichever is asked adds them up.

    Raises:
        MissingDependencyError: The extra `serve` is not installed.
    """

    def __init__(self) -> None:
        client = extras.load("prometheus_client", "serve", "counting requests")
        self._client = client
        self._registry = client.CollectorRegistry()
        place: dict[str, Any] = {"registry": self._registry}
        self.seconds = client.Histogram(
            "spladelet_request_seconds",
            "How long requests took, by route and status",
            ["route", "status"],
            buckets=_SECONDS,
            **place,
        )
        self.queue = client.Gauge(
            "spladelet_queue_texts", "Texts that wait", multiprocess_mode="livesum", **place
        )
        self.batch = client.Histogram(
            "spladelet_batch_texts", "Texts encoded together", ["side"], buckets=_TEXTS, **place
        )
        self.tokens = client.Counter("spladelet_tokens", "Tokens read", ["side"], **place)
        self.truncated = client.Counter(
            "spladelet_truncated_texts", "Texts that were cut", ["side"], **place
        )
        self.generation = client.Gauge(
            "spladelet_index_generation",
            "Generation of the index that is searched",
            multiprocess_mode="livemin",  # of the worker that is last to take over a new one
            **place,
        )
        self.documents = client.Gauge(
            "spladelet_index_documents",
            "Documents in that generation",
            multiprocess_mode="livemin",
            **place,
        )

    def show(self, index: Index) -> None:
        """Note what is searched."""
        self.documents.set(len(index))
        self.generation.set(index.generation)

    def text(self) -> bytes:
        """Return all counts, in Prometheus' format."""
        registry = self._registry
        if os.environ.get(SHARED_FOLDER):
            registry = self._client.CollectorRegistry()
            _forget_the_dead(Path(os.environ[SHARED_FOLDER]))
            _shared().MultiProcessCollector(registry)
        found: bytes = self._client.generate_latest(registry)
        return found

    @property
    def content_type(self) -> str:
        """What `text` is called."""
        return str(self._client.CONTENT_TYPE_LATEST)


def _shared() -> Any:  # noqa: ANN401
    return extras.load("prometheus_client.multiprocess", "serve", "counting requests")


def _forget_the_dead(folder: Path) -> None:
    """Forget what worker processes that were killed said of themselves while they lived."""
    for process in {path.stem.rpartition("_")[2] for path in folder.glob("gauge_live*.db")}:
        if not _is_alive(int(process)):
            _shared().mark_process_dead(process, str(folder))


def _is_alive(process: int) -> bool:
    if os.name == "nt":
        return True  # there, to ask would be to end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it is somebody else's
    return True
