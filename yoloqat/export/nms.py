"""The pass that appends non-maximum suppression in standard ONNX operators."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

from yoloqat.errors import ExportError
from yoloqat.onnx_graph.graph import PassResult, copy_of, replace_nodes

_PREFIX = "nms_"

_TEXT = """
nms (float[n, c, a] {raw}) => (float[n, d, 6] {out}) {{
    rows = Transpose <perm = [0, 2, 1]> ({raw})
    centres = Slice (rows, zero, four, two)
    scores = Slice ({raw}, four, last, one)
    chosen = NonMaxSuppression <center_point_box = 1> (centres, scores, limit, iou, conf)
    shape = Shape (scores)
    blank = ConstantOfShape (shape)
    won = GatherND (scores, chosen)
    kept = ScatterND (blank, chosen, won)
    pairs = Flatten <axis = 1> (kept)
    best, place = TopK <axis = 1, largest = 1, sorted = 1> (pairs, detections)
    anchors = Gather <axis = 0> (shape, two)
    label = Div (place, anchors)
    anchor = Mod (place, anchors)
    column = Unsqueeze (anchor, two)
    wide = Shape (rows)
    channels = Gather <axis = 0> (wide, two)
    batch = Gather <axis = 0> (wide, zero)
    spread = Concat <axis = 0> (batch, detections, channels)
    index = Expand (column, spread)
    found = GatherElements <axis = 1> (rows, index)
    centre = Slice (found, zero, two, two)
    size = Slice (found, two, four, two)
    halves = Mul (size, half)
    low = Sub (centre, halves)
    high = Add (centre, halves)
    score = Unsqueeze (best, two)
    number = Cast <to = 1> (label)
    class = Unsqueeze (number, two)
    extra = Slice (found, last, end, two)
    {out} = Concat <axis = 2> (low, high, score, class, extra)
}}
"""


def append_nms(model: onnx.ModelProto, *, classes: int, conf: float, iou: float, max_det: int) -> PassResult:
    """Replace the first output, all anchors, by the detections that remain after NMS.

    NMS runs per class, and a box may keep several classes. The result has the same form as that of heads
    with their own NMS: (batch, max_det, 6 + extra) of x1, y1, x2, y2, score, class and the further channels,
    by falling score; rows beyond the last detection have the score 0.

    Requires:
        ``output0`` is float32 (batch, 4 + classes + extra, anchors): centre x, centre y, width, height, a score per class.

    Ensures:
        ``output0`` holds detections; every other node and output is as it was.

    Raises:
        ExportError: The graph has no such output.
    """
    value = model.graph.output[0] if model.graph.output else None
    dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim] if value is not None else []
    if value is None or len(dims) != 3 or dims[1] < 4 + classes or dims[2] < 1:
        raise ExportError(
            f"the first output has the shape {dims}",
            expected=f"(batch, {4 + classes}, anchors)",
            hint="export a detector whose head does no NMS",
        )
    result = copy_of(model)
    graph = result.graph
    name, raw = value.name, f"{value.name}/anchors"
    for node in graph.node:
        node.input[:] = [raw if part == name else part for part in node.input]
        node.output[:] = [raw if part == name else part for part in node.output]
    detections = min(max_det, classes * dims[2])
    constants = {
        "zero": np.array([0]),
        "one": np.array([1]),
        "two": np.array([2]),
        "four": np.array([4]),
        "last": np.array([4 + classes]),
        "end": np.array([dims[1]]),
        "detections": np.array([detections]),
        "limit": np.array([max_det]),
        "iou": np.array([iou], dtype=np.float32),
        "conf": np.array([conf], dtype=np.float32),
        "half": np.array(0.5, dtype=np.float32),
    }
    nodes = parser.parse_graph(_TEXT.format(raw="raw", out="out")).node
    names = {"raw": raw, "out": name}
    for node in nodes:
        node.input[:] = [names.get(part, _PREFIX + part) for part in node.input]
        node.output[:] = [names.get(part, _PREFIX + part) for part in node.output]
        node.name = f"nms/{node.output[0].removeprefix(_PREFIX)}"
    graph.initializer.extend(numpy_helper.from_array(array, _PREFIX + key) for key, array in constants.items())
    replace_nodes(graph, [*graph.node, *nodes])
    batch = value.type.tensor_type.shape.dim[0]
    shape = [batch.dim_param or batch.dim_value, detections, 6 + dims[1] - 4 - classes]
    graph.output[0].CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return PassResult(result, modified=True)
