"""The bundle: a damaged, edited or hostile one is refused, and the message names what is wrong."""

import itertools
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from spladelet import Encoder
from spladelet.bundle.description import (
    CARD,
    DESCRIPTION,
    EXPLAIN,
    GRAPH,
    GRAPH_DATA,
    TOKENIZER,
    Description,
)
from spladelet.bundle.folder import Bundle
from spladelet.cli.main import main
from spladelet.errors import (
    BundleError,
    BundleFileError,
    BundleFormatError,
    BundleGraphError,
    BundleNotFoundError,
)
from spladelet.files import FileEntry

TEXT = "The cat purrs on the windowsill."


@pytest.fixture
def folder(copy_bundle):
    return copy_bundle()


@pytest.fixture
def edit(folder, overwrite):
    """Return a function that edits the JSON of a description by hand, as a text editor would."""

    def change(**fields):
        raw = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        overwrite(folder / DESCRIPTION, json.dumps(raw | fields).encode())

    return change


def test_a_sound_bundle_opens_and_verifies(folder):
    bundle = Bundle.open(folder)

    bundle.verify()

    assert {GRAPH, TOKENIZER} <= set(bundle.description.files)


def test_a_folder_without_description_is_no_bundle(tmp_path):
    with pytest.raises(BundleNotFoundError, match="spladelet-export CHECKPOINT"):
        Bundle.open(tmp_path)


@pytest.mark.parametrize("name", [GRAPH, TOKENIZER])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()

    with pytest.raises(BundleFileError, match=f"{name} is missing"):
        Bundle.open(folder)


def test_a_file_of_another_size_is_named(folder, overwrite):
    content = (folder / TOKENIZER).read_bytes()
    overwrite(folder / TOKENIZER, content[:-1])

    with pytest.raises(
        BundleFileError, match=f"{TOKENIZER} has {len(content) - 1} bytes, expected {len(content)}"
    ):
        Bundle.open(folder)


def test_a_changed_byte_is_found_by_verify_and_its_file_named(folder, overwrite):
    content = bytearray((folder / TOKENIZER).read_bytes())
    content[len(content) // 2] ^= 1
    overwrite(folder / TOKENIZER, bytes(content))
    bundle = Bundle.open(folder)

    with pytest.raises(BundleFileError, match=f"{TOKENIZER} has sha256"):
        bundle.verify()


@pytest.mark.parametrize(
    "fields", [{"format_version": 2}, {"format": "another"}, {"format_version": None}]
)
def test_an_unknown_format_asks_for_an_upgrade(folder, edit, fields):
    edit(**fields)

    with pytest.raises(BundleFormatError, match="pip install -U spladelet"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{", b"[]", b"null", b"5", b"{}", b"\xff\xfe", b'{"format": "spladelet-bundle"}'),
        b"[" * 200_000,
    ],
)
def test_a_malformed_description_is_refused(folder, overwrite, text):
    overwrite(folder / DESCRIPTION, text)

    with pytest.raises(BundleFormatError, match="not a well-formed description"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("query", {"pooling": "mean"}),
        ("document", {"activation": "relu"}),
        ("document", {"special_tokens": "drop"}),
        ("document", {"unknown_token": None}),
        ("query", {"max_length": 2}),
        ("query", {"max_length": "512"}),
        ("query", {"max_length": True}),
        ("query", {"prompt": 5}),
        ("query", {"new_rule": "on"}),
        ("query", None),
        ("query_mode", "idf"),
        ("vocab_size", 0),
        ("vocab_size", 1.5),
        ("vocab_size", "many"),
        ("files", {}),
        ("files", []),
        ("files", {GRAPH: {"size": 1}}),
        *itertools.product(["source", "quantization", "fidelity", "exporter"], [None, "abc"]),
    ],
)
def test_values_this_runtime_does_not_know_are_refused(folder, edit, field, value):
    edit(**{field: value})

    with pytest.raises(BundleFormatError):
        Bundle.open(folder)


@pytest.mark.parametrize(("size", "sha256"), [("x", "0" * 64), (711494, 5), (-1, "0" * 64)])
def test_sizes_and_hashes_have_types(folder, overwrite, size, sha256):
    raw = json.loads((folder / DESCRIPTION).read_text())
    raw["files"][TOKENIZER] = {"size": size, "sha256": sha256}
    overwrite(folder / DESCRIPTION, json.dumps(raw).encode())

    with pytest.raises(BundleFormatError, match=r"size|sha256"):
        Bundle.open(folder)


@pytest.mark.parametrize("name", ["a" * 300, "a\ud800"])
def test_file_names_that_cannot_be_are_refused(folder, overwrite, name):
    description = Bundle.open(folder).description
    changed = replace(description, files={**description.files, name: FileEntry(0, "0" * 64)})
    overwrite(folder / DESCRIPTION, json.dumps(json.loads(changed.to_json())).encode())

    with pytest.raises(BundleFileError):
        Bundle.open(folder)


