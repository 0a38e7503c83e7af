"""How queries get their weights: by a graph of their own, a table, their own tokens; every layout
that says so, written by sentence-transformers itself where it has it."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling

from spladelet import Encoder
from spladelet_export import CheckpointError, Int8, export_checkpoint
from spladelet_export.checkpoint.checkpoint import read_checkpoint
from spladelet_export.checks.gate import Limits

ANY = Limits(overlap=0.0, ndcg_ratio=0.0)
MODES = ("idf", "bow", "bow-without-special", "lexical", "separate", "same")
QUERY = "the cat sat on the mat by the river"


def table_of(tokenizer, kind):
    """Make a table of query weights: random ones, some 0, or 1 for every term."""
    size = len(tokenizer)
    if kind == "idf" or kind == "lexical":
        weights = torch.rand(size, generator=torch.Generator().manual_seed(3)) * 5
        weights[::7] = 0
        return weights
    weights = torch.ones(size)
    if kind == "bow-without-special":
        weights[tokenizer.all_special_ids] = 0
    return weights


@pytest.fixture(scope="session")
def routed(checkpoint, tmp_path_factory):
    """Return `make(mode)`: a checkpoint with a Router, saved by sentence-transformers."""
    made = {}

    def make(mode):
        if mode not in made:
            trunk = Transformer(str(checkpoint("bert")), transformer_task="fill-mask")
            documents = [trunk, SpladePooling("max")]
            if mode in ("separate", "same"):
                other = "bert" if mode == "same" else "bert-other"
                own = Transformer(str(checkpoint(other)), transformer_task="fill-mask")
                queries = [own, SpladePooling("max")]
            else:
                weights = table_of(trunk.tokenizer, mode)
                queries = [SparseStaticEmbedding(trunk.tokenizer, weights, frozen=True)]
            if mode == "lexical":
                own = Transformer(str(checkpoint("bert")), transformer_task="fill-mask")
                queries = [own, SpladePooling("max"), *queries]
            router = Router.for_query_document(query_modules=queries, document_modules=documents)
            folder = tmp_path_factory.mktemp("routed") / mode
            SparseEncoder(modules=[router], device="cpu").save(str(folder))
            made[mode] = folder
        return made[mode]

    return make


@pytest.fixture(scope="session")
def exported(routed, tmp_path_factory):
    """Return `make(mode)`: the bundle of such a checkpoint."""
    made = {}

    def make(mode):
        if mode not in made:
            made[mode] = tmp_path_factory.mktemp("exported") / mode
            export_checkpoint(routed(mode), made[mode])
        return made[mode]

    return make


def dense(vectors):
    return vectors.to_csr().toarray()


@pytest.mark.parametrize("mode", MODES)
def test_both_sides_are_those_of_sentence_transformers(
    mode, routed, exported, varied_texts, assert_parity
):
    # A [PAD] that is written out counts for sentence-transformers as long as no text is longer.
    texts = [text for text in varied_texts[::4] if "[PAD]" not in text]
    model = SparseEncoder(str(routed(mode)), device="cpu")
    encoder = Encoder.load(exported(mode))

    assert encoder.description.query_mode == mode.partition("-")[0]
    for side, encode in (("query", model.encode_query), ("document", model.encode_document)):
        theirs = encode(texts, convert_to_sparse_tensor=False).numpy()
        assert_parity(encoder, side, theirs, texts)


@pytest.mark.parametrize("side", ["document", "query"])
def test_a_side_without_terms_is_refused_whatever_the_other_has(side, routed, tmp_path):
    folder = shutil.copytree(routed("idf"), tmp_path / "dead")
    name = "weight" if side == "query" else "cls.predictions.bias"
    for file in folder.rglob("model.safetensors"):
        tensors = load_file(file)
        if name in tensors:
            tensors[name] = np.full_like(tensors[name], 0 if side == "query" else -1000)
            save_file(tensors, file, metadata={"format": "pt"})

    with pytest.raises(CheckpointError, match=f"a {side} has 0.0 of 300 terms on average"):
        export_checkpoint(folder, tmp_path / "out")


@pytest.mark.parametrize("mode", MODES)
def test_int8_keeps_the_query_side(mode, routed, exported, tmp_path, varied_texts):
    texts = varied_texts[20:50]
    export_checkpoint(routed(mode), tmp_path / "int8", int8=Int8(texts, limits=ANY))
    ours, exact = Encoder.load(tmp_path / "int8"), Encoder.load(exported(mode))

    difference = np.abs(dense(ours.encode_queries(texts)) - dense(exact.encode_queries(texts)))
    assert difference.sum() < 0.1 * dense(exact.encode_queries(texts)).sum()
    # Only these two take the documents' graph.
    assert difference.any() == (mode in ("same", "lexical"))


@pytest.mark.parametrize("mode", ["idf", "bow"])
def test_queries_by_a_table_load_neither_graph_nor_onnxruntime(mode, exported):
    script = f"""
