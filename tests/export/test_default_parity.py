"""A real checkpoint, exported in float32, against transformers itself."""

import os

import numpy as np
import pytest

from spladelet import Encoder
from spladelet_export import export_checkpoint

FOLDER = os.environ.get("SPLADELET_CHECKPOINT")
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="set SPLADELET_CHECKPOINT to the folder of a plain checkpoint"
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    export_checkpoint(FOLDER, folder)
    return Encoder.load(folder)


@pytest.fixture(scope="module")
def texts(varied_texts):
    """Return texts of every length and script, one in two."""
    return varied_texts[::2]


@pytest.fixture(scope="module")
def reference(texts):
    """Return torch's weights of every text, one at a time: float32[texts, vocab_size]."""
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    model = AutoModelForMaskedLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    rows = []
    with torch.no_grad():
        for text in texts:
            batch = tokenizer(text, truncation=True, max_length=512, return_tensors="pt")
            rows.append(model(**batch).logits[0].amax(0).relu().log1p().numpy())
    return np.stack(rows)


def test_vectors_are_those_of_torch(encoder, reference, texts, assert_parity):
    assert (reference > 0).any(axis=1).all()  # no text drops out of the comparison
    assert_parity(encoder, "document", reference, texts)
    assert_parity(encoder, "query", reference[::8], texts[::8])


def test_some_texts_fill_the_model_and_some_hold_one_token(encoder, texts):
    lengths = [sum(len(ids) for _, ids in encoder.query_words(text)) for text in texts]

    assert min(lengths) == 1
    assert max(lengths) == encoder.description.query.max_length - 2


@pytest.mark.parametrize("text", ["", "  \n", "\u200b"])
def test_a_text_without_content_has_no_terms(encoder, text):
    assert encoder.encode_query(text).active_dims == 0
