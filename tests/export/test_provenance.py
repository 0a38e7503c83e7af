"""Where weights come from, against torch: the position at which a term's logit is highest."""

import json
import shutil

import numpy as np
import onnx
import pytest

from spladelet import Encoder
from spladelet.bundle.description import DESCRIPTION, EXPLAIN, GRAPH
from spladelet.bundle.folder import Bundle
from spladelet.errors import BundleGraphError, InputError
from spladelet_export import GraphError, Int8, explain_bundle, export_checkpoint
from spladelet_export.checks.gate import Limits
from spladelet_export.cli import main
from spladelet_export.graph.provenance import trace_positions

pytestmark = pytest.mark.filterwarnings("ignore:.*and were cut there")

ANY = Limits(overlap=0.0, ndcg_ratio=0.0)


def test_positions_are_those_of_torchs_largest_logits(assert_traced, varied_texts):
    texts = [text for text in varied_texts if "\x00" not in text]
    assert len(texts) >= 200
    assert_traced("bert", texts)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("kind", ["bert", "bert-sum", "bert-max-twice", "distilbert-prompt"])
def test_weights_are_the_models_to_the_bit(kind, int8, checkpoint, bundle, varied_texts, tmp_path):
    folder = bundle(kind)
    if int8:
        folder = tmp_path / "int8"
        export_checkpoint(checkpoint(kind), folder, int8=Int8(varied_texts[:30], limits=ANY))
    encoder = Encoder.load(folder)
    for text in varied_texts[::12]:
        found = {term.term_id: term.weight for term in encoder.explain_terms(text)}
        assert found == encoder.encode_document(text).to_dict()
    extra = Bundle.open(folder).description.auxiliary[EXPLAIN].size
    assert extra < 400_000
    assert extra < 1.4 * (folder / GRAPH).stat().st_size + 20_000


def test_a_sum_comes_from_where_most_of_it_does(torch_logits, bundle):
    text = "the cat sat on the mat by the river"
    ((logits, ids),) = torch_logits("bert-sum", [text])
    parts = np.log1p(np.maximum(logits, 0))
    side = Encoder.load(bundle("bert-sum"))._document
    (tokens,) = side.tokenizer.tokenize([text])
    assert tokens.ids == ids
    ((_, (terms, _), positions),) = side.trace([tokens])
    assert (parts[positions, terms] >= parts[:, terms].max(axis=0) - 1e-4).all()


def test_padding_is_never_where_a_weight_comes_from(bundle):
    side = Encoder.load(bundle("bert-sum"))._document
    graph = side._graphs.tracer
    for text in ("the cat sat", "a river"):
        (tokens,) = side.tokenizer.tokenize([text])
        ids = np.array([tokens.ids + [0] * 9], np.int64)
        mask = np.array([[1] * len(tokens.ids) + [0] * 9], np.int64)
        weights, positions = graph.trace(ids, mask)
        assert positions[0][weights[0] > 0].max() < len(tokens.ids)


def test_a_bundle_of_before_is_told_and_mended(bundle, tmp_path, capsys):
    folder = tmp_path / "old"
    shutil.copytree(bundle("bert"), folder)
    description = json.loads((folder / DESCRIPTION).read_text())
    del description["auxiliary"][EXPLAIN]
    (folder / DESCRIPTION).write_text(json.dumps(description))
    (folder / EXPLAIN).unlink()
    old = Encoder.load(folder)
    assert not old.can_trace
    with pytest.raises(BundleGraphError, match=r"has no explain\.onnx.*spladelet-export explain"):
        old.explain_terms("the cat")

    assert main(["explain", str(folder)]) == 0
    assert "MB" in capsys.readouterr().out
    mended = Encoder.load(folder)
    assert mended.can_trace
    assert mended.fingerprint == old.fingerprint
    assert mended.explain_terms("the cat") == Encoder.load(bundle("bert")).explain_terms("the cat")
    before = (folder / EXPLAIN).read_bytes()
    (folder / EXPLAIN).write_bytes(b"damaged")
    explain_bundle(folder)  # makes it anew, whatever became of it
    explain_bundle(folder)  # again: the same
    assert (folder / EXPLAIN).read_bytes() == before
    Bundle.open(folder).verify()


def test_what_cannot_be_traced_is_refused(bundle, tmp_path):
    model = onnx.load(bundle("bert") / GRAPH, load_external_data=False)
    del model.graph.node[-20:]
    for node in list(model.graph.node):
        if node.op_type == "ReduceMax":
            model.graph.node.remove(node)
    with pytest.raises(GraphError, match="no pooling that could be traced"):
        trace_positions(model.graph)

    packed = shutil.make_archive(str(tmp_path / "bundle"), "zip", bundle("bert"))
    with pytest.raises(InputError, match="is no folder"):
        explain_bundle(packed)
    (tmp_path / EXPLAIN).write_bytes(b"somebody else's")
    assert main(["explain", str(tmp_path)]) == 1
    assert (tmp_path / EXPLAIN).exists()
