"""Which texts run together."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from spladelet.encoder.sides import _RUN_COST, TOKENS_PER_BATCH, _batches


def cost(lengths, batches):
    return sum(_RUN_COST + len(batch) * max(lengths[i] for i in batch) for batch in batches)


def fits(lengths, batch):
    return len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= TOKENS_PER_BATCH


def every_way(count):
    """Yield each way to cut a row of so many things."""
    for cuts in range(1 << (count - 1)):
        places = [0, *(i + 1 for i in range(count - 1) if cuts >> i & 1), count]
        yield [range(a, b) for a, b in pairwise(places)]


@given(st.lists(st.sampled_from([1, 5, 6, 40, 200, 201, 512]) | st.integers(1, 600), max_size=9))
@example([200] * 6 + [201])
def test_texts_run_together_at_the_least_cost(lengths):
    batches = _batches(lengths)

    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(fits(lengths, batch) for batch in batches)
    ordered = sorted(lengths, reverse=True)
    ways = every_way(len(lengths)) if lengths else [[]]
    best = min(cost(ordered, way) for way in ways if all(fits(ordered, batch) for batch in way))
    assert cost(lengths, batches) == best


def test_texts_of_one_length_fill_the_budget():
    assert [len(batch) for batch in _batches([12] * 200)] == [85, 85, 30]
