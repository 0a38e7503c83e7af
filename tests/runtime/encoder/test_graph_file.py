"""What a graph names besides itself must be the bundle's own, however deep it stands in the file.

Graphs are written here byte by byte: the runtime has no onnx, and neither has a clean environment.
"""

import os
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spladelet import Encoder
from spladelet.bundle.find import find_bundle
from spladelet.bundle.folder import Bundle
from spladelet.encoder.graph_file import _MESSAGES, GraphFile, StoredElsewhere
from spladelet.errors import BundleError, BundleFileError, BundleGraphError
from spladelet.files import FileEntry

THOROUGH = os.environ.get("SPLADELET_THOROUGH") == "1"
REAL = find_bundle(None).path("model.onnx").read_bytes()


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def number(field, value):
    return varint(field << 3) + varint(value)


def part(field, *content):
    """A field with a text, or a message, in it."""
    body = b"".join(c.encode() if isinstance(c, str) else c for c in content)
    return varint(field << 3 | 2) + varint(len(body)) + body


def where(**stated):
    return b"".join(part(13, part(1, key), part(2, value)) for key, value in stated.items())


TENSOR = where(location="other.data", offset="4096", length="8") + number(14, 1)
INITIALIZER = part(5, TENSOR)
GRAPH = part(7, INITIALIZER)
ATTRIBUTE = part(5, part(1, "value"), part(5, TENSOR))


def in_node(attribute):
    return part(7, part(1, part(4, "If"), part(5, attribute)))


PLACES = {
    "initializer": GRAPH,
    "sparse initializer, values": part(7, part(15, part(1, TENSOR))),
    "sparse initializer, indices": part(7, part(15, part(2, TENSOR))),
    "attribute": in_node(part(5, TENSOR)),
    "attribute, several": in_node(part(10, TENSOR)),
    "attribute, sparse": in_node(part(22, part(1, TENSOR))),
    "attribute, several sparse": in_node(part(23, part(1, TENSOR))),
    "branch": in_node(part(6, INITIALIZER)),
    "branches": in_node(part(11, INITIALIZER)),
    "branch of a branch": in_node(part(6, part(1, part(5, part(6, INITIALIZER))))),
    "function": part(25, part(7, ATTRIBUTE)),
    "function, its attribute": part(25, part(11, part(5, TENSOR))),
    "training": part(20, part(1, INITIALIZER)),
    "training, its algorithm": part(20, part(2, INITIALIZER)),
    "graph in two parts": part(7, part(2, "a name")) + GRAPH,
    "not said to be external": part(7, part(5, where(location="other.data"))),
}


@pytest.mark.parametrize("graph", PLACES.values(), ids=PLACES)
def test_a_file_is_found_wherever_it_is_named(graph):
    (found,) = GraphFile.parse(graph).elsewhere

    assert found.location == "other.data"


def test_where_the_data_lies_is_read():
    assert GraphFile.parse(GRAPH).elsewhere == (StoredElsewhere("other.data", 4096, 8),)


def test_a_tensor_that_holds_its_data_names_no_file():
    assert GraphFile.parse(part(7, part(5, part(9, b"\0" * 400)))).elsewhere == ()


def test_every_message_that_leads_to_a_tensor_is_entered():
    onnx = pytest.importorskip("onnx", reason="compares with ONNX's own schema: extra `fuse`")
    names = {
        "model": onnx.ModelProto,
        "training": onnx.TrainingInfoProto,
        "function": onnx.FunctionProto,
        "graph": onnx.GraphProto,
        "node": onnx.NodeProto,
        "attribute": onnx.AttributeProto,
        "sparse tensor": onnx.SparseTensorProto,
        "tensor": onnx.TensorProto,
    }
    types = {message.DESCRIPTOR.full_name: name for name, message in names.items()}

    def leads(descriptor, seen=()):
        if descriptor.full_name == "onnx.TensorProto":
            return True
        inner = [f.message_type for f in descriptor.fields if f.message_type]
        return any(leads(d, (*seen, d)) for d in inner if d not in seen)

    for name, fields in _MESSAGES.items():
        expected = {
            f.number: types[f.message_type.full_name]
            for f in names[name].DESCRIPTOR.fields
            if f.message_type and leads(f.message_type)
        }
        assert fields == expected, name


@pytest.fixture
def altered(copy_bundle, replace_file):
    """Return `make(old, new)`: the default bundle, its graph changed and described as it is."""

    def make(old, new):
        folder = copy_bundle()
        replace_file(folder, "model.onnx", REAL.replace(old, new))
        return folder

    return make


