"""The index that is served: what searches see of it, and how requests change it.

Searches, and all that is said of their hits, work on a snapshot: documents have other numbers after
each change. Changes come one after the other, each committed whole before it is answered.
"""

import asyncio
import copy
import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from spladelet.documents import Document
from spladelet.encoder import Encoder
from spladelet.errors import IndexLockedError
from spladelet.index.index import Index
from spladelet.index.writer import IndexWriter
from spladelet.server.limits import Limits
from spladelet.server.metering import Meters
from spladelet.server.refusals import Refusal, overloaded
from spladelet.vector import SparseVector

_Made = TypeVar("_Made")
_Result = TypeVar("_Result")

_LOCKED_WAITS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # seconds, while another process writes
_ERRORS = logging.getLogger("spladelet.error")


class ServedIndex:
    """An index, opened later.

    Args:
        place: Its folder, or an index in memory.
        limits: What is taken.
        meters: What is counted.
        is_writable: Whether requests may change it.

    Attributes:
        failure: Why it cannot be searched any more; None if it can.
    """

    def __init__(
        self,
        place: str | os.PathLike[str] | Index,
        limits: Limits,
        meters: Meters,
        *,
        is_writable: bool,
    ) -> None:
        self._place, self._limits, self._meters = place, limits, meters
        self._is_writable = is_writable
        self._index: Index | None = None
        self._encoder: Encoder | None = None
        self._refreshing = threading.Lock()  # two at a time might go back a generation
        self._thread = ThreadPoolExecutor(1, "write")
        self._changing = 0
        self._noted = ""
        self.failure: BaseException | None = None

    def open(self, encoder: Encoder | None) -> None:
        """Open it, and check that its vectors are a model's, if there is one.

        Raises:
            IndexStoreError: It cannot be opened.
            ModelMismatchError: They are another's.
        """
        index = self._place if isinstance(self._place, Index) else Index.open(self._place)
        self._index, self._encoder = index, encoder
        self._check_model()
        self._meters.show(index)

    def _check_model(self) -> None:
        index = self._current
        if self._encoder is not None and not index.has_words_alone:
            index.check_model(self._encoder.encode_query(""))

    @property
    def _current(self) -> Index:
        if self._index is None:
            raise Refusal(503, "Unhealthy", "the index is being opened.", {"Retry-After": "1"})
        return self._index

    def snapshot(self) -> Index:
        """Return the index as it is now, whatever is changed from now on."""
        return copy.copy(self._current)

    async def keep_fresh(self) -> None:
        """Take over what writers commit; if it cannot be read, what was opened is served on."""
        while not isinstance(self._place, Index):
            await asyncio.sleep(self._limits.refresh_seconds)
            try:
                await asyncio.to_thread(self._refresh)
                self._noted = ""
            except Exception as error:  # noqa: BLE001 - it is noted, and tried again
                if str(error) != self._noted:
                    _ERRORS.error("the index cannot be read anew: %s", error)
                    self._noted = str(error)

    def _refresh(self) -> None:
        index = self._current
        with self._refreshing:
            if not index.refresh():
                return
            self._meters.show(index)
            self.failure = None
            try:
                self._check_model()
            except Exception as error:
                self.failure = error
                raise

    async def change(
        self, prepare: Callable[[Index], _Made], write: Callable[[IndexWriter, _Made], _Result]
    ) -> tuple[_Result, int]:
        """Change the index and commit, all of it or nothing.

        A change that was begun is ended, even if nobody waits for the answer any more.

        Args:
            prepare: Makes what is written, before the index is locked; it is given a snapshot.
            write: Writes it.

        Returns:
            What `write` returned, and how many documents there are then.

        Raises:
            Refusal: Requests may not change it, or too many do.
            IndexWriteError: It cannot be written.
        """
        if not self._is_writable:
            raise Refusal(403, "Validation", "the index is served to be read only.")
        if self._changing >= self._limits.queue_changes:
            raise overloaded(
                f"{self._changing} requests wait to change the index; try again later."
            )
        self._changing += 1
        try:
            made = await self._in_thread(lambda: prepare(self.snapshot()))
            for wait in (*_LOCKED_WAITS, None):
                try:
                    return await self._in_thread(lambda: self._commit(made, write))
                except IndexLockedError:
                    if wait is None:
                        raise
                    await asyncio.sleep(wait)
        finally:
            self._changing -= 1
        raise AssertionError("unreachable")

    async def _in_thread(self, work: Callable[[], _Made]) -> _Made:
        """Work in the thread that writes; what is not begun when nobody waits is not done."""
        return await asyncio.wrap_future(self._thread.submit(work))

    def _commit(
        self, made: _Made, write: Callable[[IndexWriter, _Made], _Result]
    ) -> tuple[_Result, int]:
        if isinstance(self._place, Index):
            raise Refusal(403, "Validation", "an index in memory is served to be read only.")
        with IndexWriter(self._place) as writer:
            done = write(writer, made)
            count = len(writer)
        self._refresh()
        return done, count

    def documents(self, ids: Iterable[str]) -> list[Document]:
        """Return documents by their ids; what is not there is left out."""
        index = self.snapshot()
        found = (index.find(identity) for identity in dict.fromkeys(ids))
        return [index.document(number) for number in found if number is not None]

    async def close(self) -> None:
        """End the change that was begun, and begin no other."""
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)


def vector_of(
    index: Index, ids: Sequence[int], weights: Sequence[float], text: str | None
) -> SparseVector:
    """Return a vector that was sent, for a search of an index.

    Raises:
        InputError: It is none, or of another vocabulary.
    """
    return SparseVector(
        np.array(ids, np.int64), np.array(weights, np.float64), index.vocab_size, None, text
    )
