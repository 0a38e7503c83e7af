"""Does a bundle give the vectors here that it was made with? `conformance.json` has them.

The file has texts, and of each what queries and documents make of it: the token ids after
truncation, and the vector. It is for implementations in any language (docs/implementers.md), and
for this one on another machine. JSON, a case a line:

    {"format": "spladelet-conformance", "format_version": 1, "fingerprint": the bundle's,
     "made_with": {"spladelet": version, "onnxruntime": …, "tokenizers": …},
     "cases": [{"text": "how long", "query": {"ids": [101, 2129, 2146, 102], "truncated": false,
                "term_ids": [2146], "weights": [1.25]}, "document": ...}, ...]}

Weights are the shortest numbers that read as the float32 they are. A text that no Unicode string
can be, because half of a surrogate pair is in it, has "utf16", a list of code units, in place of
"text": many a JSON reader refuses it otherwise. Each text is encoded alone, on one thread, so that
nothing but the machine and its ONNX Runtime can make a difference. Does not say which texts are
worth it: see `spladelet_export.conformance_texts`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import pairwise
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from spladelet._version import __version__
from spladelet.bundle.bundle_files import read_file
from spladelet.bundle.description import CONFORMANCE
from spladelet.bundle.folder import Bundle
from spladelet.encoder.encoder import Encoder
from spladelet.encoder.onnx_runtime import load_onnx_runtime
from spladelet.errors import BundleFileError, BundleFormatError
from spladelet.text import shown, valid_unicode

FORMAT = "spladelet-conformance"
FORMAT_VERSION = 1
_MAX_BYTES = 8 << 20  # ours have a twentieth of it
_LARGEST = float(np.finfo(np.float32).max)

SideName = Literal["query", "document"]
SIDES: tuple[SideName, ...] = ("query", "document")


@dataclass(frozen=True, slots=True)
class Encoded:
    """What one side makes of a text.

    Attributes:
        ids: Token ids after truncation, special tokens included.
        truncated: Whether the text had more.
        term_ids: Ascending int32[active_dims].
        weights: float32[active_dims], above 0.
    """

    ids: list[int]
    truncated: bool
    term_ids: NDArray[np.int32]
    weights: NDArray[np.float32]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON has of it."""
        return {
            "ids": self.ids,
            "truncated": self.truncated,
            "term_ids": self.term_ids.tolist(),
            "weights": [float(str(weight)) for weight in self.weights],  # as short as float32 are
        }

    def difference(self, other: "Encoded") -> float:
        """Return the largest difference of a term's weight; a term that only one has is one."""
        mine = dict(zip(self.term_ids.tolist(), self.weights.tolist(), strict=True))
        theirs = dict(zip(other.term_ids.tolist(), other.weights.tolist(), strict=True))
        terms = mine.keys() | theirs.keys()
        return max((abs(mine.get(i, 0.0) - theirs.get(i, 0.0)) for i in terms), default=0.0)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A text that one side makes something else of here.

    Attributes:
        case: Its number in `conformance.json`, from 0.
        side: "query" or "document".
        text: The text.
        same_ids: Whether the token ids are the same, and whether the text was cut.
        difference: The largest difference of a weight; 0 if only the ids differ.
    """

    case: int
    side: SideName
    text: str
    same_ids: bool
    difference: float


@dataclass(frozen=True, slots=True)
class Conformance:
    """How far a bundle's vectors here are those that it was made with.

    Attributes:
        vectors: How many were compared: two of each text.
        mismatches: Those that are not equal, to the bit, with all their ids.
        made_with: Versions of what made them, by package.
        onnxruntime: The version of ONNX Runtime here.
    """

    vectors: int
    mismatches: tuple[Mismatch, ...]
    made_with: Mapping[str, str]
    onnxruntime: str

    @property
    def equal_ids(self) -> int:
        """How many texts have the same token ids."""
        return self.vectors - sum(not found.same_ids for found in self.mismatches)

    @property
    def equal_vectors(self) -> int:
        """How many vectors are equal to the bit."""
        return self.vectors - sum(found.difference > 0 for found in self.mismatches)

    @property
    def largest_difference(self) -> float:
        """The largest difference of a weight; 0 if all vectors are equal."""
        return max((found.difference for found in self.mismatches), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return what `spladelet verify --conformance --json` says."""
        return {
            "vectors": self.vectors,
            "equal_ids": self.equal_ids,
            "equal_vectors": self.equal_vectors,
            "largest_difference": self.largest_difference,
            "made_with": dict(self.made_with),
            "onnxruntime": self.onnxruntime,
            "mismatches": [asdict(found) for found in self.mismatches],
        }


def check_conformance(bundle: Bundle, longest: int | None = None) -> Conformance:
    """Encode the texts of a bundle's `conformance.json`, and compare.

    Args:
        bundle: What is checked.
        longest: Leave out vectors of more tokens, which take long on an emulated processor.

    Raises:
        BundleFileError: The bundle has none, or it cannot be read.
        BundleFormatError: It is of an unknown version, not well-formed, or another bundle's.
        BundleGraphError: The model does not load.
    """
    raw, cases = _read(bundle)
    encoder = Encoder(bundle, threads=1)
    vectors, mismatches = 0, []
    for number, (text, expected) in enumerate(cases):
        for side in SIDES:
            wanted = expected[side]
            if longest is not None and len(wanted.ids) > longest:
                continue
            found, vectors = _encode(encoder, text, side), vectors + 1
            same = (found.ids, found.truncated) == (wanted.ids, wanted.truncated)
            difference = found.difference(wanted)
            if not same or difference > 0:
                mismatches.append(Mismatch(number, side, text, same, difference))
    return Conformance(
        vectors,
        tuple(mismatches),
        raw["made_with"],
        str(load_onnx_runtime().__version__),
    )


