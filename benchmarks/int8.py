"""What does int8 cost in retrieval?

The same queries over the same documents with a float32 bundle and with an int8 one: of the float32
top ten, how many are found, and what becomes of nDCG@10; pooled over all queries, with its interval
by paired bootstrap. Vectors are kept between runs.

    python benchmarks/int8.py FLOAT32 INT8 COLLECTION…     bundles, and folders in BEIR's layout
    python benchmarks/int8.py --quick                      the default model with itself
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import machine, markdown_table, save

from spladelet import Encoder
from spladelet.evaluation import (
    Collection,
    VectorCache,
    default_folder,
    demo_collection,
    read_collections,
)
from spladelet_export.checks.gate import Agreement, Gate

POOLED = "all, pooled"


def main() -> None:
    """Parse arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("float32", nargs="?", type=Path, help="a bundle")
    parser.add_argument("int8", nargs="?", type=Path, help="a bundle of the same checkpoint")
    parser.add_argument("collection", nargs="*", help="folders in BEIR's layout")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.float32 = options.int8 = None
    collections = [c for source in options.collection for c in read_collections(source)]
    result = measure(
        Encoder.load(options.float32),
        Encoder.load(options.int8),
        collections or [demo_collection()],
    )
    save("int8", options.quick, result)
    print(json.dumps(result, indent=1) if options.json else table(result))


def measure(float32: Encoder, int8: Encoder, collections: Sequence[Collection]) -> dict[str, Any]:
    """Compare on each collection, and on all of them together."""
    reference, model = (VectorCache(encoder, default_folder()) for encoder in (float32, int8))
    found = {c.label: Gate(reference, [c]).measure(model).to_dict() for c in collections}
    if len(collections) > 1:
        found[POOLED] = Gate(reference, collections).measure(model).to_dict()
    return {
        "machine": machine(),
        "float32": float32.fingerprint,
        "int8": int8.fingerprint,
        "agreement": found,
    }


def table(result: Mapping[str, Any]) -> str:
    """Draw one row a collection."""
    header = ["", "queries", "top ten kept", "nDCG@10 float32", "int8", "ratio", "active dims"]
    rows = []
    for name, figures in result["agreement"].items():
        a = Agreement(**figures)
        rows.append(
            [
                name,
                str(a.queries),
                f"{a.top10_overlap:.1%}",
                f"{a.ndcg_reference:.4f}",
                f"{a.ndcg:.4f}",
                f"{a.ndcg_ratio:.4f} ({a.ndcg_ratio_low:.3f} to {a.ndcg_ratio_high:.3f})",
                f"{a.active_dims_reference:.0f}, {a.active_dims:.0f}",
            ]
        )
    return markdown_table(header, rows)


if __name__ == "__main__":
    main()
