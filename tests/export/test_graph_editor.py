"""A graph written anew: in order, with the constants that are read, and no copy of the others."""

from itertools import chain

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from spladelet_export.graph.graph_editor import GraphEditor, spans, used_names


def graph_of(nodes, **constants):
    return helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.float32(value), name) for name, value in constants.items()],
    )


def outputs(nodes):
    return [name for node in nodes for name in node.output]


def test_the_graph_is_as_it_was_until_the_end():
    graph = graph_of([helper.make_node("Add", ["x", "one"], ["y"])], one=1)
    editor = GraphEditor(graph)

    two = editor.constant("two", np.float32(2))
    total = editor.add("Add", ["x", two], "total", {"name": "sum"})
    editor.add("Mul", [total, total], "y")

    assert [node.op_type for node in editor.readers("x")] == ["Add"]
    assert [tensor.name for tensor in graph.initializer] == ["one"]
    editor.finish()
    assert outputs(graph.node) == ["total", "y"]
    assert [node.name for node in graph.node] == ["sum", ""]
    assert {t.name: numpy_helper.to_array(t) for t in graph.initializer} == {"two": 2}


def test_constants_keep_their_order_and_go_when_nothing_reads_them():
    graph = graph_of([], a=1, b=2, c=3)
    editor = GraphEditor(graph)

    editor.constant("d", np.float32(4))
    editor.constant("c", np.float32(5))  # there already
    for name in "dcxa":
        editor.add("Identity", [name], f"of {name}")
    editor.finish()

    assert [tensor.name for tensor in graph.initializer] == ["a", "c", "d"]
    assert editor.array("c") == 3


def test_a_constant_may_become_the_output_of_a_node():
    graph = graph_of([helper.make_node("Add", ["x", "one"], ["y"])], one=1)
    editor = GraphEditor(graph)

    del editor.constants["one"]
    editor.add("Cast", [editor.constant("half", np.float16(1))], "one", {"to": TensorProto.FLOAT})
    editor.nodes += graph.node
    editor.finish()

    assert [tensor.name for tensor in graph.initializer] == ["half"]
    assert outputs(graph.node) == ["one", "y"]


def test_what_nothing_asks_for_is_dropped_with_what_only_that_asks_for():
    editor = GraphEditor(graph_of([]))
    editor.add("Abs", ["x"], "only for the dead one")
    editor.add("Neg", ["only for the dead one"], "dead")
    editor.add("Abs", ["x"], "shared")
    editor.add("Neg", ["shared"], "also dead")
    editor.add("Exp", ["shared"], "y")

    editor.drop_unread()

    assert outputs(editor.nodes) == ["shared", "y"]


def test_names_in_the_branches_of_an_if_are_read():
    branch = helper.make_graph(
        [helper.make_node("Neg", ["inside"], ["negative"])],
        "branch",
        [],
        [helper.make_tensor_value_info("passed on", onnx.TensorProto.FLOAT, None)],
    )
    node = helper.make_node("If", ["asked"], ["y"], then_branch=branch, else_branch=branch)

    assert used_names([node]) == {"asked", "inside", "passed on"}


@pytest.mark.parametrize(("total", "step"), [(0, 4), (1, 4), (4, 4), (9, 4), (3, 1)])
def test_spans_cover_everything_once(total, step):
    numbers = list(range(total))
    found = [numbers[span] for span in spans(total, step)]

    assert list(chain.from_iterable(found)) == numbers
    assert all(0 < len(part) <= step for part in found)
