from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from yoloqat.config import QuantScheme
from yoloqat.errors import ExportError
from yoloqat.export.activations import insert_qdq, quantizer_prefix
from yoloqat.onnx_graph.graph import constant, producers


def test_every_reader_of_a_placeholder_reads_a_dequantizer(marked, qparams):
    result = insert_qdq(marked, qparams.activations)
    onnx.checker.check_model(result.model, full_check=True)
    made = producers(result.model.graph)
    for name in ("stem", "left", "up"):
        node = next(n for n in result.model.graph.node if n.input[1:2] == [f"{name}.weight"])
        assert made[node.input[0]].name == f"{name}/input/DequantizeLinear"
    assert {n.domain for n in result.model.graph.node} == {""}
    assert [entry.domain for entry in result.model.opset_import] == [""]
    assert result.quantizers == {
        f"{name}/input/QuantizeLinear": f"{name}._input_quantizer" for name in ("stem", "left", "up", "fc", "last")
    }


def test_scale_is_a_float_scalar_and_zero_point_int8_zero(marked, qparams):
    model = insert_qdq(marked, qparams.activations).model
    node = next(n for n in model.graph.node if n.name == "stem/input/QuantizeLinear")
    scale, point = (constant(model.graph, name) for name in node.input[1:])
    assert (scale.dtype, scale.shape, scale.item()) == (np.float32, (), np.float32(1 / 127))
    assert (point.dtype, point.shape, point.item()) == (np.int8, (), 0)


def test_affine_unsigned_input_keeps_its_zero_point(marked, qparams):
    location = "stem._input_quantizer"
    scheme = QuantScheme(symmetric=False, unsigned=True)
    affine = replace(qparams.activations[location], scheme=scheme, zero_point=np.array(17, dtype=np.int64))
    model = insert_qdq(marked, {**qparams.activations, location: affine}).model
    tensor = next(t for t in model.graph.initializer if t.name == "stem/input/zero_point")
    assert (tensor.data_type, numpy_helper.to_array(tensor).item()) == (onnx.TensorProto.UINT8, 17)


def test_a_graph_without_markers_is_left_alone(traced, qparams):
    result = insert_qdq(traced, qparams.activations)
    assert not result.modified
    assert result.model is traced
    assert result.aliases == result.quantizers == {}


def test_the_given_model_is_not_changed(marked, qparams):
    before = marked.SerializeToString(deterministic=True)
    insert_qdq(marked, qparams.activations)
    assert marked.SerializeToString(deterministic=True) == before


def test_a_placeholder_without_qparams_is_refused(marked, qparams):
    known = {location: own for location, own in qparams.activations.items() if location != "up._input_quantizer"}
    with pytest.raises(ExportError, match=r"quantizer 'up\._input_quantizer' of tensor '\w+' has no qparams"):
        insert_qdq(marked, known)


def test_numbers_that_cannot_be_written_are_refused(marked, qparams):
    narrow = replace(qparams.activations["up._input_quantizer"], scheme=QuantScheme(bits=4))
    with pytest.raises(ExportError, match=r"quantizer 'up\._input_quantizer' has 4 bits"):
        insert_qdq(marked, {**qparams.activations, "up._input_quantizer": narrow})


def test_readers_of_one_tensor_with_equal_numbers_share_a_pair(marked, qparams):
    inserted = insert_qdq(marked, qparams.activations)
    assert inserted.aliases == {"right/input/QuantizeLinear": "left/input/QuantizeLinear"}
    readers = {n.input[1]: n.input[0] for n in inserted.model.graph.node if n.op_type == "Conv"}
    assert readers["left.weight"] == readers["right.weight"]
    names = {tensor.name for tensor in inserted.model.graph.initializer}
    assert "left/input/scale" in names
    assert "right/input/scale" not in names


def test_other_qparams_are_not_shared(marked, qparams, make_input):
    inserted = insert_qdq(marked, {**qparams.activations, "right._input_quantizer": make_input(0.71)})
    assert inserted.aliases == {}
    assert "right/input/QuantizeLinear" in inserted.quantizers


def test_a_layer_that_is_applied_twice_has_two_pairs(trace_with_placeholders, make_input):
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.layer(self.layer(images).relu())

    model = trace_with_placeholders(Twice().eval(), torch.rand(1, 3, 4, 4))
    inserted = insert_qdq(model, {"layer._input_quantizer": make_input(1.0)})
    assert inserted.quantizers == dict.fromkeys(
        ("layer/input/QuantizeLinear", "layer/input_1/QuantizeLinear"), "layer._input_quantizer"
    )


def test_a_marked_output_keeps_its_name(marked, qparams):
    renamed = onnx.ModelProto()
    renamed.CopyFrom(marked)
    placeholder = next(node for node in renamed.graph.node if node.domain == "yoloqat")
    renamed.graph.output.append(onnx.helper.make_tensor_value_info(placeholder.output[0], 1, [1, 3, 8, 8]))
    model = insert_qdq(renamed, qparams.activations).model
    onnx.checker.check_model(model, full_check=True)
    assert producers(model.graph)[placeholder.output[0]].input[0] == "stem/input/dequantized"


def test_quantizers_are_named_after_their_location():
    assert quantizer_prefix("model.0.conv._input_quantizer") == "model.0.conv/input"
    assert quantizer_prefix("model.2.m.0._residual_quantizer") == "model.2.m.0/residual"
