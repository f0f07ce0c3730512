from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from graphs import CLASSES, SIZE, Graph, yolox

from yoloqat.errors import ConfigError, ModelError
from yoloqat.onnx_graph.file import properties
from yoloqat.onnx_quant.float_graph import float_graph
from yoloqat.onnx_quant.metadata import with_metadata


def run(model, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


@pytest.mark.parametrize("inside", [False, True])
def test_yolox_becomes_boxes_in_pixels_and_class_scores(inside: bool) -> None:
    raw = yolox(inside=inside)
    model, info, notes = with_metadata(float_graph(raw, "x.onnx"), "x.onnx", names={0: "cat", 1: "dog"})
    assert (info.names, info.stride, info.imgsz, info.batch) == ({0: "cat", 1: "dog"}, 32, (SIZE, SIZE), 1)
    images = np.random.default_rng(0).random((1, 3, SIZE, SIZE), dtype=np.float32)
    rows = run(raw, images[:, ::-1] * np.float32(255))[0].astype(np.float64)
    cells = [(x, y, s) for s in (8, 16, 32) for y in range(SIZE // s) for x in range(SIZE // s)]
    expected = []
    for row, (x, y, stride) in zip(rows, cells, strict=True):
        box = row[:4] if inside else [(row[0] + x) * stride, (row[1] + y) * stride, *np.exp(row[2:4]) * stride]
        expected.append([*box, *(row[4] * row[5:])])
    np.testing.assert_allclose(run(model, images)[0].T, expected, rtol=1e-4, atol=1e-4)
    assert "2 classes as YOLOX exports them" in notes[0]
    assert ("boxes decoded" in notes[0]) is not inside
    assert notes[1].startswith("no metadata: 2 classes by the output, named by the data set, stride 32")
    assert "args" in properties(model)


def yolov5(anchors: int = 63) -> Graph:
    g = Graph()
    last = g.conv("Conv_0", "images", (3, 7), kernel=3, strides=[4, 4])
    rows = g.add("Reshape", "rows", last, g.hold("shape", [1, -1, 5 + CLASSES]))
    g.add("Slice", "cut", rows, g.hold("a", [0]), g.hold("b", [anchors]), g.hold("c", [1]))
    return g


def test_yolov5_rows_are_turned_and_keep_their_boxes() -> None:
    raw = yolov5().model({"cut_out": (1, 63, 7)})
    model, info, notes = with_metadata(float_graph(raw, "v5.onnx"), "v5.onnx")
    images = np.random.default_rng(1).random((1, 3, SIZE, SIZE), dtype=np.float32)
    rows, found = run(raw, images)[0], run(model, images)[0].T
    np.testing.assert_array_equal(found[:, :4], rows[:, :4])
    np.testing.assert_allclose(found[:, 4:], rows[:, 4:5] * rows[:, 5:], rtol=1e-6)
    assert info.names == {0: "class_0", 1: "class_1"}
    assert "YOLOv5" in notes[0]


def test_an_output_that_cannot_be_decoded_is_told_in_one_line() -> None:
    raw = float_graph(yolov5(62).model({"cut_out": (1, 62, 7)}), "o.onnx")
    with pytest.raises(ModelError, match=r"the first output of 'o.onnx' has the shape \(1, 62, 7\) at 32 x 32 pixels"):
        with_metadata(raw, "o.onnx")


def test_a_file_without_a_size_needs_one() -> None:
    raw = float_graph(yolov5().model({"cut_out": (1, None, 7)}, fed=(1, 3, "h", "w")), "d.onnx")
    with pytest.raises(ConfigError, match=r"the input of 'd.onnx' has the size None x None") as error:
        with_metadata(raw, "d.onnx")
    assert "imgsz" in error.value.hint
    assert with_metadata(raw, "d.onnx", imgsz=SIZE)[1].classes == CLASSES


def test_an_input_that_is_no_image_is_refused() -> None:
    g = Graph()
    g.add("MatMul", "m", "images", g.hold("w", np.ones((4, 2), np.float32)))
    raw = float_graph(g.model({"m_out": (1, 2)}, fed=(1, 4)), "m.onnx")
    with pytest.raises(ModelError, match=r"the input of 'm.onnx' has 2 dimensions"):
        with_metadata(raw, "m.onnx")
