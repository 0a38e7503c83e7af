"""Faults that were found by trying to break the runtime; each failed once."""

import errno
import io
import json
import os
import pickle
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from spladelet import Document, Encoder, Index, SparseVector, SparseVectors, read_documents
from spladelet.bundle.description import TOKENIZER
from spladelet.bundle.folder import Bundle
from spladelet.cli import display
from spladelet.cli.main import main
from spladelet.encoder.encoder import TruncationWarning
from spladelet.encoder.tokenizer import Tokenizer
from spladelet.errors import (
    BundleFileError,
    BundleFormatError,
    BundleGraphError,
    BundleNotFoundError,
    IndexFormatError,
    IndexWriteError,
    ModelMismatchError,
    RecordError,
    VectorError,
)
from spladelet.files import FileEntry
from spladelet.index.segment_files import verify_index

# ---- session: fork

FORK = """
import os, sys, threading, time
from spladelet import Encoder
encoder = Encoder.load(threads=2)
before = encoder.encode_query("the cat purrs")
child = os.fork()
if child == 0:
    os._exit(0 if encoder.encode_query("the cat purrs") == before else 3)
end = time.monotonic() + 30
while True:
    done, status = os.waitpid(child, os.WNOHANG)
    if done: sys.exit(status)
    if time.monotonic() > end:
        os.kill(child, 9); os.waitpid(child, 0); sys.exit("the child hangs")
    time.sleep(0.05)
"""


def test_a_forked_child_encodes_as_its_parent_did(run_python):
    result = run_python(FORK)
    assert result.returncode == 0, result.stderr


POOL = """
import multiprocessing as mp
from spladelet import Encoder
encoder = Encoder.load(); encoder.encode_query("x")
def work(text): return encoder.encode_query(text).active_dims
with mp.get_context("fork").Pool(2) as pool:
    assert min(pool.map_async(work, ["cat", "snow"]).get(timeout=40)) > 0
"""


def test_a_pool_of_forked_workers_encodes(run_python):
    result = run_python(POOL)
    assert result.returncode == 0, result.stderr[-300:]


ZIP_FORK = """
import os, sys
from spladelet import Encoder
encoder = Encoder.load(sys.argv[1])
child = os.fork()
if child == 0:
    sys.exit(0)          # runs the finalizers, as an embedding server's worker does
os.waitpid(child, 0)
encoder.encode_query("cat")
"""


def test_a_childs_end_does_not_remove_its_parents_unpacked_zip(bundle_folder, tmp_path, run_python):
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as packed:
        for file in bundle_folder.iterdir():
            packed.write(file, file.name)
    result = run_python(ZIP_FORK, tmp_path / "m.zip")
    assert result.returncode == 0, result.stderr[-300:]


# ---- session, encoder


def test_a_relative_bundle_survives_a_change_of_folder(bundle_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(bundle_folder.parent)
    encoder = Encoder.load(bundle_folder.name if bundle_folder.name != "default" else "./default")
    monkeypatch.chdir(tmp_path)
    assert encoder.encode_query("cat") == Encoder.load(bundle_folder).encode_query("cat")


def test_a_length_limit_beyond_the_graphs_is_a_bundle_error(copy_bundle, redescribe, encoder):
    folder = copy_bundle()
    redescribe(folder, document=replace(encoder.description.document, max_length=5000))
    with pytest.raises(BundleGraphError):
        Encoder.load(folder).encode_document("cat " * 4000)


def test_the_warning_of_one_query_names_the_callers_line(encoder):
    with pytest.warns(TruncationWarning) as caught:
        encoder.encode_query("cat " * 600)
    assert caught[0].filename == __file__


def test_documents_encode_without_standard_error(run_python):
    result = run_python(
        "import sys; sys.stderr = None\nfrom spladelet import Encoder\n"
        "Encoder.load().encode_documents(['cat']); sys.stdout.write('ok')"
    )
    assert result.stdout == "ok"


# ---- tokenizer, explain


@pytest.fixture(scope="session")
def short(bundle_folder):
    return Tokenizer(bundle_folder / TOKENIZER, max_length=6)


def plain(bundle_folder, text, length):
    loaded = tokenizers.Tokenizer.from_file(str(bundle_folder / TOKENIZER))
    loaded.no_padding()
    loaded.enable_truncation(length)
    encoding = loaded.encode(text)
    return encoding.ids, bool(encoding.overflowing)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 200,
        "x x x " + "a" * 300,
        "(" + "b" * 150 + ")" + "c" * 99,
        "one two three " + "unbelie\x1cvable" * 9,
    ],
)
def test_a_long_word_at_the_limit_is_cut_as_the_library_does(short, bundle_folder, text):
    got = short.tokenize([text])[0]
    assert (got.ids, got.truncated) == plain(bundle_folder, text, 6)


