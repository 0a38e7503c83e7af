"""The runtime alone: it needs no torch, imports little, and leaves the process as it was."""

import json
import subprocess
import sys
import textwrap

# Refuses to import the modules that it is given.
REFUSE = """
import sys

class Refuse:
    def __init__(self, *names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is refused by this test", name=name)

def refuse(*names):
    assert not set(names) & set(sys.modules)
    sys.meta_path.insert(0, Refuse(*names))
"""


def run(code):
    """Run code in a new process and return the JSON that it wrote."""
    result = subprocess.run(
        [sys.executable, "-c", REFUSE + textwrap.dedent(code)],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_every_module_imports_without_the_exporters_packages():
    imported = run("""
    refuse("torch", "transformers", "optimum", "onnx", "sentence_transformers", "spladelet_export")
    import importlib, json, pkgutil
    import spladelet

    names = [m.name for m in pkgutil.walk_packages(spladelet.__path__, prefix="spladelet.")]
    for name in names:
        importlib.import_module(name)
    sys.stdout.write(json.dumps(names))
    """)

    assert {"spladelet.encoder", "spladelet.index", "spladelet.cli"} <= set(imported)


def test_encoding_and_searching_work_without_the_exporters_packages():
    found = run("""
    refuse("torch", "transformers", "optimum", "onnx", "sentence_transformers", "spladelet_export")
    import json
    from spladelet import Encoder, Index

    encoder = Encoder.load()
    texts = ["Snow falls in winter.", "Cats purr."]
    index = Index.build(encoder.encode_documents(texts), texts)
    sys.stdout.write(json.dumps([hit.text for hit in index.search(encoder.encode_query("cats"))]))
    """)

    assert found[0] == "Cats purr."


def test_encoding_works_without_scipy():
    terms = run("""
    refuse("scipy")
    import json
    from spladelet import Encoder

    encoder = Encoder.load()
    sys.stdout.write(json.dumps(encoder.decode(encoder.encode_query("cat"))))
    """)

    assert "cat" in terms


def test_importing_the_package_loads_no_heavy_one():
    loaded = run("""
    import json
    import spladelet

    heavy = {"onnxruntime", "scipy", "tokenizers", "huggingface_hub", "torch"}
    sys.stdout.write(json.dumps(sorted(heavy & set(sys.modules))))
    """)

    assert loaded == []


def test_using_the_package_leaves_environment_and_logging_alone():
    changed = run("""
    import json, logging, os, warnings
    import numpy  # has warning filters of its own

    def state():
        root = logging.getLogger()
        return dict(os.environ), root.level, len(root.handlers), list(warnings.filters)

    before = state()
    import spladelet
    from spladelet import Encoder, Index, cli

    imported = state()
    Encoder.load().encode_query("cat")
    sys.stdout.write(json.dumps([imported != before, state()[:3] != before[:3]]))
    """)

    assert changed == [False, False]
