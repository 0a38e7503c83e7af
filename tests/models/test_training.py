"""The training recipe on a tiny model: right gradients, resumable, its checkpoint is exported."""

import gzip
import json
import random
import sys
import tomllib
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")
transformers = pytest.importorskip("transformers", reason="needs the extra `train`")

TRAINING = Path(__file__).parents[2] / "models" / "training"
WORDS = "cat dog bird fish tree rock wind rain snow fire road boat salt milk iron gold".split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="module", autouse=True)
def modules():
    sys.path.insert(0, str(TRAINING))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # products as small as these take longer where threads meet
    yield
    torch.set_num_threads(threads)
    sys.path.remove(str(TRAINING))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS, "."]))
    tokenizer = transformers.BertTokenizerFast(vocab_file=str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS) + 1,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def recipe():
    made = tomllib.loads((TRAINING / "recipe.toml").read_text(encoding="utf-8"))
    made["run"]["held_out"] = 3
    made["head"] |= {"steps": 5, "texts": 4, "bias_shift": 0.0}  # tiny logits would all die
    made["splade"] |= {
        "clusters": 2, "teacher_terms": 4,
        "cluster_queries": 3, "neighbours": 6, "hard_negatives": 3, "hard_depth": 4,
        "document_lengths": [16], "query_length": 8, "teacher_length": 16, "every": 2,
        "trunk_learning_rate": 2e-3, "head_learning_rate": 1e-2, "warmup": 5,
        "flops_warmup": 3, "query_terms": 8, "document_terms": 12,
    }  # fmt: skip
    made["source"] = [{"name": "one", "share": 0.6}, {"name": "two", "share": 0.4}]
    return made


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    rng = random.Random(0)
    for name in ("one", "two"):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
            for _ in range(24):
                query = " ".join(rng.choices(WORDS, k=3))
                row = {"query": query, "passage": f"{query} {' '.join(rng.choices(WORDS, k=6))} ."}
                file.write(json.dumps(row) + "\n")
    return folder


def start(recipe, base, pairs, state, **options):
    from pairs import read_sources
    from splade import Splade
    from train import Run

    torch.manual_seed(0)
    return Run(recipe, state, Splade(base), read_sources(recipe, pairs), base, **options)


def weights(run):
    return {name: value.clone() for name, value in run.splade.bert.state_dict().items()}


def test_the_heads_gradient_is_autograds(base):
    from splade import Splade, _MaxHead

    splade = Splade(base)
    hidden = torch.randn(3, 5, 16, requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    decoder = splade.decoder.detach().clone().requires_grad_()
    bias = torch.randn(len(decoder), requires_grad=True)
    slopes = torch.randn(3, len(decoder))

    def plain():
        logits = (hidden @ decoder.T).masked_fill(mask[:, :, None] == 0, -1e9)
        return torch.log1p(torch.relu(logits.max(1).values + bias))

    def ours():
        return torch.log1p(torch.relu(_MaxHead.apply(hidden, mask, decoder, bias)))

    assert torch.allclose(ours(), plain(), atol=1e-6)
    expected = torch.autograd.grad((plain() * slopes).sum(), [hidden, decoder, bias])
    found = torch.autograd.grad((ours() * slopes).sum(), [hidden, decoder, bias])
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_two_sittings_are_one_long_one(recipe, base, pairs, tmp_path):
    whole = start(recipe, base, pairs, tmp_path / "whole")
    before = weights(whole)
    for _ in range(6):
        whole._train_step(1.0)
    assert not torch.equal(before["cls.predictions.bias"], weights(whole)["cls.predictions.bias"])
    for steps in (2, 4):
        part = start(recipe, base, pairs, tmp_path / "parts")
        for _ in range(steps):
            part._train_step(1.0)
        part._save()
    assert part.step == whole.step == 6
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(part)[name]), name
    for mine, other in [
        (whole.query_terms.state(), part.query_terms.state()),
        (whole.document_terms.state(), part.document_terms.state()),
    ]:
        assert torch.equal(mine.pop("mean"), other.pop("mean"))
        assert mine == other
    assert whole.query_terms.price != recipe["splade"]["query_price"]


