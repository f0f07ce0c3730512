from __future__ import annotations

import numpy as np
import pytest
from qdq_graphs import Builder, detector

from yoloqat.linting import Severity


@pytest.mark.parametrize(
    "rule",
    ["half-quantized", "quantized-bias", "grouped-convolution", "depthwise", "channel-alignment", "float-island"],
)
def test_a_sound_detector_has_no_finding(found, rule: str) -> None:
    assert found(rule, detector()) == []


def test_a_quantized_weight_under_a_float_activation_is_an_error(found) -> None:
    build = Builder()
    [finding] = found("half-quantized", build.model([build.conv("images", "conv", (3, 16))]))
    assert (finding.severity, finding.nodes) == (Severity.ERROR, ("conv",))
    assert finding.message == "layers have a quantized weight and a float activation: 'conv' reads 'images' unquantized"


def test_a_float_weight_under_a_quantized_activation_is_an_error(found) -> None:
    build = Builder()
    out = build.conv(build.pair("images", "a"), "conv", (3, 16), quantized=False)
    [finding] = found("half-quantized", build.model([out]))
    assert finding.nodes == ("conv",)
    assert finding.message.endswith("'conv' reads the weight 'conv.weight' unquantized")


def test_a_float_layer_may_read_what_is_quantized_for_another(found) -> None:
    build = Builder()
    shared = build.pair("images", "a")
    outputs = [build.conv(shared, "int8", (3, 16)), build.conv(shared, "float", (3, 16), quantized=False)]
    assert found("half-quantized", build.model(outputs)) == []


@pytest.mark.parametrize("op", ["MaxPool", "Identity", "Transpose", "Resize"])
def test_an_activation_is_quantized_before_what_only_moves_values(found, op: str) -> None:
    build = Builder()
    extra = {"kernel_shape": [1, 1]} if op == "MaxPool" else {}
    moved = build.node(op, [build.pair("images", "a")], "moved", **extra)
    assert found("half-quantized", build.model([build.conv(moved, "conv", (3, 16))])) == []


def test_an_activation_is_float_behind_what_computes(found) -> None:
    for op, extra in (("Sigmoid", {}), ("Resize", {"mode": "linear"})):
        build = Builder()
        computed = build.node(op, [build.pair("images", "a")], "computed", **extra)
        assert found("half-quantized", build.model([build.conv(computed, "conv", (3, 16))])) != []


def test_a_concat_is_quantized_where_all_its_inputs_are(found) -> None:
    for count, expected in ((2, 0), (1, 1)):
        build = Builder()
        parts = [build.pair("images", "a"), build.pair("images", "b") if count == 2 else "images"]
        joined = build.node("Concat", parts, "concat", axis=1)
        assert len(found("half-quantized", build.model([build.conv(joined, "conv", (6, 16))]))) == expected


def test_a_product_of_two_activations_needs_both(found) -> None:
    for both in (True, False):
        build = Builder()
        left = build.pair("images", "a")
        right = build.pair("images", "b") if both else "images"
        assert bool(found("half-quantized", build.model([build.node("MatMul", [left, right], "matmul")]))) != both


def test_a_matmul_with_its_weight_on_the_left_is_a_layer(found) -> None:
    build = Builder()
    weight = build.weight("w", (8, 8), axis=0)
    assert found("half-quantized", build.model([build.node("MatMul", [weight, "images"], "matmul")])) != []
    fine = Builder()
    weight = fine.weight("w", (8, 8), axis=0)
    model = fine.model([fine.node("MatMul", [weight, fine.pair("images", "a")], "matmul")])
    assert (found("half-quantized", model), found("weight-axis", model)) == ([], [])


@pytest.mark.parametrize("code", [np.int32, np.int8])
def test_a_bias_behind_a_dequantizer_is_an_error(found, code) -> None:
    build = Builder()
    data, weight = build.pair("images", "a"), build.weight("w", (16, 3, 1, 1))
    out = build.node("Conv", [data, weight, build.weight("bias", (16,), code=code)], "conv")
    [finding] = found("quantized-bias", build.model([out]))
    assert (finding.severity, finding.nodes) == (Severity.ERROR, ("bias/DQ",))
    assert finding.message == "biases are quantized: 'bias/DQ' gives the bias of 'conv'"


