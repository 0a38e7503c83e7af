"""What a graph's file says of other files, read from its bytes before ONNX Runtime does.

A graph names the files of its weights itself, and ONNX Runtime opens them, listed or not: with the
same fingerprint, the vectors could be others. So every file that it names must be one that the
description lists and the fingerprint covers, and large enough. Whether the files hold what they
should is a matter of their hashes, which `Bundle.verify` compares, not every load.

The format is protobuf (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), of which only the
messages that lead to tensors are entered, and the few fields that matter are read; so what a file
holds besides, hundreds of megabytes of weights perhaps, is passed over. What protobuf could read
in two ways is refused. Does not check that the graph is one: ONNX Runtime does.
"""

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from spladelet.bundle.description import DESCRIPTION
from spladelet.bundle.folder import Bundle
from spladelet.errors import BundleFileError, BundleGraphError

# The messages that lead to tensors: the number of a field to what is in it.
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse tensor",
        23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
_INPUT, _OPERATOR = 1, 4  # of a node
_LOCATION_IS, _EXTERNAL = 14, 1  # of a tensor: where its data lies, and that it lies elsewhere
_WHERE, _KEY, _VALUE = 13, 1, 2  # of a tensor: pairs of texts that say where
_KEYS = {"location", "offset", "length", "checksum"}
# Where a product of integers has the zero point of its matrix.
_ZERO_POINT = {b"MatMulInteger": 3, b"MatMulIntegerToFloat": 5}

_VARINT, _EIGHT_BYTES, _TEXT, _FOUR_BYTES = 0, 1, 2, 5  # protobuf's wire types
_MAX_DEPTH = 100  # protobuf's own
_MAX_FIELDS = 1 << 19  # tens of times those of a large model
_MAX_PAIR_FIELDS = 16
_MAX_TEXT = 4096

Data = bytes | mmap.mmap
# A field's number, its wire type, and where it begins and ends; a number is its own end.
_Field = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class StoredElsewhere:
    """A tensor whose data lies in another file.

    Attributes:
        location: The file, as the graph names it.
        offset: Where in it the data begins.
        length: How many bytes there are; None for all that a shape needs.
    """

    location: str
    offset: int
    length: int | None


@dataclass(frozen=True, slots=True)
class GraphFile:
    """What was read of a graph.

    Attributes:
        elsewhere: The tensors whose data lies in other files.
        states_zero_points: Whether each product of integers has a zero point of its own for its
            matrix.
    """

    elsewhere: tuple[StoredElsewhere, ...]
    states_zero_points: bool

    @classmethod
    def read(cls, path: Path) -> "GraphFile":
        """Read a graph's file.

        Raises:
            BundleGraphError: It is no graph.
            BundleFileError: It cannot be read.
        """
        try:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m:
                return cls.parse(m)
        except ValueError as error:
            raise BundleGraphError(
                f"{path} is no ONNX graph, or damaged: {error}. Copy or export the bundle again."
            ) from error
        except OSError as error:
            raise BundleFileError(
                f"{path} cannot be read: {error.strerror or error}. Make it readable, or copy the "
                "bundle again."
            ) from error

    @classmethod
    def parse(cls, data: Data) -> "GraphFile":
        """Read a graph's bytes.

        Raises:
            ValueError: They are no graph; the message says what was found.
        """
        elsewhere: list[StoredElsewhere] = []
        zero_points: list[bytes] = []
        # A list in place of recursion, and room for so many fields in all: a file that was made to
        # be deep, or to be many empty messages, must cost no more than one that is large.
        messages = [("model", 0, len(data), 0)]
        room = _MAX_FIELDS
        while messages:
            kind, start, end, depth = messages.pop()
            if depth > _MAX_DEPTH:
                raise ValueError(f"messages are nested more than {_MAX_DEPTH} deep")
            fields = _fields(data, start, end, room)
            room -= len(fields)
            if kind == "tensor":
                elsewhere += _elsewhere(data, fields)
                continue
            if kind == "node":
                zero_points += _zero_points(data, fields)
            inner = _MESSAGES[kind]
            messages += [
                (inner[number], first, last, depth + 1)
                for number, wire, first, last in fields
                if wire == _TEXT and number in inner
            ]
        stated = all(zero_points) and len(set(zero_points)) == len(zero_points)
        return cls(tuple(elsewhere), stated)

    def check_files(self, bundle: Bundle, name: str) -> None:
        """Check that the other files are the bundle's own.

        Args:
            bundle: Whose graph it is.
            name: The graph's file, by which others are found.

        Raises:
            BundleFileError: The description does not list one, or it is too small.
        """
        files = bundle.description.files
        folder = PurePosixPath(name).parent
        for tensor in self.elsewhere:
            # No listed name has "..", and joining leaves it where it is. A card may change without
            # the fingerprint.
            place = str(folder / tensor.location)
            if place not in files or place.endswith(".md"):
                raise BundleFileError(
                    f"{bundle.path(name)} takes weights from {tensor.location!r:.200}, which "
                    f"{DESCRIPTION} does not list as a file of the model. The bundle is not to be "
                    "trusted: get it from another place, or export it again."
                )
            end = tensor.offset + (tensor.length or 0)
            if end > files[place].size:
                raise BundleFileError(
                    f"{bundle.path(name)} takes weights from {place} up to byte {end}; it has "
                    f"{files[place].size} bytes. Copy or export the bundle again."
                )


