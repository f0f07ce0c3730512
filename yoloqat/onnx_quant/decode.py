"""Outputs of other exporters, YOLOX and YOLOv5, turned into the layout that Ultralytics' exports have.

Their rows are centre, size, objectness and class scores, shape (batch, anchors, 5 + classes). YOLOX has one anchor per cell of
the strides 8, 16 and 32; without decoding inside the file its centres are offsets from the cell in strides, its sizes
logarithms. Sources: YOLOX, `tools/export_onnx.py` and `YOLOXHead.decode_outputs`; YOLOv5, `Detect.forward`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from yoloqat.errors import ModelError
from yoloqat.onnx_graph.graph import copy_of, replace_nodes
from yoloqat.onnx_graph.index import index_of

STRIDES = (8, 16, 32)
_PREFIX = "decode"


@dataclass(frozen=True)
class Layout:
    """What the first output of a detector holds.

    Attributes:
        classes: How many classes.
        stride: Largest stride in pixels.
        rows: Anchors lie along the second axis, each with an objectness: YOLOX and YOLOv5.
        grid: Boxes are still relative to their cells: YOLOX without decoding.
        bgr: The graph takes BGR images of 0 to 255: YOLOX.
        text: The same in words.
    """

    classes: int
    stride: int
    rows: bool
    grid: bool
    bgr: bool
    text: str


def layout_of(
    shape: tuple[int, ...], model: onnx.ModelProto, size: tuple[int, int], source: str, classes: int | None = None
) -> Layout:
    """Return the layout of a detector's first output.

    Args:
        shape: Of the output.
        model: The graph.
        size: (height, width) of the images in pixels.
        source: The file, named in errors.
        classes: Where the metadata tell their number.

    Raises:
        ModelError: It is none that is known.
    """
    cells = sum((size[0] // stride) * (size[1] // stride) for stride in STRIDES)
    if len(shape) == 3 and shape[1] in (cells, 3 * cells) and shape[2] > 5 and classes in (None, shape[2] - 5):
        yolox = shape[1] == cells
        grid = yolox and not _exponentiates(model)
        kind = "YOLOX" if yolox else "YOLOv5"
        found = f"rows of box, objectness and {shape[2] - 5} classes as {kind} exports them"
        after = ", boxes decoded and scores multiplied inside the new files" if grid else ", scores multiplied inside"
        before = "; images in RGB from 0 to 1 become BGR from 0 to 255 inside" if yolox else ""
        return Layout(shape[2] - 5, STRIDES[-1], rows=True, grid=grid, bgr=yolox, text=found + after + before)
    if len(shape) == 3 and 4 < shape[1] < shape[2] and classes in (None, shape[1] - 4):
        return Layout(shape[1] - 4, STRIDES[-1], False, False, False, f"box and {shape[1] - 4} classes per anchor")
    wanted = "classes" if classes is None else str(classes)
    raise ModelError(
        f"the first output of '{source}' has the shape {tuple(shape)} at {size[0]} x {size[1]} pixels",
        expected=f"(batch, 4 + {wanted}, anchors), or (batch, {cells} or {3 * cells}, 5 + {wanted}) as YOLOX and YOLOv5",
        hint="export it with all levels in one output and without NMS",
    )


def standard_output(model: onnx.ModelProto, layout: Layout, size: tuple[int, int]) -> onnx.ModelProto:
    """Return a graph that takes RGB images in [0, 1] and gives (batch, 4 + classes, anchors): boxes in pixels, class scores.

    Args:
        model: In normal form.
        layout: Of its first output.
        size: (height, width) of the images in pixels.
    """
    if not layout.rows:
        return model
    result = copy_of(model)
    graph = result.graph
    nodes = [*_bgr(graph), *graph.node] if layout.bgr else list(graph.node)
    nodes += _decoded(graph, layout, size)
    replace_nodes(graph, nodes)
    del graph.output[1:]
    first = graph.output[0]
    first.CopyFrom(
        helper.make_tensor_value_info(f"{_PREFIX}/output", TensorProto.FLOAT, [None, 4 + layout.classes, None])
    )
    return result


def _exponentiates(model: onnx.ModelProto) -> bool:
    """Return whether an Exp leads to the first output past nothing but the decoding: no layer lies between."""
    index = index_of(model)
    waiting, seen = [index.outputs[0]], set()
    while waiting:
        node = index.made.get(waiting.pop())
        if node is None or node.op_type in ("Conv", "Shape"):
            continue
        if node.op_type == "Exp":
            return True
        waiting += [name for name in node.input if name not in seen]
        seen.update(node.input)
    return False


def _hold(graph: onnx.GraphProto, name: str, values: NDArray[Any]) -> str:
    full = f"{_PREFIX}/{name}"
    graph.initializer.append(numpy_helper.from_array(values, full))
    return full


def _bgr(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    held = {tensor.name for tensor in graph.initializer}
    fed = next(value.name for value in graph.input if value.name not in held)
    scaled, turned = f"{_PREFIX}/scaled", f"{_PREFIX}/bgr"
    for node in graph.node:
        node.input[:] = [turned if name == fed else name for name in node.input]
    return [
        helper.make_node("Mul", [fed, _hold(graph, "most", np.array(255.0, dtype=np.float32))], [scaled], name=scaled),
        helper.make_node("Gather", [scaled, _hold(graph, "order", np.array([2, 1, 0]))], [turned], name=turned, axis=1),
    ]


def _decoded(graph: onnx.GraphProto, layout: Layout, size: tuple[int, int]) -> list[onnx.NodeProto]:
    raw, sides = graph.output[0].name, [2, 2, 1, layout.classes]
    parts = [f"{_PREFIX}/{name}" for name in ("centre", "size", "objectness", "classes")]
    nodes = [
        helper.make_node("Split", [raw, _hold(graph, "sides", np.array(sides))], parts, name=f"{_PREFIX}/split", axis=2)
    ]
    centre, extent, objectness, classes = parts

    def add(operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        output = f"{_PREFIX}/{name}"
        nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    if layout.grid:
        cells, strides = _cells(size)
        per = _hold(graph, "strides", strides)
        centre = add("Mul", "centre_pixels", add("Add", "cell", centre, _hold(graph, "cells", cells)), per)
        extent = add("Mul", "size_pixels", add("Exp", "exp", extent), per)
    scores = add("Mul", "scores", objectness, classes)
    joined = add("Concat", "rows", centre, extent, scores, axis=2)
    add("Transpose", "output", joined, perm=[0, 2, 1])
    return nodes


def _cells(size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return column and row of each cell, shape (1, anchors, 2), and its stride, shape (1, anchors, 1)."""
    cells, strides = [], []
    for stride in STRIDES:
        rows, columns = np.meshgrid(np.arange(size[0] // stride), np.arange(size[1] // stride), indexing="ij")
        cells.append(np.stack([columns, rows], axis=-1).reshape(-1, 2))
        strides.append(np.full((rows.size, 1), stride))
    return np.concatenate(cells)[None].astype(np.float32), np.concatenate(strides)[None].astype(np.float32)