@pytest.mark.parametrize("name", [GRAPH, TOKENIZER])
def test_a_description_that_does_not_list_a_needed_file_is_refused(folder, redescribe, name):
    files = dict(Bundle.open(folder).description.files)
    del files[name]
    redescribe(folder, files=files)

    with pytest.raises(BundleFormatError, match=f"the list of files lacks {name}"):
        Bundle.open(folder)


def test_edited_semantics_do_not_fit_the_fingerprint(folder, edit):
    edit(query={"max_length": 9})

    with pytest.raises(BundleFormatError, match="it was edited or damaged"):
        Bundle.open(folder)


def test_a_description_too_large_is_not_read(folder, overwrite):
    text = (folder / DESCRIPTION).read_bytes()
    overwrite(folder / DESCRIPTION, text + b" " * (4 << 20))

    with pytest.raises(BundleFormatError, match="a description has at most"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    "name",
    [
        *("../x", "a/../../x", "/etc/passwd", "a\\b", "C:x", "", "a//b", "./a", "a\0b", "a?", "<a"),
        "*/_ORT_MEM_ADDR_/*",  # a place in memory to ONNX Runtime
    ],
)
def test_names_that_lead_out_of_the_folder_are_refused(folder, redescribe, name):
    files = Bundle.open(folder).description.files
    (folder.parent / "x").write_bytes(b"")
    redescribe(folder, files={**files, name: FileEntry(0, "0" * 64)})

    with pytest.raises(BundleFileError, match="leads out of"):
        Bundle.open(folder)


@pytest.fixture
def snapshot(folder):
    """Return the bundle as the hub's client keeps it: links to the blobs of its repository."""
    repository = folder.parent / "models--owner--name"
    place, blobs = repository / "snapshots" / "c0ffee", repository / "blobs"
    place.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(folder.iterdir()):
        file.rename(blobs / str(number))
        (place / file.name).symlink_to(Path("../../blobs") / str(number))
    return place


def test_a_snapshot_of_the_hub_opens_and_verifies(snapshot):
    bundle = Bundle.open(snapshot)

    assert bundle.verify() == ()
    assert (snapshot / TOKENIZER).is_symlink()


def test_a_link_to_a_folder_opens_and_verifies(snapshot, folder, copy_bundle):
    for number, target in enumerate([snapshot, copy_bundle("other")]):
        link = folder.parent / f"link-{number}"
        link.symlink_to(target)

        assert Bundle.open(link).verify() == ()


def test_a_snapshot_in_a_folder_of_its_repository_opens(snapshot):
    inner = snapshot / "sparse"
    inner.mkdir()
    for link in list(snapshot.iterdir()):
        if link.is_symlink():
            (inner / link.name).symlink_to(Path("..") / link.readlink())

    assert Bundle.open(inner).fingerprint == Bundle.open(snapshot).fingerprint


@pytest.mark.parametrize("elsewhere", ["models--owner--other/blobs/1", "models--owner--name/1"])
def test_a_link_to_what_is_not_of_the_snapshots_repository_is_refused(snapshot, elsewhere):
    target = snapshot.parents[2] / elsewhere
    target.parent.mkdir(parents=True, exist_ok=True)
    (snapshot / TOKENIZER).resolve().rename(target)
    (snapshot / TOKENIZER).unlink()
    (snapshot / TOKENIZER).symlink_to(target)

    with pytest.raises(BundleFileError, match="leads out of the bundle"):
        Bundle.open(snapshot)


def test_names_that_lead_to_the_blobs_are_refused(snapshot, overwrite):
    description = Bundle.open(snapshot).description
    blob = snapshot.parents[1] / "blobs" / "other"
    blob.write_bytes(b"")
    for name in ("../../blobs/other", str(blob)):
        files = {**description.files, name: FileEntry.of(blob)}
        overwrite(snapshot / DESCRIPTION, replace(description, files=files).to_json().encode())

        with pytest.raises(BundleFileError, match="leads out of"):
            Bundle.open(snapshot)


def test_a_link_that_leads_out_of_the_folder_is_refused(folder, tmp_path):
    shutil.copyfile(folder / TOKENIZER, tmp_path / "elsewhere.json")
    (folder / TOKENIZER).unlink()
    (folder / TOKENIZER).symlink_to(tmp_path / "elsewhere.json")

    with pytest.raises(BundleFileError, match="leads out of"):
        Bundle.open(folder)


def test_a_loop_of_links_is_refused(folder, redescribe):
    files = Bundle.open(folder).description.files
    (folder / "loop").symlink_to("loop")
    redescribe(folder, files={**files, "loop": FileEntry(0, "0" * 64)})

    with pytest.raises(BundleFileError):
        Bundle.open(folder)