def _fields(data: Data, start: int, end: int, room: int) -> list[_Field]:
    """Return the fields of a message, those inside them not entered."""
    fields: list[_Field] = []
    while start < end:
        key, start = _varint(data, start, end)
        number, wire = key >> 3, key & 7
        if not number or key >> 32:  # protobuf has neither, and readers differ in what they do
            raise ValueError(f"a field has number {number}")
        if wire == _VARINT:
            value, start = _varint(data, start, end)
            fields.append((number, wire, start, value))
        else:
            length, start = _length(data, start, end, wire)
            if length > end - start:
                raise ValueError(f"a field has {length} bytes where {end - start} are left")
            fields.append((number, wire, start, start + length))
            start += length
        if len(fields) > room:
            raise ValueError("it has more fields than any model")
    return fields


def _length(data: Data, start: int, end: int, wire: int) -> tuple[int, int]:
    if wire == _TEXT:
        return _varint(data, start, end)
    if wire not in (_EIGHT_BYTES, _FOUR_BYTES):
        raise ValueError(f"a field has wire type {wire}")
    return 8 if wire == _EIGHT_BYTES else 4, start


def _varint(data: Data, start: int, end: int) -> tuple[int, int]:
    """Return a number, seven bits a byte and the lowest first, and where it ends."""
    if start < end and (byte := data[start]) < 128:  # nearly all are: without the loop
        return byte, start + 1
    value = 0
    for place, position in enumerate(range(start, min(end, start + 10))):
        byte = data[position]
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, position + 1
    raise ValueError("a number is cut off, or longer than ten bytes")


def _elsewhere(data: Data, fields: list[_Field]) -> Iterator[StoredElsewhere]:
    """Return where a tensor's data lies, unless it is in the tensor."""
    stated: dict[str, str] = {}
    is_external = False
    for number, wire, start, end in fields:
        if number == _LOCATION_IS and wire == _VARINT:
            # Given twice, the last counts for protobuf; here any that says so does.
            is_external |= end == _EXTERNAL
        elif number == _WHERE and wire == _TEXT:
            key, value = _pair(data, start, end)
            if key in stated or key not in _KEYS:
                raise ValueError(f"a tensor says {key!r:.40} of its data, or says it twice")
            stated[key] = value
    # A place counts even where nothing says external: what ONNX Runtime makes of that may change.
    if not stated and not is_external:
        return
    if "location" not in stated:
        raise ValueError("a tensor lies in another file, and does not say in which")
    yield StoredElsewhere(
        stated["location"], _whole(stated, "offset") or 0, _whole(stated, "length")
    )


def _pair(data: Data, start: int, end: int) -> tuple[str, str]:
    texts = {_KEY: "", _VALUE: ""}
    for number, wire, first, last in _fields(data, start, end, _MAX_PAIR_FIELDS):
        if wire == _TEXT and number in texts:
            if last - first > _MAX_TEXT:
                raise ValueError(f"a file's name has {last - first} bytes")
            texts[number] = data[first:last].decode()  # a UnicodeDecodeError is a ValueError
    return texts[_KEY], texts[_VALUE]


def _whole(stated: Mapping[str, str], key: str) -> int | None:
    if key not in stated:
        return None
    value = stated[key]
    if not (value.isascii() and value.isdigit() and len(value) < 20):
        raise ValueError(f"a tensor has {key} {value!r:.40}")
    return int(value)


def _zero_points(data: Data, fields: list[_Field]) -> Iterator[bytes]:
    """Return the name of the zero point that a product of integers has for its matrix, or none."""
    texts = [(number, start, end) for number, wire, start, end in fields if wire == _TEXT]
    operators = [data[start:end] for number, start, end in texts if number == _OPERATOR]
    place = _ZERO_POINT.get(operators[-1]) if operators else None  # given twice, the last counts
    if place is not None:
        inputs = [data[start:end] for number, start, end in texts if number == _INPUT]
        yield inputs[place] if place < len(inputs) else b""
