from __future__ import annotations

import os
import re

import numpy as np
import onnx
import pytest
from broken_onnx import set_value
from onnx import helper, numpy_helper

from yoloqat.errors import ModelError
from yoloqat.onnx_graph.file import load_onnx


@pytest.fixture
def refused(tiny, tmp_path):
    def check(told, **changes):
        model = tiny()
        for change in changes.values():
            change(model)
        path = tmp_path / "odd.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ModelError, match=told) as caught:
            load_onnx(path)
        assert "odd.onnx'" in str(caught.value)

    return check


def test_unknown_operator(refused):
    refused(
        r"not valid \(No Op registered for NoSuch with domain_version of 19",
        change=lambda m: setattr(m.graph.node[-1], "op_type", "NoSuch"),
    )


def test_domain_that_the_file_does_not_import(refused):
    refused(
        r"not valid \(No opset import for domain 'somewhere'",
        change=lambda m: setattr(m.graph.node[-1], "domain", "somewhere"),
    )


def test_cycle(refused):
    refused(
        r"topologically sorted, however input 'silu' of node:",
        change=lambda m: m.graph.node[3].input.__setitem__(0, "silu"),
    )


def test_input_that_nothing_makes(refused):
    refused(
        r"topologically sorted, however input 'nowhere' of node:",
        change=lambda m: m.graph.node[3].input.__setitem__(1, "nowhere"),
    )


def test_too_few_inputs(refused):
    refused(
        r"not valid \(Node\(first\) .* has input size 1 not in range",
        change=lambda m: m.graph.node[3].input.__delitem__(slice(1, None)),
    )


def test_tensor_cut_short(refused):
    refused(
        r"tensor 'first/codes' of '.*' cannot be read \(.*expected the values of its shape \(7, 3, 3, 3\)",
        change=lambda m: m.graph.initializer[2].dims.__setitem__(0, 7),
    )


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("first/s", 0.0, "the scale of QuantizeLinear 'first/input/QuantizeLinear' in '.*' is 0.0"),
        ("second/s", -0.5, "the scale of QuantizeLinear 'second/input/QuantizeLinear' in '.*' is -0.5"),
        ("first/s", np.nan, "the scale of QuantizeLinear 'first/input/QuantizeLinear' in '.*' is nan"),
        ("first/ws", np.inf, "the scale of DequantizeLinear 'first/w' in '.*' is inf"),
    ],
)
def test_scales(refused, name, value, told):
    refused(told, change=lambda m: set_value(m, name, value))


def test_scale_of_a_constant_node(refused):
    def move(model):
        tensor = model.graph.initializer[0]
        node = helper.make_node("Constant", [], [tensor.name], value=tensor)
        model.graph.node.insert(0, node)
        del model.graph.initializer[0]

    refused(
        "the scale of QuantizeLinear 'first/input/QuantizeLinear' in '.*' is 0.0",
        zero=lambda m: set_value(m, "first/s", 0.0),
        move=move,
    )


def test_weight_scale_of_zero_is_a_dead_channel(tiny, tmp_path):
    model = tiny()
    set_value(model, "first/ws", 0.0)
    onnx.save(model, tmp_path / "dead.onnx")
    assert load_onnx(tmp_path / "dead.onnx").graph.name == "tiny"


def test_outputs_need_no_recorded_shape(tiny, tmp_path):
    model = tiny()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, tmp_path / "open.onnx")
    assert not load_onnx(tmp_path / "open.onnx").graph.output[0].type.tensor_type.HasField("shape")


def test_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ModelError, match=re.escape(f"'{tmp_path}/pipe.onnx' is no regular file")):
        load_onnx(tmp_path / "pipe.onnx")


def test_an_opset_that_is_not_known(refused):
    refused(
        r"has operators of opset 999; expected at most \d+, the last that onnx",
        change=lambda m: setattr(m.opset_import[0], "version", 999),
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_not_finite(tmp_path, value):
    weight = numpy_helper.from_array(np.full((1, 3, 1, 1), value, np.float32), "w")
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, n, 4, 4]) for name, n in (("x", 3), ("y", 1))
    ]
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weight])
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(ModelError, match=r"tensor 'w' of Conv 'conv' in '.*m\.onnx' holds NaN or infinity"):
        load_onnx(tmp_path / "m.onnx")
