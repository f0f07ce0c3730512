"""A tiny QDQ graph of two convolutions, as yoloqat exports it."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

METADATA = {"names": {0: "cat", 1: "dog"}, "stride": 8, "task": "detect", "imgsz": [16, 16], "batch": 1, "args": {}}
SIDE = 16


def constant(name: str, values: object, dtype: type) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype=dtype), name)


def build(*, quantized: bool = True, channels: int = 32, seed: int = 0, batch: object = 1) -> onnx.ModelProto:
    """Return images -> Conv -> SiLU -> Conv -> output0, each convolution quantized on request."""
    rng = np.random.default_rng(seed)
    nodes, constants = [], []
    data = "images"
    for name, inputs, outputs, amax in (("first", 3, channels, 1.0), ("second", channels, 4, 4.0)):
        codes = np.clip(np.round(rng.normal(0, 50, (outputs, inputs, 3, 3))), -127, 127)
        scales = rng.uniform(0.5, 1.5, outputs) * 0.004
        weight = f"{name}.weight"
        if quantized:
            constants += [
                constant(f"{name}/s", amax / 127, np.float32),
                constant(f"{name}/z", 0, np.int8),
                constant(f"{name}/codes", codes, np.int8),
                constant(f"{name}/ws", scales, np.float32),
                constant(f"{name}/wz", np.zeros(outputs), np.int8),
            ]
            numbers = [f"{name}/s", f"{name}/z"]
            nodes += [
                helper.make_node(
                    "QuantizeLinear", [data, *numbers], [f"{name}/q"], name=f"{name}/input/QuantizeLinear"
                ),
                helper.make_node("DequantizeLinear", [f"{name}/q", *numbers], [f"{name}/dq"], name=f"{name}/dq"),
                helper.make_node(
                    "DequantizeLinear",
                    [f"{name}/codes", f"{name}/ws", f"{name}/wz"],
                    [weight],
                    name=f"{name}/w",
                    axis=0,
                ),
            ]
            data = f"{name}/dq"
        else:
            constants.append(constant(weight, codes * scales[:, None, None, None], np.float32))
        constants.append(constant(f"{name}.bias", rng.normal(0, 0.1, outputs), np.float32))
        out = f"{name}/y"
        nodes.append(helper.make_node("Conv", [data, weight, f"{name}.bias"], [out], name=name, pads=[1, 1, 1, 1]))
        data = out
        if name == "first":
            nodes += [
                helper.make_node("Sigmoid", [out], ["gate"], name="gate"),
                helper.make_node("Mul", [out, "gate"], ["silu"], name="silu"),
            ]
            data = "silu"
    nodes[-1].output[0] = "output0"
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [batch, 4, SIDE, SIDE])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    helper.set_model_props(model, {key: str(value) for key, value in METADATA.items()})
    return model