@given(
    st.lists(
        st.text(min_size=1, max_size=120) | st.sampled_from(["a" * 101, "un,", "\x0b", " "]),
        max_size=9,
    )
)
def test_any_text_is_cut_as_the_library_does(short, bundle_folder, parts):
    text = "".join(parts)
    got = short.tokenize([text])[0]
    assert (got.ids, got.truncated) == plain(
        bundle_folder, text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), 6
    )


def test_word_pieces_go_as_far_as_the_model_reads(encoder):
    document = "international " * 320 + "kitten"
    assert encoder.document_words(document)[-1][0] == "kitten"
    (term,) = [t for t in encoder.explain("kitten", document).terms if t.term == "kitten"]
    assert term.in_document


# ---- vector


@pytest.mark.parametrize(
    "ids", [[1.7], np.array([np.nan]), np.array([1e30]), ["1"], np.array([1j])]
)
def test_term_ids_that_are_no_whole_numbers_are_refused(ids):
    with pytest.raises(VectorError):
        SparseVector(ids, [1.0], 10)


def test_a_term_id_beyond_int32_does_not_wrap():
    with pytest.raises(VectorError):
        SparseVector([2**31 + 5], [1.0], 2**40)


def test_complex_weights_are_refused():
    with pytest.raises(VectorError):
        SparseVector([1], np.array([1 + 2j]), 10)


def test_from_csr_refuses_1e300_without_a_warning():
    with pytest.raises(VectorError):
        SparseVectors.from_csr(csr_array(np.array([[1e300]])))


def test_from_csr_does_not_wrap_wide_matrices():
    wide = csr_array((np.array([1.0]), np.array([2**33]), np.array([0, 1])), shape=(1, 2**34))
    with pytest.raises(VectorError):
        SparseVectors.from_csr(wide)


def test_vectors_of_two_models_do_not_meet_in_a_matrix_of_none():
    rows = [SparseVector([1], [1.0], 10, model) for model in ("a", "b")]
    with pytest.raises(ModelMismatchError):
        SparseVectors.from_rows(rows, 10)


def test_a_matrix_of_rows_of_one_model_knows_it():
    assert SparseVectors.from_rows([SparseVector([1], [1.0], 10, "a")], 10).model == "a"


@pytest.mark.parametrize("copy", [lambda v: pickle.loads(pickle.dumps(v))])
def test_a_pickled_vector_is_immutable_too(copy):
    one = SparseVector([1], [1.0], 10)
    assert not copy(one).weights.flags.writeable
    assert not copy(SparseVectors.from_rows([one], 10)).weights.flags.writeable


def test_products_too_large_for_float32_do_not_warn():
    heavy = SparseVector([1], [3e38], 10)
    assert heavy.dot(heavy) > 1e38
    assert heavy.prune(min_weight=1e300).active_dims == 0


# ---- documents


def test_a_byte_order_mark_on_standard_input_is_taken():
    assert list(read_documents(io.StringIO('\ufeff{"id": "a", "text": "b"}'))) == [
        Document("a", "b")
    ]


def test_json_nested_too_deep_is_no_document():
    with pytest.raises(RecordError):
        list(read_documents(io.StringIO('{"text": "a"}\n{"text": ' + "[" * 100_000)))


# ---- bundle


@pytest.fixture
def archive(copy_bundle, tmp_path):
    def pack(kind):
        with zipfile.ZipFile(tmp_path / "m.zip", "w", kind) as packed:
            for file in copy_bundle().iterdir():
                packed.write(file, file.name)
        return tmp_path / "m.zip"

    return pack


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_compressed_zip_is_a_bundle_error(archive, kind):
    path = archive(kind)
    content = bytearray(path.read_bytes())
    place = content.index(b"tokenizer.json") + 5000
    content[place : place + 50] = bytes(b ^ 0xFF for b in content[place : place + 50])
    path.write_bytes(content)
    with pytest.raises(BundleFileError):
        Bundle.open(path)


