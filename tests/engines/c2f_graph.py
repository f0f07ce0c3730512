"""A QDQ graph with what joins convolutions in a YOLO: split, residual sum, pooling, resizing, concatenation."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 8
METADATA = {"names": {0: "cat", 1: "dog"}, "stride": 8, "task": "detect", "imgsz": [SIDE, SIDE], "batch": 1, "args": {}}


class Builder:
    """Adds nodes one by one; every convolution is quantized."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: object, dtype: type) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def node(self, kind: str, inputs: list[str], outputs: list[str], name: str = "", **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name or outputs[0], **attributes))
        return outputs[0]

    def quantized(self, data: str, name: str, scale: float) -> str:
        numbers = [
            self.constant(f"{name}/s", scale, np.float32),
            self.constant(f"{name}/z", 0, np.int8),
        ]
        self.node("QuantizeLinear", [data, *numbers], [f"{name}/q"], f"{name}/QuantizeLinear")
        return self.node("DequantizeLinear", [f"{name}/q", *numbers], [f"{name}/dq"])

    def conv(self, data: str, name: str, inputs: int, outputs: int, *, silu: bool = True) -> str:
        codes = np.clip(np.round(self.rng.normal(0, 40, (outputs, inputs, 3, 3))), -127, 127)
        self.constant(f"{name}/codes", codes, np.int8)
        self.constant(f"{name}/ws", self.rng.uniform(0.5, 1.5, outputs) * 0.004, np.float32)
        self.constant(f"{name}/wz", np.zeros(outputs), np.int8)
        self.constant(f"{name}.bias", self.rng.normal(0, 0.3, outputs), np.float32)
        weight = self.node(
            "DequantizeLinear", [f"{name}/codes", f"{name}/ws", f"{name}/wz"], [f"{name}.weight"], axis=0
        )
        out = self.node("Conv", [data, weight, f"{name}.bias"], [f"{name}/y"], name, pads=[1, 1, 1, 1])
        if not silu:
            return out
        gate = self.node("Sigmoid", [out], [f"{name}/gate"])
        return self.node("Mul", [out, gate], [f"{name}/silu"])


def c2f(*, seed: int = 0, scale: float = 2.0 / 127, residual_scale: float | None = None) -> onnx.ModelProto:
    """Return images -> conv -> split -> conv + residual, pooled and resized, all concatenated -> conv -> SiLU -> output.

    Args:
        seed: Of the weights.
        scale: Of the quantizers that share one.
        residual_scale: Of the quantizer on one half of the split, where it has one of its own.
    """
    b = Builder(seed)
    first = b.conv(b.quantized("images", "first/in", 1 / 127), "first", 3, 8)
    b.constant("halves", [4, 4], np.int64)
    b.node("Split", [first, "halves"], ["left", "right"], axis=1)
    right = b.quantized("right", "inner/in", residual_scale or scale)
    inner = b.conv(right, "inner", 4, 4)
    added = b.node("Add", [right, inner], ["added"])
    pooled = b.node("MaxPool", [added], ["pooled"], kernel_shape=[2, 2], strides=[2, 2])
    b.constant("sizes", [1, 1, 2, 2], np.float32)
    b.node("Resize", [pooled, "", "sizes"], ["resized"], mode="nearest")
    joined = b.node("Concat", ["left", "right", "added", "resized"], ["joined"], axis=1)
    last = b.conv(b.quantized(joined, "last/in", scale), "last", 16, 6)
    b.node("Identity", [last], ["output0"])
    shape = [1, 3, SIDE, SIDE]
    graph = helper.make_graph(
        b.nodes,
        "c2f",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, SIDE, SIDE])],
        b.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    helper.set_model_props(model, {key: str(value) for key, value in METADATA.items()})
    onnx.checker.check_model(model)
    return model
