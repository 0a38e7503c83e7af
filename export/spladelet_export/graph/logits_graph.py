"""The graph that everything begins with: token ids in, logits out.

Says which inputs and operators it may have, and makes an older exporter's graph such a one.
"""

from collections.abc import Iterable

import onnx
from onnx import version_converter

from spladelet_export.errors import GraphError
from spladelet_export.graph.tensor_names import INPUTS

OPSET = 18  # of the operators that are written here
MAX_BYTES = (1 << 31) - 1  # of one protobuf message
# Other names for the same inputs: TensorFlow's, which some exported checkpoints keep.
ALIASES = {"input_mask": "attention_mask", "segment_ids": "token_type_ids"}
TOKEN_TYPES = "token_type_ids"


def takes_texts(inputs: Iterable[str]) -> bool:
    """Say whether inputs are those that a text's tokens fill, by their usual names."""
    found = set(inputs)
    return set(INPUTS) <= found <= {*INPUTS, TOKEN_TYPES}


def rename_inputs(model: onnx.ModelProto) -> None:
    """Give inputs their usual names, in place; see `ALIASES`."""
    for entry in model.graph.input:
        entry.name = ALIASES.get(entry.name, entry.name)
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = ALIASES.get(name, name)


def opset(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators that a graph uses."""
    standard = ("", "ai.onnx")
    return max(int(entry.version) for entry in model.opset_import if entry.domain in standard)


def upgrade(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph as a recent exporter would write it.

    Older operators are converted to `OPSET`, and no constant is an input as well.

    Raises:
        GraphError: It cannot be converted.
    """
    found = opset(model)
    if found >= OPSET:
        return _with_constants_apart(model)
    # The converter takes a graph as one message.
    if model.ByteSize() > MAX_BYTES:
        raise GraphError(
            f"the graph uses operator set {found}, and with over 2 GB it is too large to be "
            f"converted. Export it again with opset {OPSET}."
        )
    try:
        return _with_constants_apart(version_converter.convert_version(model, OPSET))
    except Exception as error:  # of many kinds, from the converter's C++
        raise GraphError(
            f"the graph uses operator set {found}, and converting it to {OPSET} failed: {error}. "
            f"Export it again with opset {OPSET}."
        ) from error


def _with_constants_apart(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the inputs that only name constants, as the oldest graphs have them."""
    constants = {tensor.name for tensor in model.graph.initializer}
    for entry in [entry for entry in model.graph.input if entry.name in constants]:
        model.graph.input.remove(entry)
    return model