def test_an_encrypted_zip_is_a_bundle_error(archive):
    path = archive(zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    for mark, flag in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(mark)
        while place >= 0:
            content[place + flag] |= 1
            place = content.find(mark, place + 4)
    path.write_bytes(content)
    with pytest.raises(BundleFileError):
        Bundle.open(path)


def test_a_description_nested_too_deep_is_malformed(copy_bundle, overwrite):
    folder = copy_bundle()
    overwrite(folder / "spladelet.json", b"[" * 200_000)
    with pytest.raises(BundleFormatError):
        Bundle.open(folder)


def edit(folder, overwrite, **fields):
    raw = json.loads((folder / "spladelet.json").read_text())
    overwrite(folder / "spladelet.json", json.dumps(raw | fields).encode())


@pytest.mark.parametrize("field", ["source", "quantization", "fidelity", "exporter"])
@pytest.mark.parametrize("value", [None, "abc"])
def test_what_is_told_of_a_model_must_be_objects(copy_bundle, overwrite, field, value):
    folder = copy_bundle()
    edit(folder, overwrite, **{field: value})
    assert main(["info", str(folder)]) == 1


@pytest.mark.parametrize("entry", [FileEntry, None])
@pytest.mark.parametrize(("size", "sha256"), [("x", "0" * 64), (711494, 5), (-1, "0" * 64)])
def test_sizes_and_hashes_have_types(copy_bundle, overwrite, redescribe, size, sha256, entry):
    folder = copy_bundle()
    raw = json.loads((folder / "spladelet.json").read_text())
    raw["files"][TOKENIZER] = {"size": size, "sha256": sha256}
    overwrite(folder / "spladelet.json", json.dumps(raw).encode())
    with pytest.raises(BundleFormatError, match=r"size|sha256"):
        Bundle.open(folder)


@pytest.mark.parametrize("name", ["a" * 300, "a\ud800"])
def test_file_names_that_cannot_be_are_refused(copy_bundle, overwrite, name):
    folder = copy_bundle()
    description = Bundle.open(folder).description
    changed = replace(description, files={**description.files, name: FileEntry(0, "0" * 64)})
    overwrite(folder / "spladelet.json", json.dumps(json.loads(changed.to_json())).encode())
    with pytest.raises(BundleFileError):
        Bundle.open(folder)


def test_a_loop_of_links_is_refused(copy_bundle, redescribe):
    folder = copy_bundle()
    files = Bundle.open(folder).description.files
    (folder / "loop").symlink_to("loop")
    redescribe(folder, files={**files, "loop": FileEntry(0, "0" * 64)})
    with pytest.raises(BundleFileError):
        Bundle.open(folder)


# ---- models


@pytest.mark.parametrize(
    "name", ["owner/my--model", "owner/..", "owner/.x", "owner/x.git", "a" * 5000]
)
def test_names_that_can_be_no_model_are_a_bundle_error(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleNotFoundError):
        Encoder.load(name)


# ---- store


def toy(text):
    rows = SparseVectors.from_rows([SparseVector([1], [1.0], 5)], 5)
    return Index.build(rows, [Document(text, text)])


def test_two_writers_leave_a_complete_index(tmp_path):
    toy("0").save(tmp_path / "i")
    for _ in range(20):
        start = threading.Barrier(2)
        failed = []

        def work(text, start=start, failed=failed):
            start.wait()
            try:
                toy(text).save(tmp_path / "i")
            except IndexWriteError as error:
                failed.append(error)

        writers = [threading.Thread(target=work, args=(text,)) for text in "ab"]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert len(failed) < 2
        verify_index(tmp_path / "i")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")])
def test_an_interrupt_in_the_last_fsync_leaves_a_complete_index(tmp_path, monkeypatch, error):
    toy("old").save(tmp_path / "i")
    calls = []
    real = os.fsync

    def fsync(handle):
        calls.append(handle)
        if len(calls) == 8:  # 5 files, the segment, the manifest; then the folder
            raise error
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises((KeyboardInterrupt, IndexWriteError)):
        toy("new").save(tmp_path / "i")
    assert len(calls) == 8
    verify_index(tmp_path / "i")


def test_a_failed_save_removes_the_folders_above_too(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(IndexWriteError, match="Nothing was left behind"):
        toy("new").save(tmp_path / "a" / "b" / "c")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("head", [b"PK\x03\x04", b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', ("])
def test_garbage_that_numpy_takes_for_something_is_no_array(tmp_path, head):
    toy("x").save(tmp_path / "i")
    (file,) = tmp_path.rglob("impacts.npy")
    file.write_bytes(head + file.read_bytes()[len(head) :])
    with pytest.raises(IndexFormatError):
        Index.open(tmp_path / "i")


# ---- command


@pytest.fixture
def run(run_python):
    show = "import sys; from spladelet.cli.main import main; sys.exit(main(sys.argv[1:]))"
    return lambda *a, **env: run_python(show, *a, env=env)


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "d.jsonl").write_text(
        '{"id": "s", "text": "caf\\u00e9 \\u2603 a broken \\ud83d emoji in snow"}\n'
    )
    return tmp_path / "d.jsonl"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_any_text_is_printed_on_any_terminal(run, corpus, encoding, form):
    result = run("search", *form, corpus, "snow", PYTHONIOENCODING=encoding)
    assert (result.returncode, result.stderr) == (0, "")
    if form:
        assert json.loads(result.stdout)[0]["text"].startswith("café ☃")


def test_many_terms_are_drawn_on_an_ascii_terminal(run):
    result = run("encode", "--top", "2", "the cat sat", PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("top", ["0", "-1"])
@pytest.mark.parametrize("command", [["encode", "cat"], ["explain", "cat", "cat"]])
def test_fewer_terms_than_one_are_wrong_usage(capsys, command, top):
    try:
        status = main([*command, "--top", top])
    except SystemExit as exited:
        status = exited.code
    assert status in (1, 2)


def test_text_without_spaces_is_shown_cut():
    assert display.snippet("", "雪が降ると寒い" * 30, 60).startswith("雪が降ると寒い雪が")


def test_a_full_disk_behind_standard_output_is_one_sentence():
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "spladelet.cli", "encode", "cat"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
