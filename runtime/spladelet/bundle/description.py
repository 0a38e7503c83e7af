"""What a bundle is, and what its `spladelet.json` says.

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
    explain.onnx, query/explain.onnx
                        perhaps: the same graphs, over the same tensors, that also give int64
                        positions [batch, vocab_size], at which each term has its weight
    conformance.json    perhaps: texts with their ids and vectors, see `encoder.conformance`
    saturation.onnx     perhaps, for int8: tells whether a processor's int8 products lose large sums
    tokenizer_config.json, query/tokenizer_config.json
                        perhaps: what other libraries want to know beside a tokenizer.json

Reading is strict about what the description says and cheap about what the disk holds: sizes are
checked at every load, hashes by `Bundle.verify`. A .zip is unpacked once, to a folder in the cache
that every process uses from then on; `archive` says how and `caches` where. Does not load the
graph: see `session`.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NoReturn

from spladelet.errors import BundleFormatError
from spladelet.files import FileEntry

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
EXPLAIN = "explain.onnx"
QUERY_EXPLAIN = f"query/{EXPLAIN}"
CONFORMANCE = "conformance.json"
SATURATION = "saturation.onnx"
TOKENIZER_CONFIG = "tokenizer_config.json"
QUERY_TOKENIZER_CONFIG = f"query/{TOKENIZER_CONFIG}"

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
        auxiliary: As `files`, what helps, such as to say where weights come from: no vector depends
            on it, so the fingerprint does not cover it, a bundle may lack it, and runtimes that do
            not know a name pass over it.
        alike_on: The machines on which vectors are the same to the bit, with every release of ONNX
            Runtime that the package admits: as `platform.machine()` names them on Linux, and
            "wasm". None, where nothing is promised from one machine or release to the next.
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
    auxiliary: Mapping[str, FileEntry] = field(default_factory=dict)
    alike_on: tuple[str, ...] = ()

    @property
    def all_files(self) -> dict[str, FileEntry]:
        """Files of both kinds."""
        return {**self.files, **self.auxiliary}

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
        known["files"] = _entries(raw["files"])
        # "explaining" is what the list was called when it held graphs that explain alone.
        known["auxiliary"] = _entries({**raw.get("explaining", {}), **raw.get("auxiliary", {})})
        known["alike_on"] = tuple(raw.get("alike_on", ()))
        for machine in known["alike_on"]:
            _expect_text("a machine of alike_on", machine)
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
        for name in description.auxiliary:
            if name in (DESCRIPTION, *description.files):
                raise BundleFormatError(f"{name} is listed twice, as auxiliary, too.")
        return description


def _entries(raw: Mapping[str, Any]) -> dict[str, FileEntry]:
    return {name: FileEntry(**entry) for name, entry in raw.items()}


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