import sys
from spladelet import Encoder
vector = Encoder.load({str(exported(mode))!r}).encode_query({QUERY!r})
assert vector.active_dims > 3
assert "onnxruntime" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_words_of_a_query_are_explained(exported):
    explanation = Encoder.load(exported("idf")).explain("the cat", "a cat on the mat")

    assert all(term.in_query for term in explanation.terms)


def rename_router(folder, target, kind):
    """Copy a checkpoint, its Router called as older releases have it."""
    shutil.copytree(folder, target)
    modules = json.loads((target / "modules.json").read_text())
    modules[0]["type"] = kind
    (target / "modules.json").write_text(json.dumps(modules))
    return target


def test_an_older_routers_names_and_file_are_read(routed, tmp_path):
    folder = rename_router(routed("idf"), tmp_path / "asym", "sentence_transformers.models.Asym")
    raw = json.loads((folder / "router_config.json").read_text())
    renamed = {
        name: kind.replace("SparseStaticEmbedding", "IDF").replace(
            "base.modules.transformer.Transformer", "sparse_encoder.models.MLMTransformer"
        )
        for name, kind in raw["types"].items()
    }
    (folder / "config.json").write_text(json.dumps(raw | {"types": renamed}))
    (folder / "router_config.json").unlink()

    found, expected = read_checkpoint(folder), read_checkpoint(routed("idf"))
    assert (found.query_mode, found.query, found.document) == (
        expected.query_mode,
        expected.query,
        expected.document,
    )
    assert np.array_equal(found.query_weights, expected.query_weights)


def test_routes_may_have_other_names(routed, tmp_path):
    folder = tmp_path / "mapped"
    shutil.copytree(routed("bow"), folder)
    path = folder / "router_config.json"
    raw = json.loads(path.read_text())
    raw["structure"] = {f"{side} route": names for side, names in raw["structure"].items()}
    raw["parameters"]["route_mappings"] = {
        "('query', 'text')": "query route",
        "('document', None)": "document route",
    }
    path.write_text(json.dumps(raw))

    assert read_checkpoint(folder).query_mode == "bow"


def test_the_documents_encoder_may_lie_at_the_top(routed, tmp_path):
    folder = tmp_path / "top"
    shutil.copytree(routed("idf"), folder)
    path = folder / "router_config.json"
    raw = json.loads(path.read_text())
    encoder, pooling = raw["structure"]["document"]
    for file in (folder / encoder).iterdir():
        if file.name != "config_sentence_transformers.json":
            file.rename(folder / file.name)
    raw["structure"]["document"] = ["", pooling]
    raw["types"][""] = raw["types"].pop(encoder)
    path.write_text(json.dumps(raw))

    found = read_checkpoint(folder)
    assert (found.folder, found.query_mode) == (folder, "idf")


@pytest.mark.parametrize("form", ["idf.json", "query_token_weights.txt"])
def test_opensearchs_tables_are_read_and_special_tokens_left_out(form, edited, tmp_path):
    weights = {"cat": 3.5, "the": 0.25, "[CLS]": 1.0, "[SEP]": 1.0, "[UNK]": 1.0, "mat": -2.0}
    text = (
        json.dumps(weights)
        if form.endswith(".json")
        else "".join(f"{term}\t{weight}\n" for term, weight in weights.items())
    )
    export_checkpoint(edited("bert", {form: text}), tmp_path / "out")
    encoder = Encoder.load(tmp_path / "out")

    assert encoder.description.query_mode == "idf"
    assert encoder.decode(encoder.encode_query("the cat, the mat [SEP] 日")) == {
        "cat": 3.5,
        "the": 0.25,
    }
    document = encoder.decode(encoder.encode_document("the cat 日"))
    assert document
    assert not {"[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"} & set(document)


def test_documents_for_opensearch_are_the_librarys_without_special_terms(
    checkpoint, edited, tmp_path, varied_texts, assert_parity
):
    texts = varied_texts[::4]
    export_checkpoint(edited("bert", {"idf.json": '{"cat": 1.5, "the": 0.5}'}), tmp_path / "out")
    model = SparseEncoder(str(checkpoint("bert")), device="cpu")
    theirs = model.encode_document(texts, convert_to_sparse_tensor=False).numpy()

    theirs[:, model.tokenizer.all_special_ids] = 0
    assert_parity(Encoder.load(tmp_path / "out"), "document", theirs, texts)


