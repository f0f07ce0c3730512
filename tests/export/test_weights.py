from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from yoloqat.errors import ExportError
from yoloqat.export.weights import quantize_weights
from yoloqat.onnx_graph.graph import initializers, producers


def test_integers_and_scales_stand_for_the_float_weight(traced, qparams, net):
    result = quantize_weights(traced, qparams.weights)
    onnx.checker.check_model(result.model, full_check=True)
    constants = initializers(result.model.graph)
    for name, axis, transposed in zip(qparams.weights, [0, 0, 0, 1, 1, None], [0, 0, 0, 0, 1, 0], strict=True):
        node = producers(result.model.graph)[f"{name}/weight/dequantized"]
        integers, scale, point = (numpy_helper.to_array(constants[part]) for part in node.input)
        assert (integers.dtype, point.dtype, point.shape) == (np.int8, np.int8, scale.shape)
        assert [attribute.i for attribute in node.attribute] == ([] if axis is None else [axis])
        shape = [1] * integers.ndim
        if axis is not None:
            shape[axis] = -1
        weight = net.get_submodule(name).weight.detach().numpy()
        wanted = weight.T if transposed else weight
        assert np.abs(integers * scale.reshape(shape) - wanted).max() <= scale.max() * 0.5001


def test_float_weights_are_gone_and_biases_stay(traced, qparams):
    names = set(initializers(quantize_weights(traced, qparams.weights).model.graph))
    assert not {f"{name}.weight" for name in qparams.weights} & names
    assert {"stem.bias", "up.bias", "fc.bias"} <= names


def test_nothing_to_quantize_is_a_no_op(traced):
    result = quantize_weights(traced, {})
    assert not result.modified
    assert result.model is traced


def test_integers_of_another_shape_are_refused(traced, qparams):
    weight = replace(qparams.weights["stem"], integers=np.zeros((8, 3, 1, 1), dtype=np.int64))
    with pytest.raises(ExportError, match=r"weight of layer 'stem' has integers of shape \(8, 3, 1, 1\)"):
        quantize_weights(traced, {"stem": weight})


def test_scales_along_another_axis_are_refused(traced, qparams):
    weight = replace(qparams.weights["up"], scale=np.ones(8, dtype=np.float32), zero_point=np.zeros(8, dtype=np.int64))
    with pytest.raises(ExportError, match=r"weight of layer 'up' has scales of shape \(8,\); expected \(\) or \(6,\)"):
        quantize_weights(traced, {"up": weight})


def test_quantizing_twice_is_refused(traced, qparams):
    stem = {"stem": qparams.weights["stem"]}
    once = quantize_weights(traced, stem).model
    with pytest.raises(ExportError, match="layer 'stem' has no Conv"):
        quantize_weights(once, stem)
