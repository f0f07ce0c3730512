"""FP16 for what a QDQ file leaves float, where TensorRT builds it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from yoloqat.errors import YoloqatWarning
from yoloqat.pipeline.build_half import HALF_ONNX, with_half


def write(path: Path, *, quantized: bool = True, opset: int = 19) -> Path:
    numbers = [
        numpy_helper.from_array(np.asarray(0.05, np.float32), "scale"),
        numpy_helper.from_array(np.asarray(0, np.int8), "point"),
        numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "weight"),
    ]
    pair = [
        helper.make_node("QuantizeLinear", ["images", "scale", "point"], ["codes"], name="Q"),
        helper.make_node("DequantizeLinear", ["codes", "scale", "point"], ["values"], name="DQ"),
    ]
    nodes = [
        *(pair if quantized else []),
        helper.make_node("Conv", ["values" if quantized else "images", "weight"], ["out"], name="conv"),
    ]
    shapes = {"images": [1, 3, 8, 8], "out": [1, 4, 8, 8]}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "m", values[:1], values[1:], numbers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), path)
    return path


def test_the_float_layers_become_fp16_and_images_and_outputs_stay_fp32(tmp_path: Path) -> None:
    made = with_half(write(tmp_path / "m.onnx"), tmp_path)
    assert made == tmp_path / HALF_ONNX
    model = onnx.load(made)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kinds["weight/half"] == kinds["scale/half"] == TensorProto.FLOAT16
    ends = [*model.graph.input, *model.graph.output]
    assert {value.type.tensor_type.elem_type for value in ends} == {TensorProto.FLOAT}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert with_half(made, tmp_path / "elsewhere") == made  # nothing is left to do


def test_a_float_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", quantized=False)
    assert with_half(path, tmp_path) == path


def test_an_opset_without_fp16_quantizers_is_left_with_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", opset=17)
    with pytest.warns(YoloqatWarning, match=r"m.onnx' has opset 17, which knows no FP16 .* with opset 19 for FP16"):
        assert with_half(path, tmp_path) == path
