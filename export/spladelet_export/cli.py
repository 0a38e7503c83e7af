"""The command `spladelet-export`."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from spladelet.bundle.description import ACTIVATIONS, POOLINGS, Description, Semantics
from spladelet.documents import read_documents
from spladelet.errors import SpladeletError
from spladelet_export.checkpoint.recipes import find_recipe, recipes
from spladelet_export.errors import CheckpointError, door, require

if TYPE_CHECKING:
    from spladelet_export.bundle_writer import Int8
    from spladelet_export.checkpoint.checkpoint import Checkpoint

_WEB = "have WebAssembly give the same bits, too: texts take two to three times as long"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser, run = _OTHERS.get(words[0] if words else "", (None, _export))
    options = _parser(words).parse_args(words) if parser is None else parser().parse_args(words[1:])
    try:
        if parser is None and options.list:
            print(_recipes_as_json() if options.json else _recipes_as_text())
            return 0
        with door("the export failed"):
            description = run(options)
        print(description.to_json() if options.json else _summary(description, options.output))
    except SpladeletError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _export(options: argparse.Namespace) -> Description:
    require("torch", "transformers", "optimum.exporters.onnx", "onnx")
    from spladelet_export.export import export_checkpoint, export_logits
    from spladelet_export.logits_folder import check_new

    checkpoint = options.checkpoint
    if options.recipe is not None:
        checkpoint = _by_recipe(options.recipe, checkpoint)
    if options.also_logits is not None:
        check_new(options.also_logits)
    description = export_checkpoint(
        checkpoint,
        options.output,
        name=options.name,
        texts=_texts(options.texts),
        int8=_int8(options),
        report=_report,
    )
    if options.also_logits is not None:
        _report("exporting the graph with its logits")
        export_logits(checkpoint, options.also_logits)
    return description


def _by_recipe(source: str, folder: str) -> "Checkpoint":
    """Read a folder as the recipe of a hub id says."""
    from spladelet_export.checkpoint.checkpoint import read_checkpoint

    recipe = find_recipe(source)
    if recipe is None:
        raise CheckpointError(
            f"there is no recipe for {source!r}. `spladelet-export --list` names those there are."
        )
    return recipe.apply(read_checkpoint(folder))


def _fuse(options: argparse.Namespace) -> Description:
    require("onnx", extra="fuse")
    from spladelet_export.export import fuse_logits

    return fuse_logits(
        options.logits,
        options.tokenizer,
        options.output,
        semantics=Semantics(options.pooling, options.activation, max_length=options.max_length),
        int8=_int8(options),
        report=_report,
    )


def _explain(options: argparse.Namespace) -> Description:
    require("onnx", extra="fuse")
    from spladelet_export.explain_graphs import explain_bundle

    return explain_bundle(options.output)


def _rewrite(options: argparse.Namespace) -> Description:
    require("onnx", extra="fuse")
    from spladelet_export.rewriting import rewrite_bundle

    return rewrite_bundle(options.bundle, options.output, web=options.web)


def _conform(options: argparse.Namespace) -> Description:
    from spladelet_export.conformance_files import conform_bundle

    return conform_bundle(options.output)


def _report(step: str) -> None:
    print(f"{step} …", file=sys.stderr)


def _texts(path: Path | None) -> list[str]:
    return [document.content for document in read_documents(path)] if path else []


def _int8(options: argparse.Namespace) -> "Int8 | None":
    if not options.int8:
        return None
    from spladelet.evaluation import read_collections
    from spladelet_export.bundle_writer import Int8
    from spladelet_export.checks.gate import Limits

    return Int8(
        _texts(options.calibration),
        [collection for source in options.evaluation for collection in read_collections(source)],
        Limits(overlap=options.min_overlap),
        options.force,
        options.web,
    )


def _recipes_as_json() -> str:
    return json.dumps([asdict(recipe) for recipe in recipes()], ensure_ascii=False)


def _recipes_as_text() -> str:
    """Describe the recipes, one a line."""
    known = recipes()
    width = max(len(recipe.source) for recipe in known)
    lines = []
    for recipe in known:
        facts = [f"refused: {recipe.refused}"]
        if not recipe.refused:
            zeroed = recipe.semantics.get("special_tokens") == "zero_dims"
            facts = [
                f"{recipe.family}, queries {recipe.query_mode}",
                "without special tokens" if zeroed else "",
                recipe.semantics.get("activation", "").replace("log1p_log1p", "log1p twice"),
                recipe.license or "licence: see its card",
                "gated" if recipe.gated else "",
                *(f"{measure} {figure}" for measure, figure in recipe.published.items()),
            ]
        shown = "; ".join(fact for fact in facts if fact and fact != "log1p")
        lines.append(f"{recipe.source:<{width}}  {shown}")
    return "\n".join(lines)


def _summary(description: Description, output: Path) -> str:
    figures, quantization = description.fidelity, description.quantization
    size = sum(entry.size for entry in description.all_files.values()) / 1e6
    lines = [
        f"{output}: {description.name}, {size:.1f} MB, {description.vocab_size} terms, "
        f"{description.document.pooling} pooling, {description.document.activation}",
        f"float32 against {figures['reference']} on {figures['texts']} texts: largest difference "
        f"{figures['max_abs_difference']:.1e}, {figures['flipped_above_tolerance']} terms "
        f"on one side only, top-10 terms {figures['top_overlap']:.1%} the same, "
        f"{figures['active_dims']:.0f} terms a text",
    ]
    lines += [
        f"int8, {attempt['recipe']}, against float32 on {attempt['queries']} queries: top-10 "
        f"overlap {attempt['top10_overlap']:.1%}, nDCG@10 {attempt['ndcg']:.3f} for "
        f"{attempt['ndcg_reference']:.3f}, ratio {attempt['ndcg_ratio']:.3f} "
        f"({attempt['ndcg_ratio_low']:.3f} to {attempt['ndcg_ratio_high']:.3f})"
        for attempt in quantization.get("attempts", ())
    ]
    return "\n".join(lines)


def _parser(arguments: Sequence[str] = ()) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spladelet-export",
        description="Export a SPLADE checkpoint to a bundle that runs without torch.",
        epilog="spladelet-export fuse --help: the same for a logits graph, without torch. "
        "spladelet-export explain --help: let a bundle say where its weights come from. "
        "spladelet-export conform --help: let a bundle be checked in any language. "
        "spladelet-export rewrite --help: have an older int8 bundle give the same vectors "
        "everywhere.",
    )
    add = parser.add_argument
    listing = {"--list"} & set(arguments)
    add(
        "checkpoint",
        metavar="CHECKPOINT",
        nargs="?" if listing else None,
        help="a checkpoint's folder, or a hub id (owner/name[@revision])",
    )
    add(
        "-o",
        "--output",
        required=not listing,
        type=Path,
        metavar="FOLDER",
        help="the bundle's folder",
    )
    add("--list", action="store_true", help="say which checkpoints are known, and what of them")
    add("--name", help="what to call the model (default: as the checkpoint)")
    add("--texts", type=Path, metavar="FILE", help="compare with torch on these texts, too")
    add(
        "--recipe",
        metavar="ID",
        help="what CHECKPOINT, a folder, is a copy of: owner/name of one that --list names",
    )
    add(
        "--also-logits",
        type=Path,
        metavar="FOLDER",
        help="write the graph with its logits, too: for Vespa, and sentence-transformers' ONNX",
    )
    add("--json", action="store_true", help="print the description as JSON")
    _add_int8(parser)
    return parser


def _fuse_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spladelet-export fuse",
        description="Make a bundle of a logits graph (ONNX) that is exported already.",
    )
    add = parser.add_argument
    add("logits", type=Path, metavar="MODEL.onnx", help="a masked language model's graph")
    add("--tokenizer", required=True, type=Path, metavar="FILE", help="its tokenizer.json")
    add("-o", "--output", required=True, type=Path, metavar="FOLDER", help="the bundle's folder")
    add("--pooling", choices=POOLINGS, default="max")
    add("--activation", choices=ACTIVATIONS, default="log1p")
    add("--max-length", type=int, default=512, metavar="N", help="tokens (default: 512)")
    add("--json", action="store_true", help="print the description as JSON")
    _add_int8(parser)
    return parser


def _explain_parser() -> argparse.ArgumentParser:
    return _amending_parser(
        "explain", "Let a bundle that was made before say where its weights come from."
    )


def _conform_parser() -> argparse.ArgumentParser:
    return _amending_parser(
        "conform",
        "Add to a bundle that was made before what it takes to check it in any language: texts "
        "with the vectors that it gives here, and what other libraries need to load it.",
    )


def _amending_parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"spladelet-export {name}", description=description)
    parser.add_argument("output", type=Path, metavar="BUNDLE", help="the bundle's folder")
    parser.add_argument("--json", action="store_true", help="print the description as JSON")
    return parser


def _rewrite_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spladelet-export rewrite",
        description="Write an int8 bundle that was made before so that its vectors are the same "
        "on every machine. Its fingerprint changes: indexes have to be built again.",
    )
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="the bundle's folder")
    add("-o", "--output", required=True, type=Path, metavar="FOLDER", help="the new one's")
    add("--web", action="store_true", help=_WEB)
    add("--json", action="store_true", help="print the description as JSON")
    return parser


def _add_int8(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("int8", "a quarter of the size and more than twice the speed")
    add.add_argument("--int8", action="store_true", help="quantize; retrieval is the gate")
    add.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="a few hundred texts like your own (default: the demo's documents)",
    )
    add.add_argument(
        "--evaluation",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="a collection in BEIR's layout for the gate; may be given again (default: the demo's "
        "documents and questions)",
    )
    add.add_argument(
        "--min-overlap",
        type=float,
        default=0.97,
        metavar="SHARE",
        help="how much of float32's top ten int8 must find (default: 0.97)",
    )
    add.add_argument("--force", action="store_true", help="write it even if it misses the limits")
    add.add_argument("--web", action="store_true", help=_WEB)


_OTHERS = {
    "fuse": (_fuse_parser, _fuse),
    "explain": (_explain_parser, _explain),
    "conform": (_conform_parser, _conform),
    "rewrite": (_rewrite_parser, _rewrite),
}


if __name__ == "__main__":
    sys.exit(main())
