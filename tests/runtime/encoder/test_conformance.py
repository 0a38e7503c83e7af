"""A bundle's own vectors, written down, are found again; what differs is named."""

import json
from dataclasses import replace

import numpy as np
import pytest

from spladelet import Encoder
from spladelet.bundle.description import CONFORMANCE
from spladelet.bundle.folder import Bundle
from spladelet.cli.main import main
from spladelet.encoder.conformance import check_conformance, conformance_json
from spladelet.encoder.onnx_runtime import load_onnx_runtime
from spladelet.errors import BundleError, BundleFileError, BundleFormatError

TEXTS = ["how long do goldfish live", "", " ", "[SEP]", "a\0b", "lone \ud83d", "snow \U0001f600"]
LONG = "the cat sat on the mat by the river " * 80
MODES = ("same", "separate", "idf", "bow", "lexical")


@pytest.fixture
def written(of_mode, list_anew):
    """Return a function that makes a bundle with vectors of a few texts."""

    def make(mode="same", texts=TEXTS, **changes):
        folder = of_mode(mode, **changes)
        list_anew(folder, conformance_json(Bundle.open(folder), texts).encode())
        return folder

    return make


def cases_of(folder):
    return json.loads((folder / CONFORMANCE).read_text())["cases"]


@pytest.mark.parametrize("mode", MODES)
def test_a_bundle_of_any_mode_conforms_to_itself(mode, written, bundle_folder):
    short = replace(Bundle.open(bundle_folder).description.query, max_length=9, prompt="find: ")
    folder = written(mode, [*TEXTS, LONG], query=short)
    found = check_conformance(Bundle.open(folder))

    assert (found.vectors, found.equal_ids, found.equal_vectors) == (16, 16, 16)
    assert (found.mismatches, found.largest_difference) == ((), 0.0)
    query, document = cases_of(folder)[-1]["query"], cases_of(folder)[-1]["document"]
    assert (len(query["ids"]), query["truncated"]) == (9, True)
    assert (len(document["ids"]), document["truncated"]) == (512, True)
    assert (document["ids"][0], document["ids"][-1]) == (101, 102)
    has_special = mode not in ("idf", "bow")
    assert (query["ids"][-1] == 102) == has_special


@pytest.mark.parametrize("mode", MODES)
def test_what_is_written_is_what_the_encoder_gives(mode, written):
    folder = written(mode)
    encoder = Encoder.load(folder, threads=1)

    for case, text in zip(cases_of(folder), TEXTS, strict=True):
        for side, encode in (
            ("query", encoder.encode_query),
            ("document", encoder.encode_document),
        ):
            vector = encode(text)
            assert case[side]["term_ids"] == vector.term_ids.tolist()
            assert np.array(case[side]["weights"], np.float32).tolist() == vector.weights.tolist()


def test_weights_are_as_short_as_a_float32_is(written):
    text = (written() / CONFORMANCE).read_text()

    for case in json.loads(text)["cases"]:
        for weight in case["document"]["weights"]:
            assert str(np.float32(weight)) == str(weight)


def test_half_of_a_surrogate_pair_is_code_units_and_all_else_is_text(written):
    cases = cases_of(written())

    assert cases[5]["utf16"] == [*map(ord, "lone "), 0xD83D]
    assert [case.get("text") for case in cases] == [*TEXTS[:5], None, TEXTS[6]]


def test_the_default_model_conforms():
    found = check_conformance(Bundle.open(Encoder.load()._bundle.folder))
    is_the_same = found.made_with["onnxruntime"] == found.onnxruntime

    assert found.equal_ids == found.vectors >= 60
    assert found.equal_vectors == found.vectors or not is_the_same
    assert found.largest_difference < 0.5  # between releases of ONNX Runtime: see test_processors


def test_special_tokens_in_a_text_are_content(written):
    case = cases_of(written())[3]

    assert (case["text"], case["query"]["ids"]) == ("[SEP]", [101, 102, 102])
    assert case["query"]["term_ids"]


