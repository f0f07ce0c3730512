from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from yoloqat.engines import check_tensorrt
from yoloqat.engines.zero_points import shifted_zero_points
from yoloqat.errors import EngineError


def pair(zero_point: int, *, constant: bool = False, name: str = "q") -> onnx.ModelProto:
    point = numpy_helper.from_array(np.array(zero_point, np.int8), "zero")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"], name=name),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["y"], name="dq"),
    ]
    if constant:
        nodes.insert(0, helper.make_node("Constant", [], ["zero"], value=point))
    scale = numpy_helper.from_array(np.array(0.1, np.float32), "scale")
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, [2]) for end in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [scale] if constant else [scale, point])
    return helper.make_model(graph)


@pytest.mark.parametrize("constant", [True, False])
def test_zero_points_are_found_wherever_they_are_kept(constant: bool) -> None:
    assert shifted_zero_points(pair(0, constant=constant)) == {}
    assert shifted_zero_points(pair(-7, constant=constant)) == {"q": -7, "dq": -7}
    assert shifted_zero_points(pair(3, constant=constant, name="")) == {"codes": 3, "dq": 3}


def test_a_file_with_zero_points_is_refused_for_tensorrt_with_the_reason(tmp_path: Path) -> None:
    onnx.save(pair(-7), tmp_path / "affine.onnx")
    with pytest.raises(
        EngineError, match=r"affine\.onnx' has 2 zero-points that are not 0, the first -7 at 'q'; .*symmetrically"
    ):
        check_tensorrt(tmp_path / "affine.onnx")
    onnx.save(pair(0), tmp_path / "fine.onnx")
    check_tensorrt(tmp_path / "fine.onnx")


def test_a_calibrated_model_passes(tiny_onnx: Path) -> None:
    check_tensorrt(tiny_onnx)
