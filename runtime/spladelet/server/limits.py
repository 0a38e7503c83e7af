"""What a server takes from the network, and how long it waits."""

from dataclasses import dataclass, fields

from spladelet.errors import InputError
from spladelet.parameters import as_count, as_real


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes, all of it bounded.

    Attributes:
        body_bytes: Of a request; more is refused with 413.
        held_bytes: Of the bodies of all requests at a time; what comes then is refused with 429.
        texts: In one request to encode, as many as text-embeddings-inference takes.
        documents: In one request that changes the index.
        hits: That one search returns.
        snippets: That one search makes, each of which takes as long as encoding a document.
        ids: That one search is narrowed to, or one request asks for.
        queue_texts: That wait to be encoded, of all requests; what comes then is refused with 429.
        queue_changes: Requests that wait to change the index, likewise.
        queue_reasons: Requests that wait to be told why, likewise.
        batch_tokens: That are encoded together, about: while they are, others wait.
        batches: That are encoded side by side, each on one thread, with a second copy of the
            model's weights in memory; 0 for as many as the model's threads, and 1 of a model of
            more than 64 MB. With 1, each batch runs on all threads.
        request_seconds: How long a request may take, its body included; then it is ended with 503.
        idle_seconds: How long a connection may stay without a request.
        connections: That are open at a time; others are refused with 503.
        refresh_seconds: How often the index is looked at for what a writer has committed.
        auto_truncate: Whether `/embed_sparse` cuts what is too long if a request does not say.

    Raises:
        InputError: One of them is no number, or too small.
    """

    body_bytes: int = 8 << 20
    held_bytes: int = 64 << 20
    texts: int = 32
    documents: int = 1000
    hits: int = 1000
    snippets: int = 20
    ids: int = 10_000
    queue_texts: int = 2048
    queue_changes: int = 32
    queue_reasons: int = 32
    batch_tokens: int = 4096
    batches: int = 0
    request_seconds: float = 60.0
    idle_seconds: float = 30.0
    connections: int = 1024
    refresh_seconds: float = 1.0
    auto_truncate: bool = False

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.type in (bool, "bool"):
                continue
            if item.type in (int, "int"):
                as_count(value, item.name, 0 if item.name == "batches" else 1)
                continue
            expected = "a number above 0, of seconds"
            if not 0 < as_real(value, item.name, expected) < 1e9:
                raise InputError(f"{item.name} is {value!r:.40}; expected {expected}.")
