"""What the benchmarks share: the machine, child processes, results on disk, Markdown tables."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from signal import Signals
from typing import Any

RESULTS = Path(__file__).parent / "results"
_PACKAGES = [
    "spladelet",
    "numpy",
    "scipy",
    "onnxruntime",
    "tokenizers",
    "torch",
    "transformers",
    "sentence-transformers",
    "fastembed",
    "openvino",
    "splade-index",
    "pyseismic-lsr",
    "qdrant-edge-py",
    "milvus-lite",
]


def machine() -> dict[str, Any]:
    """Say what the figures were measured on."""
    from spladelet.encoder.cpus import available_cpus

    return {
        "cpu": _cpu_name(),
        "instructions": _instructions(),
        "threads": available_cpus(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "commit": _commit(),
        "date": date.today().isoformat(),
    }


def run_worker(arguments: Sequence[str], **more: str) -> dict[str, Any]:
    """Run this script again as a process of its own and read the JSON it prints last.

    The worker is told when it was started, so that it can say how long its start took; `more` is
    added to its environment.
    """
    command = [sys.executable, sys.argv[0], *arguments, "--started", repr(time.time())]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"} | more
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        how = "failed"
        if done.returncode < 0:
            how = f"was killed by {Signals(-done.returncode).name} (SIGKILL: out of memory?)"
        raise SystemExit(f"{' '.join(command)} {how}:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def peak_rss_mb() -> float:
    """Return the most memory this process has held, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would count what the parent held before the start
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def seconds(action: Callable[[], object], repeats: int = 1) -> list[float]:
    """Time an action several times."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return times


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios pair by pair, which holds when the machine's speed drifts."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def save(name: str, quick: bool, result: Mapping[str, Any]) -> None:  # noqa: FBT001
    """Write a full run's result to results/; a quick run is a check and leaves nothing."""
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{name}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Draw a Markdown table: the first column to the left, the others to the right."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    return _cpu_info("model name") or platform.processor() or platform.machine()


def _instructions() -> list[str]:
    """Return what matters to int8 and float32 products of those that the processor has."""
    flags = _cpu_info("flags").split()
    return [name for name in ("avx2", "avx512f", "avx_vnni", "avx512_vnni") if name in flags]


def _cpu_info(name: str) -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith(name):
            return line.split(":", 1)[1].strip()
    return ""


def _commit() -> str | None:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        check=False,
    )
    return done.stdout.strip() or None
