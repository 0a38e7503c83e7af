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
checked at every load, hashes by `Bundle.verify`. A .zip is unpacked once, to a folder in the cache
that every process uses from then on; `archive` says how and `caches` where. Does not load the
graph: see `session`.
"""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from spladelet.archive import Archive
from spladelet.bundle_files import digest_of, file_size, inside, read_file, refusals
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
_BESIDE = (CARD, ".gitattributes")  # what every repository of the hub has beside a model
QUERY_GRAPH = f"query/{GRAPH}"
QUERY_GRAPH_DATA = f"query/{GRAPH_DATA}"
QUERY_TOKENIZER = f"query/{TOKENIZER}"
QUERY_WEIGHTS = "query_weights.npy"

MAX_DESCRIPTION_BYTES = 4 << 20
_MAX_VOCAB = 1 << 24  # terms; the largest vocabularies in use have a sixteenth of it
_MAX_LENGTH = 1 << 20  # tokens
_MAX_DEPTH = 32  # of what is told about a model, objects in objects

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
        if type(self.max_length) is not int or not 3 <= self.max_length <= _MAX_LENGTH:
            raise BundleFormatError(
                f"max_length is {self.max_length!r:.40}; expected a whole number of tokens from 3 "
                f"to {_MAX_LENGTH}."
            )
        _expect_text("prompt", self.prompt)


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
        """Measure a regular file on disk.

        Raises:
            OSError: It cannot be read, or is none.
        """
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
            raise OSError(errno.EINVAL, "is no regular file", str(path))
        return cls(found.st_size, digest_of(path, found.st_size))


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
            raw = json.loads(text, parse_constant=_refuse_constant)
            if raw["format"] != FORMAT or raw["format_version"] != FORMAT_VERSION:
                raise BundleFormatError(
                    f"{where} has format {raw['format']!r:.40} version "
                    f"{raw['format_version']!r:.40}; this "
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
        _expect_text("name", raw["name"])
        for name in ("source", "quantization", "fidelity", "exporter"):
            if not isinstance(raw.get(name, {}), dict):
                raise BundleFormatError(f"{name} is {raw[name]!r:.40}; expected an object.")
            _expect_shallow(name, raw.get(name))
        description = cls(**known)
        size = description.vocab_size
        if type(size) is not int or not 1 <= size <= _MAX_VOCAB:
            raise BundleFormatError(
                f"vocab_size is {size!r:.40}; expected a whole number from 1 to {_MAX_VOCAB}."
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
        archive: The .zip that the folder was unpacked from; None if it was none.
    """

    def __init__(self, folder: Path, description: Description, archive: Path | None = None) -> None:
        self.folder = folder.absolute()  # the graph is loaded later, perhaps from elsewhere
        self.description = description
        self._archive = archive

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Bundle":
        """Open a folder or .zip and check the description and the size of every file.

        Files may be links inside the folder, or inside one repository of the hub's cache.

        Raises:
            BundleNotFoundError: There is no bundle at `path`.
            BundleFormatError: The description is of an unknown version or not well-formed.
            BundleFileError: A file is missing, of the wrong size, outside the folder or cannot be
                read; or a .zip cannot be unpacked.
        """
        place = Path(path)
        with refusals(place):
            is_folder = place.is_dir()
        if not is_folder and file_size(place) is not None:
            return cls._open_zip(place)
        bundle = cls(place, cls._read_description(place / DESCRIPTION))
        for name, entry in bundle.description.files.items():
            bundle._check_size(name, entry)
        return bundle

    @classmethod
    def _read_description(cls, file: Path) -> Description:
        size = file_size(file)
        if size is None:
            raise BundleNotFoundError(
                f"{file.parent} holds no {DESCRIPTION}, so it is not a bundle. Export a checkpoint "
                "to one with `spladelet-export CHECKPOINT -o FOLDER`."
            )
        _check_description_size(str(file), size)
        return Description.from_json(read_file(file, MAX_DESCRIPTION_BYTES), str(file))

    @classmethod
    def _open_zip(cls, path: Path) -> "Bundle":
        """Unpack what the description lists, and nothing else, unless it was before."""
        with Archive.open(path, DESCRIPTION) as archive:
            where = f"{path}/{archive.head}"
            _check_description_size(where, archive.description_size())
            text = archive.description()
            description = Description.from_json(text, where)
            archive.check(description.files)
            itself = FileEntry(len(text), hashlib.sha256(text).hexdigest())
            folder = archive.unpack({**description.files, DESCRIPTION: itself})
        return cls(folder, description, path)

    @property
    def fingerprint(self) -> str:
        """See `Description.fingerprint`."""
        return self.description.fingerprint

    def path(self, name: str) -> Path:
        """Return where a listed file lies.

        Raises:
            BundleFileError: The name leads out of the folder.
        """
        return inside(self.folder, name)

    def verify(self) -> tuple[str, ...]:
        """Read every file and compare its sha256 with the description; of a .zip, in both places.

        Returns:
            The files that are there and not listed: see `unlisted`.

        Raises:
            BundleFileError: A file differs; the message names it.
        """
        for name, entry in self.description.files.items():
            self._check_size(name, entry)
            path = self.path(name)
            with refusals(path):
                found = digest_of(path, entry.size)
            if found != entry.sha256:
                raise BundleFileError(
                    f"{path} has sha256 {found[:12]}…, expected {entry.sha256[:12]}…: it was "
                    "changed or damaged. Copy or export it again."
                )
        if self._archive is not None:
            with Archive.open(self._archive, DESCRIPTION) as archive:
                archive.check(self.description.files)
                archive.verify(self.description.files)
        return self.unlisted()

    def unlisted(self) -> tuple[str, ...]:
        """Return the names of files that the description does not list, the card's aside.

        Nothing vouches for them. Of a folder whose name begins with a dot, only that is named.
        """
        if self._archive is not None:
            with Archive.open(self._archive, DESCRIPTION) as archive:
                found = archive.names()
        else:
            found = list(_files_in(self.folder))
        return tuple(sorted({*found} - {*self.description.files, DESCRIPTION, *_BESIDE}))

    def _check_size(self, name: str, entry: FileEntry) -> None:
        path = self.path(name)
        size = file_size(path)
        if size is None:
            raise BundleFileError(
                f"{path} is missing; {DESCRIPTION} lists it. Copy or export the bundle again."
            )
        if size != entry.size:
            raise BundleFileError(
                f"{path} has {size} bytes, expected {entry.size}: it was truncated or changed. "
                "Copy or export the bundle again."
            )


