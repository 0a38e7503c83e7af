"""The pages say what the code says: tree, walks, commands and names; and links lead somewhere."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
if not (ROOT / "docs").is_dir():
    pytest.skip("needs a checkout: the pages are not in the wheel", allow_module_level=True)


def _load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


generate = _load(ROOT / "docs" / "generate.py")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
# `index.writer.IndexWriter.add`, or `spladelet_export.export.export_checkpoint`.
NAMED = re.compile(r"`([a-z]\w*(?:\.\w+)+)(?:\(\))?`")
LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([\w-]+))?\)")


def test_pages_are_what_the_code_says():
    stale = [
        name
        for name in generate.PAGES
        if generate.fill(text := (ROOT / name).read_text(encoding="utf-8")) != text
    ]

    assert stale == [], "run `python docs/generate.py`"


@pytest.mark.parametrize("package", sorted(generate.PACKAGES))
def test_every_module_is_in_the_tree_once(package):
    (tree,) = re.findall(
        rf"<!-- generated: tree {package} -->\n```text\n(.*?)```", ARCHITECTURE, re.DOTALL
    )
    shown = [line.split()[0].rstrip("/").removesuffix(".py") for line in tree.splitlines()]

    assert sorted(shown) == sorted(name.rpartition(".")[2] for name in generate.modules(package))


def is_defined(name):
    """Say whether a dotted name of ARCHITECTURE.md is a module of a package, or in one."""
    parts = name.split(".")
    package = parts.pop(0) if parts[0] in generate.PACKAGES else "spladelet"
    module = package
    while parts and f"{module}.{parts[0]}" in generate.modules(package):
        module = f"{module}.{parts.pop(0)}"
    try:
        found = generate.definition_of(module, parts[0]) if parts else module
        for part in parts[1:]:
            found = generate.member_of(found, part)
    except LookupError:
        return False
    return True


def walks():
    """Return the dotted names outside of the generated parts, file names left out."""
    written = re.sub(r"```.*?```", "", ARCHITECTURE, flags=re.DOTALL)
    suffixes = ("py", "md", "json", "toml", "data", "onnx", "npy", "lock", "zip", "npz")
    return [name for name in NAMED.findall(written) if name.rpartition(".")[2] not in suffixes]


def test_every_function_of_the_walks_exists():
    named = walks()

    assert len(named) >= 30  # else the test would hold for none
    assert [name for name in named if not is_defined(name)] == []


@pytest.mark.parametrize(
    "name", ["index.writer.IndexWriter.ad", "index.write", "spladelet_export.nothing", "encoder.x"]
)
def test_what_is_not_there_is_noticed(name):
    assert not is_defined(name)


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return generate.anchors(headings)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        place = page.parent / target if target else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), f"{target}#{anchor}"


def linked_from(page):
    targets = {target for target, _ in LINK.findall(page.read_text(encoding="utf-8")) if target}
    return {(page.parent / target).resolve() for target in targets}


def test_every_page_can_be_reached_from_the_readme():
    reached, new = set(), {ROOT / "README.md"}
    while new:
        reached |= new
        new = {page for known in new for page in linked_from(known) if page in PAGES} - reached

    assert {*PAGES} - reached == set()


def test_the_readme_can_be_read_at_once():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
