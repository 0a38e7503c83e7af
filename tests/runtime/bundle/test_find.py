"""Finding models: the default one, a path, or a hub served from this machine."""

import hashlib
import http.server
import json
import os
import re
import threading
from pathlib import Path

import pytest

from spladelet import Encoder
from spladelet.bundle.description import DESCRIPTION, GRAPH, TOKENIZER, Description, Semantics
from spladelet.bundle.find import find_bundle
from spladelet.errors import BundleFileError, BundleNotFoundError, InputError
from spladelet.files import FileEntry

COMMIT = "c0ffee" * 6 + "c0de"
OLDER = "decade" * 6 + "cafe"

# Loads the model that is named and says what came of it, in one line of JSON.
LOAD = """
import json, sys
from spladelet import Encoder
from spladelet.errors import SpladeletError

try:
    encoder = Encoder.load(sys.argv[1], revision=sys.argv[2] if sys.argv[2:] else None)
except SpladeletError as error:
    told = {"error": type(error).__name__, "message": str(error)}
else:
    terms = encoder.decode(encoder.encode_query("cat"))
    told = {"fingerprint": encoder.fingerprint, "terms": terms}
sys.stdout.write(json.dumps(told))
"""


# The client waits between its attempts, and says so: there are none.
IMPATIENT = """
import time

def refuse(seconds):
    raise AssertionError(f"waited for {seconds} seconds")

time.sleep = refuse
"""


@pytest.mark.parametrize("model", [None, "default"])
def test_the_default_model_is_found(model):
    bundle = find_bundle(model)

    bundle.verify()
    assert bundle.folder.name == "default"


def test_the_default_model_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert find_bundle(None).folder.is_dir()


@pytest.mark.parametrize("as_type", [str, Path])
def test_a_folder_is_opened_whether_str_or_path(copy_bundle, as_type):
    folder = copy_bundle()

    assert find_bundle(as_type(folder)).folder == folder


def test_a_folder_is_found_before_the_hub_is_asked(copy_bundle, tmp_path, monkeypatch):
    (tmp_path / "owner").mkdir()
    copy_bundle("owner/name")
    monkeypatch.chdir(tmp_path)

    assert find_bundle("owner/name").folder.samefile(tmp_path / "owner" / "name")


@pytest.mark.parametrize(
    "model", ["none", "/none/at/all", "./name", "../name", "./owner/name", "a/b/c"]
)
def test_a_missing_path_says_what_may_be_given(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BundleNotFoundError) as caught:
        find_bundle(model)
    assert f"there is no bundle at {model!r}. Give a folder or .zip" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["owner/my--model", "owner/..", "owner/.x", "owner/x.git", "a" * 5000]
)
def test_names_that_can_be_no_model_are_not_found(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BundleNotFoundError):
        find_bundle(name)


@pytest.mark.parametrize("model", ["", 5, b"model", "mod\0el", Path("mod\0el"), ["model"]])
def test_what_names_no_model_is_refused(model):
    with pytest.raises(InputError, match="expected a path, a hub id or None"):
        find_bundle(model)


def test_a_hub_id_without_the_extra_says_what_to_install(run_python):
    refuse = """
    import sys

    class Refuse:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "huggingface_hub":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Refuse())
    from spladelet import Encoder
    from spladelet.errors import MissingDependencyError

    try:
        Encoder.load("owner/name")
    except MissingDependencyError as error:
        sys.stdout.write(str(error))
    """

    assert "pip install 'spladelet[hub]'" in run_python(refuse).stdout


@pytest.mark.parametrize(
    ("there", "named"), [("modle.zip", "model.zip"), ("owner/nmae", "./owner/name")]
)
def test_what_is_called_almost_like_it_is_named(there, named, tmp_path, monkeypatch):
    (tmp_path / there).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BundleNotFoundError, match=f"Did you mean '{there}'"):
        find_bundle(named)


def test_a_loop_of_links_is_a_bundle_error(tmp_path):
    (tmp_path / "loop").symlink_to("loop")

    with pytest.raises(BundleFileError, match=r"loop cannot be read: .*symbolic links"):
        find_bundle(tmp_path / "loop")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="modes mean nothing on Windows")
