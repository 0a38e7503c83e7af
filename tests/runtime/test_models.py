"""Finding models: the default one, a path, or a hub served from this machine."""

import hashlib
import http.server
import json
import re
import threading
from pathlib import Path

import pytest

from spladelet.bundle import (
    DESCRIPTION,
    GRAPH,
    TOKENIZER,
    Description,
    FileEntry,
    Semantics,
)
from spladelet.errors import BundleNotFoundError, InputError
from spladelet.models import find_bundle

COMMIT = "c0ffee" * 6 + "c0de"

# Loads the model that is named and says what came of it, in one line of JSON.
LOAD = """
import json, sys
from spladelet import Encoder
from spladelet.errors import SpladeletError

try:
    encoder = Encoder.load(sys.argv[1])
except SpladeletError as error:
    told = {"error": type(error).__name__, "message": str(error)}
else:
    terms = encoder.decode(encoder.encode_query("cat"))
    told = {"fingerprint": encoder.fingerprint, "terms": terms}
sys.stdout.write(json.dumps(told))
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


@pytest.mark.parametrize("model", ["", 5, b"model"])
def test_what_names_no_model_is_refused(model):
    with pytest.raises(InputError, match="expected a path, a hub id or None"):
        find_bundle(model)


def test_a_hub_id_without_the_extra_says_what_to_install(run_python):
    refuse = """
    import sys

    class Refuse:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "huggingface_hub":
                raise ModuleNotFoundError(name)

    sys.meta_path.insert(0, Refuse())
    from spladelet import Encoder
    from spladelet.errors import MissingDependencyError

    try:
        Encoder.load("owner/name")
    except MissingDependencyError as error:
        sys.stdout.write(str(error))
    """

    assert "pip install 'spladelet[hub]'" in run_python(refuse).stdout


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does for files of the repository owner/name."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        content = self.answer()
        self.wfile.write(content)

    def answer(self):
        """Send the head of an answer and return its body."""
        file = re.fullmatch(r"/owner/name/resolve/\w+/(.+)", self.path)
        if not file:  # another repository, or what newer clients ask for beside files
            return self.refuse("RepoNotFound")
        self.server.requests.append((self.command, file[1]))
        if file[1] not in self.server.files:
            return self.refuse("EntryNotFound")
        content = self.server.files[file[1]]
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
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

    def load(url, model="owner/name", code=LOAD, **env):
        # The client reads these when it is imported, hence the process.
        settings = {
            "HF_ENDPOINT": url,
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
        }
        result = run_python(code, model, env=settings | env)
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
    assert sorted(downloaded) == sorted([DESCRIPTION, *encoder.description.files])
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
    assert hub.requests == [("HEAD", DESCRIPTION), ("GET", DESCRIPTION)]


def test_a_hub_that_cannot_be_reached_is_said_to_be_so(load):
    pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    # The client waits between its attempts; only the waiting is left out.
    impatient = "import time; time.sleep = lambda seconds: None\n" + LOAD

    told = load("http://127.0.0.1:1", code=impatient)

    assert told["error"] == "BundleNotFoundError"
    assert "the hub cannot be reached" in told["message"]
