"""The reference in torch is the formula, written out."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from spladelet.bundle.description import Semantics
from spladelet.encoder.notices import TruncationWarning
from spladelet_export.checkpoint.checkpoint import read_checkpoint
from spladelet_export.checks.reference import TorchReference
from spladelet_export.torch_export import load_model


@pytest.mark.parametrize(
    ("semantics", "expected"),
    [
        (Semantics(), lambda x: np.log1p(x).max(0)),
        (Semantics(pooling="sum"), lambda x: np.log1p(x).sum(0)),
        (Semantics(activation="log1p_log1p"), lambda x: np.log1p(np.log1p(x)).max(0)),
        pytest.param(
            Semantics(pooling="sum", activation="log1p_log1p"),
            lambda x: np.log1p(np.log1p(x)).sum(0),
        ),
    ],
    ids=["max", "sum", "max-twice", "sum-twice"],
)
def test_the_reference_is_the_formula_on_torch_logits(checkpoint, semantics, expected):
    import torch
    from transformers import AutoTokenizer

    source = read_checkpoint(checkpoint("bert"))
    model = load_model(source.folder)
    batch = AutoTokenizer.from_pretrained(source.folder)("the cat sat", return_tensors="pt")
    with torch.no_grad():
        positive = model(**batch).logits[0].relu().numpy()

    found = TorchReference(replace(source, document=semantics), model).encode(
        "the cat sat", "document"
    )

    np.testing.assert_allclose(found, expected(positive), atol=1e-5)


def test_the_reference_drops_special_and_unknown_terms_on_request(checkpoint):
    source = read_checkpoint(checkpoint("bert"))
    model = load_model(source.folder)

    def encode(semantics):
        return TorchReference(replace(source, query=semantics), model).encode("river", "query")

    keep = encode(Semantics())
    drop = encode(Semantics(special_tokens="zero_dims"))
    drop_unknown = encode(Semantics(unknown_token="zero_dims"))

    # [PAD] [UNK] [CLS] [SEP] [MASK] are the first five terms, and all active
    assert np.flatnonzero(keep != drop).tolist() == [0, 2, 3, 4]
    assert np.flatnonzero(keep != drop_unknown).tolist() == [1]
    assert not drop[[0, 2, 3, 4]].any()
    assert not drop_unknown[1]


def test_the_reference_reads_no_more_than_the_limit(checkpoint):
    source = read_checkpoint(checkpoint("bert"))
    source = replace(source, document=Semantics(max_length=5))
    reference = TorchReference(source, load_model(source.folder))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        short = reference.encode("a " * 3, "document")
        long = reference.encode("a " * 40, "document")

    assert np.array_equal(short, long)
