"""docs/implementers.md says all that it takes: what follows it gives the same to the bit."""

import ast
import json
import re
from dataclasses import replace
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from runtime.encoder.second_implementation import Refused, SecondEncoder, mended, text_of

from spladelet import Encoder
from spladelet.bundle.description import CONFORMANCE, DESCRIPTION, QUERY_WEIGHTS, SATURATION
from spladelet.bundle.folder import Bundle
from spladelet.encoder.session import GraphSession, _saturates
from spladelet.errors import BundleFileError, BundleGraphError
from spladelet.text import valid_unicode

TEXTS = [
    "how long do goldfish live",
    "",
    " ",
    "[SEP]",
    "cat [SEP] [UNK] a\0b",
    "caf\ud83d \ud83d\ude00",
    "the cat sat on the mat by the river " * 3,
    "\ue000",
]
MODES = ("same", "separate", "idf", "bow", "lexical")
ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "implementers.md"
RULE = re.compile(r"^\*\*(\d+)\.\*\* (.*?)(?=^\*\*\d+\.|^#|\Z)", re.MULTILINE | re.DOTALL)
TEST = re.compile(r"`(tests/[\w/]+\.py)((?:::\w+)+)`")
needs_page = pytest.mark.skipif(
    not PAGE.is_file(), reason="needs a checkout: pages are not in the wheel"
)


def rules():
    return RULE.findall(PAGE.read_text(encoding="utf-8")) if PAGE.is_file() else []


def is_defined(path, names):
    """Say whether a test, perhaps of a class, stands in a file."""
    body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    for name in names:
        found = [node for node in body if getattr(node, "name", None) == name]
        if not found:
            return False
        body = getattr(found[0], "body", [])
    return True


@needs_page
def test_rules_are_numbered_in_order():
    assert [int(number) for number, _ in rules()] == [*range(1, len(rules()) + 1)]
    assert len(rules()) >= 30


@pytest.mark.parametrize(("number", "text"), rules(), ids=[number for number, _ in rules()])
def test_every_rule_says_how_binding_it_is_and_names_a_test(number, text):
    tests = TEST.findall(text)

    assert re.search(r"\b(MUST|SHOULD|MAY)\b", text)
    assert tests
    for path, names in tests:
        assert is_defined(path, names.strip(":").split("::")), f"rule {number}: {path}{names}"


@needs_page
def test_a_test_that_is_not_there_is_noticed():
    assert is_defined("tests/runtime/encoder/test_implementers.py", ["rules"])
    assert not is_defined("tests/runtime/encoder/test_implementers.py", ["no_rules"])
    assert not is_defined("tests/runtime/encoder/test_implementers.py", ["rules", "other"])


def assert_same(ours, theirs, side, text):
    (tokens,) = ours.tokenize([text], side=side)
    vector = ours.encode_tokenized([tokens], side=side)[0]
    found = theirs.encode(side, text)

    assert (found["ids"], found["truncated"]) == (tokens.ids, tokens.truncated), ascii(text)
    assert found["term_ids"] == vector.term_ids.tolist(), ascii(text)
    assert found["weights"].tobytes() == vector.weights.tobytes(), ascii(text)


@pytest.mark.parametrize("mode", MODES)
def test_another_implementation_gives_the_same_in_every_query_mode(mode, of_mode, bundle_folder):
    plain = Bundle.open(bundle_folder).description.query
    query = replace(plain, max_length=9, prompt="find: ", unknown_token="zero_dims")
    folder = of_mode(mode, query=query, document=replace(plain, special_tokens="zero_dims"))
    ours, theirs = Encoder.load(folder, threads=1), SecondEncoder(folder)

    assert theirs.description["fingerprint"] == ours.fingerprint
    for text in TEXTS:
        for side in ("query", "document"):
            assert_same(ours, theirs, side, text)


def test_another_implementation_conforms(bundle_folder):
    other = SecondEncoder(bundle_folder)
    raw = json.loads((bundle_folder / CONFORMANCE).read_text(encoding="utf-8"))
    import onnxruntime

    assert raw["fingerprint"] == other.description["fingerprint"]
    for case in raw["cases"][::4]:
        for side in ("query", "document"):
            found, expected = other.encode(side, text_of(case)), case[side]
            assert (found["ids"], found["truncated"]) == (expected["ids"], expected["truncated"])
            if raw["made_with"]["onnxruntime"] == onnxruntime.__version__:
                assert found["term_ids"] == expected["term_ids"]
                weights = np.array(expected["weights"], np.float32)
                assert found["weights"].tobytes() == weights.tobytes()


def test_each_half_of_a_surrogate_pair_becomes_one_character():
    for text in ("\ud83d", "a\udc00b", "\udc00\ud800", "\ud83d\ud83d\ude00", "\ud83d\ude00", "é"):
        assert mended(text) == valid_unicode(text)


