"""The model that is served: texts of all requests are encoded by a `Batcher`, in its threads."""

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import accumulate, islice, pairwise

from starlette.requests import Request

from spladelet.encoder import Encoder
from spladelet.encoder.tokenizer import TokenizedText
from spladelet.server.batching import Batcher, Encoded, Side, Wanted
from spladelet.server.limits import Limits
from spladelet.server.metering import Meters
from spladelet.server.refusals import Refusal
from spladelet.vector import SparseVector, SparseVectors

_WARM_UP = "warm up"
_SMALL = 64 << 20  # bytes of a model that may be in memory twice
_QUIET = 0.5  # seconds after which whoever asks is alone
_LOOKS = 0.1  # seconds between two looks at how many texts wait


class ServedModel:
    """A model, loaded later.

    Args:
        load: Loads it.
        limits: What is taken.
        meters: What is counted.
    """

    def __init__(self, load: Callable[[], Encoder], limits: Limits, meters: Meters) -> None:
        self._load, self._limits, self._meters = load, limits, meters
        self._encoder: Encoder | None = None
        self._beside: Encoder | None = None  # encodes batches that others run beside
        self._batcher: Batcher | None = None
        self._crowded = -_QUIET  # when others waited last

    def open(self) -> Encoder:
        """Load it, and run it once: its graph is loaded then."""
        encoder = self._load()
        at_a_time = self._limits.batches or _side_by_side(encoder)
        beside = encoder.with_threads(1) if at_a_time > 1 else encoder
        for one in (encoder, beside):
            one.encode_query(_WARM_UP)
            one.encode_document(_WARM_UP)
        limits = self._limits
        self._batcher = Batcher(self._encode, limits.batch_tokens, limits.queue_texts, at_a_time)
        self._encoder, self._beside = encoder, beside
        return encoder

    @property
    def encoder(self) -> Encoder:
        """The model.

        Raises:
            Refusal: It is not loaded yet.
        """
        if self._encoder is None:
            raise Refusal(503, "Unhealthy", "the model is being loaded.", {"Retry-After": "1"})
        return self._encoder

    @property
    def _queue(self) -> Batcher:
        if self._batcher is None:
            raise Refusal(503, "Unhealthy", "the model is being loaded.", {"Retry-After": "1"})
        return self._batcher

    async def work(self) -> None:
        """Encode what comes, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.work())
            group.create_task(self._count_waiting())

    async def _count_waiting(self) -> None:
        while True:
            self._meters.queue.set(self._queue.waiting)
            await asyncio.sleep(_LOOKS)

    async def encode(self, wanted: Wanted, request: Request | None = None) -> Encoded:
        """Encode texts together with those of other requests.

        Args:
            wanted: The texts.
            request: Who asks: it costs no more once nobody waits.

        Raises:
            Refusal: Too many wait already, or one is too long.
        """
        encoder, gone = self.encoder, None if request is None else request.is_disconnected
        parts = await self._queue.encode(wanted, gone)
        vectors = [part.vectors for part in parts] or [encoder.encode_tokenized([])]
        return Encoded(
            SparseVectors.stack(vectors, encoder.vocab_size, encoder.fingerprint),
            tuple(number for part in parts for number in part.truncated),
        )

    async def encode_query(self, text: str, request: Request) -> SparseVector:
        """Encode one query; it keeps its text, for its words."""
        vector = (await self.encode(Wanted([text], "query"), request)).vectors[0]
        return SparseVector(vector.term_ids, vector.weights, vector.vocab_size, vector.model, text)

    def _encode(self, items: Sequence[tuple[Wanted, int, int]]) -> list[Encoded | Refusal]:
        """Encode texts of several requests together: in the thread of the `Batcher`."""
        side = items[0][0].side
        tokens = self._tokenize(items, side)
        refused = [self._too_long(*item, part) for item, part in zip(items, tokens, strict=True)]
        kept = [[] if why else part for part, why in zip(tokens, refused, strict=True)]
        flat = [text for part in kept for text in part]
        vectors = self._encoder_for(len(flat)).encode_tokenized(flat, side=side)
        self._count(side, flat)
        ends = [0, *accumulate(map(len, kept))]
        return [
            why
            or Encoded(
                vectors.between(begin, end),
                tuple(start + i for i, text in enumerate(part) if text.truncated),
            )
            for why, part, (_, start, _), (begin, end) in zip(
                refused, kept, items, pairwise(ends), strict=True
            )
        ]

    def _encoder_for(self, texts: int) -> Encoder:
        """Return what encodes a batch: on all threads if nobody else asks, nor did just now."""
        now = time.monotonic()
        if self._queue.waiting > texts:
            self._crowded = now
        is_alone = now - self._crowded > _QUIET
        return self.encoder if is_alone or self._beside is None else self._beside

    def _tokenize(
        self, items: Sequence[tuple[Wanted, int, int]], side: Side
    ) -> list[list[TokenizedText]]:
        """Cut the texts of each request into tokens; most, in one go."""
        usual = [w.texts[a:b] if w.keep == "beginning" else () for w, a, b in items]
        tokens = iter(self.encoder.tokenize([text for texts in usual for text in texts], side=side))
        return [
            self.encoder.tokenize(wanted.texts[start:stop], side=side, keep="end")
            if wanted.keep == "end"
            else list(islice(tokens, len(texts)))
            for (wanted, start, stop), texts in zip(items, usual, strict=True)
        ]

    def _too_long(
        self, wanted: Wanted, start: int, stop: int, tokens: Sequence[TokenizedText]
    ) -> Refusal | None:
        del stop
        cut = next((i for i, text in enumerate(tokens) if text.truncated), None)
        if cut is None or not wanted.is_strict:
            return None
        most = getattr(self.encoder.description, wanted.side).max_length
        return Refusal(
            413,
            "Validation",
            f"text {start + cut} (from 0) has more than {most} tokens; ask with truncate: true.",
        )

    def _count(self, side: Side, texts: Sequence[TokenizedText]) -> None:
        self._meters.batch.labels(side).observe(len(texts))
        self._meters.tokens.labels(side).inc(sum(len(text.ids) for text in texts))
        self._meters.truncated.labels(side).inc(sum(text.truncated for text in texts))


def _side_by_side(encoder: Encoder) -> int:
    """Return how many batches are best encoded at a time."""
    size = sum(entry.size for entry in encoder.description.files.values())
    return encoder.threads if size <= _SMALL else 1
