"""Build a function: a folder that is ready to run, and the .zip of it.

    python examples/serverless/build.py documents.jsonl
    python examples/serverless/build.py documents.jsonl --platform manylinux_2_28_aarch64
    python examples/serverless/build.py --no-index --for google

Run it with the Python that the function will have, for bytecode is made by the version that reads
it, in an environment that has spladelet, which builds the index. Whatever system it runs on, wheels
are those of `--platform`. Needs the network, or `--wheels`; uploads nothing.
"""

import argparse
import compileall
import importlib.util
import os
import platform
import py_compile
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENTRIES = {"aws": "handler.py", "google": "main.py", "azure": "function_app.py"}
CORE = ("search.py", "fetching.py")
# What the platform itself asks for beside the entry; its own packages it brings along.
BESIDE = {
    "aws": {},
    "google": {"requirements.txt": "functions-framework==3.*\n"},
    "azure": {
        "requirements.txt": "azure-functions\n",
        "host.json": """{
  "version": "2.0",
  "extensionBundle": {"id": "Microsoft.Azure.Functions.ExtensionBundle", "version": "[4.*, 5.0.0)"}
}
""",
    },
}
UNPACKED_LIMIT = 250 << 20  # AWS's, code and layers together
PACKED_GOAL = 50 << 20  # what AWS takes without S3
# What no search ever reads. libonnxruntime.so is for programs in C: Python's module has all of it.
NEVER_USED = [
    "**/tests",
    "**/*.pyi",
    "**/*.pxd",
    "**/*.h",
    "bin",
    "numpy/distutils",
    "numpy/f2py",
    "numpy/fft",
    "numpy/ma",
    "numpy/polynomial",
    "numpy/random",
    "numpy/testing",
    "numpy/_core/_simd*",
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/_pyinstaller",
    "onnxruntime/capi/libonnxruntime.so*",
    "onnxruntime/datasets",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "spladelet/cli",
    "spladelet/data/demo*",
    "spladelet/engines",
    "spladelet/evaluation",
    "spladelet/server",
    "spladelet_export",
    "tqdm/contrib",
]


def main() -> None:
    """Parse arguments and build."""
    options = _parse()
    folder = options.output / "function"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _install(folder, options)
    _strip(folder)
    for name in (*CORE, ENTRIES[options.cloud]):
        shutil.copyfile(HERE / name, folder / name)
    for name, text in BESIDE[options.cloud].items():
        (folder / name).write_text(text)
    if options.documents:
        _index(options.documents, folder / "index")
    _compile(folder)
    if options.no_sources:
        _drop_sources(folder)
    _check(folder, options.platform)
    packed = _pack(folder, options.output / "function.zip")
    print(f"{folder}: {_bytes(folder) / 1e6:.1f} MB, of which {_largest(folder)}")
    print(f"{packed}: {packed.stat().st_size / 1e6:.1f} MB")
    if options.cloud == "aws":
        _check_limits(folder, packed)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("documents", nargs="?", help="what `spladelet index` reads")
    parser.add_argument(
        "--no-index", action="store_true", help="SPLADELET_INDEX will name an address"
    )
    parser.add_argument("--for", dest="cloud", choices=ENTRIES, default="aws")
    parser.add_argument("--platform", default=f"manylinux_2_28_{platform.machine()}")
    parser.add_argument("--no-sources", action="store_true", help="1 MB less: bytecode alone")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels, instead of the network")
    parser.add_argument("--spladelet", default=str(ROOT), help="a folder, wheel or requirement")
    parser.add_argument("-o", "--output", type=Path, default=Path("build"))
    options = parser.parse_args()
    if bool(options.documents) == options.no_index:
        parser.error("give documents to index, or --no-index")
    return options


