"""Run a built function here as AWS Lambda runs it, and say what it answers, takes and holds.

    python examples/serverless/emulate.py build/function RUNTIME aws-lambda-rie '{"query": "..."}'

AWS's runtime interface emulator and `awslambdaric` (RUNTIME is a folder that holds it) run it as
another user, from read-only folders, without a home or a network (in namespaces, so this needs root
on Linux), on one processor, with an environment of its own and memory that is really bounded: by a
control group, or else by `prlimit`, which bounds what is allocated. The emulator itself bounds
nothing, and its "Max Memory Used" is the configured size: memory is read from the process instead.
Does not boot a machine or fetch the code first, as a platform does.
"""

import argparse
import contextlib
import http.client
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

PORTS = 9000, 9001, 8000  # the emulator's two, and the local server's: the network is our own
_PATH = "/2015-03-31/functions/function/invocations"
_TOOLS = ("unshare", "mount", "ip", "setpriv", "taskset")
_SECONDS = 60  # for one answer
_GROUPS = Path("/sys/fs/cgroup")
# Read-only from the root down, but for /tmp. What may lie where others may not go, as in root's
# home, is shown under /mnt.
_ROOM = """
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 none /mnt
for place in TASK RUNTIME RIE SERVED; do
    eval "from=\\$$place"
    [ -n "$from" ] || continue
    if [ -d "$from" ]; then mkdir "/mnt/$place"; else : > "/mnt/$place"; fi
    mount --bind "$from" "/mnt/$place" && mount -o remount,bind,ro "/mnt/$place"
done
mount -t tmpfs -o mode=1777 none /tmp
if [ -d /dev/shm ]; then mount -t tmpfs -o ro none /dev/shm; fi
mount -o remount,bind,ro /
ip link set lo up
cd /mnt/TASK
exec "$@"
"""
# What a plain process does: the same module, asked line by line; says how long each answer took.
_PLAIN = """
import json, sys, time
sys.path.insert(0, "/mnt/TASK")
import handler
for line in sys.stdin:
    start = time.perf_counter()
    answer = handler.handler(json.loads(line))
    print(json.dumps([answer, 1e3 * (time.perf_counter() - start)]), flush=True)
"""


@dataclass(frozen=True)
class Room:
    """Where a function runs, and what it is given.

    Attributes:
        task: Its folder.
        runtime: A folder that holds `awslambdaric`, as Lambda itself does.
        rie: The emulator's binary.
        python: What runs it, which another user must be able to; not in /tmp.
        memory_mb: What it may hold.
        share: How much of one processor: Lambda gives 0.29 with 512 MB.
        environment: Variables of the function's own.
        served: A folder that a server shows at `http://127.0.0.1:8000/`; "" for none.
    """

    task: str
    runtime: str
    rie: str
    python: str = "/usr/bin/python3"
    memory_mb: int = 512
    share: float = 1.0
    environment: dict[str, str] = field(default_factory=dict)
    served: str = ""


@dataclass
class Report:
    """What a function did.

    Attributes:
        answers: What came back for each event.
        ms: How long each took, the first with the start.
        peak_mb: The most memory that its process held; 0 if it has ended.
        bounded_by: What held the limit: "cgroup" or "prlimit".
        unreachable: How many packets found no way out, as it has no network.
        written: What lies in /tmp afterwards.
        log: What the emulator and the function wrote.
    """

    answers: list[Any] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    bounded_by: str = ""
    unreachable: int = 0
    written: list[str] = field(default_factory=list)
    log: str = ""

    @property
    def billed_ms(self) -> list[int]:
        """What would be billed for each event, as the emulator says."""
        return [int(found) for found in re.findall(r"Billed Duration: (\d+) ms", self.log)]