@pytest.mark.parametrize("name", ["", DESCRIPTION, TOKENIZER, "model.zip"])
def test_what_may_not_be_read_is_a_bundle_error(copy_bundle, overwrite, unprivileged, name):
    folder = copy_bundle("outer")
    if name:  # another file than the model's own
        overwrite(folder / name, b"" if name == "model.zip" else (folder / name).read_bytes())
    (folder / name).chmod(0)
    Encoder.load()  # imports what another user may not read where it is installed
    try:
        with unprivileged(), pytest.raises(BundleFileError, match="Permission denied"):
            Encoder.load(folder / name if name == "model.zip" else folder)
    finally:
        (folder / name).chmod(0o700)


def test_a_pipe_or_a_device_is_no_bundle():
    with pytest.raises(BundleFileError, match="is a device, expected a file"):
        find_bundle(os.devnull)


@pytest.mark.parametrize("model", [None, "default", "."])
def test_only_the_hub_has_revisions(model):
    with pytest.raises(InputError, match=r"revision is 'v2', but .* is no hub id"):
        find_bundle(model, "v2")


@pytest.mark.parametrize("revision", ["", 5, b"main"])
def test_what_is_no_revision_is_refused(revision):
    with pytest.raises(InputError, match="expected a branch, tag or commit"):
        find_bundle("owner/name", revision)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does for files of the repository owner/name."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each body waits 40 ms for its head to be received

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        content = self.answer()
        self.wfile.write(content)

    def answer(self):
        """Send the head of an answer and return its body."""
        file = re.fullmatch(r"/owner/name/resolve/(\w+)/(.+)", self.path)
        if not file:  # another repository, or what newer clients ask for beside files
            return self.refuse("RepoNotFound")
        revision, name = file.groups()
        self.server.requests.append((self.command, name))
        if revision not in {"main", COMMIT, OLDER, "v1"}:
            return self.refuse("RevisionNotFound")
        files = self.server.older if revision in (OLDER, "v1") else self.server.files
        if name not in files:
            return self.refuse("EntryNotFound")
        content = files[name]
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT if files is self.server.files else OLDER)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content

    def refuse(self, code):
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return b""

    def log_message(self, *_):
        pass  # the tests' output is not the place


@pytest.fixture
def hub(bundle_folder):
    """Return a running hub whose `files` are those of the default bundle, to be changed."""
    pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files = {file.name: file.read_bytes() for file in bundle_folder.iterdir()}
    server.older = dict(server.files)
    server.requests = []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def load(run_python, tmp_path):
    """Return a function that loads a model in a new process with a cache of its own."""

    def load(url, *arguments, code=LOAD, **env):
        # The client reads these when it is imported, hence the process.
        settings = {
            "HF_ENDPOINT": url,
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
        }
        result = run_python(code, *(arguments or ["owner/name"]), env=settings | env)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return load


def with_fingerprint(raw):
    """Write a description anew with the fingerprint of what it says."""
    fields = {name: raw[name] for name in ("name", "vocab_size", "query_mode")}
    description = Description(
        **fields,
        query=Semantics(**raw["query"]),
        document=Semantics(**raw["document"]),
        files={name: FileEntry(**entry) for name, entry in raw["files"].items()},
    )
    return description.to_json().encode()


def test_a_hub_id_is_downloaded_once_and_then_found_in_the_cache(encoder, hub, load):
    expected = {
        "fingerprint": encoder.fingerprint,
        "terms": encoder.decode(encoder.encode_query("cat")),
    }

    assert load(hub.url) == expected
    downloaded = [file for command, file in hub.requests if command == "GET"]
    assert sorted(downloaded) == sorted([DESCRIPTION, *encoder.description.all_files])
    hub.requests.clear()
    assert load(hub.url) == expected
    assert "GET" not in dict(hub.requests)
    hub.requests.clear()
    assert load(hub.url, HF_HUB_OFFLINE="1") == expected
    assert hub.requests == []


def test_a_changed_byte_on_the_hub_is_found_when_it_is_downloaded(hub, load):
    content = bytearray(hub.files[TOKENIZER])
    content[content.index(b'"cat"') + 1] ^= 1
    hub.files[TOKENIZER] = bytes(content)

    told = load(hub.url)

    assert told["error"] == "BundleFileError"
    assert f"{TOKENIZER} has sha256" in told["message"]
    # What is in the cache now is not taken as checked.
    assert load(hub.url)["error"] == "BundleFileError"
    assert "error" in load(hub.url, HF_HUB_OFFLINE="1")


