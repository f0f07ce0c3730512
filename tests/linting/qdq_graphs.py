"""Small QDQ graphs, built node by node; what each test needs wrong it asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SCALE = 0.05


class Builder:
    """A graph in the making; each method returns the name of the tensor that it makes."""

    def __init__(self, channels: int = 3) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, channels, 8, 8])]

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def node(
        self, op: str, inputs: list[str], name: str, *, outputs: int = 1, domain: str = "", **attributes: Any
    ) -> str:
        made = [f"{name}_out"] if outputs == 1 else [f"{name}_out{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, made, name=name, domain=domain, **attributes))
        return made[0]

    def pair(
        self, tensor: str, name: str, scale: Any = SCALE, *, point: Any = 0, code: Any = np.int8, **options: Any
    ) -> str:
        """Quantize and dequantize a tensor; options: ``dtype`` of the scales, ``domain``, ``axis``."""
        dtype, domain = options.pop("dtype", np.float32), options.pop("domain", "")
        numbers = [self.constant(f"{name}/scale", scale, dtype)]
        if point is not None:
            numbers.append(self.constant(f"{name}/point", np.broadcast_to(point, np.shape(scale)), code))
        codes = self.node("QuantizeLinear", [tensor, *numbers], f"{name}/Q", domain=domain, **options)
        return self.node("DequantizeLinear", [codes, *numbers], f"{name}/DQ", domain=domain, **options)

    def weight(
        self, name: str, shape: tuple[int, ...], *, axis: int | None = 0, count: int | None = None, **options: Any
    ) -> str:
        """An 8-bit weight with a DequantizeLinear; options: ``code``, ``dtype``, ``written`` (is the axis written)."""
        code, dtype = options.get("code", np.int8), options.get("dtype", np.float32)
        number = () if axis is None else (shape[axis] if count is None else count,)
        codes = self.constant(f"{name}/codes", np.ones(shape), code)
        scale = self.constant(f"{name}/scale", np.full(number, 0.01), dtype)
        point = self.constant(f"{name}/point", np.zeros(number), code)
        written = {} if axis is None or not options.get("written", True) else {"axis": axis}
        return self.node("DequantizeLinear", [codes, scale, point], f"{name}/DQ", **written)

    def conv(
        self, data: str, name: str, channels: tuple[int, int] = (16, 16), *, quantized: bool = True, **attributes: Any
    ) -> str:
        """A 1x1 convolution with a float bias; its weight is 8 bits or float."""
        shape = (channels[1], channels[0] // attributes.get("group", 1), 1, 1)
        weight = self.weight(f"{name}/weight", shape) if quantized else self.constant(f"{name}.weight", np.ones(shape))
        bias = self.constant(f"{name}.bias", np.zeros(channels[1]))
        return self.node("Conv", [data, weight, bias], name, **attributes)

    def silu(self, tensor: str, name: str) -> str:
        return self.node("Mul", [tensor, self.node("Sigmoid", [tensor], f"{name}/sigmoid")], f"{name}/silu")

    def layer(self, data: str, name: str, channels: tuple[int, int] = (16, 16), *, scale: float = SCALE) -> str:
        """A quantized convolution with its own Q/DQ on the input, and SiLU."""
        return self.silu(self.conv(self.pair(data, f"{name}/input", scale), name, channels), name)

    def predictions(self, data: str) -> list[str]:
        """End with a float convolution and a sigmoid; return the graph's outputs."""
        return [self.node("Sigmoid", [self.conv(data, "last", (16, 5), quantized=False)], "scores")]

    def model(self, outputs: list[str], *, opset: int = 19, **extra: int) -> onnx.ModelProto:
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in outputs]
        graph = helper.make_graph(self.nodes, "test", self.inputs, values, self.initializers)
        opsets = [
            helper.make_opsetid("", opset),
            *(helper.make_opsetid(name, version) for name, version in extra.items()),
        ]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def detector(*, residual: bool = True, scales: tuple[float, float] = (SCALE, SCALE)) -> onnx.ModelProto:
    """A small detector without fault: a split, a residual block, a Concat and a resize that share one scale.

    Args:
        residual: Whether the residual input of the Add is quantized.
        scales: Of what enters the residual block, and of what leaves the Concat.
    """
    build = Builder()
    stem = build.layer(build.layer("images", "stem", (3, 16)), "cv1", (16, 64))
    build.node("Split", [stem], "split", outputs=2, axis=1, num_outputs=2)
    half = build.pair("split_out1", "block/input", scales[0])
    block = build.silu(build.conv(half, "block", (32, 32)), "block")
    added = build.node("Add", [half if residual else "split_out1", block], "add")
    joined = build.node("Concat", ["split_out0", "split_out1", added], "concat", axis=1)
    out = build.layer(joined, "cv2", (96, 16), scale=scales[1])
    sizes = build.constant("sizes", [1, 1, 2, 2])
    up = build.node("Resize", [out, "", sizes], "up", mode="nearest")
    return build.model(build.predictions(build.layer(build.node("MaxPool", [up], "pool", kernel_shape=[1, 1]), "cv3")))
