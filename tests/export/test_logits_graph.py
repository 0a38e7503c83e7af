"""Which graphs are taken, and what is said of others."""

import onnx
import pytest
from export.tiny_graphs import masked_lm, weights
from onnx import helper

from spladelet_export import GraphError
from spladelet_export.graph.logits_graph import opset, upgrade


def test_the_opset_is_that_of_the_standard_operators():
    model = masked_lm(*weights())
    model.opset_import.append(helper.make_opsetid("com.microsoft", 99))

    assert opset(model) == 18


def test_what_cannot_be_converted_is_said():
    node = onnx.helper.make_node("Nonsense", ["input_ids"], ["logits"])
    graph = onnx.helper.make_graph([node], "graph", [], [])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 12)])
    with pytest.raises(GraphError, match=r"operator set 12, and .* Export it again"):
        upgrade(model)