def test_a_repository_without_description_is_a_checkpoint_to_export(hub, load):
    del hub.files[DESCRIPTION]

    told = load(hub.url)

    assert told["error"] == "BundleNotFoundError"
    assert "spladelet-export owner/name -o FOLDER" in told["message"]


def test_a_repository_that_lacks_a_listed_file_is_no_bundle(hub, load):
    del hub.files[GRAPH]

    told = load(hub.url)

    assert told["error"] == "BundleNotFoundError"
    assert GRAPH in told["message"]


def test_a_repository_that_does_not_exist_is_not_found(hub, load):
    told = load(hub.url, "owner/other")

    assert told["error"] == "BundleNotFoundError"
    assert "'owner/other' is no folder here" in told["message"]


@pytest.mark.parametrize("name", ["owner/my--model", "owner/name.git"])
def test_a_name_that_the_hub_does_not_allow_is_not_found(hub, load, name):
    assert load(hub.url, name)["error"] == "BundleNotFoundError"
    assert hub.requests == []


def test_a_description_on_the_hub_is_read_as_strictly_as_on_disk(hub, load):
    hub.files[DESCRIPTION] = hub.files[DESCRIPTION].replace(b'"max"', b'"sum"')

    assert load(hub.url)["error"] == "BundleFormatError"


def test_a_file_name_that_leads_out_of_the_cache_is_not_downloaded(hub, load, tmp_path):
    raw = json.loads(hub.files[DESCRIPTION])
    raw["files"]["../../../../evil"] = {"size": 4, "sha256": hashlib.sha256(b"evil").hexdigest()}
    hub.files[DESCRIPTION] = with_fingerprint(raw)
    hub.files["../../../../evil"] = b"evil"

    told = load(hub.url)

    assert told["error"] == "BundleFileError"
    assert "leads out of" in told["message"]
    assert not list(tmp_path.rglob("evil"))


def test_a_description_that_lists_too_much_is_not_downloaded(hub, load):
    raw = json.loads(hub.files[DESCRIPTION])
    raw["files"][GRAPH]["size"] = 1 << 40
    hub.files[DESCRIPTION] = with_fingerprint(raw)

    told = load(hub.url)

    assert told["error"] == "BundleNotFoundError"
    assert "bytes; at most" in told["message"]
    assert set(hub.requests) == {("HEAD", DESCRIPTION), ("GET", DESCRIPTION)}


def test_a_hub_that_cannot_be_reached_is_said_to_be_so(load):
    pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")

    told = load("http://127.0.0.1:1", code=IMPATIENT + LOAD)

    assert told["error"] == "BundleNotFoundError"
    assert "the hub cannot be reached" in told["message"]
    assert "Connection refused" in told["message"]


def test_a_hub_that_cannot_be_reached_is_not_needed_for_what_is_in_the_cache(hub, load):
    expected = load(hub.url)

    assert load("http://127.0.0.1:1", code=IMPATIENT + LOAD) == expected


def test_a_revision_is_loaded_and_no_other(hub, load):
    description = json.loads(hub.files[DESCRIPTION])
    description["query"]["max_length"] = 8
    hub.older[DESCRIPTION] = with_fingerprint(description)

    main, older = load(hub.url), load(hub.url, "owner/name", "v1")

    assert older["fingerprint"] != main["fingerprint"]
    hub.requests.clear()
    assert load(hub.url, "owner/name", OLDER) == older
    assert hub.requests == []  # a commit never changes
    assert load(hub.url, "owner/name", "v1", HF_HUB_OFFLINE="1") == older


def test_a_revision_that_does_not_exist_is_named(hub, load):
    told = load(hub.url, "owner/name", "v3")

    assert told["error"] == "BundleNotFoundError"
    assert "has no revision 'v3'" in told["message"]


def test_a_mistyped_path_that_looks_like_a_hub_id_names_what_is_there(hub, load, tmp_path):
    (tmp_path / "owner" / "nmae").mkdir(parents=True)
    elsewhere = f"import os; os.chdir({str(tmp_path)!r})\n"

    told = load("http://127.0.0.1:1", code=elsewhere + IMPATIENT + LOAD)

    assert "Did you mean 'owner/nmae'?" in told["message"]
