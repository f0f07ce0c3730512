from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper
from qdq_graphs import Builder, detector

from yoloqat.linting import Severity


def convolution(shape=(16, 3, 1, 1), op="Conv", **options):
    build = Builder(shape[1] if op == "Conv" else shape[0])
    weight = build.weight("w", shape, **options)
    return build.model([build.node(op, [build.pair("images", "in"), weight], "layer")])


def test_activations_with_many_scales_are_errors_and_weights_are_not(found) -> None:
    build = Builder()
    model = build.model([build.conv(build.pair("images", "a", [0.1, 0.2, 0.3], axis=1), "conv", (3, 16))])
    [finding] = found("activation-axis", model)
    assert (finding.severity, finding.nodes) == (Severity.ERROR, ("a/Q", "a/DQ"))
    assert finding.message == "activations have a scale per channel: 'a/Q' has 3 scales, 'a/DQ' has 3 scales"
    assert found("activation-axis", detector()) == []


def test_a_single_scale_in_one_dimension_is_per_tensor(found) -> None:
    build = Builder()
    assert found("activation-axis", build.model([build.pair("images", "a", [0.1])])) == []


@pytest.mark.parametrize(
    ("op", "shape", "axis"),
    [("Conv", (16, 3, 1, 1), 0), ("Conv", (16, 3, 1, 1), -4), ("ConvTranspose", (3, 16, 2, 2), 1)],
)
def test_scales_along_the_output_channels_are_fine(found, op: str, shape: tuple[int, ...], axis: int) -> None:
    assert found("weight-axis", convolution(shape, op, axis=axis)) == []


@pytest.mark.parametrize(
    ("op", "shape", "axis", "expected"),
    [("Conv", (16, 16, 1, 1), 1, 0), ("ConvTranspose", (16, 16, 2, 2), 0, 1), ("Conv", (16, 8, 1, 1), 1, 0)],
)
def test_scales_along_the_input_channels_are_errors(
    found, op: str, shape: tuple[int, ...], axis: int, expected: int
) -> None:
    [finding] = found("weight-axis", convolution(shape, op, axis=axis))
    assert (finding.severity, finding.nodes) == (Severity.ERROR, ("w/DQ",))
    assert finding.message == (
        f"scales lie along the wrong axis: 'w/DQ' has its scales along axis {axis}; "
        f"output channels of 'layer' are axis {expected}"
    )


def test_an_axis_that_is_not_written_is_1_and_does_not_fit(found) -> None:
    [finding] = found("weight-axis", convolution(written=False))
    assert finding.message == (
        "scales do not fit their axis: 'w/DQ' has 16 scales along axis 1 of size 3, which the file leaves at its default"
    )
    [finding] = found("weight-axis", convolution((16, 16, 1, 1), written=False))
    assert (
        "along axis 1, which the file leaves at its default; output channels of 'layer' are axis 0" in finding.message
    )
    assert found("weight-axis", convolution((3, 16, 2, 2), "ConvTranspose", axis=1, written=False)) == []


def test_an_axis_beyond_the_weight_does_not_fit(found) -> None:
    model = convolution()
    next(node for node in model.graph.node if node.name == "w/DQ").attribute[0].i = 7
    assert "16 scales along axis 7 of size none" in found("weight-axis", model)[0].message


@pytest.mark.parametrize(("transposed", "axis"), [(1, 0), (0, 1)])
def test_a_gemm_has_its_output_channels_where_transb_says(found, transposed: int, axis: int) -> None:
    for written in (0, 1):
        build = Builder()
        weight = build.weight("w", (8, 8), axis=written)
        model = build.model([build.node("Gemm", [build.pair("images", "in"), weight], "gemm", transB=transposed)])
        assert bool(found("weight-axis", model)) == (written != axis)


def test_a_transpose_between_dequantizer_and_matmul_moves_the_axis(found) -> None:
    for axis in (0, 1):
        build = Builder()
        turned = build.node("Transpose", [build.weight("w", (8, 8), axis=axis)], "turned", perm=[1, 0])
        model = build.model([build.node("MatMul", [build.pair("images", "in"), turned], "matmul")])
        assert bool(found("weight-axis", model)) == (axis != 0)


@pytest.mark.parametrize(("axis", "count"), [(0, 0), (1, 2)])
def test_a_float_weight_behind_q_and_dq_is_checked_at_both(found, axis: int, count: int) -> None:
    build = Builder(16)
    weight = build.pair(build.constant("w", np.ones((16, 16, 1, 1))), "w", np.full(16, 0.1), axis=axis)
    model = build.model([build.node("Conv", [build.pair("images", "in"), weight], "layer")])
    findings = found("weight-axis", model)
    assert [name for finding in findings for name in finding.nodes] == ["w/Q", "w/DQ"][:count]
    assert found("half-quantized", model) == []


def test_below_opset_13_there_is_no_axis_to_check(found) -> None:
    model = convolution(written=False)
    model.opset_import[0].version = 12
    assert found("weight-axis", model) == []
    assert len(found("opset", model)) == 1


def test_blocks_of_int8_codes_are_errors(found) -> None:
    build = Builder()
    codes, scale = build.constant("codes", np.zeros((16, 32)), np.int8), build.constant("scale", np.full((16, 2), 0.1))
    out = build.node("DequantizeLinear", [codes, scale], "DQ", axis=1, block_size=16)
    [finding] = found("blocked-scales", build.model([out], opset=21))
    assert (finding.severity, finding.nodes) == (Severity.ERROR, ("DQ",))
    assert (
        finding.message
        == "8-bit Q/DQ have scales of more than one axis or a block size: 'DQ' has scales of shape (16, 2)"
    )
    assert found("blocked-scales", convolution()) == []


def test_the_type_of_a_bias_has_no_axis_rule(found) -> None:
    build = Builder()
    model = build.model([build.weight("b", (16,), code=np.int32)])
    assert found("weight-axis", model) == []
    assert numpy_helper.to_array(model.graph.initializer[0]).dtype == np.int32
    assert found("code-type", model) == []
    assert found("quantized-bias", model)[0].message.endswith("'b/DQ' reads INT32")
    assert model.graph.initializer[0].data_type == TensorProto.INT32
