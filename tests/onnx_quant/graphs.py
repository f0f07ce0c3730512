"""Small float graphs made by hand, with the heads of other exporters."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 32
CLASSES = 2


class Graph:
    """Nodes and weights of a graph in the making."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(seed)

    def add(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, list(inputs), [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def hold(self, name: str, values: Any) -> str:
        self.tensors.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def conv(
        self, name: str, read: str, channels: tuple[int, int], *, kernel: int = 1, gain: float = 1.5, **attributes: Any
    ) -> str:
        groups = attributes.get("group", 1)
        shape = (channels[1], channels[0] // groups, kernel, kernel)
        scale = gain / np.sqrt(shape[1] * kernel * kernel)
        weight = self.hold(f"w_{name}", (self._rng.normal(size=shape) * scale).astype(np.float32))
        pads = [kernel // 2] * 4
        return self.add("Conv", name, read, weight, pads=pads, **attributes)

    def silu(self, name: str, read: str) -> str:
        return self.add("Mul", f"{name}_mul", read, self.add("Sigmoid", f"{name}_gate", read))

    def model(
        self, outputs: dict[str, tuple[int | None, ...]], *, opset: int = 13, fed: tuple[Any, ...] = (1, 3, SIZE, SIZE)
    ) -> onnx.ModelProto:
        given = helper.make_tensor_value_info("images", TensorProto.FLOAT, fed)
        made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
        graph = helper.make_graph(self.nodes, "detector", [given], made, self.tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def yolox(*, inside: bool = False, opset: int = 11) -> onnx.ModelProto:
    """Return a detector with YOLOX's head: a level per stride, box, objectness and classes joined in rows.

    Args:
        inside: The boxes are decoded in the graph.
        opset: Of the operators.
    """
    g = Graph()
    x = g.silu("stem", g.conv("Conv_0", "images", (3, 8), kernel=3, gain=0.01, strides=[4, 4]))
    levels = []
    for number in range(3):
        x = g.silu(f"down{number}", g.conv(f"Conv_down{number}", x, (8, 8), kernel=3, strides=[2, 2]))
        deep = g.silu(f"deep{number}", g.conv(f"Conv_deep{number}", x, (8, 8), kernel=3))
        x = g.add("Add", f"Add_{number}", deep, x)
        parts = [
            g.conv(f"Conv_reg{number}", x, (8, 4)),
            g.add("Sigmoid", f"obj{number}", g.conv(f"Conv_obj{number}", x, (8, 1))),
            g.add("Sigmoid", f"cls{number}", g.conv(f"Conv_cls{number}", x, (8, CLASSES))),
        ]
        level = g.add("Concat", f"level{number}", *parts, axis=1)
        levels.append(g.add("Reshape", f"flat{number}", level, g.hold(f"shape{number}", [1, 5 + CLASSES, -1])))
    rows = g.add("Transpose", "rows", g.add("Concat", "levels", *levels, axis=2), perm=[0, 2, 1])
    if inside:
        rest = {"starts": [2], "ends": [4], "axes": [2]}
        box = g.add("Slice", "box", rows, *(g.hold(f"box_{key}", value) for key, value in rest.items()))
        size = g.add("Exp", "exp", box)
        rows = g.add(
            "Concat",
            "decoded",
            g.add("Slice", "centre", rows, g.hold("c0", [0]), g.hold("c1", [2]), g.hold("c2", [2])),
            size,
            g.add("Slice", "scores", rows, g.hold("s0", [4]), g.hold("s1", [5 + CLASSES]), g.hold("s2", [2])),
            axis=2,
        )
    g.nodes[-1].output[0] = "output"
    return g.model({"output": (1, 21, 5 + CLASSES)}, opset=opset)
