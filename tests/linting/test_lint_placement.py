from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from qdq_graphs import Builder, detector

from yoloqat.linting import Severity

RULES = [
    "duplicate-quantizer",
    "unlike-pair",
    "inside-activation",
    "differing-scales",
    "unquantized-residual",
    "head-output",
    "head-layer",
]


@pytest.mark.parametrize("rule", RULES)
def test_a_sound_detector_has_no_finding(found, rule: str) -> None:
    assert found(rule, detector()) == []


@pytest.mark.parametrize(("scale", "qparams"), [(0.05, "the same"), (0.1, "different")])
def test_a_tensor_that_is_quantized_twice_is_a_warning(found, scale: float, qparams: str) -> None:
    build = Builder()
    model = build.model([build.pair("images", "a"), build.pair("images", "b", scale)])
    [finding] = found("duplicate-quantizer", model)
    assert (finding.severity, finding.nodes) == (Severity.WARNING, ("a/Q", "b/Q"))
    assert finding.message.startswith(
        f"tensors are quantized more than once with {qparams} qparams: 'a/Q' reads 'images'"
    )


def test_weights_may_share_a_constant(found) -> None:
    build = Builder()
    shared = build.constant("w", np.ones((16, 16)))
    assert found("duplicate-quantizer", build.model([build.pair(shared, "a"), build.pair(shared, "b")])) == []


def test_a_pair_with_two_scales_is_a_warning(found) -> None:
    build = Builder()
    out = build.pair("images", "a")
    model = build.model([out])
    model.graph.node[1].input[1] = "other"
    model.graph.initializer.append(helper.make_tensor("other", 1, [], [0.2]))
    [finding] = found("unlike-pair", model)
    assert (finding.severity, finding.nodes) == (Severity.WARNING, ("a/DQ",))
    assert finding.message == "a DequantizeLinear has other qparams than its QuantizeLinear: 'a/DQ' follows 'a/Q'"


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "BatchNormalization", "LeakyRelu", "Clip", "HardSwish"])
def test_a_pair_between_convolution_and_activation_is_a_warning(found, activation: str) -> None:
    build = Builder()
    quantized = build.pair(build.conv("images", "conv", (3, 16), quantized=False), "between")
    [finding] = found("inside-activation", build.model([build.node(activation, [quantized], "act")]))
    assert (finding.severity, finding.nodes) == (Severity.WARNING, ("between/Q",))
    assert finding.message.endswith(f"'between/Q' stands between Conv and {activation}")


def test_a_pair_behind_the_activation_or_before_something_else_is_fine(found) -> None:
    build = Builder()
    conv = build.conv("images", "conv", (3, 16), quantized=False)
    behind = build.pair(build.node("Relu", [conv], "relu"), "behind")
    pooled = build.node("MaxPool", [build.pair(conv, "linear")], "pool", kernel_shape=[1, 1])
    assert found("inside-activation", build.model([behind, pooled])) == []


def test_a_pair_inside_a_silu_is_a_warning(found) -> None:
    build = Builder()
    conv = build.conv("images", "conv", (3, 16), quantized=False)
    gate = build.pair(build.node("Sigmoid", [conv], "sigmoid"), "gate")
    out = build.node("Mul", [build.pair(conv, "value"), gate], "mul")
    [finding] = found("inside-activation", build.model([out]))
    assert finding.nodes == ("gate/Q",)
    assert finding.message.endswith("'gate/Q' stands between Sigmoid and Mul of a SiLU")


def test_a_product_with_another_gate_is_no_silu(found) -> None:
    build = Builder()
    conv = build.conv("images", "conv", (3, 16), quantized=False)
    gate = build.pair(build.node("Sigmoid", [build.node("GlobalAveragePool", [conv], "squeeze")], "sigmoid"), "gate")
    assert found("inside-activation", build.model([build.node("Mul", [conv, gate], "excite")])) == []


def test_one_scale_around_a_concat_is_fine_and_two_are_a_warning(found) -> None:
    assert found("differing-scales", detector(scales=(0.05, 0.05))) == []
    [finding] = found("differing-scales", detector(scales=(0.05, 0.07)))
    assert (finding.severity, finding.nodes) == (Severity.WARNING, ("concat",))
    assert (
        finding.message
        == "tensors of one shared-scale group have different scales: 'concat' joins 2 scales from 0.05 to 0.07"
    )


def test_different_scales_directly_at_a_concat_are_a_warning(found) -> None:
    for scale, count in ((0.05, 0), (0.06, 1)):
        build = Builder()
        parts = [build.pair("images", "a"), build.pair(build.node("Relu", ["images"], "relu"), "b", scale)]
        assert len(found("differing-scales", build.model([build.node("Concat", parts, "concat", axis=1)]))) == count


