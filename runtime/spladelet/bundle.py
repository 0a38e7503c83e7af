"""The bundle: the contract between export and runtime.

A bundle is a folder, or a .zip of one, that is complete by itself:

    spladelet.json      the description: semantics, provenance, fidelity, size and hash of each file
    model.onnx          int64 input_ids, attention_mask [batch, length], padded at the end ->
                        float32 weights [batch, vocab_size]; its tensors are in model.onnx.data
    tokenizer.json      truncation and padding are set by the runtime, never by the file
    README.md           the model card
    query/model.onnx, query/model.onnx.data, query/tokenizer.json
                        the same for queries, where they have an encoder, or only a tokenizer, of
                        their own
    query_weights.npy   float32[vocab_size], where queries are weighed by a table

Reading is strict about what the description says and cheap about what the disk holds: sizes are
checked at every load, hashes by `Bundle.verify`. Does not load the graph: see `session`.
"""

import hashlib
import json
import os
import shutil
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

from spladelet.errors import (
    BundleFileError,
    BundleFormatError,
    BundleNotFoundError,
)

DESCRIPTION = "spladelet.json"
FORMAT = "spladelet-bundle"
FORMAT_VERSION = 1
GRAPH = "model.onnx"
GRAPH_DATA = "model.onnx.data"
TOKENIZER = "tokenizer.json"
CARD = "README.md"
QUERY_GRAPH = f"query/{GRAPH}"
QUERY_GRAPH_DATA = f"query/{GRAPH_DATA}"
QUERY_TOKENIZER = f"query/{TOKENIZER}"
QUERY_WEIGHTS = "query_weights.npy"

MAX_DESCRIPTION_BYTES = 4 << 20
MAX_BYTES = 16 << 30  # of a bundle that is unpacked or downloaded
_CHUNK = 1 << 20

POOLINGS = ("max", "sum")
ACTIVATIONS = ("log1p", "log1p_log1p")
TOKEN_RULES = ("keep", "zero_dims")
# How queries get their weights, and the files that it takes:
#   same      by the documents' graph
#   separate  by a graph of their own
#   idf       by a table: each of a query's own tokens has its weight, however often it occurs
#   bow       each of a query's own tokens has weight 1 ("bag of words")
#   lexical   by the documents' graph, for a query's own tokens only, times their weight in a table
QUERY_MODES: dict[str, tuple[str, ...]] = {
    "same": (),
    "separate": (QUERY_GRAPH, QUERY_TOKENIZER),
    "idf": (QUERY_WEIGHTS,),
    "bow": (),
    "lexical": (QUERY_WEIGHTS,),
}


