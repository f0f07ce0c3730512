from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from yoloqat.engines import OnnxPredictor, OpenVINOPredictor, build_openvino, overflow_risk, to_uint8
from yoloqat.engines.openvino import SPLIT_IMAGE_ABOVE
from yoloqat.engines.rewrite.split import split_weights
from yoloqat.engines.saturation import image_layers
from yoloqat.errors import ConfigError


def run(model, images):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


def test_halves_add_up_to_the_codes_and_fit_16_bits(tiny):
    model = tiny()
    split = split_weights(model, ["second"])
    onnx.checker.check_model(split, full_check=True)
    before = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    after = {t.name: numpy_helper.to_array(t) for t in split.graph.initializer}
    low, high = after["second/half/codes"], after["second/half/split/codes"]
    np.testing.assert_array_equal(low.astype(int) + high, before["second/codes"])
    assert max(np.abs(low).max(), np.abs(high).max()) <= 64
    assert "second/codes" not in after
    assert [node.name for node in split.graph.node if node.op_type == "Conv"] == ["first", "second", "second/split"]


def test_output_differs_by_float_rounding_alone(tiny, images):
    model = tiny()
    np.testing.assert_allclose(run(split_weights(model, ["first", "second"]), images), run(model, images), atol=2e-4)


def test_nothing_to_split(tiny):
    for model, layers in ((tiny(), []), (tiny(), ["other"]), (tiny(quantized=False), ["first"])):
        assert split_weights(model, layers) == model


def test_split_layers_carry_no_risk(tiny):
    graph = to_uint8(tiny(), tight=False).model
    assert all(risk.pairs for risk in overflow_risk(graph).values())
    risks = overflow_risk(split_weights(graph, ["first", "second"]))
    assert {name: risk.pairs for name, risk in risks.items()} == dict.fromkeys(
        ["first", "first/split", "second", "second/split"], 0
    )


def test_build_splits_what_can_overflow_and_counts_it_once(qdq_path, tmp_path, images):
    build = build_openvino(qdq_path, tmp_path / "ir", tight=False)
    assert build.split == ("first", "second")
    assert len(build.precision.convolutions) == 2
    assert [entry.name for entry in build.precision.int8_convolutions] == ["first", "second"]
    output, wanted = OpenVINOPredictor(tmp_path / "ir")(images)[0], OnnxPredictor(qdq_path)(images)[0]
    assert np.abs(output - wanted).max() < 4 / 127 * 127 * 0.006 * 1.5
    assert build_openvino(qdq_path, tmp_path / "ir", tight=False, split_above=1.0).split == ()


def test_only_the_layer_that_reads_the_image_is_split_at_a_smaller_share(qdq_path, tmp_path):
    shares = {
        name: risk.share for name, risk in overflow_risk(to_uint8(onnx.load(qdq_path), tight=False).model).items()
    }
    assert min(shares.values()) > SPLIT_IMAGE_ABOVE
    build = build_openvino(qdq_path, tmp_path / "ir", tight=False, split_above=max(shares.values()))
    assert build.split == ("first",)


def test_the_layers_of_the_image_are_found_past_a_clip(qdq_path):
    model = onnx.load(qdq_path)
    assert image_layers(model) == {"first"}
    assert image_layers(to_uint8(model, bounds={"images": 0.0}).model) == {"first"}


def test_share_out_of_range(qdq_path, tmp_path):
    with pytest.raises(ConfigError, match="split_above is 3"):
        build_openvino(qdq_path, tmp_path / "ir", split_above=3)
