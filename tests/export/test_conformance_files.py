"""What a bundle has for other languages: written at the export, or added afterwards."""

import json
import shutil

import pytest
from export.test_query_modes import MODES, exported, routed  # noqa: F401
from transformers import AutoTokenizer

from spladelet import Encoder
from spladelet.bundle.description import (
    CONFORMANCE,
    DESCRIPTION,
    EXPLAIN,
    QUERY_TOKENIZER,
    QUERY_TOKENIZER_CONFIG,
    SATURATION,
    TOKENIZER_CONFIG,
)
from spladelet.bundle.folder import Bundle
from spladelet.encoder.conformance import check_conformance
from spladelet.errors import BundleError, InputError
from spladelet_export import conform_bundle
from spladelet_export.cli import main
from spladelet_export.conformance_files import add_conformance
from spladelet_export.conformance_texts import conformance_texts

FAMILIES = ("bert", "mpnet", "roberta", "xlm-roberta")


@pytest.fixture
def copy(bundle, tmp_path):
    """Return a function that makes a copy of a bundle, as versions before wrote it."""

    def make(kind="bert"):
        folder = shutil.copytree(bundle(kind), tmp_path / kind)
        raw = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        kept = {EXPLAIN: raw["auxiliary"][EXPLAIN]}
        (folder / DESCRIPTION).write_text(json.dumps(raw | {"auxiliary": kept}))
        for name in raw["auxiliary"].keys() - kept.keys():
            (folder / name).unlink()
        return folder

    return make


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_bundle_of_any_family_conforms_to_itself(kind, bundle):
    found = check_conformance(Bundle.open(bundle(kind)))

    assert found.vectors == 2 * len(conformance_texts(512))
    assert found.mismatches == ()
    assert (bundle(kind) / CONFORMANCE).stat().st_size < 400_000


@pytest.mark.parametrize("mode", MODES)
def test_a_bundle_of_any_query_mode_conforms_to_itself(mode, exported):  # noqa: F811
    bundle = Bundle.open(exported(mode))

    assert check_conformance(bundle).mismatches == ()
    listed = bundle.description.auxiliary
    has_own = QUERY_TOKENIZER in bundle.description.files
    assert (QUERY_TOKENIZER_CONFIG in listed) == has_own
    assert SATURATION not in listed


def test_an_int8_bundle_has_the_probe(int8_bundle):
    folder = int8_bundle("bert")
    listed = Bundle.open(folder).description.auxiliary

    assert {CONFORMANCE, EXPLAIN, SATURATION, TOKENIZER_CONFIG} == {*listed}
    assert (folder / SATURATION).stat().st_size == listed[SATURATION].size < 1000
    assert check_conformance(Bundle.open(folder)).mismatches == ()


@pytest.mark.parametrize("length", [3, 96, 512, 8192])
def test_one_text_is_longer_than_the_model_reads(length):
    words = [len(text.split()) for text in conformance_texts(length)]

    assert max(words) > min(length, 1000)
    assert sorted(words)[-2] < 30


def test_texts_are_of_many_kinds():
    texts = conformance_texts(64)

    assert 30 <= len(texts) == len({*texts})
    assert {"", " ", "[SEP]"} <= {*texts}
    together = "".join(texts)
    for part in ("\0", "\ud83d", "\U0001f355", "\u0301", "東", "https://", "<unk>", "\ue000"):
        assert part in together


def test_the_long_text_is_cut_on_both_sides(bundle):
    raw = json.loads((bundle("distilbert-prompt") / CONFORMANCE).read_text(encoding="utf-8"))

    for side in ("query", "document"):
        assert [case[side]["truncated"] for case in raw["cases"]].count(True) == 1
        assert len(raw["cases"][-1][side]["ids"]) == 512


@pytest.mark.parametrize("kind", FAMILIES)
def test_transformers_reads_the_same_tokens(kind, bundle, tmp_path):
    folder = bundle(kind)
    for name in ("tokenizer.json", TOKENIZER_CONFIG):
        shutil.copy(folder / name, tmp_path / name)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    raw = json.loads((folder / CONFORMANCE).read_text(encoding="utf-8"))
    texts = [case for case in raw["cases"] if "text" in case]

    found = theirs([case["text"] for case in texts], truncation=True, padding=True)

    assert {*found} == {"input_ids", "attention_mask"}
    for case, ids, mask in zip(texts, found["input_ids"], found["attention_mask"], strict=True):
        assert ids[: sum(mask)] == case["document"]["ids"]
    assert theirs.pad_token_id == json.loads(theirs.backend_tokenizer.to_str())["padding"]["pad_id"]
    assert theirs.unk_token in ("[UNK]", "<unk>")


def test_a_bundle_of_before_gets_the_files_and_keeps_its_fingerprint(copy, bundle, capsys):
    folder = copy()
    before = Bundle.open(folder)
    assert CONFORMANCE not in before.description.auxiliary

    assert main(["conform", str(folder)]) == 0
    assert "MB" in capsys.readouterr().out
    after = Bundle.open(folder)
    assert after.fingerprint == before.fingerprint
    assert {CONFORMANCE, EXPLAIN, TOKENIZER_CONFIG} == {*after.description.auxiliary}
    assert after.verify() == ()
    assert Encoder.load(folder).can_trace
    assert contents(folder) == contents(bundle("bert"))  # as if it were exported now
    written = contents(folder)
    (folder / CONFORMANCE).write_bytes(b"damaged")
    assert main(["conform", "--json", str(folder)]) == 0
    assert CONFORMANCE in json.loads(capsys.readouterr().out)["auxiliary"]
    assert contents(folder) == written


def test_what_cannot_be_conformed_is_left_alone(copy, tmp_path, monkeypatch, capsys):
    folder = copy()
    conform_bundle(folder)
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    with pytest.raises(InputError, match="is no folder"):
        conform_bundle(packed)
    with pytest.raises(BundleError, match=r"holds no spladelet\.json"):
        conform_bundle(tmp_path)
    written = contents(folder)
    monkeypatch.setattr("spladelet_export.conformance_files.conformance_json", lambda *_: 1 / 0)
    assert main(["conform", str(folder)]) == 1
    assert capsys.readouterr().err.startswith("error: the bundle stays as it was: ZeroDivision")
    assert contents(folder) == written
    (folder / "tokenizer.json").write_bytes(b"{}")
    assert main(["conform", str(folder)]) == 1
    assert "tokenizer.json has 2 bytes" in capsys.readouterr().err


def test_what_else_is_listed_stays_so(copy):
    folder = copy()
    description = add_conformance(folder, Bundle.open(folder).description)

    assert {EXPLAIN, CONFORMANCE, TOKENIZER_CONFIG} == {*description.auxiliary}