def python_for_others() -> str | None:
    """Return a Python of this version that any user can run: root's own may lie in its home."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for place in (Path("/usr/bin") / name, Path("/usr/local/bin") / name):
        if place.exists() and place.resolve().is_relative_to("/usr"):
            return str(place)
    return None


def missing(rie: str | None) -> str | None:
    """Return what is missing to run anything here, in words; None if nothing is."""
    if not rie or not Path(rie).is_file():
        return "needs AWS's emulator: set SPLADELET_LAMBDA_RIE to aws-lambda-rie"
    if sys.platform != "linux" or os.geteuid() != 0 or not all(map(shutil.which, _TOOLS)):
        return f"needs root on Linux, and {', '.join(_TOOLS)}"
    if subprocess.run(["unshare", "-mn", "true"], check=False).returncode:
        return "needs namespaces of its own, which this machine does not give"
    if python_for_others() is None:
        return "needs a Python of this version in /usr, which other users can run"
    return None


def run(room: Room, events: Sequence[object], *, plain: bool = False) -> Report:
    """Start a function, ask it, and end it.

    Args:
        room: Where it runs.
        events: What it is asked, one after the other.
        plain: Whether to ask a plain process that imports the handler, in the same room.

    Raises:
        RuntimeError: The room could not be made: not root, or no such tools.
    """
    # By text, not by path: the checkout may lie in a /tmp that is covered inside.
    source = Path(__file__).read_text(encoding="utf-8")
    command = ["unshare", "-mn", "sh", "-c", _ROOM, "sh", room.python, "-c", source, "--inside"]
    places = {"TASK": room.task, "RUNTIME": room.runtime, "RIE": room.rie, "SERVED": room.served}
    paths = {name: str(Path(place).resolve()) if place else "" for name, place in places.items()}
    done = subprocess.run(
        command,
        input=json.dumps({"room": asdict(room), "events": list(events), "plain": plain}),
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]} | paths,
    )
    if done.returncode:
        raise RuntimeError(f"the room could not be made, or its tools failed:\n{done.stderr}")
    return Report(**json.loads(done.stdout))


def _inside() -> None:
    """Do what `run` was asked, within the namespaces; prints the report."""
    asked = json.load(sys.stdin)
    room, report = Room(**asked["room"]), Report()
    before = _unreachable()
    with contextlib.ExitStack() as stack:
        if room.served:
            stack.enter_context(_local_server())
        groups = stack.enter_context(_groups(room))
        report.bounded_by = "cgroup" if groups else "prlimit"
        ask = _ask_plainly if asked["plain"] else _ask_the_emulator
        ask(_command(room, groups), room, asked["events"], report)
    report.unreachable = _unreachable() - before
    report.written = sorted(str(path) for path in Path("/tmp").rglob("*") if path.is_file())
    print(json.dumps(asdict(report)))


def _command(room: Room, groups: Sequence[Path]) -> list[str]:
    """Return what is put before a command, so that it runs as the function would."""
    enter = "".join(f'echo $$ > "{group}/cgroup.procs"; ' for group in groups)
    bounded = [] if groups else ["prlimit", f"--data={room.memory_mb << 20}"]
    given = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "LAMBDA_TASK_ROOT": "/mnt/TASK",
        "PYTHONPATH": "/mnt/TASK:/mnt/RUNTIME",
        "AWS_LAMBDA_FUNCTION_NAME": "function",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(room.memory_mb),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "30",
        **room.environment,
    }
    return [
        *("sh", "-c", enter + 'exec "$@"', "sh", *bounded),
        *("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"),
        *("env", "-i", *(f"{name}={value}" for name, value in given.items())),
    ]


def _python(room: Room) -> list[str]:
    """Return its Python, on one processor, which it need not share with the emulator."""
    return ["taskset", "-c", str(min(os.sched_getaffinity(0))), room.python]


def _ask_the_emulator(
    prefix: list[str], room: Room, events: Sequence[object], report: Report
) -> None:
    addresses = [f"127.0.0.1:{port}" for port in PORTS]
    command = [
        *(*prefix, "/mnt/RIE", "--log-level", "info"),
        *("--runtime-interface-emulator-address", addresses[0]),
        *("--runtime-api-address", addresses[1]),
        *(*_python(room), "-m", "awslambdaric", "handler.handler"),
    ]
    with open(os.memfd_create("log"), "w+b") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_for(PORTS[0], child)
            asking = http.client.HTTPConnection("127.0.0.1", PORTS[0], timeout=_SECONDS)
            for event in events:
                start = time.perf_counter()
                asking.request("POST", _PATH, json.dumps(event))
                answer = asking.getresponse().read()
                report.ms.append(1e3 * (time.perf_counter() - start))
                report.answers.append(_read(answer))
            report.peak_mb = _peak_mb(_descendant(child.pid))
        except (OSError, http.client.HTTPException) as error:
            report.answers.append(f"{type(error).__name__}: {error}")
        finally:
            _end(child)
            log.seek(0)
            report.log = log.read().decode(errors="replace")


def _ask_plainly(prefix: list[str], room: Room, events: Sequence[object], report: Report) -> None:
    start = time.perf_counter()
    child = subprocess.Popen(
        [*prefix, *_python(room), "-c", _PLAIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        for event in events:
            child.stdin.write(json.dumps(event).encode() + b"\n")
            child.stdin.flush()
            answer, ms = json.loads(child.stdout.readline())
            report.ms.append(ms if report.ms else 1e3 * (time.perf_counter() - start))
            report.answers.append(answer)
        report.peak_mb = _peak_mb(child.pid)
    finally:
        _end(child)


@contextlib.contextmanager
def _groups(room: Room) -> Iterator[list[Path]]:
    """Make control groups of either version; none if they cannot be written."""
    name = f"spladelet-function-{os.getpid()}"
    made: list[Path] = []
    period = 20_000  # microseconds, as Lambda's
    quota = int(period * room.share)
    wanted: list[tuple[str, dict[str, object]]] = [
        ("memory", {"memory.limit_in_bytes": room.memory_mb << 20}),
        ("cpu", {"cpu.cfs_period_us": period, "cpu.cfs_quota_us": quota}),
        ("", {"memory.max": room.memory_mb << 20, "cpu.max": f"{quota} {period}"}),
    ]
    try:
        for controller, values in wanted:
            group = _GROUPS / controller / name
            with contextlib.suppress(OSError):
                group.mkdir()
                if not all((group / file).exists() for file in values):
                    group.rmdir()
                    continue
                made.append(group)
                for file, value in values.items():
                    (group / file).write_text(str(value))
        bounds_memory = any(group.parent.name != "cpu" for group in made)
        yield made if bounds_memory else []
    finally:
        for group in made:
            with contextlib.suppress(OSError):
                group.rmdir()


@contextlib.contextmanager
def _local_server() -> Iterator[None]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = partial(Quiet, directory="/mnt/SERVED")
    with http.server.ThreadingHTTPServer(("127.0.0.1", PORTS[2]), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def _wait_for(port: int, child: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + _SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > end or child.poll() is not None:
                raise
            time.sleep(0.01)
        else:
            return


def _read(answer: bytes) -> Any:  # noqa: ANN401 - it is JSON
    try:
        return json.loads(answer)
    except ValueError:
        return answer.decode(errors="replace")


def _descendant(pid: int) -> int:
    """Return the youngest of a process's children's children."""
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split() or _others(pid):
        pid = int(children[-1])
    return pid


def _others(pid: int) -> list[str]:
    """Return the children of a process's other threads: a Go program starts one from any."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [child for task in tasks for child in task.read_text().split()]


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def _unreachable() -> int:
    """Return how often this namespace has sought a way out, in vain as it has none."""
    lines = Path("/proc/net/snmp").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("Ip:"))
    found = int(dict(zip(names, values, strict=True))["OutNoRoutes"])
    later = Path("/proc/net/snmp6")
    six = re.search(r"Ip6OutNoRoutes\s+(\d+)", later.read_text() if later.exists() else "")
    return found + (int(six[1]) if six else 0)


def _end(child: "subprocess.Popen[bytes]") -> None:
    pids = [child.pid]
    with contextlib.suppress(OSError):
        pids.append(_descendant(child.pid))
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)
    child.wait()
    time.sleep(0.05)  # until its group is empty, which goes with it


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("function", "runtime", "rie"):
        parser.add_argument(name)
    parser.add_argument("events", nargs="+", help="JSON, one each")
    parser.add_argument("--python", default=Room.python)
    parser.add_argument("--memory", type=int, default=Room.memory_mb, help="MB")
    parser.add_argument("--share", type=float, default=Room.share, help="of one processor")
    options = parser.parse_args()
    room = Room(
        options.function, options.runtime, options.rie,
        python=options.python, memory_mb=options.memory, share=options.share,
    )  # fmt: skip
    report = run(room, [json.loads(event) for event in options.events])
    for answer, ms in zip(report.answers, report.ms, strict=False):
        print(f"{ms:.0f} ms  {json.dumps(answer)}")
    print(f"{report.peak_mb:.0f} MB at most, bounded by {report.bounded_by}; billed", end=" ")
    print(f"{report.billed_ms} ms, {report.unreachable} packets sought a network")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        _inside()
    else:
        main()
