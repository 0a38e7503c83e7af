"""Changes of an index that is served: one after the other, whole, and only if somebody waits."""

import asyncio
import threading

import pytest

pytest.importorskip("starlette", reason="needs the extra `serve`")

from spladelet import Index
from spladelet.server.limits import Limits
from spladelet.server.metering import Meters
from spladelet.server.refusals import Refusal
from spladelet.server.served_index import ServedIndex


async def opened(place, limits, use):
    index = ServedIndex(place, limits, Meters(), is_writable=True)
    index.open(None)
    try:
        return await use(index)
    finally:
        await index.close()


def deleting(index, identity, *, after=None):
    def prepare(snapshot):
        del snapshot
        assert after is None or after.wait(10)

    return index.change(prepare, lambda writer, made: writer.delete([identity]))


def test_too_many_changes_are_refused_and_those_not_begun_are_not_made(growing):
    go = threading.Event()

    async def use(index):
        first = asyncio.create_task(deleting(index, "cats", after=go))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(deleting(index, "snow"))
        await asyncio.sleep(0.05)
        with pytest.raises(Refusal, match="2 requests wait") as refused:
            await deleting(index, "dough/1")
        second.cancel()
        go.set()
        assert await first == (1, 2)
        return refused.value.status

    assert asyncio.run(opened(growing, Limits(queue_changes=2), use)) == 429
    index = Index.open(growing)
    assert {index.document(number).id for number in range(len(index))} == {"snow", "dough/1"}


def test_a_change_that_was_begun_is_made(growing):
    go, begun = threading.Event(), threading.Event()

    async def use(index):
        def write(writer, made):
            del made
            begun.set()
            assert go.wait(10)
            return writer.delete(["cats"])

        changing = asyncio.create_task(index.change(lambda snapshot: None, write))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        changing.cancel()
        go.set()

    asyncio.run(opened(growing, Limits(), use))
    assert len(Index.open(growing)) == 2


def test_a_snapshot_stays_as_it_is(growing):
    async def use(index):
        before = index.snapshot()
        number = before.find("snow")
        await deleting(index, "cats")
        assert before.document(number).id == "snow"
        assert index.snapshot().find("snow") != number

    asyncio.run(opened(growing, Limits(), use))
