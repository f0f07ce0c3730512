from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from yoloqat.config import QuantScheme
from yoloqat.errors import ExportError
from yoloqat.export.activations import insert_input_quantizers, share_quantizers
from yoloqat.export.graph import constant, producers
from yoloqat.quant.numbers import LayerNumbers


def inputs_only(layers):
    return [replace(layer, weight=None) for layer in layers]


def test_every_wanted_input_is_dequantized(traced, layers):
    result = insert_input_quantizers(traced, inputs_only(layers))
    onnx.checker.check_model(result.model, full_check=True)
    made = producers(result.model.graph)
    for name in ("stem", "left", "up"):
        node = next(n for n in result.model.graph.node if n.input[1:2] == [f"{name}.weight"])
        assert made[node.input[0]].name == f"{name}/input/DequantizeLinear"
    assert sum(n.op_type == "QuantizeLinear" for n in result.model.graph.node) == len(layers)


def test_scale_is_a_float_scalar_and_zero_point_int8_zero(traced, layers):
    model = insert_input_quantizers(traced, inputs_only(layers[:1])).model
    node = next(n for n in model.graph.node if n.name == "stem/input/QuantizeLinear")
    scale, point = (constant(model.graph, name) for name in node.input[1:])
    assert (scale.dtype, scale.shape, scale.item()) == (np.float32, (), np.float32(1 / 127))
    assert (point.dtype, point.shape, point.item()) == (np.int8, (), 0)


def test_affine_unsigned_input_keeps_its_zero_point(traced, layers):
    numbers = replace(
        layers[0].input, scheme=QuantScheme(symmetric=False, unsigned=True), zero_point=np.array(17, dtype=np.int64)
    )
    model = insert_input_quantizers(traced, [LayerNumbers("stem", numbers, None)]).model
    tensor = next(t for t in model.graph.initializer if t.name == "stem/input/zero_point")
    assert (tensor.data_type, numpy_helper.to_array(tensor).item()) == (onnx.TensorProto.UINT8, 17)


def test_nothing_to_insert_is_a_no_op(traced):
    for layers in ([], [LayerNumbers("stem", None, None)]):
        result = insert_input_quantizers(traced, layers)
        assert not result.modified
        assert result.model is traced


def test_the_given_model_is_not_changed(traced, layers):
    before = traced.SerializeToString(deterministic=True)
    insert_input_quantizers(traced, inputs_only(layers))
    assert traced.SerializeToString(deterministic=True) == before


def test_quantizing_twice_is_refused(traced, layers):
    once = insert_input_quantizers(traced, inputs_only(layers[:1])).model
    with pytest.raises(ExportError, match="of layer 'stem' is quantized already"):
        insert_input_quantizers(once, inputs_only(layers[:1]))


def test_unknown_layer_is_refused(traced, layers):
    with pytest.raises(ExportError, match="layer 'gone' has no Conv"):
        insert_input_quantizers(traced, [replace(layers[0], name="gone")])


def test_readers_of_one_tensor_with_equal_numbers_share_a_pair(traced, layers):
    model = insert_input_quantizers(traced, inputs_only(layers)).model
    shared = share_quantizers(model)
    assert shared.aliases == {"right/input/QuantizeLinear": "left/input/QuantizeLinear"}
    onnx.checker.check_model(shared.model, full_check=True)
    readers = {n.input[1]: n.input[0] for n in shared.model.graph.node if n.op_type == "Conv"}
    assert readers["left.weight"] == readers["right.weight"]
    names = {tensor.name for tensor in shared.model.graph.initializer}
    assert "left/input/scale" in names
    assert "right/input/scale" not in names


def test_sharing_again_does_nothing(traced, layers):
    shared = share_quantizers(insert_input_quantizers(traced, inputs_only(layers)).model)
    again = share_quantizers(shared.model)
    assert not again.modified
    assert again.aliases == {}
    assert again.model is shared.model


def test_other_numbers_are_not_shared(traced, layers, make_input):
    other = [layers[1], LayerNumbers("right", make_input(0.71), None)]
    result = share_quantizers(insert_input_quantizers(traced, inputs_only(other)).model)
    assert not result.modified
