"""The commands that say what a model or an index is, and whether it is intact: info, verify."""

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from spladelet.bundle.find import find_bundle
from spladelet.bundle.folder import Bundle
from spladelet.cli import display
from spladelet.cli.options import Command
from spladelet.encoder import Conformance, Encoding, check_conformance
from spladelet.errors import BundleError, InputError
from spladelet.index import capacity
from spladelet.index.generations import is_index
from spladelet.index.index import Index
from spladelet.index.segment_files import verify_index
from spladelet.printable import clean

_UNITS = {"mb": "MB", "ms": "ms"}


def run_info(options: argparse.Namespace) -> str:
    """Say what a model or an index is; of an index also how it will be when it has grown."""
    path = options.path
    facts = (
        _index_facts(path) if path and is_index(Path(path)) else _bundle_facts(find_bundle(path))
    )
    if options.json:
        return display.as_json(facts)
    facts.pop("origins", None)  # for machines: it matters only where a warning says so
    said, fields = facts.get("encoding"), facts.get("metadata_fields")
    words = facts.get("words")
    if isinstance(words, dict):
        facts["words"] = {k: v for k, v in words.items() if k != "stemmer"}
    if isinstance(said, dict):  # what is usual need not be said to people
        usual = Encoding().to_dict()
        facts["encoding"] = {k: v for k, v in said.items() if usual.get(k) != v}
    if isinstance(fields, list):
        facts["metadata_fields"] = ", ".join(map(str, fields)) or None
    return _drawn(facts)


def run_verify(options: argparse.Namespace) -> str | Iterable[str]:
    """Check every file of a model or an index, and perhaps that a model's vectors are right."""
    path = options.path
    unlisted: tuple[str, ...] = ()
    bundle = None
    if path and is_index(Path(path)):
        manifest = verify_index(Path(path))
        checked = sum(len(segment.files) for segment in manifest.segments)
    else:
        bundle = find_bundle(path)
        unlisted = bundle.verify()
        checked, path = len(bundle.description.all_files), path or bundle.folder
    told: dict[str, object] = {"path": str(path), "files": checked, "intact": True}
    if unlisted:
        told["unlisted"] = [*unlisted]
    others = f"; not listed, so nothing vouches for them: {', '.join(unlisted)}" if unlisted else ""
    line = f"{clean(str(path))}: {checked} files, all as they should be{clean(others)}"
    if options.conformance:
        if bundle is None:
            raise InputError(f"{path} is an index, and --conformance is of models. Leave it out.")
        return _conforming(check_conformance(bundle), None if options.json else line, told)
    return display.as_json(told) if options.json else line


def _conforming(found: Conformance, line: str | None, told: dict[str, object]) -> Iterator[str]:
    """Say how many vectors are equal.

    Args:
        found: What was compared.
        line: What else is said to people; None to say all of it in JSON.
        told: The rest of that.

    Raises:
        BundleError: Not all are equal; when everything is said.
    """
    if line is None:
        yield display.as_json(told | {"conformance": found.to_dict()})
    else:
        yield line
        yield (
            f"{found.equal_ids} of {found.vectors} texts have the same ids, {found.equal_vectors} "
            f"of {found.vectors} vectors are equal to the bit"
        )
        for mismatch in found.mismatches:
            ids = "" if mismatch.same_ids else "other ids, "
            yield (
                f"  {mismatch.side} {mismatch.case}: {ids}largest difference "
                f"{mismatch.difference:.2g}: {clean(repr(mismatch.text)):.60}"
            )
    if found.mismatches:
        raise BundleError(_unequal(found))


def _unequal(found: Conformance) -> str:
    """Say what the matter may be."""
    made = found.made_with.get("onnxruntime", "an unknown release")
    cause = (
        f"they were made with ONNX Runtime {clean(made):.40}, and this is {found.onnxruntime}, "
        "whose kernels may differ"
        if made != found.onnxruntime
        else "ONNX Runtime is the same, so it is the processor, which orders the sums of float32 "
        "as it likes, or another library"
    )
    return (
        f"{len(found.mismatches)} of {found.vectors} texts are encoded otherwise here, weights "
        f"differ by at most {found.largest_difference:.2g}: {cause}. Do not mix such vectors where "
        "the last bits matter."
    )


def _bundle_facts(bundle: Bundle) -> dict[str, object]:
    description = bundle.description
    size = sum(entry.size for entry in description.all_files.values())
    return {
        "bundle": str(bundle.folder),
        "name": description.name,
        "fingerprint": description.fingerprint,
        "size_mb": round(size / 1e6, 1),
        "vocab_size": description.vocab_size,
        "query_mode": description.query_mode,
        "query": asdict(description.query),
        "document": asdict(description.document),
        "source": dict(description.source),
        "quantization": dict(description.quantization),
        "fidelity": dict(description.fidelity),
        "exporter": dict(description.exporter),
    }


def _index_facts(path: str) -> dict[str, object]:
    index = Index.open(path)
    size = sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
    resident = capacity.resident_bytes(Path(path))
    facts: dict[str, object] = {"index": path, **index.facts()}
    facts |= {
        "size_mb": round(size / 1e6, 1),
        "resident_mb": None if resident is None else round(resident / 1e6, 1),
    }
    lists = index.bytes_per_posting * index.postings + index.word_bytes
    grown: dict[str, object] = {
        "documents": capacity.GROWTH * len(index),
        "disk_mb": round(capacity.GROWTH * size / 1e6, 1),
        "posting_lists_mb": round(capacity.GROWTH * lists / 1e6, 1),
    }
    name = f"at_{capacity.GROWTH}_times"
    speed = capacity.measure_speed(index)
    if speed is None:
        return facts | {name: grown}
    return facts | {
        "search_ms": round(speed.now_ms, 2),
        name: grown | {"search_ms": round(speed.grown_ms, 1)},
        "advice": capacity.advice(len(index), speed.limit),
    }


def _drawn(facts: dict[str, object]) -> str:
    rows: list[tuple[str, object]] = []
    for name, value in facts.items():
        if isinstance(value, dict):
            shown = [_with_unit(k, v) for k, v in value.items() if v not in ("", None)]
            value = ", ".join(f"{k} {v}" for k, v in shown) or None
        rows.append(_with_unit(name, value))
    return display.table(rows)


def _with_unit(name: str, value: object) -> tuple[str, object]:
    """Move the unit in a name behind the value: size_mb, 3 becomes size, 3 MB."""
    stem, _, unit = name.rpartition("_")
    if unit in _UNITS and value is not None:
        name, value = stem, f"{value} {_UNITS[unit]}"
    return name.replace("_", " "), value


def _add_path(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "path", nargs="?", metavar="PATH", help="a bundle or an index (default: our model)"
    )


def _add_verify(command: argparse.ArgumentParser) -> None:
    _add_path(command)
    command.add_argument(
        "--conformance",
        action="store_true",
        help="also encode the texts of a model's conformance.json, and compare the vectors to the "
        "bit",
    )


INSPECTING = (
    Command("info", run_info, _add_path, "say what a model or index is", has_model=False),
    Command(
        "verify",
        run_verify,
        _add_verify,
        "check every file of a model or index by its hash",
        has_model=False,
    ),
)