def test_a_link_inside_the_folder_is_followed(folder):
    (folder / TOKENIZER).rename(folder / "blob")
    (folder / TOKENIZER).symlink_to("blob")

    bundle = Bundle.open(folder)
    bundle.verify()
    assert (bundle.folder / TOKENIZER).read_bytes() == (folder / "blob").read_bytes()


@pytest.fixture
def pipe(tmp_path):
    """Return a function that puts a pipe in the place of a file."""

    def put(path):
        path.unlink(missing_ok=True)
        os.mkfifo(path)

    return put


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
@pytest.mark.parametrize("name", [DESCRIPTION, EXPLAIN, GRAPH, GRAPH_DATA, TOKENIZER])
def test_a_pipe_in_the_place_of_a_file_is_refused_unread(folder, pipe, name):
    bundle = Bundle.open(folder)
    pipe(folder / name)

    with pytest.raises(BundleFileError, match=f"{name} is a pipe, expected a file"):
        Bundle.open(folder)
    if name != DESCRIPTION:
        with pytest.raises(BundleFileError, match="is a pipe"):
            bundle.verify()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_in_the_place_of_a_bundle_is_refused_unread(tmp_path, pipe):
    pipe(tmp_path / "model.zip")

    with pytest.raises(BundleFileError, match="is a pipe, expected a file"):
        Bundle.open(tmp_path / "model.zip")


@pytest.mark.parametrize("name", [DESCRIPTION, EXPLAIN, GRAPH, GRAPH_DATA, TOKENIZER])
def test_a_folder_in_the_place_of_a_file_is_refused(folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()

    with pytest.raises(BundleFileError, match=f"{name} is a folder, expected a file"):
        Bundle.open(folder)


@pytest.mark.parametrize("name", [DESCRIPTION, EXPLAIN, GRAPH, GRAPH_DATA, TOKENIZER])
def test_a_file_grown_to_a_terabyte_is_not_read(folder, overwrite, name):
    bundle = Bundle.open(folder)
    overwrite(folder / name, (folder / name).read_bytes())  # another one than the model's own
    os.truncate(folder / name, 1 << 40)

    with pytest.raises(BundleError, match=f"{name} has {1 << 40} bytes"):
        Bundle.open(folder)
    if name != DESCRIPTION:
        with pytest.raises(BundleFileError, match=f"{name} has {1 << 40} bytes"):
            bundle.verify()


def test_an_entry_of_what_is_no_file_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match=r"Is a directory|is no regular file"):
        FileEntry.of(tmp_path)


def test_files_that_are_not_listed_are_named(folder):
    (folder / "model.onnx_data").write_bytes(b"weights")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"graph")
    (folder / ".gitattributes").write_bytes(b"")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_bytes(b"")
    bundle = Bundle.open(folder)

    assert (folder / CARD).is_file()
    assert bundle.verify() == bundle.unlisted() == (".git", "model.onnx_data", "onnx/model.onnx")


def test_the_command_names_files_that_are_not_listed(folder, capsys):
    assert main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out.endswith("all as they should be\n")
    (folder / "model.onnx_data").write_bytes(b"weights")

    assert main(["verify", str(folder)]) == 0
    assert "nothing vouches for them: model.onnx_data" in capsys.readouterr().out
    assert main(["verify", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unlisted"] == ["model.onnx_data"]


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("name", 5, "name is 5; expected a text"),
        ("name", "a\ud800", "expected a text in Unicode"),
        ("document", {"prompt": "\udc00: "}, "prompt is .*expected a text in Unicode"),
        ("document", {"max_length": 10**30}, "max_length is 1000.*expected a whole number of"),
        ("vocab_size", 10**30, "vocab_size is 1000.*expected a whole number from 1"),
        ("fidelity", {"overlap": float("nan")}, "NaN is no JSON"),
        ("source", {"size": float("inf")}, "Infinity is no JSON"),
        ("source", {"size": float("-inf")}, "-Infinity is no JSON"),
    ],
)
def test_what_would_fail_later_is_refused_at_once(folder, edit, field, value, told):
    edit(**{field: value})

    with pytest.raises(BundleFormatError, match=told):
        Bundle.open(folder)


def test_what_is_told_in_objects_in_objects_is_refused(folder, edit):
    told = {}
    for _ in range(300):  # less than the JSON reader refuses, more than a writer can take
        told = {"of": told}
    edit(source=told)

    with pytest.raises(BundleFormatError, match="source is nested deeper than 32 levels"):
        Bundle.open(folder)


def test_a_graph_of_another_width_is_refused_at_the_first_text(folder, redescribe):
    redescribe(folder, vocab_size=40_000)
    encoder = Encoder.load(folder)

    with pytest.raises(BundleGraphError, match=r"expected .*40000"):
        encoder.encode_query(TEXT)


