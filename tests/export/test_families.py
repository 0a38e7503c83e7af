"""Every family of encoders: exported, run without torch, and the same as the library's own."""

import numpy as np
import pytest
from sentence_transformers import SparseEncoder

from spladelet import Encoder
from spladelet_export import Int8, export_checkpoint
from spladelet_export.checkpoint.families import FAMILIES
from spladelet_export.checks.gate import Limits

# transformers imports some families by what torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

ANY = Limits(overlap=0.0, ndcg_ratio=0.0)
# bert and distilbert are looked at more closely in test_export.py and test_quantize.py
KINDS = [kind for kind in FAMILIES if kind not in ("bert", "distilbert")]


@pytest.fixture(scope="session")
def texts(varied_texts):
    """Return texts of every length and script, one in four."""
    return [text for text in varied_texts[::4] if "\x00" not in text]


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_of_sentence_transformers(kind, checkpoint, bundle, texts, assert_parity):
    model = SparseEncoder(str(checkpoint(kind)), device="cpu")
    theirs = model.encode(texts, convert_to_sparse_tensor=False).numpy()

    encoder = Encoder.load(bundle(kind))
    assert_parity(encoder, "document", theirs, texts)
    # the same graph, so a few are enough
    assert_parity(encoder, "query", theirs[::6], texts[::6])
    assert 5 < (theirs > 0).sum(axis=1).mean() < theirs.shape[1] / 2


@pytest.mark.parametrize("kind", KINDS)
def test_weights_come_from_where_torchs_logits_are_highest(kind, assert_traced, texts):
    assert_traced(kind, texts[::6])


@pytest.mark.parametrize("kind", KINDS)
def test_int8_is_near_float32_and_the_same_in_every_batch(
    kind, checkpoint, bundle, texts, tmp_path
):
    export_checkpoint(checkpoint(kind), tmp_path / "int8", int8=Int8(texts[:30], limits=ANY))
    encoder = Encoder.load(tmp_path / "int8")

    ours = encoder.encode_documents(texts[:30])
    exact = Encoder.load(bundle(kind)).encode_documents(texts[:30])
    difference = np.abs(ours.to_csr() - exact.to_csr()).sum()
    assert 0 < difference < 0.1 * exact.weights.sum()
    alone = [encoder.encode_document(text) for text in texts[:30]]
    assert alone == list(ours)


def test_terms_beyond_the_tokenizers_are_kept_and_shown_by_number(bundle):
    encoder = Encoder.load(bundle("modernbert"))
    size = encoder.vocab_size

    assert encoder.term(size - 1) == f"[{size - 1}]"
    assert encoder.encode_query("the cat").vocab_size == size