@dataclass(frozen=True, slots=True)
class Semantics:
    """How one side, queries or documents, is encoded.

    Attributes:
        pooling: How the positions of a text become one value a term: "max" or "sum".
        activation: From logit to weight: "log1p" is log(1 + relu(x)), "log1p_log1p" is that
            under another log(1 + x).
        special_tokens: Terms such as [CLS]: "keep" their weights, or "zero_dims" to drop them.
        unknown_token: The same for [UNK].
        max_length: How many tokens of a text are read, special tokens counted.
        prompt: Put before every text.
    """

    pooling: str = "max"
    activation: str = "log1p"
    special_tokens: str = "keep"
    unknown_token: str = "keep"
    max_length: int = 512
    prompt: str = ""

    def __post_init__(self) -> None:
        _expect("pooling", self.pooling, POOLINGS)
        _expect("activation", self.activation, ACTIVATIONS)
        _expect("special_tokens", self.special_tokens, TOKEN_RULES)
        _expect("unknown_token", self.unknown_token, TOKEN_RULES)
        if type(self.max_length) is not int or self.max_length < 3:
            raise BundleFormatError(
                f"max_length is {self.max_length!r}; expected a whole number of tokens, 3 or more."
            )
        if not isinstance(self.prompt, str):
            raise BundleFormatError(f"prompt is {self.prompt!r}; expected a text.")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size in bytes and sha256 (hex) of one file of a bundle or an index."""

    size: int
    sha256: str

    def __post_init__(self) -> None:
        if type(self.size) is not int or self.size < 0 or not isinstance(self.sha256, str):
            raise ValueError(f"size {self.size!r} and sha256 {self.sha256!r:.80} of a file")

    @classmethod
    def of(cls, path: Path) -> "FileEntry":
        """Measure a file on disk."""
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        return cls(path.stat().st_size, digest.hexdigest())


@dataclass(frozen=True, slots=True)
class Description:
    """What `spladelet.json` holds.

    Attributes:
        name: What people call the model.
        vocab_size: Width of the graph's output.
        query: Semantics of queries.
        document: Semantics of documents.
        files: Name (with forward slashes, inside the folder) to size and hash.
        query_mode: How queries get their weights; see `QUERY_MODES`.
        source: Where the weights come from: checkpoint, revision, license; and the language that
            the model was trained on, if it is one.
        quantization: How weights are stored.
        fidelity: How far the graph is from its torch reference, as measured at export.
        exporter: Versions of what made the bundle.
    """

    name: str
    vocab_size: int
    query: Semantics
    document: Semantics
    files: Mapping[str, FileEntry]
    query_mode: str = "same"
    source: Mapping[str, Any] = field(default_factory=dict)
    quantization: Mapping[str, Any] = field(default_factory=dict)
    fidelity: Mapping[str, Any] = field(default_factory=dict)
    exporter: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Identity of the vectors this model makes: sha256 over graph, tokenizer and semantics."""
        parts = {
            "vocab_size": self.vocab_size,
            "query_mode": self.query_mode,
            "query": asdict(self.query),
            "document": asdict(self.document),
            "files": {
                name: entry.sha256 for name, entry in self.files.items() if not name.endswith(".md")
            },
        }
        canonical = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def is_int8(self) -> bool:
        """Whether the graph multiplies in int8."""
        return self.quantization.get("weights") == "int8"

    def to_json(self) -> str:
        """Write the description as the text of `spladelet.json`."""
        head = {"format": FORMAT, "format_version": FORMAT_VERSION, "fingerprint": self.fingerprint}
        return json.dumps(head | asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "Description":
        """Read the text of `spladelet.json`.

        Args:
            text: The file's content.
            where: The file's place, for error messages.

        Raises:
            BundleFormatError: It is no JSON, of an unknown version, a field is missing or of the
                wrong kind, or the fingerprint does not fit the rest.
        """
        try:
            raw = json.loads(text)
            if raw["format"] != FORMAT or raw["format_version"] != FORMAT_VERSION:
                raise BundleFormatError(
                    f"{where} has format {raw['format']!r} version {raw['format_version']!r}; this "
                    f"runtime reads {FORMAT!r} version {FORMAT_VERSION}. Upgrade with `pip install "
                    "-U spladelet`, or export the model again with this version."
                )
            description = cls._from_fields(raw)
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise BundleFormatError(
                f"{where} is not a well-formed description ({type(error).__name__}: {error}). "
                "Copy or export the bundle again."
            ) from error
        if raw.get("fingerprint") != description.fingerprint:
            raise BundleFormatError(
                f"{where} states fingerprint {str(raw.get('fingerprint'))[:12]} but its content "
                f"gives {description.fingerprint[:12]}: it was edited or damaged. Copy or export "
                "the bundle again."
            )
        return description

    @classmethod
    def _from_fields(cls, raw: Mapping[str, Any]) -> "Description":
        known = {f.name: raw[f.name] for f in fields(cls) if f.name in raw}
        known["query"] = Semantics(**raw["query"])
        known["document"] = Semantics(**raw["document"])
        known["files"] = {name: FileEntry(**entry) for name, entry in raw["files"].items()}
        _expect("query_mode", raw["query_mode"], QUERY_MODES)
        for name in ("source", "quantization", "fidelity", "exporter"):
            if not isinstance(raw.get(name, {}), dict):
                raise BundleFormatError(f"{name} is {raw[name]!r:.40}; expected an object.")
        description = cls(**known)
        if type(description.vocab_size) is not int or description.vocab_size < 1:
            raise BundleFormatError(
                f"vocab_size is {description.vocab_size!r}; expected a whole number above 0."
            )
        for name in (GRAPH, TOKENIZER, *QUERY_MODES[description.query_mode]):
            if name not in description.files:
                raise BundleFormatError(f"the list of files lacks {name}.")
        return description


class Bundle:
    """A bundle on disk, opened and checked.

    Args:
        folder: The folder that holds `spladelet.json`.
        description: Its content.
        root: Links inside the folder may lead no further than here; None means the folder itself.
    """

    def __init__(self, folder: Path, description: Description, root: Path | None = None) -> None:
        self.folder = folder.absolute()  # the graph is loaded later, perhaps from elsewhere
        self.description = description
        self._root = self.folder if root is None else root.absolute()

    @classmethod
    def open(cls, path: str | os.PathLike[str], root: Path | None = None) -> "Bundle":
        """Open a folder or .zip and check the description and the size of every file.

        Args:
            path: The folder or .zip.
            root: See the class.

        Raises:
            BundleNotFoundError: There is no bundle at `path`.
            BundleFormatError: The description is of an unknown version or not well-formed.
            BundleFileError: A file is missing, of the wrong size, or outside the folder.
        """
        place = Path(path)
        if place.is_file():
            return cls._open_zip(place)
        description = cls._read_description(place / DESCRIPTION)
        bundle = cls(place, description, root)
        for name, entry in description.files.items():
            bundle._check_size(name, entry)
        return bundle

    @classmethod
    def _read_description(cls, file: Path) -> Description:
        if not file.is_file():
            raise BundleNotFoundError(
                f"{file.parent} holds no {DESCRIPTION}, so it is not a bundle. Export a checkpoint "
                "to one with `spladelet-export CHECKPOINT -o FOLDER`."
            )
        _check_description_size(str(file), file.stat().st_size)
        return Description.from_json(file.read_bytes(), str(file))

    @classmethod
    def _open_zip(cls, archive: Path) -> "Bundle":
        """Unpack what the description lists, and nothing else, to a folder that goes with us."""
        target = Path(tempfile.mkdtemp(prefix="spladelet-"))
        try:
            with zipfile.ZipFile(archive) as packed:
                description = _unpack(packed, archive, target)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            shutil.rmtree(target, ignore_errors=True)
            raise BundleFileError(
                f"{archive} is no .zip, or damaged ({error}). Copy or download it again, or pass "
                "the bundle's folder."
            ) from error
        except OSError as error:
            shutil.rmtree(target, ignore_errors=True)
            raise BundleFileError(
                f"{archive} cannot be unpacked: {error.strerror or error}. Unpack it yourself and "
                "pass the folder."
            ) from error
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
        bundle = cls(target, description)
        weakref.finalize(bundle, _discard, target, os.getpid())
        return bundle

    @property
    def fingerprint(self) -> str:
        """See `Description.fingerprint`."""
        return self.description.fingerprint

    def path(self, name: str) -> Path:
        """Return where a listed file lies.

        Raises:
            BundleFileError: The name leads out of the folder.
        """
        return inside(self.folder, name, self._root)

    def verify(self) -> None:
        """Read every file and compare its sha256 with the description.

        Raises:
            BundleFileError: A file differs; the message names it.
        """
        for name, entry in self.description.files.items():
            self._check_size(name, entry)
            found = FileEntry.of(self.path(name))
            if found.sha256 != entry.sha256:
                raise BundleFileError(
                    f"{self.path(name)} has sha256 {found.sha256[:12]}…, expected "
                    f"{entry.sha256[:12]}…: it was changed or damaged. Copy or export it again."
                )

    def _check_size(self, name: str, entry: FileEntry) -> None:
        path = self.path(name)
        if not path.is_file():
            raise BundleFileError(
                f"{path} is missing; {DESCRIPTION} lists it. Copy or export the bundle again."
            )
        if (size := path.stat().st_size) != entry.size:
            raise BundleFileError(
                f"{path} has {size} bytes, expected {entry.size}: it was truncated or changed. "
                "Copy or export the bundle again."
            )


def inside(folder: Path, name: str, root: Path | None = None) -> Path:
    """Return `folder / name`, refusing names that lead out of the folder and links out of `root`.

    Raises:
        BundleFileError: They do.
    """
    relative = PurePosixPath(name)
    path = folder / relative
    plain = name == str(relative) and "\\" not in name and ":" not in name and "\0" not in name
    try:
        stays = path.resolve().is_relative_to((root or folder).resolve())
        path.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, no UTF-8, a loop of links
        stays = False
    if not plain or not stays or relative.is_absolute() or ".." in relative.parts:
        raise BundleFileError(
            f"file name {name!r} leads out of {folder}. The bundle is not to be trusted: get it "
            "from another place."
        )
    return path


def _discard(folder: Path, owner: int) -> None:
    """Remove an unpacked bundle, unless a fork of its process ends: the others still need it."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(packed: zipfile.ZipFile, archive: Path, target: Path) -> Description:
    names = {info.filename: info for info in packed.infolist()}
    if any(info.compress_type == zipfile.ZIP_LZMA for info in names.values()):
        raise zipfile.BadZipFile("packed by LZMA")  # whose errors are of another kind
    heads = [name for name in names if PurePosixPath(name).name == DESCRIPTION]
    if not heads:
        raise BundleNotFoundError(f"{archive} holds no {DESCRIPTION}, so it is not a bundle.")
    head = min(heads, key=len)
    _check_description_size(f"{archive}/{head}", names[head].file_size)
    prefix = head.removesuffix(DESCRIPTION)
    description = Description.from_json(packed.read(head), f"{archive}/{head}")
    if (total := sum(entry.size for entry in description.files.values())) > MAX_BYTES:
        raise BundleFileError(
            f"{archive} lists {total} bytes; at most {MAX_BYTES} are unpacked. Unpack it yourself "
            "and pass the folder."
        )
    for name, entry in description.files.items():
        info = names.get(prefix + name)
        if info is None or info.file_size != entry.size:
            found = "is missing" if info is None else f"has {info.file_size} bytes"
            raise BundleFileError(
                f"{archive}: {name} {found}, expected {entry.size} bytes. Copy it again."
            )
        path = inside(target, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with packed.open(info) as source, path.open("wb") as sink:
            shutil.copyfileobj(source, sink, _CHUNK)
    return description


def _check_description_size(where: str, size: int) -> None:
    if size > MAX_DESCRIPTION_BYTES:
        raise BundleFormatError(
            f"{where} has {size} bytes; a description has at most {MAX_DESCRIPTION_BYTES}."
        )


def _expect(what: str, value: object, allowed: Collection[str]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise BundleFormatError(
            f"{what} is {value!r}; this runtime knows {', '.join(allowed)}. Upgrade with "
            "`pip install -U spladelet`, or export the model again with this version."
        )