def test_a_file_that_is_no_graph_is_refused_at_the_first_text(folder, overwrite):
    overwrite(folder / GRAPH, b"\x5a" * (folder / GRAPH).stat().st_size)
    encoder = Encoder.load(folder)

    with pytest.raises(BundleGraphError, match=f"{GRAPH} is no ONNX graph"):
        encoder.encode_query(TEXT)


def test_a_file_that_is_no_tokenizer_is_refused(folder, overwrite):
    overwrite(folder / TOKENIZER, b"\x5a" * (folder / TOKENIZER).stat().st_size)

    with pytest.raises(BundleFileError, match=f"{TOKENIZER} is no tokenizer"):
        Encoder.load(folder)


def test_the_model_card_may_be_edited_or_removed(folder, overwrite):
    before = Bundle.open(folder).fingerprint
    overwrite(folder / CARD, b"# Mine")
    Bundle.open(folder).verify()
    (folder / CARD).unlink()

    assert Bundle.open(folder).fingerprint == before


def test_the_fingerprint_changes_with_what_changes_vectors(folder):
    description = Bundle.open(folder).description
    graph = {**description.files, GRAPH: FileEntry(1, "0" * 64)}
    changed = [
        replace(description, query=replace(description.query, max_length=9)),
        replace(description, document=replace(description.document, max_length=9)),
        replace(description, document=replace(description.document, prompt="passage: ")),
        replace(description, query=replace(description.query, activation="log1p_log1p")),
        replace(description, vocab_size=description.vocab_size + 1),
        replace(description, files=graph),
    ]

    prints = [d.fingerprint for d in (description, *changed)]

    assert len(set(prints)) == len(prints)


def test_the_fingerprint_does_not_change_with_what_is_said_about_the_model(folder):
    description = Bundle.open(folder).description
    told = {
        "name": "another",
        "fidelity": {"top_overlap": 0.5},
        "source": {"license": "mit"},
        "quantization": {"weights": "int8"},
        "exporter": {"torch": "9"},
        "files": {**description.files, CARD: FileEntry(1, "0" * 64)},
    }

    changed = [replace(description, **{name: value}) for name, value in told.items()]

    assert {d.fingerprint for d in changed} == {description.fingerprint}


def test_a_description_comes_back_from_json(folder):
    description = Bundle.open(folder).description

    assert Description.from_json(description.to_json(), "here") == description


def test_auxiliary_files_are_checked_but_not_of_the_fingerprint(folder, overwrite, redescribe):
    before = Bundle.open(folder)
    (folder / "notes.txt").write_bytes(b"of a version to come")
    listed = {**before.description.auxiliary, "notes.txt": FileEntry.of(folder / "notes.txt")}
    redescribe(folder, auxiliary=listed)
    bundle = Bundle.open(folder)

    assert bundle.fingerprint == before.fingerprint
    assert bundle.verify() == ()
    overwrite(folder / "notes.txt", b"of a version to cope")
    with pytest.raises(BundleFileError, match=r"notes\.txt has sha256"):
        bundle.verify()
    overwrite(folder / "notes.txt", b"")
    with pytest.raises(BundleFileError, match=r"notes\.txt has 0 bytes"):
        Bundle.open(folder)


def test_a_bundle_may_lack_every_auxiliary_file(folder):
    names = Bundle.open(folder).description.auxiliary
    for name in names:
        (folder / name).unlink()

    assert EXPLAIN in names
    assert Bundle.open(folder).verify() == ()
    assert Bundle.open(folder).description.auxiliary == {}


def test_what_explains_is_read_where_versions_before_listed_it(folder, overwrite):
    raw = json.loads((folder / DESCRIPTION).read_text())
    raw["explaining"] = {EXPLAIN: raw.pop("auxiliary")[EXPLAIN]}
    overwrite(folder / DESCRIPTION, json.dumps(raw).encode())

    assert [*Bundle.open(folder).description.auxiliary] == [EXPLAIN]
    assert Encoder.load(folder).can_trace


@pytest.mark.parametrize("name", [GRAPH, DESCRIPTION])
def test_a_file_is_not_listed_twice(folder, redescribe, name):
    redescribe(folder, auxiliary={name: FileEntry.of(folder / name)})

    with pytest.raises(BundleFormatError, match=f"{name} is listed twice"):
        Bundle.open(folder)


@pytest.mark.parametrize("value", [None, [], "many", {EXPLAIN: None}, {EXPLAIN: {"size": 1}}])
def test_a_list_of_auxiliary_files_is_one(folder, edit, value):
    edit(auxiliary=value)

    with pytest.raises(BundleFormatError):
        Bundle.open(folder)