def test_a_table_may_be_named_by_its_settings(routed, tmp_path):
    folder = tmp_path / "named"
    shutil.copytree(routed("idf"), folder)
    (table,) = folder.glob("query_0_*")
    (table / "model.safetensors").unlink()
    (table / "config.json").write_text('{"path": "weights/idf.json"}')
    (folder / "idf.json").write_text('{"cat": 2.0, "mat": 1.0}')

    assert read_checkpoint(folder).query_weights.sum() == 3


def test_a_table_of_its_own_counts_before_one_that_lies_about(routed, tmp_path):
    folder = tmp_path / "older"
    shutil.copytree(routed("idf"), folder)
    (folder / "idf.json").write_text('{"cat": 2.0, "mat": 1.0}')

    expected = read_checkpoint(routed("idf")).query_weights
    assert np.array_equal(read_checkpoint(folder).query_weights, expected)


def test_a_tables_own_tokenizer_is_kept(routed, tmp_path):
    folder = tmp_path / "cased"
    shutil.copytree(routed("idf"), folder)
    (table,) = folder.glob("query_0_*")
    rules = json.loads((table / "tokenizer.json").read_text())
    rules["normalizer"] = {"type": "Prepend", "prepend": "the "}
    (table / "tokenizer.json").write_text(json.dumps(rules))
    export_checkpoint(folder, tmp_path / "out")
    encoder = Encoder.load(tmp_path / "out")

    ids = encoder.query_words("cat")
    assert [word for word, _ in ids] != [word for word, _ in encoder.document_words("cat")]
    theirs = SparseEncoder(str(folder), device="cpu").encode_query(["cat"]).to_dense().numpy()
    assert np.abs(dense(encoder.encode_queries(["cat"])) - theirs).max() < 1e-4


def test_encoders_whose_terms_differ_are_refused(routed, tmp_path):
    folder = tmp_path / "swapped"
    shutil.copytree(routed("separate"), folder)
    (encoder,) = folder.glob("query_0_*")
    text = (encoder / "tokenizer.json").read_text()
    text = text.replace('"cat"', '"#"').replace('"mat"', '"cat"').replace('"#"', '"mat"')
    (encoder / "tokenizer.json").write_text(text)

    with pytest.raises(CheckpointError, match="another vocabulary"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("idf.json", '{"quokka": 1.0, "wombat": 1.0, "cat": 1.0}', "of another vocabulary"),
        ("idf.json", "{}", "of another vocabulary"),
        ("idf.json", '{"cat": "heavy"}', "does not give each term a weight"),
        ("idf.json", '{"cat": NaN}', "no finite number"),
        ("query_token_weights.txt", "cat\tmuch\n", "does not give each term a weight"),
    ],
)
def test_a_table_that_is_none_is_refused(edited, name, content, message):
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(edited("bert", {name: content}))


def change_router(routed, tmp_path, mode, change):
    folder = tmp_path / "changed"
    shutil.copytree(routed(mode), folder)
    path = folder / "router_config.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    return folder


def without_documents(raw):
    del raw["structure"]["document"]


def documents_by_table(raw):
    raw["structure"]["document"] = raw["structure"]["query"]


def leading_out(raw):
    raw["structure"]["query"] = ["../elsewhere"]


def without_types(raw):
    del raw["types"]


def odd_mappings(raw):
    raw["parameters"]["route_mappings"] = {"__import__('os')": "query"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_documents, "no route for document texts"),
        (documents_by_table, "encodes documents by a table"),
        (leading_out, "leads out of the checkpoint"),
        (without_types, "does not say which modules"),
        (odd_mappings, "route_mappings"),
    ],
)
def test_routers_that_make_no_sense_are_refused(routed, tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(change_router(routed, tmp_path, "idf", change))


def test_query_weights_of_no_table_are_refused(routed, tmp_path):
    folder = tmp_path / "without"
    shutil.copytree(routed("idf"), folder)
    (table,) = folder.glob("query_0_*")
    (table / "model.safetensors").unlink()

    with pytest.raises(CheckpointError, match="no query weights"):
        read_checkpoint(folder)


def test_sides_of_different_vocabularies_are_refused(routed, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(routed("separate"), folder)
    (encoder,) = folder.glob("query_0_*")
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps(config | {"vocab_size": 77}))

    with pytest.raises(CheckpointError, match="77 terms for queries"):
        read_checkpoint(folder)
