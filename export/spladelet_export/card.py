"""The model card that comes with a bundle."""

from spladelet.bundle.description import Description

_CARD = """---
license: {license}
library_name: spladelet
tags: [splade, sparse-retrieval, onnx]
---
# {name}

A SPLADE model as a [spladelet](https://pypi.org/project/spladelet/) bundle: text in, weighted
terms out, with ONNX Runtime and without PyTorch.

    $ spladelet encode --model FOLDER "some text"

| | |
|---|---|
| checkpoint | {checkpoint}{revision} |
| license | {license} |
| vocabulary | {vocab_size} terms |
| pooling, activation | {pooling}, {activation} |
| longest text | {max_length} tokens |
| weights | {weights} |

float32 against {reference}, on {texts} texts: largest difference of a weight
{max_abs_difference:.1e}; {flipped_above_tolerance} terms above 1e-4 on one side only; of the ten
heaviest terms {top_overlap:.1%} the same; {active_dims:.0f} terms a text on average.
"""

_INT8 = """
int8 ({recipe}) against float32, on {queries} queries ({sets}): of the ten best documents
{top10_overlap:.1%} the same; nDCG@10 {ndcg:.3f} for {ndcg_reference:.3f}, ratio {ndcg_ratio:.3f}
({ndcg_ratio_low:.3f} to {ndcg_ratio_high:.3f}); {active_dims:.0f} terms a document for
{active_dims_reference:.0f}.{batches}
"""


def model_card(description: Description) -> str:
    """Write the card of a bundle; before fidelity is measured it says so."""
    source = description.source
    figures = {
        "reference": "torch (not measured yet)",
        "texts": 0,
        "max_abs_difference": float("nan"),
        "flipped_above_tolerance": 0,
        "top_overlap": float("nan"),
        "active_dims": float("nan"),
        **description.fidelity,
    }
    card = _CARD.format(
        name=description.name,
        license=source.get("license") or "unknown",
        checkpoint=source.get("checkpoint"),
        revision=f" at {source['revision']}" if source.get("revision") else "",
        vocab_size=description.vocab_size,
        pooling=description.document.pooling,
        activation=description.document.activation,
        max_length=description.document.max_length,
        weights=description.quantization.get("weights"),
        **figures,
    )
    attempts = description.quantization.get("attempts")
    return card + (_INT8.format(**_int8_figures(description)) if attempts else "")


def _int8_figures(description: Description) -> dict[str, object]:
    quantization = description.quantization
    sets = ", ".join(quantization["evaluated_on"])
    # A sum over positions is rounded as its length is padded; a maximum is not.
    same = description.document.pooling == "max"
    batches = " A text's vector is the same in every batch." if same else ""
    return {**quantization["attempts"][-1], "sets": sets, "batches": batches}
