from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from qdq_graphs import Builder, detector

from yoloqat.config.target import TARGET_KEY, TARGETS
from yoloqat.linting import Severity, lint_model


def pair(scale=0.05, **options):
    build = Builder()
    return build.model([build.pair("images", "a", scale, **options)])


RULES = [
    "zero-point",
    "code-type",
    "other-precision",
    "scale-not-constant",
    "scale-value",
    "scale-float16",
    "scale-underflow",
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_symmetric_int8_with_sound_scales_has_no_finding(found, rule: str, dtype) -> None:
    assert found(rule, pair(dtype=dtype)) == []
    assert found(rule, detector()) == []


def test_zero_points_other_than_0_are_errors(found) -> None:
    [finding] = found("zero-point", pair(point=-128))
    assert (finding.severity, finding.nodes) == (Severity.ERROR, ("a/Q", "a/DQ"))
    assert finding.message == "zero-points are not 0: 'a/Q' has -128, 'a/DQ' has -128"


@pytest.mark.parametrize(
    ("target", "meant"), [("openvino", True), ("onnxruntime", False), ("tensorrt", False), ("?", False)]
)
def test_zero_points_of_a_file_that_is_meant_to_have_them_are_a_note(found, target: str, meant: bool) -> None:
    model = pair(point=-128)
    model.metadata_props.add(key=TARGET_KEY, value=target)
    errors, notes = found("zero-point", model), found("other-target", model)
    assert (bool(errors), bool(notes)) == (not meant, meant)
    if meant:
        title = TARGETS[target].title
        assert (notes[0].severity, notes[0].nodes) == (Severity.NOTE, ("a/Q", "a/DQ"))
        assert (
            notes[0].message
            == f"the file is for {title} and has 2 nodes with a zero-point that is not 0, which TensorRT refuses"
        )


def test_an_absent_zero_point_is_an_error_at_the_quantizer_alone(found) -> None:
    [finding] = found("zero-point", pair(point=None))
    assert finding.nodes == ("a/Q",)
    assert finding.message.startswith("zero-points are absent, which ONNX reads as UINT8")


def test_an_absent_zero_point_is_fine_where_the_type_of_the_codes_is_written(found) -> None:
    build = Builder()
    scale = build.constant("scale", 0.1)
    codes = build.node("QuantizeLinear", ["images", scale], "Q", output_dtype=TensorProto.INT8)
    model = build.model([build.node("DequantizeLinear", [codes, scale], "DQ")], opset=21)
    assert found("zero-point", model) == []
    assert found("code-type", model) == []


def test_zero_points_that_are_computed_or_not_one_per_scale_are_errors(found) -> None:
    build = Builder()
    scale = build.constant("scale", 0.1)
    build.inputs.append(helper.make_tensor_value_info("point", TensorProto.INT8, []))
    build.node("QuantizeLinear", ["images", scale, "point"], "Q")
    [finding] = found("zero-point", build.model([]))
    assert finding.message == "zero-points are not constant: 'Q' reads 'point'"
    model = pair([0.1, 0.2, 0.3], axis=1)
    model.graph.initializer[1].CopyFrom(helper.make_tensor("a/point", TensorProto.INT8, [1], [0]))
    assert "'a/Q' has 1 for 3 scales" in found("zero-point", model)[0].message


@pytest.mark.parametrize("code", [np.uint8, np.uint16, np.int16])
def test_codes_without_arithmetic_are_errors(found, code) -> None:
    [finding] = found("code-type", pair(code=code))
    assert finding.severity is Severity.ERROR
    name = np.dtype(code).name.upper()
    assert finding.message == f"quantized activations are not INT8: 'a/Q' has {name}, 'a/DQ' has {name}"


def test_weights_of_uint8_are_named_apart(found) -> None:
    build = Builder()
    out = build.weight("w", (16, 16), code=np.uint8)
    [finding] = found("code-type", build.model([out]))
    assert finding.message == "quantized weights are not INT8: 'w/DQ' has UINT8"


def test_codes_are_known_behind_a_quantizer_without_zero_point(found) -> None:
    build = Builder()
    scale = build.constant("scale", 0.1)
    codes = build.node("QuantizeLinear", ["images", scale], "Q", output_dtype=TensorProto.UINT8)
    model = build.model([build.node("DequantizeLinear", [codes, scale], "DQ")], opset=21)
    assert found("code-type", model)[0].nodes == ("Q", "DQ")


@pytest.mark.parametrize("code", [TensorProto.INT4, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT4E2M1])
def test_other_precisions_are_a_warning_and_no_error(found, code: int) -> None:
    build = Builder()
    build.initializers.append(helper.make_tensor("codes", code, [16, 16], np.zeros(256)))
    scale = build.constant("scale", np.full((16, 1), 0.1))
    out = build.node("DequantizeLinear", ["codes", scale], "DQ", axis=1, block_size=16)
    model = build.model([build.node("MatMul", ["images", out], "matmul")], opset=23)
    [finding] = found("other-precision", model)
    assert (finding.severity, finding.nodes) == (Severity.WARNING, ("DQ",))
    assert finding.message.endswith(f"'DQ' has {TensorProto.DataType.Name(code)}, one scale per block")
    assert [f.rule for f in lint_model(model) if f.severity is Severity.ERROR] == []


def test_scales_that_are_computed_are_errors(found) -> None:
    build = Builder()
    scale = build.node("ReduceMax", ["images"], "amax", keepdims=0)
    build.node("QuantizeLinear", ["images", scale, build.constant("p", 0, np.int8)], "Q")
    [finding] = found("scale-not-constant", build.model([]))
    assert (finding.severity, finding.nodes) == (Severity.ERROR, ("Q",))
    assert finding.message == "scales are not constant: 'Q' reads 'amax_out'"


@pytest.mark.parametrize("bad", [0.0, -0.1, np.inf, np.nan])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_scales_that_are_not_finite_and_positive_are_errors(found, bad: float, dtype) -> None:
    [finding] = found("scale-value", pair(bad, dtype=dtype))
    assert (finding.severity, finding.nodes) == (Severity.ERROR, ("a/Q", "a/DQ"))
    assert finding.message.startswith(f"scales are not finite and positive: 'a/Q' has {float(dtype(bad)):g}")


def test_one_bad_scale_among_many_and_none_at_all_are_errors(found) -> None:
    assert "'a/Q' has 0," in found("scale-value", pair([0.1, 0.0, 0.2], axis=1))[0].message
    assert "'a/Q' has none" in found("scale-value", pair(np.zeros(0), axis=1))[0].message


def test_a_scale_that_float16_made_0_is_an_error(found) -> None:
    assert found("scale-value", pair(1e-9)) == []
    assert "'a/Q' has 0" in found("scale-value", pair(1e-9, dtype=np.float16))[0].message


def test_subnormal_float16_scales_are_errors_and_the_smallest_normal_one_is_not(found) -> None:
    [finding] = found("scale-float16", pair(3e-5, dtype=np.float16))
    assert (finding.severity, finding.nodes) == (Severity.ERROR, ("a/Q", "a/DQ"))
    assert finding.message.startswith("float16 scales are below 6.1e-05: 'a/Q' has 2.99811e-05")
    assert found("scale-float16", pair(float(np.finfo(np.float16).tiny), dtype=np.float16)) == []


@pytest.mark.parametrize("lost", [1e-9, 3e-5, 7e4])
def test_float32_scales_that_float16_does_not_hold_are_a_note(found, lost: float) -> None:
    [finding] = found("scale-underflow", pair(lost))
    assert (finding.severity, finding.nodes) == (Severity.NOTE, ("a/Q", "a/DQ"))
    assert f"'a/Q' has {np.float32(lost):g}" in finding.message


@given(st.floats(min_value=1e-30, max_value=1e30, allow_nan=False))
def test_a_scale_without_note_survives_float16_within_its_precision(scale: float) -> None:
    kept = np.float32(scale)
    rules = [finding.rule for finding in lint_model(pair(kept))]
    if kept > 0 and "scale-underflow" not in rules:
        with np.errstate(over="ignore"):
            half = np.float16(kept)
        assert abs(float(half) / float(kept) - 1) <= 2**-11
        assert not {"scale-value", "scale-float16"} & {f.rule for f in lint_model(pair(half, dtype=np.float16))}