def _files_in(folder: Path, top: str = "") -> Iterator[str]:
    """Return the names of all that is no folder, and of folders that are hidden or links."""
    with refusals(folder), os.scandir(folder) as found:
        for item in found:
            if item.is_dir(follow_symlinks=False) and not item.name.startswith("."):
                yield from _files_in(Path(item), f"{top}{item.name}/")
            else:
                yield f"{top}{item.name}"


def _check_description_size(where: str, size: int) -> None:
    if size > MAX_DESCRIPTION_BYTES:
        raise BundleFormatError(
            f"{where} has {size} bytes; a description has at most {MAX_DESCRIPTION_BYTES}."
        )


def _expect(what: str, value: object, allowed: Collection[str]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise BundleFormatError(
            f"{what} is {value!r:.40}; this runtime knows {', '.join(allowed)}. Upgrade with "
            "`pip install -U spladelet`, or export the model again with this version."
        )


def _expect_text(what: str, value: object) -> None:
    if not isinstance(value, str) or _has_surrogates(value):
        raise BundleFormatError(f"{what} is {value!r:.40}; expected a text in Unicode.")


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _expect_shallow(what: str, value: object) -> None:
    """Refuse what is nested so deep that writing it would exhaust the stack."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            item
            for holder in level
            if isinstance(holder, (dict, list))
            for item in (holder.values() if isinstance(holder, dict) else holder)
        ]
    if level:
        raise BundleFormatError(f"{what} is nested deeper than {_MAX_DEPTH} levels.")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
