from __future__ import annotations

import onnx
import pytest
from onnx import helper

from yoloqat.errors import ExportError
from yoloqat.export.layers import name_layers, nodes_of, strip_trace


def test_nodes_are_named_after_modules_and_nothing_else_changes(traced):
    result = name_layers(traced)
    assert result.modified
    named = [
        node.name for node in result.model.graph.node if node.name in ("stem", "left", "right", "up", "fc", "last")
    ]
    assert named == ["stem", "left", "right", "up", "fc", "last"]
    for before, after in zip(traced.graph.node, result.model.graph.node, strict=True):
        assert (before.op_type, list(before.input), list(before.output)) == (
            after.op_type,
            list(after.input),
            list(after.output),
        )


def test_naming_again_does_nothing(traced):
    once = name_layers(traced).model
    again = name_layers(once)
    assert not again.modified
    assert again.model is once


def test_a_module_applied_twice_gets_a_number():
    nodes = [helper.make_node("Conv", ["x", "a.weight"], ["y"]), helper.make_node("Conv", ["y", "a.weight"], ["z"])]
    weight = helper.make_tensor("a.weight", onnx.TensorProto.FLOAT, [1, 1, 1, 1], [1.0])
    model = helper.make_model(helper.make_graph(nodes, "g", [], [], [weight]))
    assert [node.name for node in name_layers(model).model.graph.node] == ["a", "a_1"]
    assert nodes_of(model, ["a"]) == {"a": [0, 1]}


def test_traces_of_this_machine_are_removed(traced):
    model = onnx.ModelProto()
    model.CopyFrom(traced)
    model.metadata_props.add(key="names", value="kept")
    model.ir_version = 12
    model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value='File "/home/me/model.py", line 3')
    result = strip_trace(model)
    assert result.modified
    assert b".py" in model.SerializeToString()
    assert b".py" not in result.model.SerializeToString()
    assert result.model.ir_version == 10
    assert result.model.metadata_props[0].value == "kept"
    again = strip_trace(result.model)
    assert not again.modified
    assert again.model is result.model


def test_empty_graph_is_left_alone():
    empty = helper.make_model(helper.make_graph([], "empty", [], []), ir_version=10)
    assert not name_layers(empty).modified
    assert not strip_trace(empty).modified


def test_unknown_layer_is_refused(traced):
    with pytest.raises(ExportError, match="layer 'nowhere' has no Conv, ConvTranspose, Gemm or MatMul"):
        nodes_of(traced, ["stem", "nowhere"])


def test_layer_given_twice_is_refused(traced):
    with pytest.raises(ExportError, match="layer 'stem' is given twice"):
        nodes_of(traced, ["stem", "left", "stem"])