@pytest.mark.parametrize(("group", "channels", "errors"), [(4, (16, 16), 0), (8, (16, 16), 1), (4, (16, 24), 1)])
def test_groups_are_multiples_of_4_channels(found, group: int, channels: tuple[int, int], errors: int) -> None:
    build = Builder(16)
    model = build.model([build.conv(build.pair("images", "a"), "conv", channels, group=group)])
    findings = found("grouped-convolution", model)
    assert len(findings) == errors
    if errors:
        per_group = f"{channels[0] // group} to {channels[1] // group}"
        assert findings[0].severity is Severity.ERROR
        assert findings[0].message.endswith(f"'conv' has {group} groups of {per_group} channels")
    assert found("depthwise", model) == []


def test_a_float_grouped_convolution_is_fine(found) -> None:
    build = Builder(16)
    model = build.model([build.conv("images", "conv", (16, 16), group=8, quantized=False)])
    assert found("grouped-convolution", model) == []


def test_a_quantized_depthwise_convolution_is_a_warning_of_its_own(found) -> None:
    build = Builder(16)
    model = build.model([build.conv(build.pair("images", "a"), "conv", (16, 16), group=16)])
    [finding] = found("depthwise", model)
    assert (finding.severity, finding.nodes) == (Severity.WARNING, ("conv",))
    assert finding.message == "depthwise convolutions are quantized: 'conv' has 16 groups"
    assert found("grouped-convolution", model) == []
    assert found("channel-alignment", model) == []


def test_a_transposed_convolution_counts_its_channels_the_other_way(found) -> None:
    build = Builder(16)
    weight = build.weight("w", (16, 6, 2, 2), axis=1)
    up = build.node("ConvTranspose", [build.pair("images", "a"), weight], "up", group=2)
    findings = found("grouped-convolution", build.model([up]))
    assert findings[0].message.endswith("'up' has 2 groups of 8 to 6 channels")


def test_channels_of_no_multiple_of_16_are_one_warning(found) -> None:
    build = Builder()
    first = build.layer(build.layer("images", "a", (3, 24)), "b", (24, 16))
    model = build.model(build.predictions(first))
    [finding] = found("channel-alignment", model)
    assert (finding.severity, finding.nodes) == (Severity.WARNING, ("a", "b"))
    assert (
        finding.message == "channels of quantized convolutions are no multiple of 16: 'a' has 3 to 24, 'b' has 24 to 16"
    )


def test_channels_of_image_predictions_and_float_layers_do_not_count(found) -> None:
    build = Builder()
    tensor = build.conv(build.layer("images", "stem", (3, 16)), "float", (16, 10), quantized=False)
    last = build.conv(build.pair(tensor, "last/input"), "last", (10, 85))
    [finding] = found("channel-alignment", build.model([last]))
    assert finding.nodes == ("last",)  # for its input, not for its predictions
    build = Builder()
    last = build.conv(build.pair(build.layer("images", "stem", (3, 16)), "last/input"), "last", (16, 85))
    assert found("channel-alignment", build.model([last])) == []


def test_a_float_layer_between_quantized_ones_is_a_warning(found) -> None:
    build = Builder()
    first = build.layer("images", "a", (3, 16))
    island = build.silu(build.conv(first, "island", quantized=False), "island")
    model = build.model(build.predictions(build.layer(island, "b")))
    [finding] = found("float-island", model)
    assert (finding.severity, finding.nodes) == (Severity.WARNING, ("island",))
    assert finding.message == "float layers stand between quantized ones: 'island'"


@pytest.mark.parametrize("place", ["first", "last", "depthwise", "product"])
def test_float_layers_at_the_ends_and_depthwise_ones_are_no_islands(found, place: str) -> None:
    build = Builder(16)
    tensor = "images"
    if place == "first":
        tensor = build.conv(tensor, "stem", quantized=False)
    tensor = build.layer(tensor, "a")
    if place == "depthwise":
        tensor = build.conv(tensor, "dw", (16, 16), group=16, quantized=False)
    if place == "product":
        tensor = build.node("MatMul", [tensor, tensor], "attention")
    model = build.model(build.predictions(build.layer(tensor, "b")))
    assert found("float-island", model) == []


def test_a_quantized_depthwise_convolution_beside_a_quantized_reader_is_right(found) -> None:
    build = Builder()
    tensor = build.pair(build.layer("images", "stem", (3, 32)), "shared")
    build.conv(tensor, "box", (32, 32))
    out = build.conv(tensor, "depthwise", (32, 32), group=32)
    assert found("depthwise", build.model([out])) == []
