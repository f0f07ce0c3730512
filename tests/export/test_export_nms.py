from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from yoloqat.errors import ExportError
from yoloqat.evaluation.nms import non_max_suppression
from yoloqat.export.nms import append_nms

CLASSES, ANCHORS = 3, 60


def passing(channels: int, batch: int | str = 2) -> onnx.ModelProto:
    """A graph that gives its input as predictions."""
    shape = [batch, channels, ANCHORS]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("images", "output0")]
    node = helper.make_node("Identity", ["images"], ["output0"], name="head")
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)


def predictions(channels: int, batch: int = 2, seed: int = 0) -> np.ndarray:
    """Crowded boxes, so that much is suppressed."""
    rng = np.random.default_rng(seed)
    raw = rng.uniform(0, 1, (batch, channels, ANCHORS)).astype(np.float32)
    raw[:, :2] = raw[:, :2] * 40 + 20
    raw[:, 2:4] = raw[:, 2:4] * 20 + 20
    return raw


def run(model: onnx.ModelProto, raw: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": raw})[0]


@pytest.mark.parametrize("channels", [4 + CLASSES, 4 + CLASSES + 2])
@pytest.mark.parametrize(("conf", "iou", "max_det"), [(0.001, 0.7, 300), (0.4, 0.3, 20), (0.9, 0.5, 5)])
def test_detections_are_those_of_nms_outside(channels, conf, iou, max_det):
    raw = predictions(channels)
    model = append_nms(passing(channels), classes=CLASSES, conf=conf, iou=iou, max_det=max_det).model
    found = run(model, raw)
    rows = min(max_det, CLASSES * ANCHORS)
    assert found.shape == (2, rows, channels - CLASSES + 2)
    wanted = non_max_suppression(raw, classes=CLASSES, conf=conf, iou=iou, max_det=max_det)
    inside = non_max_suppression(found, classes=CLASSES, conf=conf, max_det=max_det, end2end=True)
    for image, want in zip(inside, wanted, strict=True):
        np.testing.assert_allclose(image, want, atol=1e-4)
    assert (found[:, :, 4][found[:, :, 4] <= conf] == 0).all()


def test_further_channels_come_along():
    raw = predictions(4 + CLASSES + 2)
    model = append_nms(passing(4 + CLASSES + 2), classes=CLASSES, conf=0.4, iou=0.5, max_det=9).model
    found = run(model, raw)
    for image, rows in zip(raw, found, strict=True):
        for row in rows[rows[:, 4] > 0]:
            anchor = int(np.flatnonzero(image[4 + int(row[5])] == row[4])[0])
            np.testing.assert_array_equal(row[6:], image[4 + CLASSES :, anchor])


def test_nothing_found_is_rows_of_score_zero():
    raw = predictions(4 + CLASSES)
    raw[:, 4:] = 0.0
    found = run(append_nms(passing(4 + CLASSES), classes=CLASSES, conf=0.1, iou=0.5, max_det=7).model, raw)
    assert found.shape == (2, 7, 6)
    assert (found[:, :, 4] == 0).all()


def test_an_open_batch_stays_open():
    model = append_nms(passing(4 + CLASSES, "batch"), classes=CLASSES, conf=0.1, iou=0.5, max_det=7).model
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    for batch in (1, 3):
        assert run(model, predictions(4 + CLASSES, batch)).shape == (batch, 7, 6)


def test_the_given_model_is_not_changed():
    model = passing(4 + CLASSES)
    before = model.SerializeToString(deterministic=True)
    result = append_nms(model, classes=CLASSES, conf=0.1, iou=0.5, max_det=7)
    assert result.modified
    assert model.SerializeToString(deterministic=True) == before


def test_an_output_of_another_form_is_refused():
    with pytest.raises(
        ExportError, match=r"the first output has the shape \[2, 5, 60\]; expected \(batch, 7, anchors\)"
    ):
        append_nms(passing(5), classes=CLASSES, conf=0.1, iou=0.5, max_det=7)