def test_no_vector_depends_on_it(written, of_mode):
    description = Bundle.open(written()).description

    assert description.fingerprint == replace(description, auxiliary={}).fingerprint
    assert CONFORMANCE in description.all_files
    assert CONFORMANCE not in description.files


def tampered(folder, list_anew, change):
    raw = json.loads((folder / CONFORMANCE).read_text())
    change(raw)
    list_anew(folder, json.dumps(raw).encode())
    return Bundle.open(folder)


def test_a_changed_weight_is_found_and_named(written, list_anew):
    def change(raw):
        weights = raw["cases"][0]["document"]["weights"]
        weights[1] = float(str(np.nextafter(np.float32(weights[1]), np.float32(9))))

    found = check_conformance(tampered(written(), list_anew, change))

    (mismatch,) = found.mismatches
    assert (mismatch.case, mismatch.side, mismatch.text) == (0, "document", TEXTS[0])
    assert mismatch.same_ids
    assert 0 < mismatch.difference < 1e-6
    assert (found.equal_ids, found.equal_vectors) == (14, 13)


def test_a_term_too_many_counts_with_all_its_weight(written, list_anew):
    def change(raw):
        side = raw["cases"][1]["query"]
        side["term_ids"], side["weights"] = [7], [2.5]

    found = check_conformance(tampered(written(), list_anew, change))

    assert found.largest_difference == 2.5


@pytest.mark.parametrize(
    "change", [lambda side: side["ids"].pop(), lambda side: side.update(truncated=True)]
)
def test_other_ids_are_found_where_vectors_are_equal(written, list_anew, change):
    bundle = tampered(written(), list_anew, lambda raw: change(raw["cases"][3]["query"]))
    found = check_conformance(bundle)

    (mismatch,) = found.mismatches
    assert (mismatch.case, mismatch.same_ids, mismatch.difference) == (3, False, 0.0)
    assert (found.equal_ids, found.equal_vectors) == (13, 14)


def of_query(**fields):
    return lambda raw: raw["cases"][0]["query"].update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(format="other"), "has format"),
        (lambda raw: raw.update(format_version=2), "reads version 1"),
        (lambda raw: raw.update(format_version=[[1]]), "reads version 1"),
        (lambda raw: raw.update(fingerprint="0" * 64), "of another bundle"),
        (lambda raw: raw.pop("fingerprint"), "KeyError"),
        (lambda raw: raw.update(made_with=None), "AttributeError"),
        (lambda raw: raw.update(cases=[]), "no list of cases"),
        (lambda raw: raw.update(cases={}), "no list of cases"),
        (lambda raw: raw["cases"].append(5), r"case \d+: TypeError"),
        (lambda raw: raw["cases"][0].update(text=None), "case 0.*expected a text"),
        (lambda raw: raw["cases"][0].pop("text"), "case 0: KeyError"),
        (lambda raw: raw["cases"][0].update(utf16=[70_000]), "a code unit"),
        (lambda raw: raw["cases"][0].pop("document"), "case 0: KeyError"),
        (of_query(ids=None), "is no list"),
        (of_query(ids=[101, 1 << 40]), "an id is"),
        (of_query(ids=[-1]), "an id is"),
        (of_query(ids=[True]), "an id is"),
        (of_query(ids=[1.0]), "an id is"),
        (of_query(truncated=0), "truncated is 0"),
        (of_query(term_ids=[3, 2], weights=[1, 1]), "do not ascend"),
        (of_query(term_ids=[3, 3], weights=[1, 1]), "do not ascend"),
        (of_query(term_ids=[30522], weights=[1]), "a term id is 30522"),
        (of_query(term_ids=[3]), "not as many weights"),
        (of_query(weights="many"), "not as many weights"),
        (of_query(term_ids=[3], weights=[float("nan")]), "NaN is no JSON"),
        (of_query(term_ids=[3], weights=[float("inf")]), "Infinity is no JSON"),
        (of_query(term_ids=[3], weights=[1e39]), "a weight is"),
        (of_query(term_ids=[3], weights=[10**400]), "a weight is"),
        (of_query(term_ids=[3], weights=[0]), "a weight is 0"),
        (of_query(term_ids=[3], weights=[-1.5]), "a weight is"),
        (of_query(term_ids=[3], weights=["1"]), "a weight is"),
        (of_query(term_ids=[3], weights=[True]), "a weight is"),
    ],
)
def test_a_file_that_is_not_well_formed_is_refused(copy_bundle, list_anew, change, message):
    bundle = tampered(copy_bundle(), list_anew, change)

    with pytest.raises(BundleFormatError, match=message):
        check_conformance(bundle)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 200_000, b'{"format": 1e999}']
)
def test_a_file_that_is_no_description_of_cases_is_refused(copy_bundle, list_anew, content):
    folder = copy_bundle()
    list_anew(folder, content)

    with pytest.raises(BundleFormatError, match=r"conformance\.json is not well-formed"):
        check_conformance(Bundle.open(folder))