def conformance_json(bundle: Bundle, texts: Sequence[str]) -> str:
    """Return the text of a bundle's `conformance.json`, made here."""
    encoder = Encoder(bundle, threads=1)
    head = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "fingerprint": bundle.fingerprint,
        "made_with": {
            "spladelet": __version__,
            "onnxruntime": load_onnx_runtime().__version__,
            "tokenizers": version("tokenizers"),
        },
    }
    lines = []
    for text in texts:
        sides = {side: _encode(encoder, text, side).to_dict() for side in SIDES}
        lines.append(json.dumps(_told(text) | sides, separators=(",", ":")))
    begun = json.dumps(head, indent=1).removesuffix("\n}")
    return begun + ',\n "cases": [\n' + ",\n".join(lines) + "\n ]\n}\n"


def _encode(encoder: Encoder, text: str, side: SideName) -> Encoded:
    (tokens,) = encoder.tokenize([text], side=side)
    vector = encoder.encode_tokenized([tokens], side=side)[0]
    return Encoded([*tokens.ids], tokens.truncated, vector.term_ids, vector.weights)


def _told(text: str) -> dict[str, Any]:
    """Return a text as JSON of any reader can hold it."""
    if valid_unicode(text) == text:
        return {"text": text}
    units = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), "<u2")
    return {"utf16": units.tolist()}


Case = tuple[str, dict[SideName, Encoded]]


def _read(bundle: Bundle) -> tuple[dict[str, Any], list[Case]]:
    if CONFORMANCE not in bundle.description.auxiliary:
        raise BundleFileError(
            f"{bundle.folder} has no {CONFORMANCE}, so there is nothing to compare with. Add it "
            "with `spladelet-export conform BUNDLE`, where its vectors are known to be right, or "
            "export the checkpoint again."
        )
    path = bundle.path(CONFORMANCE)
    content = read_file(path, _MAX_BYTES)
    try:
        raw = json.loads(content, parse_constant=_refuse_constant)
        kind = (raw["format"], raw["format_version"])
        if kind != (FORMAT, FORMAT_VERSION):
            raise ValueError(f"it has format {shown(kind)}, and this runtime reads version 1")
        if raw["fingerprint"] != bundle.fingerprint:
            raise ValueError(f"it is of another bundle, {shown(raw['fingerprint'])}")
        raw["made_with"] = {k: v for k, v in raw["made_with"].items() if type(v) is str}
        return raw, list(_cases(raw["cases"], bundle.description.vocab_size))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise BundleFormatError(
            f"{path} is not well-formed ({type(error).__name__}: {error}). Copy the bundle again, "
            "or make it anew with `spladelet-export conform BUNDLE`."
        ) from error


def _cases(raw: object, terms: int) -> Iterator[Case]:
    if not isinstance(raw, list) or not raw:
        raise ValueError("it has no list of cases")
    for number, case in enumerate(raw):
        try:
            yield _text(case), {side: _encoded(case[side], terms) for side in SIDES}
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"case {number}: {type(error).__name__}: {error}") from error


def _text(case: Mapping[str, Any]) -> str:
    if "utf16" in case:
        units = np.array(_whole(case["utf16"], 1 << 16, "a code unit"), "<u2")
        return units.tobytes().decode("utf-16-le", "surrogatepass")
    if not isinstance(case["text"], str):
        raise TypeError(f"text is {shown(case['text'])}; expected a text")
    return case["text"]


def _encoded(raw: Mapping[str, Any], terms: int) -> Encoded:
    ids, term_ids = _whole(raw["ids"], terms, "an id"), _whole(raw["term_ids"], terms, "a term id")
    if any(second <= first for first, second in pairwise(term_ids)):
        raise ValueError("the term ids do not ascend")
    if type(raw["truncated"]) is not bool:
        raise TypeError(f"truncated is {shown(raw['truncated'])}; expected true or false")
    weights = raw["weights"]
    if not isinstance(weights, list) or len(weights) != len(term_ids):
        raise ValueError(f"there are {len(term_ids)} term ids, and not as many weights")
    for weight in weights:
        if type(weight) not in (int, float) or not 0 < weight <= _LARGEST:
            raise ValueError(f"a weight is {shown(weight)}; expected a finite one above 0")
    return Encoded(
        ids, raw["truncated"], np.array(term_ids, np.int32), np.array(weights, np.float32)
    )


def _whole(raw: object, end: int, what: str) -> list[int]:
    """Return a list of whole numbers from 0 to below `end`."""
    if not isinstance(raw, list):
        raise TypeError(f"{shown(raw)} is no list")
    for number in raw:
        if type(number) is not int or not 0 <= number < end:
            raise ValueError(f"{what} is {shown(number)}; expected a whole number below {end}")
    return raw


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
