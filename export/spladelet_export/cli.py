"""The command `spladelet-export`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from spladelet.bundle import Description
from spladelet.documents import read_documents
from spladelet.errors import SpladeletError


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spladelet-export",
        description="Export a SPLADE checkpoint to a bundle that runs without torch.",
    )
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a checkpoint's folder, or a hub id (owner/name)"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="where to write the bundle",
    )
    parser.add_argument("--name", help="what to call the model (default: as the checkpoint)")
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.add_argument(
        "--texts",
        type=Path,
        metavar="FILE",
        help="more texts to compare with torch on: JSONL or one a line",
    )
    parser.add_argument("--json", action="store_true", help="print the description as JSON")
    return parser


def _export(options: argparse.Namespace) -> None:
    from spladelet_export.errors import require

    require("torch", "transformers", "optimum.exporters.onnx", "onnx")
    from spladelet_export.export import export_checkpoint

    texts = (
        [document.content for document in read_documents(options.texts)] if options.texts else []
    )
    description = export_checkpoint(
        options.checkpoint,
        options.output,
        name=options.name,
        revision=options.revision,
        texts=texts,
        report=lambda step: print(f"{step} …", file=sys.stderr),
    )
    print(description.to_json() if options.json else _summary(description, options.output))


def _summary(description: Description, output: Path) -> str:
    figures = description.fidelity
    size = sum(entry.size for entry in description.files.values()) / 1e6
    return (
        f"{output}: {description.name}, {size:.1f} MB, {description.vocab_size} terms, "
        f"{description.document.pooling} pooling, {description.document.activation}\n"
        f"against torch on {figures['texts']} texts: largest difference of a weight "
        f"{figures['max_abs_difference']:.1e}, {figures['flipped_above_tolerance']} terms on one "
        f"side only,\n  top-10 terms {figures['top_overlap']:.1%} the same, "
        f"{figures['active_dims']:.0f} terms a text on average"
    )


if __name__ == "__main__":
    sys.exit(main())