def test_what_is_held_out_is_never_trained_on(recipe, pairs):
    from pairs import read_sources

    for source in read_sources(recipe, pairs):
        assert len(source.held_out) == 3
        assert not {*source.held_out} & {*source.pairs}


def test_a_batch_seen_again_and_again_is_learned(recipe, base, pairs, tmp_path, monkeypatch):
    run, losses = start(recipe, base, pairs, tmp_path / "state"), []
    descend = run._descend
    monkeypatch.setattr(
        run, "_descend", lambda loss, scale: losses.append(loss.item()) or descend(loss, scale)
    )
    for _ in range(60):
        run.step = 0  # which batch it is depends on the step's number only
        run._train_step(1.0)
    assert losses[-1] < 0.7 * losses[0]
    run._point("sitting")
    row = json.loads((tmp_path / "state" / "log.jsonl").read_text().splitlines()[-1])
    assert 0 < row["mrr"] <= 1


def test_finishing_writes_what_the_exporter_takes_and_leaves_the_state(
    recipe, base, pairs, tmp_path
):
    from spladelet import Encoder
    from spladelet_export import export_checkpoint

    pytest.importorskip("sentence_transformers", reason="needs the extra `train`")
    start(recipe, base, pairs, tmp_path / "state")
    before = (tmp_path / "state" / "state.pt").read_bytes()
    run = start(recipe, base, pairs, tmp_path / "state")
    run.finish(3, tmp_path / "checkpoint")
    assert (tmp_path / "state" / "state.pt").read_bytes() == before
    assert (tmp_path / "checkpoint" / "training.jsonl").exists()
    description = export_checkpoint(tmp_path / "checkpoint", tmp_path / "bundle")
    assert (description.source["language"], description.source["license"]) == ("en", "apache-2.0")
    run.splade.bfloat16 = False
    with torch.no_grad():
        expected = run.splade.encode(["cat dog"], 16)[0]
    found = Encoder.load(tmp_path / "bundle").encode_document("cat dog")
    assert found.term_ids.tolist() == torch.nonzero(expected > 0).flatten().tolist()
    assert found.weights.tolist() == pytest.approx(expected[expected > 0].tolist(), abs=1e-4)


def test_documents_learn_to_be_found_by_queries_without_a_network(recipe, base, pairs, tmp_path):
    from spladelet import Encoder
    from spladelet_export import export_checkpoint

    pytest.importorskip("sentence_transformers", reason="needs the extra `train`")
    start(recipe, base, pairs, tmp_path / "state")._save()
    run = start(recipe, base, pairs, tmp_path / "state", inference_free=True)
    run._save()
    with pytest.raises(SystemExit, match="--inference-free"):
        start(recipe, base, pairs, tmp_path / "state")
    before = weights(run)
    run.finish(3, tmp_path / "checkpoint")
    assert not torch.equal(before["cls.predictions.bias"], weights(run)["cls.predictions.bias"])
    description = export_checkpoint(tmp_path / "checkpoint", tmp_path / "bundle")
    assert description.query_mode == "idf"
    query = Encoder.load(tmp_path / "bundle").encode_query("dog cat dog")
    ids = sorted(run.splade.tokenizer.convert_tokens_to_ids(["cat", "dog"]))
    assert query.term_ids.tolist() == ids
    assert query.weights.tolist() == pytest.approx(run.table[ids].tolist())


def test_sentences_come_out_of_passages(tmp_path):
    from pairs import _cut_sentences

    filler = "A longer sentence with enough words to stand alone in a passage as text. "
    claim = "The quick brown fox jumps over the lazy dog today. "
    found = list(_cut_sentences(filler * 3 + claim + filler * 3, random.Random(0)))
    assert found
    for sentence, rest in found:
        assert len(rest.split()) >= 40
        assert sentence.strip() in (filler.strip(), claim.strip())


