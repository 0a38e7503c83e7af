"""The bundle: a damaged, edited or hostile one is refused, and the message names what is wrong."""

import json
import shutil
import zipfile
from dataclasses import replace

import pytest

from spladelet import Encoder
from spladelet.bundle import (
    CARD,
    DESCRIPTION,
    GRAPH,
    GRAPH_DATA,
    TOKENIZER,
    Bundle,
    Description,
    FileEntry,
)
from spladelet.errors import (
    BundleFileError,
    BundleFormatError,
    BundleGraphError,
    BundleNotFoundError,
)

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


def pack(folder, archive, top="", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(archive, "w", compression) as packed:
        for file in folder.iterdir():
            packed.write(file, top + file.name)
    return archive


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
    "text", [b"", b"{", b"[]", b"null", b"5", b"{}", b"\xff\xfe", b'{"format": "spladelet-bundle"}']
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
    ],
)
def test_values_this_runtime_does_not_know_are_refused(folder, edit, field, value):
    edit(**{field: value})

    with pytest.raises(BundleFormatError):
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
    "name", ["../x", "a/../../x", "/etc/passwd", "a\\b", "C:x", "", "a//b", "./a", "a\0b"]
)
def test_names_that_lead_out_of_the_folder_are_refused(folder, redescribe, name):
    files = Bundle.open(folder).description.files
    (folder.parent / "x").write_bytes(b"")
    redescribe(folder, files={**files, name: FileEntry(0, "0" * 64)})

    with pytest.raises(BundleFileError, match="leads out of"):
        Bundle.open(folder)


def test_names_that_lead_elsewhere_inside_the_root_of_links_are_refused(folder, redescribe):
    # The hub's cache is such a root, and holds other models too.
    files = Bundle.open(folder).description.files
    other = folder.parent / "other"
    other.write_bytes(b"")
    for name in ("../other", str(other)):
        redescribe(folder, files={**files, name: FileEntry.of(other)})

        with pytest.raises(BundleFileError, match="leads out of"):
            Bundle.open(folder, root=folder.parent)


def test_a_link_that_leads_out_of_the_folder_is_refused(folder, tmp_path):
    shutil.copyfile(folder / TOKENIZER, tmp_path / "elsewhere.json")
    (folder / TOKENIZER).unlink()
    (folder / TOKENIZER).symlink_to(tmp_path / "elsewhere.json")

    with pytest.raises(BundleFileError, match="leads out of"):
        Bundle.open(folder)


def test_a_link_inside_the_folder_is_followed(folder):
    (folder / TOKENIZER).rename(folder / "blob")
    (folder / TOKENIZER).symlink_to("blob")

    bundle = Bundle.open(folder)
    bundle.verify()
    assert (bundle.folder / TOKENIZER).read_bytes() == (folder / "blob").read_bytes()


@pytest.mark.parametrize("top", ["", "my-model/"])
def test_a_zip_encodes_as_its_folder_does(encoder, bundle_folder, tmp_path, top):
    archive = pack(bundle_folder, tmp_path / "model.zip", top)

    zipped = Encoder.load(archive)

    assert zipped.fingerprint == encoder.fingerprint
    assert zipped.encode_document(TEXT) == encoder.encode_document(TEXT)


def test_a_zip_is_unpacked_to_a_folder_that_goes_with_the_bundle(bundle_folder, tmp_path):
    bundle = Bundle.open(pack(bundle_folder, tmp_path / "model.zip"))
    unpacked = bundle.folder
    assert (unpacked / GRAPH).is_file()

    del bundle

    assert not unpacked.exists()


@pytest.fixture
def unpacks_to(tmp_path, monkeypatch):
    """Return the folder that archives unpack into during the test."""
    place = tmp_path / "unpacks-to"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    return place


def test_a_truncated_zip_is_refused_and_leaves_nothing(folder, tmp_path, unpacks_to):
    archive = pack(folder, tmp_path / "model.zip")
    archive.write_bytes(archive.read_bytes()[:-1000])

    with pytest.raises(BundleFileError, match="damaged"):
        Bundle.open(archive)
    assert list(unpacks_to.iterdir()) == []


