"""Counting processors: the affinity, or the limit of a cgroup where that is lower."""

import os

import numpy as np
import pytest

from spladelet.encoder.cpus import MOST_THREADS, available_cpus, thread_count
from spladelet.errors import InputError


@pytest.fixture(autouse=True)
def sixteen_processors(monkeypatch):
    """Let the affinity allow 16, whatever machine the tests run on."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file of the fake /proc and /sys."""

    def write(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    return write


def test_without_cgroups_the_affinity_counts(tmp_path):
    assert available_cpus(tmp_path) == 16


@pytest.mark.parametrize(
    ("limit", "cpus"),
    [
        ("max 100000\n", 16),
        ("50000 100000\n", 1),
        ("100000 100000\n", 1),
        ("399999 100000\n", 3),
        ("400000 100000\n", 4),
        ("6400000 100000\n", 16),
        ("", 16),
        ("0 100000\n", 16),
        ("100000 0\n", 16),
        ("nan 100000\n", 16),
        ("200000 many\n", 16),
    ],
)
def test_the_limit_of_cgroup_v2_counts(tmp_path, write, limit, cpus):
    write("proc/self/cgroup", "0::/\n")
    write("sys/fs/cgroup/cpu.max", limit)

    assert available_cpus(tmp_path) == cpus


@pytest.mark.parametrize(
    ("limits", "cpus"),
    [
        (("200000 100000", "max 100000", "max 100000"), 2),
        (("max 100000", "300000 100000", "max 100000"), 3),
        (("max 100000", "max 100000", "500000 100000"), 5),
        (("800000 100000", "600000 100000", "700000 100000"), 6),
    ],
)
def test_the_lowest_limit_of_nested_groups_counts(tmp_path, write, limits, cpus):
    write("proc/self/cgroup", "0::/outer/inner\n")
    for folder, limit in zip(("outer/inner/", "outer/", ""), limits, strict=True):
        write(f"sys/fs/cgroup/{folder}cpu.max", limit)

    assert available_cpus(tmp_path) == cpus


def test_a_group_without_limit_file_is_passed_over(tmp_path, write):
    write("proc/self/cgroup", "1:name=systemd:/other\n0::/outer/inner\n")
    write("sys/fs/cgroup/outer/cpu.max", "200000 100000")

    assert available_cpus(tmp_path) == 2


@pytest.mark.parametrize(
    ("quota", "period", "cpus"),
    [("-1", "100000", 16), ("150000", "100000", 1), ("300000", "100000", 3), ("1000", "100000", 1)],
)
def test_the_limit_of_cgroup_v1_counts(tmp_path, write, quota, period, cpus):
    write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", f"{quota}\n")
    write("sys/fs/cgroup/cpu/cpu.cfs_period_us", f"{period}\n")

    assert available_cpus(tmp_path) == cpus


def test_a_narrow_affinity_counts_before_a_wide_limit(tmp_path, write, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    write("proc/self/cgroup", "0::/\n")
    write("sys/fs/cgroup/cpu.max", "400000 100000")

    assert available_cpus(tmp_path) == 1


def test_this_machine_has_a_processor():
    assert 1 <= available_cpus() <= 16


def test_a_limit_that_is_no_text_is_passed_over(tmp_path, write):
    write("proc/self/cgroup", "0::/\n")
    write("sys/fs/cgroup/cpu.max", "")
    (tmp_path / "sys/fs/cgroup/cpu.max").write_bytes(b"\xff\xfe 100000")

    assert available_cpus(tmp_path) == 16


@pytest.mark.parametrize("threads", [1, 3, MOST_THREADS, np.int64(3), np.uint8(3)])
def test_a_number_of_threads_is_taken_as_it_is(threads):
    assert thread_count(threads) == threads
    assert type(thread_count(threads)) is int


def test_no_number_of_threads_means_the_processors():
    assert thread_count(None) == available_cpus()


@pytest.mark.parametrize("threads", [0, -1, 2147483648, 10**30, 2.0, True, "2", np.float64(2), [2]])
def test_what_is_no_number_of_threads_is_refused(threads):
    with pytest.raises(
        InputError, match=f"expected a whole number from 1 to {MOST_THREADS}, or None"
    ):
        thread_count(threads)
