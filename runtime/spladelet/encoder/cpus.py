"""How many processors this process may really use.

ONNX Runtime counts the host's cores; in a container with a CPU limit that makes more threads than
may run, and they fight. Linux's limits are read from the affinity mask and from cgroups v2 and v1;
other systems know the affinity or the count alone.
"""

import os
from pathlib import Path

from spladelet.parameters import as_whole

MOST_THREADS = 1024  # beyond that, starting them alone takes ONNX Runtime a minute and more


def thread_count(threads: int | None) -> int:
    """Return how many threads to use: those asked for, or the processors there are for None.

    Raises:
        InputError: That is no number of threads.
    """
    if threads is None:
        return min(available_cpus(), MOST_THREADS)
    expected = f"a whole number from 1 to {MOST_THREADS}, or None for all processors"
    return as_whole(threads, "threads", range(1, MOST_THREADS + 1), expected)


def available_cpus(root: Path = Path("/")) -> int:
    """Return the smaller of affinity and cgroup limit, at least 1.

    Args:
        root: Where /proc and /sys stand; another place serves tests.
    """
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    limits = [*_cgroup_v2(root), *_cgroup_v1(root)]
    return max(1, int(min([cpus, *limits])))


def _cgroup_v2(root: Path) -> list[float]:
    """Read cpu.max ("quota period" or "max period") from our group up to the top."""
    limits = []
    for folder in _group_folders(root, "0::"):
        words = _read(root / "sys/fs/cgroup" / folder / "cpu.max").split()
        if len(words) == 2 and all(map(_is_positive, words)):  # no limit is written as "max"
            limits.append(int(words[0]) / int(words[1]))
    return limits


def _cgroup_v1(root: Path) -> list[float]:
    base = root / "sys/fs/cgroup/cpu"
    quota = _read(base / "cpu.cfs_quota_us").strip()
    period = _read(base / "cpu.cfs_period_us").strip()
    if _is_positive(quota) and _is_positive(period):  # no limit is written as -1
        return [int(quota) / int(period)]
    return []


def _group_folders(root: Path, prefix: str) -> list[Path]:
    for line in _read(root / "proc/self/cgroup").splitlines():
        if line.startswith(prefix):
            group = Path(line.removeprefix(prefix).lstrip("/"))
            return [group, *group.parents]
    return []


def _is_positive(word: str) -> bool:
    return word.isascii() and word.isdigit() and int(word) > 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):  # a ValueError: in another encoding
        return ""