def _install(folder: Path, options: argparse.Namespace) -> None:
    """Have pip choose the wheels of the platform, and of them only what is named."""
    found = ["--no-index", f"--find-links={options.wheels}"] if options.wheels else []
    # An older tag is a promise to newer systems, and wheels are labelled with several.
    tag, _, machine = options.platform.partition("_2_28_")
    older = [f"manylinux_2_{n}_{machine}" for n in (27, 17)] + [f"manylinux2014_{machine}"]
    tags = [options.platform, *(older if machine and tag == "manylinux" else [])]
    with tempfile.TemporaryDirectory() as wheels:
        _run("pip", "wheel", "-q", "--no-deps", *found, "-w", wheels, options.spladelet)
        _run(
            *("pip", "install", "-q", "--no-deps", "--no-compile", "--only-binary", ":all:"),
            *(f"--platform={tag}" for tag in tags),
            *("--target", str(folder), *found, "-r", str(HERE / "requirements.txt")),
            *map(str, Path(wheels).glob("*.whl")),
        )


def _strip(folder: Path) -> None:
    for pattern in NEVER_USED:
        for path in list(folder.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _index(documents: str, folder: Path) -> None:
    _run("spladelet.cli", "index", documents, "-o", str(folder))


def _compile(folder: Path) -> None:
    """Make bytecode that is used whatever time the .zip says its sources have.

    Without it, or with times that differ, each start compiles all that it imports, in vain where
    the folder is read-only: a third of a second.
    """
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(
        folder, stripdir=folder, quiet=2, force=True, invalidation_mode=mode
    ):
        raise SystemExit("a module could not be compiled; is this the function's Python?")


def _drop_sources(folder: Path) -> None:
    """Leave packages their bytecode alone; the entries stay, which platforms read as sources."""
    for source in folder.rglob("*/*.py"):
        Path(importlib.util.cache_from_source(source)).replace(source.with_suffix(".pyc"))
        source.unlink()


def _check(folder: Path, wanted: str) -> None:
    """Encode, and search if there is an index, with nothing but what was built.

    Tells what is missing, or was stripped too many, before a platform does; if this machine can.
    """
    if sys.platform != "linux" or not wanted.endswith(platform.machine()):
        print(f"not tried: it is for {wanted}")
        return
    used = "search" if (folder / "index").exists() else "spladelet; spladelet.Encoder.load()"
    script = f"import sys; sys.path.insert(0, {str(folder.resolve())!r}); import {used}"
    command = [sys.executable, "-I", "-S", "-B", "-c", script]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"what was built does not start:\n{done.stderr[-2000:]}")


def _pack(folder: Path, packed: Path) -> Path:
    """Pack it, with fixed times, and rights that let any user read: it runs as another one."""
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            info = zipfile.ZipInfo(str(path.relative_to(folder)))
            info.external_attr = (0o100755 if ".so" in path.name else 0o100644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, path.read_bytes())
    return packed


def _check_limits(folder: Path, packed: Path) -> None:
    if (size := _bytes(folder)) > UNPACKED_LIMIT:
        raise SystemExit(
            f"{size / 1e6:.1f} MB unpacked is more than AWS takes ({UNPACKED_LIMIT >> 20} MiB). "
            "Leave the index out (--no-index) and fetch it, or deploy the container image."
        )
    if packed.stat().st_size > PACKED_GOAL:
        print("more than 50 MiB packed: create the function from S3, not by an upload")
    if sys.version_info < (3, 12):  # it has glibc 2.26, and ONNX Runtime's wheels ask for 2.28
        print("AWS's Python 3.11 is on Amazon Linux 2, too old for it: build with 3.12 or newer")


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _largest(folder: Path) -> str:
    sizes = {path.name: _bytes(path) for path in folder.iterdir() if path.is_dir()}
    first = sorted(sizes, key=sizes.__getitem__, reverse=True)[:5]
    return ", ".join(f"{name} {sizes[name] / 1e6:.0f}" for name in first)


def _run(*command: str) -> None:
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run([sys.executable, "-m", *command], check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:2])} failed; see above")


if __name__ == "__main__":
    main()