@pytest.fixture
def wordnet(tmp_path):
    for part in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{part}").write_text("  1 This is the licence.\n")
    (tmp_path / "data.verb").write_text(
        "  1 This is the licence.\n"
        "00003431 29 v 02 burp 0 belch_out 0 001 @ 00105333 v 0000 01 + 02 00 | expel gas; "
        '"it is polite to burp at the table"  \n'
        "00003500 29 v 01 alone 0 000 01 + 02 00 | only a definition  \n"
    )
    (tmp_path / "cntlist.rev").write_text("burp%2:29:00:: 1 2\n")
    return tmp_path


def test_wordnet_is_read_by_its_manual(wordnet):
    from pairs import _wordnet_pairs

    found = {pair for seed in range(20) for pair in _wordnet_pairs(wordnet, random.Random(seed))}
    assert found == {
        ("it is polite to burp at the table", "burp, belch out: expel gas"),
        ("burp", "belch out: expel gas"),
        ("belch out", "burp: expel gas"),
    }


def test_wordnets_most_used_words_come_first(wordnet):
    from pairs import _wordnet_pairs

    line = "0000343{0} 00 s 02 {1}(p) 0 {2} 1a 000 | meaning {1}  \n"
    rows = [line.format(i, *words) for i, words in enumerate(["ab", "cd", "ef"])]
    (wordnet / "data.adj").write_text("  1 This is the licence.\n" + "".join(rows))
    (wordnet / "cntlist.rev").write_text(
        "c%5:00:00:head:01 2 3\nd%5:00:26:head:01 1 4\ne%5:00:00:head:00 1 6\nburp%2:29:00:: 1 2\n"
    )
    found = list(_wordnet_pairs(wordnet, random.Random(0)))
    assert [passage.split()[-1] for _, passage in found] == ["c", "e", "gas", "a"]


def test_a_right_best_passage_still_leaves_the_others_order_to_learn():
    from losses import divergence

    teacher = torch.tensor([[30.0, 10.0, 0.0], [0.0, 30.0, 10.0]])
    assert divergence(teacher, teacher, [1.0, 3.0], 0.5).item() == pytest.approx(0, abs=1e-6)
    swapped = torch.tensor([[30.0, 0.0, 10.0], [0.0, 30.0, 10.0]])
    settled = divergence(swapped, teacher, [1.0], 0.0)
    assert settled < 1e-5 < 1e-3 < divergence(swapped, teacher, [3.0], 0.0)
    across = divergence(swapped, teacher, [1.0], 0.5) - settled
    assert across == pytest.approx(
        0.5 * divergence(swapped.T, teacher.T, [1.0], 0.0).item(), rel=1e-4
    )


def test_a_subjects_terms_cost_less_than_those_of_every_text():
    from losses import Sparsity

    terms = Sparsity(4, target=2, price=1.0, device="cpu")
    for subject in range(60):
        weights = torch.zeros(3, 4)
        weights[:, 0] = 1.0  # in every text
        weights[:, 1 + subject % 3] = 1.0  # in every text of the batch
        weights.requires_grad_()
        (slope,) = torch.autograd.grad(terms.charge(weights), weights)
    assert terms.price == pytest.approx(1.0)  # two terms a text, as asked
    assert slope[0, 0].item() == pytest.approx(1 / 3, rel=1e-3)
    assert slope[0, 3].item() == pytest.approx(1 / 9, rel=0.2)


def test_the_price_of_a_term_follows_their_number():
    from losses import Sparsity

    terms, weights = Sparsity(8, target=4, price=1.0, device="cpu"), torch.ones(2, 8)
    for _ in range(30):
        terms.charge(weights)
    dear = terms.price
    assert terms.dims > 6
    assert dear > 1.1
    for _ in range(200):
        terms.charge(weights * 0)
    assert terms.price < dear
    for _ in range(2000):
        terms.charge(weights)
    assert terms.price == 100.0  # no further


def test_a_price_that_has_no_say_yet_stands_still():
    from losses import Sparsity

    terms, weights = Sparsity(8, target=4, price=1.0, device="cpu"), torch.ones(2, 8)
    paid = terms.charge(weights, 0.5)
    assert terms.price == 1.0
    assert paid == pytest.approx(0.5 * 8)
