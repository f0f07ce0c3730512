from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from yoloqat.errors import ExportError
from yoloqat.export.half import LARGEST_SCALE, SMALLEST_SCALE, bake_half
from yoloqat.export.qdq import quantize_graph
from yoloqat.onnx_graph.graph import initializers, producers


@pytest.fixture(scope="module")
def quantized(marked, qparams, metadata):
    return quantize_graph(marked, qparams, metadata=metadata)[0]


def run(model, images):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})


def test_images_and_outputs_stay_float32_and_the_layers_are_half(quantized, example):
    model = bake_half(quantized).model
    onnx.checker.check_model(model, full_check=True)
    kinds = [v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)]
    assert kinds == [TensorProto.FLOAT] * 3
    types = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert {types[node.output[0]] for node in convolutions} == {TensorProto.FLOAT16}
    constants = initializers(model.graph)
    assert constants["stem.bias/half"].data_type == TensorProto.FLOAT16
    assert "stem.bias" not in constants
    for half, full in zip(run(model, example.numpy()), run(quantized, example.numpy()), strict=True):
        assert half.dtype == np.float32
        np.testing.assert_allclose(half, full, atol=0.02 * np.abs(full).max())


def test_every_scale_is_half(quantized):
    model = bake_half(quantized).model
    constants = initializers(model.graph)
    locations = [
        node for node in model.graph.node if node.op_type.endswith("quantizeLinear") or "Quantize" in node.op_type
    ]
    assert len(locations) > 10
    assert {constants[node.input[1]].data_type for node in locations} == {TensorProto.FLOAT16}


def test_the_given_model_is_not_changed(quantized):
    before = quantized.SerializeToString(deterministic=True)
    bake_half(quantized)
    assert quantized.SerializeToString(deterministic=True) == before


def with_scale(model, node_name, values):
    changed = copy.deepcopy(model)
    node = next(node for node in changed.graph.node if node.name == node_name)
    tensor = next(t for t in changed.graph.initializer if t.name == node.input[1])
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(values, dtype=np.float32), tensor.name))
    return changed, node


@pytest.mark.parametrize(
    ("scale", "wanted"), [(1e-6, SMALLEST_SCALE), (2.0**20, LARGEST_SCALE), (0.125, 0.125), (2.0**-14, 2.0**-14)]
)
def test_a_scale_beyond_float16_is_brought_into_its_range(quantized, scale, wanted):
    changed, node = with_scale(quantized, "stem/input/QuantizeLinear", scale)
    constants = initializers(bake_half(changed).model.graph)
    assert float(numpy_helper.to_array(constants[f"{node.input[1]}/half"])) == wanted


def test_integers_of_a_raised_weight_scale_stand_for_the_same_weight(quantized):
    before = initializers(quantized.graph)
    node = next(node for node in quantized.graph.node if node.name == "stem/weight/DequantizeLinear")
    scale = numpy_helper.to_array(before[node.input[1]]).copy()
    scale[3] = 2.0**-16
    changed, node = with_scale(quantized, node.name, scale)
    after = initializers(bake_half(changed).model.graph)
    old, new = (numpy_helper.to_array(found[node.input[0]]) for found in (before, after))
    half = numpy_helper.to_array(after[f"{node.input[1]}/half"])
    assert half[3] == SMALLEST_SCALE
    np.testing.assert_array_equal(new[3], np.rint(old[3] / 4).astype(np.int8))
    others = [0, 1, 2, 4, 5, 6, 7]
    np.testing.assert_array_equal(new[others], old[others])


def test_what_decodes_after_the_last_layer_stays_float32(trace_with_placeholders, make_input):
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.layer(images).sigmoid() * 640

    model = trace_with_placeholders(Head().eval(), torch.rand(1, 3, 4, 4))
    from yoloqat.export.activations import insert_qdq

    baked = bake_half(insert_qdq(model, {"layer._input_quantizer": make_input(1.0)}).model).model
    made = producers(baked.graph)
    types = {v.name: v.type.tensor_type.elem_type for v in baked.graph.value_info}
    product = made["output0"]
    assert product.op_type == "Mul"
    assert types[product.input[0]] == TensorProto.FLOAT
    assert made[made[product.input[0]].input[0]].op_type == "Cast"


def test_a_float_graph_whose_output_is_a_layers_own(traced, example):
    model = bake_half(traced).model
    onnx.checker.check_model(model, full_check=True)
    for half, full in zip(run(model, example.numpy()), run(traced, example.numpy()), strict=True):
        np.testing.assert_allclose(half, full, atol=0.01 * np.abs(full).max())


def test_opsets_without_half_quantizers_are_refused(quantized):
    old = copy.deepcopy(quantized)
    old.opset_import[0].version = 18
    with pytest.raises(ExportError, match="opset is 18 and FP16 is asked for"):
        bake_half(old)


def test_a_scale_that_is_computed_is_refused():
    zero = helper.make_tensor("z", TensorProto.INT8, [], [0])
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["s"], keepdims=0),
        helper.make_node("QuantizeLinear", ["images", "s", "z"], ["q"], name="Q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], name="D"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("images", "y")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    with pytest.raises(ExportError, match="the scale 's' of 'Q' is no constant"):
        bake_half(model)