@pytest.fixture
def edit(copy_bundle, overwrite):
    """Return a function that edits a copy's description as text, and returns the folder."""

    def change(edit):
        folder = copy_bundle()
        raw = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        edit(raw)
        overwrite(folder / DESCRIPTION, json.dumps(raw).encode())
        return folder

    return change


def test_unknown_keys_of_the_description_are_passed_over(edit):
    folder = edit(lambda raw: raw.update(of_a_version_to_come=[1]))

    assert Bundle.open(folder).fingerprint == SecondEncoder(folder).description["fingerprint"]


def test_rules_that_are_not_stated_are_the_usual_ones(edit, bundle_folder):
    def leave_out(raw):
        raw["query"], raw["document"] = {}, {}

    folder = edit(leave_out)

    assert Bundle.open(folder).description.query == Bundle.open(bundle_folder).description.query
    assert Bundle.open(folder).fingerprint == SecondEncoder(folder).description["fingerprint"]


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.update(format_version=2),
        lambda raw: raw.update(query_mode="new"),
        lambda raw: raw["query"].update(pooling="mean"),
        lambda raw: raw["query"].update(new_rule="on"),
        lambda raw: raw["query"].update(max_length=9),
        lambda raw: raw["files"].pop("model.onnx"),
        lambda raw: raw["auxiliary"].update(raw["files"]),
    ],
)
def test_another_implementation_refuses_what_ours_refuses(change, edit):
    folder = edit(change)

    with pytest.raises(Refused):
        SecondEncoder(folder)
    with pytest.raises(Exception, match=r"Copy|Upgrade|lacks|listed twice|well-formed"):
        Bundle.open(folder)


def test_the_fingerprint_is_of_canonical_json(redescribe, copy_bundle):
    folder = copy_bundle()
    query = replace(Bundle.open(folder).description.query, prompt='é\x7f"\\\n\u2028😀')
    redescribe(folder, query=query)

    assert SecondEncoder(folder).description["fingerprint"] == Bundle.open(folder).fingerprint


def test_the_probe_of_a_bundle_is_the_runtimes_own(bundle_folder):
    import onnxruntime

    ours = files("spladelet") / "data" / SATURATION
    assert (bundle_folder / SATURATION).read_bytes() == ours.read_bytes()
    assert SecondEncoder(bundle_folder).saturates(onnxruntime) == _saturates()


@pytest.mark.parametrize("exact", [True, False])
def test_sums_are_exact_where_they_would_saturate(exact, bundle_folder):
    session = GraphSession(Bundle.open(bundle_folder), "model.onnx", 1)
    options = session._options(exact=exact)

    assert not options.enable_mem_pattern
    if exact:
        assert options.get_session_config_entry("session.x64quantprecision") == "1"
    else:
        with pytest.raises(RuntimeError):
            options.get_session_config_entry("session.x64quantprecision")


def test_what_stands_in_the_place_of_padding_does_not_matter(encoder):
    graph = encoder._document._graphs.model
    (tokens,) = encoder.tokenize(["how long do goldfish live"])
    mask = np.array([[1] * len(tokens.ids) + [0] * 5], np.int64)
    zeros, others = (np.array([tokens.ids + [i] * 5], np.int64) for i in (0, 2751))

    alone = graph.run(np.array([tokens.ids], np.int64), mask[:, : len(tokens.ids)])
    assert graph.run(zeros, mask).tobytes() == graph.run(others, mask).tobytes() == alone.tobytes()


@pytest.mark.parametrize("weight", [np.nan, np.inf, -1.0])
def test_weights_that_are_none_are_refused(weight, bundle_folder, monkeypatch):
    encoder = Encoder.load(bundle_folder)
    run = GraphSession.run

    def spoilt(self, input_ids, mask):
        weights = run(self, input_ids, mask).copy()
        weights[0, 7] = weight
        return weights

    monkeypatch.setattr(GraphSession, "run", spoilt)
    with pytest.raises(BundleGraphError, match="gives a weight of"):
        encoder.encode_query("cat")


@pytest.mark.parametrize(
    "table",
    [
        np.ones(30521, np.float32),
        np.ones((30522, 1), np.float32),
        np.ones(30522, np.float64),
        np.ones(30522, ">f4"),
        np.full(30522, -1, np.float32),
        np.full(30522, np.nan, np.float32),
    ],
    ids=["short", "flat", "double", "big-endian", "negative", "nan"],
)
def test_a_table_that_is_none_is_refused(table, of_mode, replace_file):
    folder = of_mode("idf")
    content = BytesIO()
    np.save(content, table)
    replace_file(folder, QUERY_WEIGHTS, content.getvalue())

    with pytest.raises(BundleFileError, match=r"float32|finite weights|at most \d+ are read"):
        Encoder.load(folder)