def test_a_changed_byte_in_a_zip_is_refused_and_leaves_nothing(folder, tmp_path, unpacks_to):
    archive = pack(folder, tmp_path / "model.zip")
    content = bytearray(archive.read_bytes())
    content[content.index((folder / TOKENIZER).read_bytes()[:1000]) + 500] ^= 1
    archive.write_bytes(bytes(content))

    with pytest.raises(BundleFileError, match=f"damaged.*{TOKENIZER}"):
        Bundle.open(archive)
    assert list(unpacks_to.iterdir()) == []


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_compressed_zip_that_is_damaged_is_refused(folder, tmp_path, compression, unpacks_to):
    (folder / GRAPH_DATA).unlink(missing_ok=True)  # comes after the damage, and takes long
    archive = pack(folder, tmp_path / "model.zip", compression=compression)
    content = bytearray(archive.read_bytes())
    place = content.index(TOKENIZER.encode()) + 5000
    content[place : place + 50] = bytes(byte ^ 0xFF for byte in content[place : place + 50])
    archive.write_bytes(bytes(content))

    with pytest.raises(BundleFileError):
        Bundle.open(archive)
    assert list(unpacks_to.iterdir()) == []


def test_an_encrypted_zip_is_refused(folder, tmp_path):
    archive = pack(folder, tmp_path / "model.zip")
    content = archive.read_bytes()
    for head, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        parts = content.split(head)
        offset = flags - len(head)
        content = head.join(
            [parts[0], *(p[:offset] + bytes([p[offset] | 1]) + p[offset + 1 :] for p in parts[1:])]
        )
    archive.write_bytes(content)

    with pytest.raises(BundleFileError, match="encrypted"):
        Bundle.open(archive)


FORK = """
import os, sys
from spladelet import Encoder

encoder = Encoder.load(sys.argv[1])
child = os.fork()
if child == 0:
    sys.exit()  # as a server's worker ends, exit handlers included
assert os.waitpid(child, 0)[1] == 0
encoder.encode_query("cat")
"""


def test_the_end_of_a_forked_child_leaves_its_parents_unpacked_zip(
    bundle_folder, tmp_path, run_python
):
    result = run_python(FORK, pack(bundle_folder, tmp_path / "model.zip"))

    assert result.returncode == 0, result.stderr


def test_a_zip_whose_file_has_another_size_than_listed_is_refused(folder, tmp_path, overwrite):
    overwrite(folder / TOKENIZER, b"{}")

    with pytest.raises(BundleFileError, match=f"{TOKENIZER} has 2 bytes, expected"):
        Bundle.open(pack(folder, tmp_path / "model.zip"))


def test_a_zip_that_lacks_a_file_is_refused(folder, tmp_path):
    (folder / GRAPH).unlink()

    with pytest.raises(BundleFileError, match=f"{GRAPH} is missing"):
        Bundle.open(pack(folder, tmp_path / "model.zip"))


def test_a_zip_without_description_is_no_bundle(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as packed:
        packed.writestr("notes.txt", "hello")

    with pytest.raises(BundleNotFoundError, match="it is not a bundle"):
        Bundle.open(tmp_path / "other.zip")


def test_a_zip_writes_nothing_outside_its_folder(folder, redescribe, tmp_path, unpacks_to):
    (folder / "evil").write_bytes(b"evil")
    files = Bundle.open(folder).description.files
    redescribe(folder, files={**files, "../evil": FileEntry.of(folder / "evil")})
    archive = tmp_path / "model.zip"
    with zipfile.ZipFile(pack(folder, archive), "a") as packed:
        packed.writestr("../evil", b"evil")

    with pytest.raises(BundleFileError, match="leads out of"):
        Bundle.open(archive)
    assert list(unpacks_to.iterdir()) == []


def test_a_file_that_is_no_zip_is_no_bundle(bundle_folder):
    with pytest.raises(BundleFileError, match=r"is no \.zip"):
        Bundle.open(bundle_folder / TOKENIZER)


def test_a_graph_of_another_width_is_refused_at_the_first_text(folder, redescribe):
    redescribe(folder, vocab_size=10)
    encoder = Encoder.load(folder)

    with pytest.raises(BundleGraphError, match=r"expected .*10"):
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
