from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from c2f_graph import SIDE, c2f

from yoloqat.engines.ort import session_options
from yoloqat.engines.ort_build import measure_ranges
from yoloqat.engines.rewrite.equivalent import SILU_FLOOR, equivalent_graph, plan_equivalent
from yoloqat.errors import ModelError

IMAGES = [np.random.default_rng(seed).uniform(0, 1, (1, 3, SIDE, SIDE)).astype(np.float32) for seed in range(4)]


def run(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    options = session_options(threads=1)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": image})[0]


def number(model: onnx.ModelProto, name: str) -> float:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    return float(onnx.numpy_helper.to_array(tensor).item())


def test_what_lies_between_quantized_layers_is_quantized():
    plan = plan_equivalent(c2f())
    assert plan.layers == {"first", "inner", "last"}
    assert set(plan.given) == {"images", "right", "joined"}
    # the last SiLU is read as floats, so its product stays float; its convolution runs in integers nonetheless
    assert {"first/y", "first/gate", "first/silu", "left", "added", "pooled", "resized", "last/y"} <= set(plan.groups)
    assert not {"last/gate", "last/silu", "output0"} & set(plan.groups)
    assert plan.groups["left"] == plan.groups["right"] == "first/silu"
    assert plan.groups["resized"] == plan.groups["pooled"] == "added"
    assert set(plan.measured) == {"first/y", "first/silu", "inner/y", "inner/silu", "added", "last/y"}


@pytest.mark.parametrize("highest", [127, 255])
def test_the_equivalent_graph_rounds_more_but_not_much(highest):
    model = c2f()
    ranges = measure_ranges(model, plan_equivalent(model).measured, IMAGES)
    graph = equivalent_graph(model, ranges, highest=highest)
    onnx.checker.check_model(graph)
    wanted = np.concatenate([run(model, image) for image in IMAGES])
    found = np.concatenate([run(graph, image) for image in IMAGES])
    noise = np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2))
    assert 0 < noise < 0.1


def test_integers_of_the_range_end_where_asked():
    model = c2f()
    ranges = measure_ranges(model, plan_equivalent(model).measured, IMAGES)
    steps = [number(equivalent_graph(model, ranges, highest=highest), "images/u8/scale") for highest in (127, 255)]
    assert steps == pytest.approx([1 / 127, 1 / 255])
    # what no convolution reads uses all integers, whatever is asked
    wide = [number(equivalent_graph(model, ranges, highest=h), "inner/y/u8/scale") for h in (127, 255)]
    low, high = ranges["inner/y"]
    assert wide == pytest.approx([(high - max(low, SILU_FLOOR)) / 255] * 2)


def test_gates_span_zero_to_one_and_are_not_measured():
    model = c2f()
    ranges = measure_ranges(model, plan_equivalent(model).measured, IMAGES)
    graph = equivalent_graph(model, ranges)
    assert number(graph, "inner/gate/u8/scale") == pytest.approx(1 / 255)
    assert number(graph, "inner/gate/u8/zero_point") == 0


def test_a_layer_that_is_float_stays_so():
    model = c2f()
    inner = next(node for node in model.graph.node if node.name == "inner")
    inner.input[0] = "right"
    plan = plan_equivalent(model)
    assert "inner" not in plan.layers
    assert not {"inner/y", "inner/gate", "inner/silu", "added"} & set(plan.groups)
    ranges = measure_ranges(model, plan.measured, IMAGES)
    graph = equivalent_graph(model, ranges)
    float_conv = next(node for node in graph.graph.node if node.name == "inner")
    assert float_conv.input[0] == "right"
    np.testing.assert_allclose(run(graph, IMAGES[0]), run(model, IMAGES[0]), atol=0.2)


def test_missing_ranges_are_an_error():
    with pytest.raises(KeyError, match="first/y"):
        equivalent_graph(c2f(), {})


def test_quantizer_with_a_scale_per_channel():
    model = c2f()
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "inner/in/s")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.ones(4, np.float32), scale.name))
    with pytest.raises(
        ModelError, match=r"quantizer 'inner/in/QuantizeLinear' has the constants float32 of shape \(4,\)"
    ):
        plan_equivalent(model)


def test_bias_of_a_dead_channel_stays_float():
    model = c2f()
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "inner/ws")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.zeros(4, np.float32), scale.name))
    graph = equivalent_graph(model, measure_ranges(model, plan_equivalent(model).measured, IMAGES))
    assert next(node for node in graph.graph.node if node.name == "inner").input[2] == "inner.bias"
