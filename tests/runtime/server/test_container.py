"""What the container does, without a container engine: read only, another user, bounded memory."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CONTAINER = ROOT / "examples" / "container"
if not CONTAINER.is_dir():
    pytest.skip("needs a checkout: the examples are not in the wheel", allow_module_level=True)


def test_the_file_says_what_is_installed_and_run():
    text = (CONTAINER / "Containerfile").read_text()
    assert '"/source[serve]"' in text
    assert "alpine" not in re.sub(r"#.*", "", text).lower()
    assert re.search(r"^USER 10001$", text, re.MULTILINE)
    entry = json.loads(re.search(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[1])
    assert entry[:2] == ["spladelet", "serve"]


def test_the_deployment_has_probes_limits_and_no_rights():
    yaml = pytest.importorskip("yaml", reason="needs PyYAML (extra `dev`)")
    kinds = {d["kind"]: d for d in yaml.safe_load_all((CONTAINER / "kubernetes.yaml").read_text())}
    (pod,) = kinds["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(pod)
    assert pod["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["resources"]["limits"]["memory"] == "512Mi"
    assert kinds["Service"]["spec"]["ports"][0]["targetPort"] == 8080


# What an engine does for `--read-only --tmpfs /tmp`, USER and a limit of memory, with what Linux
# has: a mount namespace, in which what runs is shown to those who may not read its home, too.
INSIDE = """
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 none /mnt
mkdir /mnt/index /mnt/tmp && chmod 1777 /mnt/tmp
mount --bind "$INDEX" /mnt/index && mount -o remount,bind,ro /mnt/index
number=0
for place in $PLACES; do
    number=$((number + 1))
    mkdir "/mnt/$number" && mount --bind "$place" "/mnt/$number"
done
for closed in $CLOSED; do mount -t tmpfs -o mode=755 none "$closed"; done
number=0
for place in $PLACES; do
    number=$((number + 1))
    mkdir -p "$place" && mount --bind "/mnt/$number" "$place"
    mount -o remount,bind,ro "$place"
done
mount -o remount,bind,ro /
ulimit -d 524288
cd /
exec setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs "$@"
"""


def outermost_closed(place):
    """Return the first folder on the way to a place that others may not enter."""
    ways = [*reversed(place.parents), place]
    return next((way for way in ways if not way.stat().st_mode & 0o001), None)


def can_unshare():
    tools = all(map(shutil.which, ("unshare", "setpriv", "mount")))
    return tools and subprocess.run(["unshare", "-m", "true"], check=False).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's namespaces")
def test_it_runs_as_another_user_from_what_is_read_only_in_bounded_memory(saved, start):
    """The entry's command, of the environment that CI names or of this one."""
    if os.getuid() != 0 or not can_unshare():
        pytest.skip("makes a mount namespace, which only root may")
    environment = Path(os.environ.get("SPLADELET_CONTAINER", sys.prefix))
    python = environment / "bin" / "python"
    places = sorted({Path(sys.base_prefix), Path(python).resolve().parents[1], environment, ROOT})
    closed = sorted({str(way) for way in map(outermost_closed, places) if way is not None})
    environ = {"INDEX": saved, "PLACES": " ".join(map(str, places)), "CLOSED": " ".join(closed)}
    server = start(
        "/mnt/index",
        env=dict.fromkeys(("SPLADELET_CACHE", "TMPDIR"), "/mnt/tmp")
        | {name: str(value) for name, value in environ.items()}
        | {"HOME": "/none"},
        prefix=["unshare", "-m", "sh", "-c", INSIDE, "sh"],
        python=python,
    )
    process = Path(f"/proc/{server.child.pid}")
    assert re.search(r"^Uid:\t10001\t", (process / "status").read_text(), re.MULTILINE)
    assert re.search(r"^\S+ / \S+ ro,", (process / "mounts").read_text(), re.MULTILINE)
    found = server.ask("/v1/search", {"query": "why do kittens purr", "k": 1})
    assert found[1]["hits"][0]["id"] == "cats"
    for _ in range(20):
        assert server.ask("/embed_sparse", {"inputs": ["cat purr " * 60] * 8})[0] == 200
    assert server.resident_mb() < 400
    log = server.end()[1]
    assert "Traceback" not in log, log
