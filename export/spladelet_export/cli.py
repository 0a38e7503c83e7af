"""The command `spladelet-export`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spladelet.bundle import Description
from spladelet.documents import read_documents
from spladelet.errors import SpladeletError
from spladelet_export.errors import require

if TYPE_CHECKING:
    from spladelet_export.export import Int8


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        _export(options)
    except SpladeletError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _export(options: argparse.Namespace) -> None:
    require("torch", "transformers", "optimum.exporters.onnx", "onnx")
    from spladelet_export.export import export_checkpoint

    description = export_checkpoint(
        options.checkpoint,
        options.output,
        name=options.name,
        texts=_texts(options.texts),
        int8=_int8(options),
        report=lambda step: print(f"{step} …", file=sys.stderr),
    )
    print(description.to_json() if options.json else _summary(description, options.output))


def _texts(path: Path | None) -> list[str]:
    return [document.content for document in read_documents(path)] if path else []


def _int8(options: argparse.Namespace) -> "Int8 | None":
    if not options.int8:
        return None
    from spladelet_export.export import Int8
    from spladelet_export.gate import Limits, read_set

    return Int8(
        _texts(options.calibration),
        [read_set(folder) for folder in options.evaluation],
        Limits(overlap=options.min_overlap),
        options.force,
    )


def _summary(description: Description, output: Path) -> str:
    figures, quantization = description.fidelity, description.quantization
    size = sum(entry.size for entry in description.files.values()) / 1e6
    lines = [
        f"{output}: {description.name}, {size:.1f} MB, {description.vocab_size} terms, "
        f"{description.document.pooling} pooling, {description.document.activation}",
        f"float32 against {figures['reference']} on {figures['texts']} texts: largest difference "
        f"of a weight {figures['max_abs_difference']:.1e}, {figures['flipped_above_tolerance']} terms "
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spladelet-export",
        description="Export a SPLADE checkpoint to a bundle that runs without torch.",
    )
    add = parser.add_argument
    add(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a checkpoint's folder, or a hub id (owner/name[@revision])",
    )
    add("-o", "--output", required=True, type=Path, metavar="FOLDER", help="the bundle's folder")
    add("--name", help="what to call the model (default: as the checkpoint)")
    add("--texts", type=Path, metavar="FILE", help="compare with torch on these texts, too")
    add("--json", action="store_true", help="print the description as JSON")
    _add_int8(parser)
    return parser


def _add_int8(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("int8", "a third of the size and more than twice the speed")
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


if __name__ == "__main__":
    sys.exit(main())
