"""Words counted: as Counter counts them, in one go, in parts, and of several segments."""

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spladelet.index import word_lists
from spladelet.index.word_lists import WordLists

WORDS = ["a", "b", "ab", "\u00df", "\u732b", "zz", "\U0001f389"]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=300).map(" ".join), max_size=12)


def same(one, other):
    return all(
        np.array_equal(getattr(one, f.name), getattr(other, f.name))
        and getattr(one, f.name).dtype == getattr(other, f.name).dtype
        for f in fields(WordLists)
    )


@given(TEXTS)
def test_words_are_counted(texts):
    lists = WordLists.of(texts, "none")
    bags = [Counter(text.replace("\u00df", "\u00df").split()) for text in texts]
    names = [name.decode() for name in lists.all_names()]

    assert names == sorted({word for bag in bags for word in bag})
    assert lists.lengths.tolist() == [bag.total() for bag in bags]
    for place, name in enumerate(names):
        start, end = lists.span(place)
        expected = {n: bag[name] for n, bag in enumerate(bags) if bag[name]}
        assert lists.numbers[start:end].tolist() == list(expected)
        assert lists.counts_of(start, end).tolist() == list(expected.values())
        assert lists.name(place) == name
    found = lists.find([*(name.encode() for name in names), b"", b"aa", b"zzz", b"\xff"])
    assert found == [*range(len(names)), -1, -1, -1, -1]
    assert (lists.all_counts() == [c for w in names for c in (b[w] for b in bags) if c]).all()


@given(TEXTS, st.integers(1, 40))
def test_a_part_at_a_time_counts_alike(texts, at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_lists, "_AT_ONCE", at_once)
        in_parts = WordLists.of(texts, "none")

    assert same(in_parts, WordLists.of(texts, "none"))


@given(st.lists(st.tuples(TEXTS, st.sets(st.integers(0, 11))), min_size=1, max_size=4))
def test_merging_is_counting_what_is_kept(parts):
    lists = [WordLists.of(texts, "none") for texts, _ in parts]
    kept = [sorted(n for n in wanted if n < len(texts)) for texts, wanted in parts]

    merged = WordLists.merge(lists, [np.array(numbers, np.int64) for numbers in kept])

    left = [texts[n] for (texts, _), numbers in zip(parts, kept, strict=True) for n in numbers]
    assert same(merged, WordLists.of(left, "none"))
    whole = [text for texts, _ in parts for text in texts]
    assert same(WordLists.merge(lists, [None] * len(lists)), WordLists.of(whole, "none"))


def test_many_words_are_found_by_halving(monkeypatch):
    lists = WordLists.of([" ".join(f"w{n}" for n in range(1000))], "none")
    names = lists.all_names()

    assert lists.find(names[::-1]) == list(range(999, -1, -1))
    assert lists.find([b"", b"w1x", b"w99a", b"zz"]) == [-1] * 4
    assert WordLists.of(["", ""], "none").find([b"a"]) == [-1]


def test_of_nothing_there_is_nothing():
    assert same(WordLists.merge([], []), WordLists.of([], "none"))
