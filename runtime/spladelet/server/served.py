"""What is served: a model, an index, or both, opened while the server answers already.

Searches run in threads, for the interpreter's lock is free while numbers are summed; the event loop
itself computes nothing.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from starlette.requests import Request

from spladelet.documents import Document
from spladelet.encoder import Encoder, Encoding
from spladelet.errors import InputError
from spladelet.index.index import Index
from spladelet.index.writer import IndexWriter
from spladelet.server.bodies import Room
from spladelet.server.limits import Limits
from spladelet.server.metering import Meters
from spladelet.server.refusals import Refusal
from spladelet.server.served_index import ServedIndex
from spladelet.server.served_model import ServedModel
from spladelet.vector import SparseVectors

_Result = TypeVar("_Result")
_Batches = list[tuple[SparseVectors, list[Document]]]

_SEARCHES = 4  # at a time
_ERRORS = logging.getLogger("spladelet.error")


class Served:
    """A model, an index, or both.

    Args:
        load: Loads the model; None serves no model.
        index: The index's folder, or an index in memory; None serves none.
        limits: What is taken.
        is_writable: Whether requests may change the index.

    Attributes:
        limits: See above.
        meters: What is counted.
        room: Memory for the bodies of requests.
    """

    def __init__(
        self,
        load: Callable[[], Encoder] | None,
        index: str | os.PathLike[str] | Index | None,
        limits: Limits,
        *,
        is_writable: bool,
    ) -> None:
        self.limits, self.meters = limits, Meters()
        self.room = Room(limits.body_bytes, limits.held_bytes)
        self._model = None if load is None else ServedModel(load, limits, self.meters)
        self._index = (
            None
            if index is None
            else ServedIndex(index, limits, self.meters, is_writable=is_writable)
        )
        self._is_ready = False
        self._failure: BaseException | None = None
        self._threads = ThreadPoolExecutor(_SEARCHES, "search")
        # One at a time, on all of the model's threads: searches do not wait behind them.
        self._explaining = ThreadPoolExecutor(1, "explain")
        self._turn, self._waiting = asyncio.Lock(), 0
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def has_model(self) -> bool:
        """Whether texts can be encoded."""
        return self._model is not None

    @property
    def has_index(self) -> bool:
        """Whether there is something to search."""
        return self._index is not None

    @property
    def model(self) -> ServedModel:
        """The model.

        Raises:
            Refusal: There is none.
        """
        if self._model is None:
            raise Refusal(424, "Backend", "no model is served here; ask with lexical: only.")
        return self._model

    @property
    def index(self) -> ServedIndex:
        """The index.

        Raises:
            Refusal: There is none.
        """
        if self._index is None:
            raise Refusal(404, "Validation", "no index is served here.")
        return self._index

    def check_ready(self) -> None:
        """Refuse what is asked before everything is loaded, or if it cannot be.

        Raises:
            Refusal: So it is.
        """
        failure = self._failure or (None if self._index is None else self._index.failure)
        if failure is not None:
            raise Refusal(503, "Unhealthy", str(failure))
        if not self._is_ready:
            raise Refusal(503, "Unhealthy", "the model is being loaded.", {"Retry-After": "1"})

    async def start(self) -> None:
        """Load model and index in a thread; `check_ready` says when they are there."""
        self._tasks.append(asyncio.create_task(self._get_ready()))

    async def stop(self) -> None:
        """End what runs in the background."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)  # `_begin` has noted them
        for threads in (self._threads, self._explaining):
            threads.shutdown(wait=False, cancel_futures=True)
        if self._index is not None:
            await self._index.close()

    async def _get_ready(self) -> None:
        try:
            await self.in_thread(self._open)
        except Exception as error:  # noqa: BLE001 - it is noted, and told to whoever asks
            self._fail(error)
            return
        if self._model is not None:
            self._begin(self._model.work())
        if self._index is not None:
            self._begin(self._index.keep_fresh())
        self._is_ready = True

    def _open(self) -> None:
        encoder = None if self._model is None else self._model.open()
        if self._index is not None:
            self._index.open(encoder)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        """Do something in the background; if it ever fails, the health says so."""

        def note(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self._fail(error)

        task = asyncio.create_task(work)
        task.add_done_callback(note)
        self._tasks.append(task)

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        _ERRORS.error("nothing can be served: %s", error)

    async def in_thread(self, work: Callable[..., _Result], *arguments: object) -> _Result:
        """Do something in a thread of those that search."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(work, *arguments))

    async def explaining(
        self, request: Request, work: Callable[..., _Result], *arguments: object
    ) -> _Result:
        """Do something that runs the model to say why, one after the other.

        Raises:
            Refusal: Too much waits already, or who asked has left meanwhile.
        """
        if self._waiting >= self.limits.queue_reasons:
            raise Refusal(
                429, "Overloaded", "too many ask why; ask again later.", {"Retry-After": "1"}
            )
        self._waiting += 1
        try:
            async with self._turn:
                if await request.is_disconnected():
                    raise Refusal(499, "Validation", "the client has left.")
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._explaining, partial(work, *arguments))
        finally:
            self._waiting -= 1

    async def upsert(self, documents: Sequence[Document]) -> tuple[int, int]:
        """Put documents in the place of those with their ids.

        They are encoded before the index is locked, so that other writers wait for less.

        Returns:
            How many were replaced, and how many there are then.

        Raises:
            InputError: Two of them have one id.
            Refusal: See `ServedIndex.change`.
        """
        ids = [document.id for document in documents]
        if len(set(ids)) < len(ids):
            raise InputError("two of the documents have one id. Give each its own.")

        def encode(index: Index) -> tuple[Encoding, _Batches] | None:
            if index.has_words_alone:
                return None
            how = Encoding.of_index(index.encoding)
            return how, list(self.model.encoder.encode_batches(documents, how, progress=False))

        def write(writer: IndexWriter, made: tuple[Encoding, _Batches] | None) -> int:
            if made is None:
                return writer.replace(ids, None, documents)
            if Encoding.of_index(writer.encoding) != made[0]:
                raise Refusal(503, "Overloaded", "the index was made anew meanwhile; ask again.")
            replaced = writer.delete_with_passages(ids)
            for vectors, parts in made[1]:
                writer.add(vectors, parts)
            return replaced

        return await self.index.change(encode, write)

    async def delete(self, ids: Sequence[str]) -> tuple[int, int]:
        """Delete documents, and what they were split into; returns what `upsert` does.

        Raises:
            Refusal: See `ServedIndex.change`.
        """
        return await self.index.change(
            lambda index: None, lambda writer, made: writer.delete_with_passages(ids)
        )
