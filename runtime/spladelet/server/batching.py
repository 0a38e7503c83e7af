"""Texts of requests that arrive together, encoded together.

While batches are encoded, what comes waits; then it goes at once, or is shared out if more than one
batch may be encoded at a time. So a busy server encodes large batches and an idle one does not wait
for any. A text has the same vector, to the bit, whatever else is in its batch. Queries and
documents take turns, so that short ones do not wait behind all long ones.

Batches side by side, each on a processor of its own, take less time than one after the other on all
of them (benchmarks/README.md): between two layers of a model, threads of one batch wait for each
other.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from spladelet.server.refusals import Refusal, overloaded
from spladelet.vector import SparseVectors

Side = Literal["query", "document"]
SIDES: tuple[Side, ...] = ("query", "document")

_CHARACTERS_PER_TOKEN = 4  # about, of a text that is not tokenized yet
_PATIENCE = 0.1  # seconds after which it is asked whether somebody still waits


@dataclass(frozen=True, slots=True)
class Wanted:
    """Texts to be encoded.

    Attributes:
        texts: The texts.
        side: As what.
        keep: Of a text that is longer than the model reads, what is kept.
        is_strict: Whether such a text is refused instead.
    """

    texts: Sequence[str]
    side: Side
    keep: Literal["beginning", "end"] = "beginning"
    is_strict: bool = False


@dataclass(frozen=True, slots=True)
class Encoded:
    """Encoded texts.

    Attributes:
        vectors: One a text; without those of a request that was refused.
        truncated: The numbers of texts that were cut.
    """

    vectors: SparseVectors
    truncated: tuple[int, ...]


# Encodes some texts of several requests, each from its first to below its last.
Encode = Callable[[Sequence[tuple[Wanted, int, int]]], Sequence[Encoded | Refusal]]
Gone = Callable[[], Awaitable[bool]]


@dataclass(slots=True, eq=False)
class _Job:
    """A request's texts; those at `taken` and after are in no batch yet."""

    wanted: Wanted
    answer: "asyncio.Future[list[Encoded]]"
    gone: Gone | None
    since: float = field(default_factory=time.monotonic)
    taken: int = 0
    missing: int = field(init=False)
    parts: dict[int, Encoded] = field(default_factory=dict)  # by their first text

    def __post_init__(self) -> None:
        self.missing = self.left

    @property
    def left(self) -> int:
        return len(self.wanted.texts) - self.taken


_Slice = tuple[_Job, int, int]  # a request's texts from one to below another


class Batcher:
    """Encodes texts of many requests, batches side by side.

    Its threads take batches from the queue themselves: an event loop that is busy with requests
    would keep them waiting.

    Args:
        encode: Encodes a batch; called in threads of its own.
        batch_tokens: Tokens of a batch, about.
        queue_texts: Texts that may wait.
        at_a_time: Batches that are encoded side by side.

    Attributes:
        waiting: How many texts wait, those of the running batches included.
    """

    def __init__(
        self, encode: Encode, batch_tokens: int, queue_texts: int, at_a_time: int = 1
    ) -> None:
        self._encode = encode
        self._characters, self._queue_texts = batch_tokens * _CHARACTERS_PER_TOKEN, queue_texts
        self._at_a_time = at_a_time
        self._jobs: dict[Side, deque[_Job]] = {side: deque() for side in SIDES}
        self._turn: Side = "document"
        self._changed = threading.Condition()  # holds for what is taken, and by whom
        self._is_closed = False
        self.waiting = 0

    async def encode(self, wanted: Wanted, gone: Gone | None = None) -> list[Encoded]:
        """Encode texts; returns them in parts, in order.

        Args:
            wanted: The texts.
            gone: Says whether nobody waits for them any more.

        Raises:
            Refusal: Too many wait already, or one is too long.
        """
        if not wanted.texts:
            return []
        if self.waiting and self.waiting + len(wanted.texts) > self._queue_texts:
            raise overloaded(f"{self.waiting} texts wait to be encoded already; try again later.")
        job = _Job(wanted, asyncio.get_running_loop().create_future(), gone)
        self.waiting += job.missing
        with self._changed:
            self._jobs[wanted.side].append(job)
            self._changed.notify(len(wanted.texts))
        try:
            return await job.answer
        finally:
            self._settle(job)

    def _settle(self, job: _Job) -> None:
        """Have what is left of a request cost no more: it was answered, or nobody waits for it."""
        self.waiting -= job.missing
        job.missing = 0
        with self._changed:
            job.taken = len(job.wanted.texts)

    async def work(self) -> None:
        """Encode what comes, until cancelled."""
        loop = asyncio.get_running_loop()
        threads = ThreadPoolExecutor(self._at_a_time, "encoder")
        try:
            for _ in range(self._at_a_time):
                threads.submit(self._serve, loop)
            while True:
                await asyncio.sleep(_PATIENCE)
                await self._drop_the_gone()
        finally:
            with self._changed:
                self._is_closed = True
                self._changed.notify_all()
            threads.shutdown(wait=False)

    async def _drop_the_gone(self) -> None:
        """End the requests that nobody waits for, of those that have waited for a while."""
        now = time.monotonic()
        with self._changed:
            jobs = [job for jobs in self._jobs.values() for job in jobs]
        for job in jobs:
            if job.gone is None or now - job.since < _PATIENCE or job.answer.done():
                continue
            if await job.gone() and not job.answer.done():
                job.answer.set_exception(Refusal(499, "Validation", "the client has left."))
                self._settle(job)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Encode one batch after another: in a thread."""
        while batch := self._take():
            items = [(job.wanted, start, stop) for job, start, stop in batch]
            try:
                found: Sequence[Encoded | Exception] = self._encode(items)
            except Exception as error:  # noqa: BLE001 - whoever asked is told
                found = [error] * len(batch)
            with suppress(RuntimeError):  # the loop has ended, and nobody waits
                loop.call_soon_threadsafe(self._hand_out, batch, found)

    def _take(self) -> list[_Slice]:
        """Wait for a batch; returns nothing at the end."""
        with self._changed:
            while not self._is_closed:
                if batch := self._next():
                    return batch
                self._changed.wait()
            return []

    def _next(self) -> list[_Slice]:
        """Take turns between the sides, and fill a batch of one with the oldest requests."""
        other: Side = "query" if self._turn == "document" else "document"
        for side in (other, self._turn):
            jobs = self._jobs[side]
            while jobs and not jobs[0].left:
                jobs.popleft()
            if jobs:
                self._turn = side
                return self._filled(jobs)
        return []

    def _filled(self, jobs: Sequence[_Job]) -> list[_Slice]:
        """Take texts for one batch, which leaves others of those side by side their share."""
        most = max(1, -(-self.waiting // self._at_a_time))
        batch: list[_Slice] = []
        count = characters = 0
        for job in jobs:
            start = job.taken
            for text in job.wanted.texts[start:]:
                characters += min(len(text), self._characters)
                if count == most or (count and characters > self._characters):
                    break
                count += 1
                job.taken += 1
            if job.taken > start:
                batch.append((job, start, job.taken))
            if job.left:
                break
        return batch

    def _hand_out(self, batch: Sequence[_Slice], found: Sequence[Encoded | Exception]) -> None:
        for (job, start, stop), part in zip(batch, found, strict=True):
            if job.answer.done() or not job.missing:
                continue
            if isinstance(part, Exception):
                job.answer.set_exception(part)
                continue
            job.parts[start] = part
            job.missing -= stop - start
            self.waiting -= stop - start
            if not job.missing:
                job.answer.set_result([job.parts[first] for first in sorted(job.parts)])
