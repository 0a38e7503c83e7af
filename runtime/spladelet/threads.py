"""How many processors this process may really use.

ONNX Runtime counts the host's cores; in a container with a CPU limit that makes more threads than
may run, and they fight. Linux's limits are read from the affinity mask and from cgroups v2 and v1;
other systems know the affinity or the count alone.
"""

import os
from pathlib import Path


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
        if len(words) == 2 and words[0] != "max":
            limits.append(float(words[0]) / float(words[1]))
    return limits


def _cgroup_v1(root: Path) -> list[float]:
    base = root / "sys/fs/cgroup/cpu"
    quota = _read(base / "cpu.cfs_quota_us").strip()
    period = _read(base / "cpu.cfs_period_us").strip()
    if quota.isdigit() and period.isdigit():  # no limit is written as -1
        return [int(quota) / int(period)]
    return []


def _group_folders(root: Path, prefix: str) -> list[Path]:
    for line in _read(root / "proc/self/cgroup").splitlines():
        if line.startswith(prefix):
            group = Path(line.removeprefix(prefix).lstrip("/"))
            return [group, *group.parents]
    return []


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
