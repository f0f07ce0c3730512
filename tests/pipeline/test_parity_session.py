"""Node by node, ONNX Runtime runs the file as it is written."""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from yoloqat.engines.ort import session_options
from yoloqat.pipeline.parity import ROUNDING_OPTIMIZERS

COARSE = 1.0
"""Scale of input and weight: a bias in codes would be a multiple of it."""


def test_the_bias_of_a_layer_between_quantizers_is_not_rounded():
    constants = {
        "coarse": np.float32(COARSE),
        "scales": np.full(2, COARSE, np.float32),
        "fine": np.float32(0.01),
        "zero": np.int8(0),
        "zeros": np.zeros(2, np.int8),
        "codes": np.ones((2, 2, 2, 2), np.int8),
        "bias": np.array([0.3, -0.4], np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "coarse", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "coarse", "zero"], ["dq"]),
        helper.make_node("DequantizeLinear", ["codes", "scales", "zeros"], ["w"], axis=1),
        helper.make_node("ConvTranspose", ["dq", "w", "bias"], ["y"], strides=[2, 2], kernel_shape=[2, 2]),
        helper.make_node("QuantizeLinear", ["y", "fine", "zero"], ["found"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 3, 3])],
        [helper.make_tensor_value_info("found", TensorProto.INT8, [1, 2, 6, 6])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(),
        session_options(threads=1),
        providers=["CPUExecutionProvider"],
        disabled_optimizers=ROUNDING_OPTIMIZERS,
    )
    found = session.run(None, {"x": np.zeros((1, 2, 3, 3), np.float32)})[0]
    assert {tuple(np.unique(found[0, channel])) for channel in range(2)} == {(30,), (-40,)}
