"""No code but transformers' own is run, whatever a checkpoint's files ask for."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from spladelet_export import CheckpointError
from spladelet_export.checkpoint.checkpoint import read_checkpoint

KERNELS = "kernels-community/whatever"
# Stands in for the package that fetches code from the hub, and writes down what it is asked for.
FAKE = """
import os


def get_kernel(*arguments, **keywords):
    with open(os.environ["ASKED_FOR"], "a") as file:
        file.write(f"{arguments} {keywords}\\n")
    raise RuntimeError("code would have been run")


class _Anything:
    INFERENCE, TRAINING, TORCH_COMPILE = 1, 2, 4

    def __init__(self, *arguments, **keywords):
        pass


def _nothing(*arguments, **keywords):
    return lambda wrapped: wrapped


Device = LayerRepository = Mode = _Anything
register_kernel_mapping = use_kernel_forward_from_hub = _nothing
replace_kernel_forward_from_hub = _nothing
"""
LOAD = """
import sys

sys.path.insert(0, sys.argv[1])
from pathlib import Path
from transformers.utils import is_kernels_available
from spladelet_export.torch_export import load_model

assert is_kernels_available(), "the package that fetches code is not seen, so nothing is shown"
for folder in sorted(Path(sys.argv[2]).iterdir()):
    print(load_model(folder).config._attn_implementation)
"""
CONFIGS = (
    {"_attn_implementation": KERNELS},
    {"attn_implementation": KERNELS},
    {"_attn_implementation_internal": KERNELS},
    {"_attn_implementation": {"": KERNELS}},
    {"_attn_implementation": "flash_attention_2"},
    {"_attn_implementation": "sdpa"},
)


def test_attention_is_never_fetched(checkpoint, tmp_path):
    packages, asked = tmp_path / "packages", tmp_path / "asked"
    (packages / "kernels").mkdir(parents=True)
    (packages / "kernels/__init__.py").write_text(FAKE)
    (packages / "kernels-0.9.0.dist-info").mkdir()
    (packages / "kernels-0.9.0.dist-info/METADATA").write_text("Name: kernels\nVersion: 0.9.0\n")
    for number, stated in enumerate(CONFIGS):
        folder = shutil.copytree(checkpoint("bert"), tmp_path / "checkpoints" / str(number))
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | stated))

    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(packages), str(tmp_path / "checkpoints")],
        env={**os.environ, "ASKED_FOR": str(asked)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert not asked.exists(), asked.read_text()
    assert done.stdout.split() == ["eager"] * len(CONFIGS), done.stderr


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"config.json": {"auto_map": {"AutoConfig": "other/repo--code.Config"}}}, "its own code"),
        ({"config.json": {"quantization_config": {"quant_method": "mxfp4"}}}, "quantized weights"),
        ({"adapter_config.json": {"base_model_name_or_path": "a/b"}}, "is an adapter"),
    ],
)
def test_weights_and_code_from_elsewhere_are_refused(files, named, edited):
    with pytest.raises(CheckpointError, match=named):
        read_checkpoint(edited("bert", files))
