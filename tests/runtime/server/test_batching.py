"""Requests that arrive together are encoded together, with the vectors that each has alone."""

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("starlette", reason="needs the extra `serve`")

from spladelet.server.batching import Batcher, Encoded, Wanted
from spladelet.server.refusals import Refusal
from spladelet.vector import SparseVector, SparseVectors


def vectors_of(texts):
    return SparseVectors.from_rows([SparseVector([len(t)], [1.0], 1000) for t in texts], 1000)


class Encoding:
    """Encodes by length, remembers its batches, and waits for a gate."""

    def __init__(self, *, is_open=True):
        self.batches = []
        self.gate = threading.Event()
        if is_open:
            self.gate.set()

    def __call__(self, items):
        assert self.gate.wait(10)
        self.batches.append([w.texts[a:b] for w, a, b in items])
        return [
            Refusal(413, "Validation", "bad")
            if "bad" in wanted.texts[start:stop]
            else Encoded(vectors_of(wanted.texts[start:stop]), ())
            for wanted, start, stop in items
        ]


async def running(encoding, ask, batch_tokens=1000, queue_texts=1000, at_a_time=1):
    batcher = Batcher(encoding, batch_tokens, queue_texts, at_a_time)
    work = asyncio.create_task(batcher.work())
    try:
        return await ask(batcher)
    finally:
        encoding.gate.set()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def ids_of(parts):
    return [int(vector.term_ids[0]) for part in parts for vector in part.vectors]


def test_what_waits_goes_together_and_queries_take_turns_with_documents():
    encoding = Encoding(is_open=False)

    async def ask(batcher):
        first = asyncio.create_task(batcher.encode(Wanted(["d"], "document")))
        await asyncio.sleep(0.05)
        others = [
            asyncio.create_task(batcher.encode(Wanted([text], side)))
            for text, side in [
                ("d1", "document"),
                ("q1", "query"),
                ("d2", "document"),
                ("q2", "query"),
            ]
        ]
        await asyncio.sleep(0.05)
        assert batcher.waiting == 5
        encoding.gate.set()
        await asyncio.gather(first, *others)
        assert batcher.waiting == 0

    asyncio.run(running(encoding, ask))
    assert encoding.batches == [[["d"]], [["q1"], ["q2"]], [["d1"], ["d2"]]]


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(1, 60), max_size=7), max_size=12),
    st.integers(1, 40),
    st.integers(1, 4),
)
def test_everybody_gets_their_own_in_order(requests, batch_tokens, at_a_time):
    encoding = Encoding()

    async def ask(batcher):
        wanted = [Wanted(["x" * n for n in lengths], "query") for lengths in requests]
        return await asyncio.gather(*(batcher.encode(one) for one in wanted))

    found = asyncio.run(running(encoding, ask, batch_tokens, at_a_time=at_a_time))
    assert [ids_of(parts) for parts in found] == requests
    for batch in encoding.batches:
        lengths = [len(text) for texts in batch for text in texts]
        assert sum(lengths) <= 4 * batch_tokens or len(lengths) == 1


def test_batches_of_one_request_run_side_by_side_each_with_its_share():
    encoding, together = Encoding(), threading.Barrier(2, timeout=10)

    def encode(items):
        together.wait()  # for the other one
        return encoding(items)

    encode.gate = encoding.gate

    async def ask(batcher):
        await asyncio.sleep(0.05)  # both threads wait
        return ids_of(await batcher.encode(Wanted(["a", "bb", "ccc", "d"], "query")))

    assert asyncio.run(running(encode, ask, at_a_time=2)) == [1, 2, 3, 1]
    assert sorted(encoding.batches) == [[["a", "bb"]], [["ccc", "d"]]]


def test_who_is_too_many_is_told_to_come_again():
    encoding = Encoding(is_open=False)

    async def ask(batcher):
        first = asyncio.create_task(batcher.encode(Wanted(["a"] * 8, "query")))
        await asyncio.sleep(0.02)
        with pytest.raises(Refusal, match="8 texts wait") as refused:
            await batcher.encode(Wanted(["a"] * 3, "query"))
        assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "1")
        encoding.gate.set()
        await first
        return ids_of(await batcher.encode(Wanted(["a"] * 30, "query")))  # an idle one takes any

    assert asyncio.run(running(encoding, ask, queue_texts=10)) == [1] * 30


def test_who_has_left_costs_no_more():
    encoding = Encoding(is_open=False)

    async def ask(batcher):
        left = False

        async def gone():
            return left

        running_ = asyncio.create_task(batcher.encode(Wanted(["first"], "query")))
        await asyncio.sleep(0.02)
        cancelled = asyncio.create_task(batcher.encode(Wanted(["cancelled"] * 5, "query")))
        leaving = asyncio.create_task(batcher.encode(Wanted(["leaving"] * 5, "query"), gone))
        staying = asyncio.create_task(batcher.encode(Wanted(["staying"], "query")))
        await asyncio.sleep(0.15)
        cancelled.cancel()
        left = True
        while not leaving.done():
            await asyncio.sleep(0.02)
        encoding.gate.set()
        await asyncio.gather(running_, staying)
        with pytest.raises(Refusal, match="has left"):
            await leaving
        assert batcher.waiting == 0

    asyncio.run(running(encoding, ask))
    assert encoding.batches == [[["first"]], [["staying"]]]


def test_one_request_that_is_refused_refuses_no_other():
    encoding = Encoding()

    async def ask(batcher):
        return await asyncio.gather(
            batcher.encode(Wanted(["bad"], "query")),
            batcher.encode(Wanted(["good"], "query")),
            return_exceptions=True,
        )

    refused, served = asyncio.run(running(encoding, ask))
    assert isinstance(refused, Refusal)
    assert ids_of(served) == [4]


def test_a_batch_that_fails_is_said_to_all_of_it_and_the_next_one_runs():
    encoding = Encoding()
    fails = [ValueError("broken")]

    def encode(items):
        if fails:
            raise fails.pop()
        return encoding(items)

    encode.gate = encoding.gate

    async def ask(batcher):
        failed = await asyncio.gather(
            *(batcher.encode(Wanted(["a"], "query")) for _ in range(3)), return_exceptions=True
        )
        assert all(isinstance(error, ValueError) for error in failed)
        assert batcher.waiting == 0
        return ids_of(await batcher.encode(Wanted(["ab"], "query")))

    assert asyncio.run(running(encode, ask)) == [2]


def test_real_vectors_have_the_same_bits_together_as_alone(serve, encoder):
    """Many requests at once, from as many threads."""
    client = serve()
    texts = [f"{word} {n} " * (n % 40 + 1) for n, word in enumerate("cat yeast snow".split() * 12)]
    found = {}

    def ask(number):
        answer = client.post("/embed_sparse", json={"inputs": texts[number], "truncate": True})
        found[number] = {v["index"]: v["value"] for v in answer.json()[0]}

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {
        n: encoder.encode_tokenized(encoder.tokenize([text]))[0].to_dict()
        for n, text in enumerate(texts)
    }
    counted = client.get("/metrics").text
    batches = float(counted.partition('batch_texts_count{side="document"} ')[2].split()[0])
    assert batches < len(texts)
