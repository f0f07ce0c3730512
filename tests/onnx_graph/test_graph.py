from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from yoloqat.onnx_graph.graph import constants, free_name, remove_unread_initializers, unname_sizes


def test_open_sizes_lose_their_names_and_stay_open():
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in "xyz"]
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Relu", ["y"], ["z"])]
    model = helper.make_model(helper.make_graph(nodes, "open", values[:1], values[2:], value_info=values[1:2]))
    result = unname_sizes(model)
    graph = result.model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        first, second = value.type.tensor_type.shape.dim
        assert (first.WhichOneof("value"), second.dim_value) == (None, 3)
    assert result.modified
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    again = unname_sizes(result.model)
    assert (again.modified, again.model) == (False, result.model)
    onnx.checker.check_model(result.model, full_check=True)


def test_a_constant_is_held_by_an_initialiser_or_a_node():
    nodes = [
        helper.make_node("Constant", [], ["tensor"], value=numpy_helper.from_array(np.array([3], np.int8))),
        helper.make_node("Constant", [], ["number"], value_float=0.5),
        helper.make_node("Constant", [], ["numbers"], value_ints=[1, 2]),
        helper.make_node("Constant", [], ["text"], value_string="a"),
    ]
    graph = helper.make_graph(nodes, "g", [], [], [numpy_helper.from_array(np.float32(2), "held")])
    found = {name: numpy_helper.to_array(tensor) for name, tensor in constants(graph).items()}
    assert {name: (array.tolist(), str(array.dtype)) for name, array in found.items()} == {
        "held": (2.0, "float32"),
        "tensor": ([3], "int8"),
        "number": (0.5, "float32"),
        "numbers": ([1, 2], "int64"),
    }


def test_initialisers_that_nothing_reads_are_removed_with_their_types():
    held = [numpy_helper.from_array(np.float32(0), name) for name in ("read", "given", "unread", "spare")]
    value = helper.make_tensor_value_info("given", TensorProto.FLOAT, [])
    types = [helper.make_tensor_value_info("unread", TensorProto.FLOAT, [])]
    graph = helper.make_graph([helper.make_node("Neg", ["read"], ["y"])], "g", [], [value], held, value_info=types)
    remove_unread_initializers(graph, ["unread", "read"])
    assert ([tensor.name for tensor in graph.initializer], len(graph.value_info)) == (["read", "given", "spare"], 0)
    remove_unread_initializers(graph)
    assert [tensor.name for tensor in graph.initializer] == ["read", "given"]


def test_a_free_name_has_the_least_number():
    assert free_name("x", {"x_1", "x_3"}) == "x_2"
    assert free_name("x", {"x_1"}, first=0) == "x_0"
