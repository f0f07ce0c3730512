from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from yoloqat.onnx_graph.graph import unname_sizes


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
