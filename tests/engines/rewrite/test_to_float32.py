from __future__ import annotations

import numpy as np
import onnx
from c2f_graph import SIDE, c2f
from onnx import TensorProto, helper, numpy_helper

from yoloqat.engines import OnnxPredictor, OpenVINOPredictor, build_onnxruntime, build_openvino
from yoloqat.engines.rewrite.to_float32 import to_float32
from yoloqat.export.half import bake_half

IMAGES = np.random.default_rng(0).uniform(0, 1, (1, 3, SIDE, SIDE)).astype(np.float32)


def types(graph: onnx.GraphProto) -> set[int]:
    values = [value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)]
    return {tensor.data_type for tensor in graph.initializer} | set(values)


def test_nothing_of_a_graph_stays_fp16_and_its_constants_keep_their_values() -> None:
    half = bake_half(c2f()).model
    assert TensorProto.FLOAT16 in types(half.graph)
    wide = to_float32(half)
    onnx.checker.check_model(wide, full_check=True)
    assert TensorProto.FLOAT16 not in types(wide.graph)
    for before, after in zip(half.graph.initializer, wide.graph.initializer, strict=True):
        assert np.array_equal(numpy_helper.to_array(before), numpy_helper.to_array(after))
    assert TensorProto.FLOAT16 in types(half.graph)  # the graph that came in is not changed


def test_constants_in_attributes_and_in_branches_are_widened_too() -> None:
    value = numpy_helper.from_array(np.array([1.5], np.float16))
    inner = helper.make_graph(
        [
            helper.make_node("Constant", [], ["c"], value=value),
            helper.make_node("Cast", ["c"], ["o"], to=TensorProto.FLOAT16),
        ],
        "branch",
        [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT16, [1])],
    )
    node = helper.make_node("If", ["b"], ["out"], then_branch=inner, else_branch=inner)
    ends = [helper.make_tensor_value_info("b", TensorProto.BOOL, []), helper.make_tensor_value_info("out", 10, [1])]
    wide = to_float32(helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:])))
    onnx.checker.check_model(wide, full_check=True)
    for attribute in wide.graph.node[0].attribute:
        constant, cast = attribute.g.node
        assert numpy_helper.to_array(constant.attribute[0].t).dtype == np.float32
        assert (cast.attribute[0].i, attribute.g.output[0].type.tensor_type.elem_type) == (1, 1)


def test_engines_of_cpus_are_built_from_a_file_in_fp16(tmp_path) -> None:
    single, half = tmp_path / "single.onnx", tmp_path / "half.onnx"
    onnx.save(c2f(), single)
    onnx.save(bake_half(c2f()).model, half)
    (expected,) = OnnxPredictor(single)(IMAGES)
    build_openvino(half, tmp_path / "openvino")
    built = build_onnxruntime(half, tmp_path / "ort.onnx", [IMAGES], highest=255)
    assert built.operators["QLinearConv"] > 0
    for predictor in (OpenVINOPredictor(tmp_path / "openvino"), OnnxPredictor(tmp_path / "ort.onnx")):
        (found,) = predictor(IMAGES)
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.98