def test_different_scales_across_a_max_pool_are_a_warning_without_any_concat(found) -> None:
    build = Builder()
    pool = build.node("MaxPool", [build.pair("images", "a")], "pool", kernel_shape=[1, 1])
    [finding] = found("differing-scales", build.model([build.pair(pool, "b", 0.2)]))
    assert finding.nodes == ("pool",)


def test_constants_and_linear_resizes_tie_nothing(found) -> None:
    build = Builder()
    joined = build.node(
        "Concat", [build.pair("images", "a"), build.constant("c", np.ones((1, 1, 8, 8)))], "cat", axis=1
    )
    resized = build.node("Resize", [joined], "resize", mode="linear")
    assert found("differing-scales", build.model([build.pair(resized, "b", 0.2)])) == []


def test_different_scales_at_an_add_are_a_warning(found) -> None:
    for scale, count in ((0.05, 0), (0.06, 1)):
        build = Builder()
        parts = [build.pair("images", "a"), build.pair(build.node("Relu", ["images"], "relu"), "b", scale)]
        findings = found("differing-scales", build.model([build.node("Add", parts, "add")]))
        assert len(findings) == count
        if findings:
            assert findings[0].message == "an Add reads different scales: 'add' reads 0.05 and 0.06"


def test_a_float_residual_behind_a_quantized_convolution_is_a_warning(found) -> None:
    assert found("unquantized-residual", detector(residual=True)) == []
    [finding] = found("unquantized-residual", detector(residual=False))
    assert (finding.severity, finding.nodes) == (Severity.WARNING, ("add",))
    assert finding.message == "residual inputs are float: 'add' adds 'split_out1' unquantized to 'block'"


def test_an_add_of_float_convolutions_of_constants_or_before_the_outputs_is_none(found) -> None:
    for kind in ("float", "constant", "output"):
        build = Builder(16)
        conv = build.conv(build.pair("images", "a"), "conv", quantized=kind != "float")
        other = build.constant("c", np.ones((1, 16, 1, 1))) if kind == "constant" else "images"
        added = build.node("Add", [other, build.node("Relu", [conv], "relu")], "add")
        out = added if kind == "output" else build.layer(added, "next")
        assert found("unquantized-residual", build.model([out])) == []


def test_a_residual_between_two_convolutions_names_the_one_that_is_not_the_branch(found) -> None:
    build = Builder()
    first = build.layer("images", "first", (3, 16))
    second = build.layer(first, "second")
    model = build.model(build.predictions(build.layer(build.node("Add", [second, first], "add"), "next")))
    [finding] = found("unquantized-residual", model)
    assert finding.message.endswith("'add' adds 'first/silu_out' unquantized to 'second'")


def test_quantized_outputs_are_a_warning(found) -> None:
    build = Builder()
    out = build.node("Sigmoid", [build.conv("images", "last", (3, 16), quantized=False)], "scores")
    [finding] = found("head-output", build.model([build.pair(out, "end")]))
    assert (finding.severity, finding.nodes) == (Severity.WARNING, ("end/Q",))
    assert finding.message == "outputs are quantized behind the last layer: 'end/Q' quantizes 'scores_out'"


def test_codes_as_an_output_are_a_warning_too(found) -> None:
    build = Builder()
    conv = build.conv("images", "last", (3, 16), quantized=False)
    codes = build.node("QuantizeLinear", [conv, build.constant("s", 0.1), build.constant("p", 0, np.int8)], "end")
    assert found("head-output", build.model([codes]))[0].nodes == ("end",)


def test_quantized_prediction_layers_and_dfl_are_a_warning(found) -> None:
    build = Builder()
    stem = build.layer("images", "stem", (3, 16))
    classes = build.conv(build.pair(stem, "in"), "classes", (16, 80))
    boxes = build.conv(stem, "boxes", (16, 64), quantized=False)
    soft = build.node("Softmax", [build.node("Transpose", [boxes], "turned", perm=[0, 2, 1, 3])], "softmax", axis=1)
    dfl = build.conv(build.pair(soft, "dfl/in"), "dfl", (16, 1))
    [finding] = found("head-layer", build.model([classes, dfl]))
    assert (finding.severity, finding.nodes) == (Severity.WARNING, ("classes", "dfl"))
    assert finding.message == "convolutions that give the predictions are quantized: 'classes', 'dfl' is a DFL"


def test_a_layer_before_the_dfl_gives_predictions_too(found) -> None:
    build = Builder()
    boxes = build.conv(build.pair("images", "in"), "boxes", (3, 64))
    dfl = build.conv(build.node("Softmax", [boxes], "softmax", axis=1), "dfl", (16, 1), quantized=False)
    assert found("head-layer", build.model([dfl]))[0].nodes == ("boxes",)