def test_a_file_too_large_is_not_read(copy_bundle, list_anew):
    folder = copy_bundle()
    list_anew(folder, b" " * (9 << 20))

    with pytest.raises(BundleFileError, match="at most"):
        check_conformance(Bundle.open(folder))


def test_a_bundle_without_says_how_to_add_it(copy_bundle):
    folder = copy_bundle()
    (folder / CONFORMANCE).unlink()

    with pytest.raises(BundleError, match=r"no conformance\.json.*spladelet-export conform"):
        check_conformance(Bundle.open(folder))


class TestTheCommand:
    def test_says_how_many_are_equal(self, written, capsys):
        folder = written()

        assert main(["verify", "--conformance", str(folder)]) == 0
        first, second = capsys.readouterr().out.splitlines()
        assert first.startswith(f"{folder}: 7 files, all as they should be")
        assert second == ("14 of 14 texts have the same ids, 14 of 14 vectors are equal to the bit")
        assert main(["verify", "--conformance", "--json", str(folder)]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["intact"]
        assert (told["conformance"]["equal_vectors"], told["conformance"]["vectors"]) == (14, 14)
        assert told["conformance"]["onnxruntime"] == load_onnx_runtime().__version__

    @pytest.mark.parametrize("case", [0, 5])
    def test_names_what_is_not_and_fails(self, case, written, list_anew, capsys):
        def change(raw):
            raw["cases"][case]["query"]["weights"][0] += 0.5

        bundle = tampered(written(), list_anew, change)

        assert main(["verify", "--conformance", str(bundle.folder)]) == 1
        out, err = capsys.readouterr()
        assert f"  query {case}: largest difference 0.5: " in out
        assert "14 of 14 texts have the same ids, 13 of 14 vectors" in out
        assert err.startswith("error: 1 of 14 texts are encoded otherwise here")
        assert main(["verify", "--conformance", "--json", str(bundle.folder)]) == 1
        out, err = capsys.readouterr()
        (mismatch,) = json.loads(out)["conformance"]["mismatches"]
        assert (mismatch["case"], mismatch["side"], mismatch["same_ids"]) == (case, "query", True)
        assert mismatch["difference"] == pytest.approx(0.5)
        assert err.startswith("error: 1 of 14")

    def test_says_that_another_release_made_them(self, written, list_anew, capsys):
        def change(raw):
            raw["cases"][0]["query"]["weights"][0] += 0.5
            raw["made_with"] = {"onnxruntime": "1.0\x1b[1m"}

        bundle = tampered(written(), list_anew, change)

        assert main(["verify", "--conformance", str(bundle.folder)]) == 1
        err = capsys.readouterr().err
        assert "they were made with ONNX Runtime 1.0" in err
        assert "\x1b" not in err

    def test_needs_a_model_that_has_them(self, copy_bundle, saved_index, capsys):
        folder = copy_bundle()
        (folder / CONFORMANCE).unlink()

        assert main(["verify", "--conformance", str(folder)]) == 1
        assert "has no conformance.json" in capsys.readouterr().err
        assert main(["verify", "--conformance", str(saved_index)]) == 1
        assert "is an index, and --conformance is of models" in capsys.readouterr().err

    @pytest.fixture
    def saved_index(self, large_index, tmp_path):
        large_index.save(tmp_path / "index")
        return tmp_path / "index"
