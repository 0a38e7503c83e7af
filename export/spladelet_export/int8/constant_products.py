"""The products that int8 is for: activations times constant matrices."""

from collections import Counter
from collections.abc import Mapping, Sequence

import onnx


def constant_products(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Return activation name to the MatMuls that multiply it by a constant."""
    constants = {tensor.name for tensor in graph.initializer}
    products: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants:
            products.setdefault(node.input[0], []).append(node)
    return products


def shared_matrices(products: Mapping[str, Sequence[onnx.NodeProto]]) -> set[str]:
    """Return the matrices by which several activations are multiplied."""
    matrices = [{node.input[1] for node in nodes} for nodes in products.values()]
    counts = Counter(matrix for entered in matrices for matrix in entered)
    return {matrix for matrix, count in counts.items() if count > 1}
