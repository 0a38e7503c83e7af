"""Writing a graph anew: nodes in their order, constants by name."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


@dataclass(slots=True)
class GraphEditor:
    """Collects the nodes and constants that a graph shall have.

    The graph stays as it is until `finish`, so that it can be read while it is written anew.

    Attributes:
        graph: What is edited.
        nodes: The nodes so far, in the order in which they run.
        constants: The constants by name, those of the graph first.
    """

    graph: onnx.GraphProto
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(init=False)

    def __post_init__(self) -> None:
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}

    def add(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str,
        attributes: Mapping[str, object] = MappingProxyType({}),
    ) -> str:
        """Add a node.

        Args:
            operator: What it does.
            inputs: Names of the tensors that it reads.
            output: Name of the one that it makes.
            attributes: The operator's, and `name` and `domain`; see `onnx.helper.make_node`.

        Returns:
            The output's name, for the next node to read.
        """
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        """Add a constant, unless there is one of that name, which then must have that value."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def array(self, name: str) -> NDArray[np.float32]:
        """Return a constant's values."""
        values: NDArray[np.float32] = numpy_helper.to_array(self.constants[name])
        return values

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """Return the nodes of the graph, as it was, that read a tensor."""
        return [node for node in self.graph.node if name in node.input]

    def drop_unread(self) -> None:
        """Drop the nodes that nothing asks for, and those that only they ask for."""
        needed, kept = {output.name for output in self.graph.output}, []
        # Backwards, for whatever reads a node's output comes after it.
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed |= used_names([node])
        self.nodes = kept[::-1]

    def finish(self) -> None:
        """Give the graph the nodes, and those constants that they read."""
        kept = self.constants.keys() & used_names(self.nodes)
        stored = [tensor.name for tensor in self.graph.initializer]
        # Only what goes is deleted and only what is new added: a copy of all that stays would need
        # as much memory again as the model.
        for place in reversed(range(len(stored))):
            if stored[place] not in kept:
                del self.graph.initializer[place]
        kept = kept.difference(stored)
        self.graph.initializer.extend(t for name, t in self.constants.items() if name in kept)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)


def used_names(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Return the names of the tensors that nodes read, those in the branches of an If included."""
    names = set()
    for node in nodes:
        names.update(node.input)
        for attribute in node.attribute:
            for branch in (attribute.g, *attribute.graphs):
                names |= used_names(branch.node)
                names.update(entry.name for entry in branch.output)
    return names


def spans(total: int, step: int) -> Iterator[slice]:
    """Return slices of at most `step` that cover 0 to `total`, in order."""
    return (slice(start, min(start + step, total)) for start in range(0, total, step))
