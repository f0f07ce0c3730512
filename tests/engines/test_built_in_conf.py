"""The confidence that an exporter wrote into a graph is found there, or in the metadata."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from ultralytics import YOLO

from yoloqat.engines import OnnxPredictor
from yoloqat.engines.built_in_conf import onnx_conf, openvino_conf
from yoloqat.engines.model_info import model_info
from yoloqat.engines.openvino_files import read_model
from yoloqat.onnx_graph.file import load_onnx


def graph(*nodes, **constants):
    """A graph of (operator, inputs, output, attributes) and scalars by name."""
    made = [helper.make_node(op, list(inputs), [output], **more) for op, inputs, output, more in nodes]
    held = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    return helper.make_model(helper.make_graph(made, "g", [value], [value], held))


GREATER = ("Greater", ["x", "t"], "mask", {})
BEFORE = ("NonMaxSuppression", ["mask", "x"], "kept", {})
WITHIN = ("NonMaxSuppression", ["x", "x", "n", "i", "t"], "kept", {})


@pytest.mark.parametrize(
    ("nodes", "constants", "conf"),
    [
        ([GREATER, BEFORE], {"t": 0.25}, 0.25),
        ([WITHIN], {"t": [0.125]}, 0.125),
        ([GREATER, ("NonMaxSuppression", ["mask", "x", "n", "i", "u"], "k", {})], {"t": 0.25, "u": 0.5}, 0.5),
        ([("EfficientNMS_TRT", ["x", "x"], "k", {"score_threshold": 0.375})], {}, 0.375),
        ([("BatchedNMSDynamic_TRT", ["x", "x"], "k", {"scoreThreshold": 0.375})], {}, 0.375),
        ([WITHIN], {"t": 0.001}, 0.001),
        ([WITHIN], {}, None),
        ([WITHIN], {"t": 0.0}, None),
        ([GREATER], {"t": 0.25}, None),  # nothing is suppressed
        ([GREATER, ("NonMaxSuppression", ["x", "x"], "kept", {})], {"t": 0.25}, None),  # nor does it lead there
        ([GREATER, ("NonMaxSuppression", ["mask", "kept"], "kept", {})], {"t": 0.25}, 0.25),  # a cycle
    ],
)
def test_the_threshold_of_a_graph(nodes, constants, conf):
    assert onnx_conf(graph(*nodes, **constants)) == conf


def test_a_constant_may_be_a_node():
    node = helper.make_node("Constant", [], ["t"], value=numpy_helper.from_array(np.array([0.25], np.float32)))
    model = graph(GREATER, BEFORE)
    model.graph.node.insert(0, node)
    assert onnx_conf(model) == 0.25


@pytest.mark.parametrize(
    ("arguments", "conf"),
    [
        ({"nms": True, "conf": 0.3}, 0.3),
        ({"nms": True}, None),
        ({"conf": 0.3}, None),
        *(({"nms": True, "conf": unfit}, None) for unfit in (10**500, -5, 1.5, "0.3", True, None)),
    ],
)
def test_the_threshold_of_metadata_counts_where_boxes_are_suppressed(arguments, conf):
    assert model_info("m", {"names": "['a']", "args": str(arguments)}, (1, 3, 64, 64)).conf == conf


@pytest.mark.filterwarnings("ignore")  # of tracing, which is another's
def test_an_export_of_ultralytics_with_nms(tiny_model: Path, tmp_path: Path):
    copied = shutil.copy(tiny_model, tmp_path / "tiny.pt")
    path = Path(YOLO(copied).export(format="onnx", nms=True, conf=0.25, imgsz=64, simplify=False, device="cpu"))
    assert onnx_conf(load_onnx(path)) == 0.25
    assert OnnxPredictor(path).info.conf == 0.25
    assert openvino_conf(read_model(str(path), str(path))) == 0.25
