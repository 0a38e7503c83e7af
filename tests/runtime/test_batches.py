"""Items a batch at a time."""

from itertools import count, islice

import pytest

from spladelet.batches import batched


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_batches_hold_all_items_in_order(size):
    batches = list(batched(iter(range(6)), size))

    assert [item for batch in batches for item in batch] == list(range(6))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert 0 < len(batches[-1]) <= size


def test_no_more_is_read_ahead_than_a_batch():
    items = count()

    assert list(islice(batched(items, 3), 2)) == [[0, 1, 2], [3, 4, 5]]
    assert next(items) == 6


def test_no_items_are_no_batches():
    assert list(batched([], 3)) == []