class TestBundle:
    def test_the_default_models_graph_names_its_own_file(self):
        graph = GraphFile.parse(REAL)

        assert {tensor.location for tensor in graph.elsewhere} == {"model.onnx.data"}
        assert graph.states_zero_points

    @pytest.mark.parametrize(
        "name", ["model.onnx.dat2", "../model.data12", "/tmp/model.data", "query/onnx.data"]
    )
    def test_an_unlisted_file_supplies_no_weights(self, name, altered):
        folder = altered(b"model.onnx.data", name.encode())
        if "/" not in name:  # it is even there
            os.link(folder / "model.onnx.data", folder / name)

        with pytest.raises(BundleFileError, match=r"which spladelet\.json does not list"):
            Encoder.load(folder).encode_query("cat")

    def test_a_file_outside_the_fingerprint_supplies_no_weights(self, altered, redescribe):
        folder = altered(b"model.onnx.data", b"model.onnx12.md")
        os.link(folder / "model.onnx.data", folder / "model.onnx12.md")
        bundle = Bundle.open(folder)
        files = bundle.description.files
        listed = redescribe(folder, files={**files, "model.onnx12.md": files["model.onnx.data"]})

        assert listed.fingerprint == bundle.fingerprint
        with pytest.raises(BundleFileError, match="does not list as a file of the model"):
            Encoder.load(folder).encode_query("cat")

    def test_a_query_graph_is_held_against_its_own_folder(self):
        bundle = find_bundle(None)
        listed = {"query/model.onnx": FileEntry(1, ""), "query/other.data": FileEntry(5000, "")}
        at = Bundle(bundle.folder, replace(bundle.description, files=listed))
        graph = GraphFile.parse(GRAPH)

        graph.check_files(at, "query/model.onnx")
        with pytest.raises(BundleFileError, match="does not list"):
            graph.check_files(at, "model.onnx")

    @pytest.mark.parametrize("size", [4103, 10])
    def test_a_file_must_be_as_long_as_the_graph_says(self, size):
        bundle = find_bundle(None)
        listed = replace(bundle.description, files={"other.data": FileEntry(size, "")})

        with pytest.raises(BundleFileError, match=f"up to byte 4104; it has {size} bytes"):
            GraphFile.parse(GRAPH).check_files(Bundle(bundle.folder, listed), "model.onnx")


MALFORMED = {
    "cut off": (GRAPH[:-3], "bytes where"),
    "a length beyond the end": (b"\x3a\x7f\x00", "127 bytes where 1 are left"),
    "a length of 2**63": (b"\x3a" + varint(1 << 63) + b"\x00", "bytes where"),
    "a number without end": (b"\x08" + b"\xff" * 12, "longer than ten bytes"),
    "a number cut off": (b"\x08\x80", "cut off"),
    "field 0": (b"\x00\x00", "number 0"),
    "a field that wraps around to 7": (varint((1 << 35) | (7 << 3 | 2)) + b"\x00", "number"),
    "a group": (b"\x3b\x3c", "wire type 3"),
    "nested deep": (None, "nested more than 100 deep"),
    "too many fields": (b"\x08\x00" * (1 << 20), "more fields than any model"),
    "no location": (part(7, part(5, number(14, 1))), "does not say in which"),
    "two locations": (part(7, part(5, where(location="a"), where(location="b"))), "says it twice"),
    "an unknown key": (part(7, part(5, where(prepacked_0="a"))), "prepacked_0"),
    "a negative offset": (part(7, part(5, where(location="a", offset="-1"))), "offset '-1'"),
    "an offset in other digits": (part(7, part(5, where(location="a", offset="²"))), "offset"),
    "a long name": (part(7, part(5, where(location="a" * 5000))), "5000 bytes"),
    "a name that is no UTF-8": (part(7, part(5, part(13, part(2, b"\xff")))), "utf-8"),
}


@pytest.mark.parametrize(("data", "message"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_malformed_is_refused(data, message, tmp_path):
    if data is None:
        data = INITIALIZER
        for _ in range(60):
            data = part(1, part(5, part(6, data)))
        data = part(7, data)
    (tmp_path / "model.onnx").write_bytes(data)

    with pytest.raises(BundleGraphError, match=message):
        GraphFile.read(tmp_path / "model.onnx")


def test_an_empty_file_is_no_graph(tmp_path):
    (tmp_path / "model.onnx").touch()

    with pytest.raises(BundleGraphError, match="is no ONNX graph"):
        GraphFile.read(tmp_path / "model.onnx")


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(BundleFileError, match=r"model\.onnx cannot be read"):
        GraphFile.read(tmp_path / "model.onnx")


@settings(max_examples=2000 if THOROUGH else 100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(REAL) - 1), st.integers(0, 255)), max_size=8),
    st.integers(0, len(REAL)),
)
def test_damaged_graphs_are_read_or_refused(changes, length):
    damaged = bytearray(REAL)
    for place, byte in changes:
        damaged[place] = byte
    with suppress(ValueError):
        GraphFile.parse(bytes(damaged[: length or None]))


@settings(max_examples=1000 if THOROUGH else 100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data):
    with suppress(ValueError):
        GraphFile.parse(part(7, part(5, data)) + data)


@pytest.mark.parametrize("seed", range(200 if THOROUGH else 10))
def test_a_damaged_bundle_encodes_or_says_what_is_wrong(seed, altered):
    place = seed * 7919 % len(REAL)
    damaged = bytes(255 - byte for byte in REAL[place : place + 24])
    folder = altered(REAL[place : place + 24], damaged)
    with suppress(BundleError):
        Encoder.load(folder, threads=1).encode_query("cat")


class TestZeroPoints:
    @pytest.mark.parametrize(
        ("operator", "inputs", "stated"),
        [
            ("MatMulInteger", ["a", "b", "c"], False),
            ("MatMulInteger", ["a", "b", "c", "d"], True),
            ("MatMulIntegerToFloat", ["a", "b", "c", "d", "e"], False),
            ("MatMulIntegerToFloat", ["a", "b", "c", "d", "e", "", "bias"], False),
            ("MatMulIntegerToFloat", ["a", "b", "c", "d", "e", "zero"], True),
            ("MatMul", ["a", "b"], True),
        ],
    )
    def test_whether_products_state_theirs(self, operator, inputs, stated):
        node = part(1, *(part(1, name) for name in inputs), part(4, operator))

        assert GraphFile.parse(part(7, node)).states_zero_points is stated

    def test_one_for_two_products_is_not_stated(self):
        node = part(1, *(part(1, name) for name in "abcd"), part(4, "MatMulInteger"))

        assert not GraphFile.parse(part(7, node, node)).states_zero_points
