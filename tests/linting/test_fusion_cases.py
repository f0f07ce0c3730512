"""The fusion model on small graphs made by hand; what TensorRT does with each was read in its documentation or in public logs."""

from __future__ import annotations

import onnx
import pytest
from qdq_graphs import Builder

from yoloqat.linting.fusion import FUSION_RULES, Kind, PredictedLayer, predict_layers


def types(model: onnx.ModelProto) -> dict[str, str]:
    """Return by the first node of each layer what it reads and writes, e.g. ``"i8 -> i8"``; copies of parts go by their names."""
    found = {}
    for layer in predict_layers(model):
        name = layer.name if layer.standalone else layer.nodes[0]
        found[name] = f"{layer.precision_in} -> {layer.precision_out}"
    return found


def layer_of(model: onnx.ModelProto, node: str) -> PredictedLayer:
    return next(layer for layer in predict_layers(model) if node in layer.nodes and not layer.standalone)


def standalone(model: onnx.ModelProto) -> list[PredictedLayer]:
    """Return the Qs and DQs that run alone, without that of the images."""
    kinds = (Kind.QUANTIZE, Kind.DEQUANTIZE)
    return [found for found in predict_layers(model) if found.kind in kinds and "input-quantize" not in found.rules]


def test_a_layer_takes_dqs_activation_and_the_q_behind_in() -> None:
    """TensorRT #3861 and #2527: Conv, Sigmoid and Mul are one layer, INT8 to INT8; the Q of the images is a copy."""
    build = Builder()
    model = build.model(build.predictions(build.layer(build.layer("images", "one", (3, 32)), "two", (32, 16))))
    assert types(model) == {
        "QuantizeLinear of images": "f32 -> i8",
        "one": "i8 -> i8",
        "two": "i8 -> f32",  # no Q behind it
        "last": "f32 -> f32",
        "scores": "f32 -> f32",
    }
    assert layer_of(model, "one").nodes == ("one", "one/sigmoid", "one/silu")
    assert layer_of(model, "one").macs == 8 * 8 * 3 * 32
    assert layer_of(model, "one").bytes == 8 * 8 * (3 + 32) + 3 * 32
    assert layer_of(model, "two").bytes == 8 * 8 * (32 + 4 * 16) + 32 * 16
    assert standalone(model) == []


def test_an_output_read_by_a_q_and_in_float_is_written_in_float() -> None:
    """As YOLO11's neck: a quantized and a float depthwise convolution read one tensor."""
    build = Builder()
    tensor = build.layer("images", "neck", (3, 32))
    depthwise = build.silu(build.conv(tensor, "depthwise", (32, 32), quantized=False, group=32), "depthwise")
    model = build.model([build.layer(tensor, "box", (32, 16)), build.layer(depthwise, "class", (32, 16))])
    (quantize,) = standalone(model)
    assert types(model)["neck"] == "i8 -> f32"
    assert quantize.cause == "'neck' is read by 'box' in INT8 and by 'depthwise' in float"
    assert quantize.bytes == 8 * 8 * 32 * 5
    assert quantize.rules == ("mixed-reader",)


def test_depthwise_convolutions_leave_their_activation_to_a_pointwise_layer_which_takes_the_q_in() -> None:
    """TensorRT #3205."""
    build = Builder()
    tensor = build.pair(build.layer("images", "stem", (3, 32)), "shared")
    depthwise = build.silu(build.conv(tensor, "depthwise", (32, 32), group=32), "depthwise")
    found = types(build.model([build.layer(depthwise, "class", (32, 16))]))
    assert found["depthwise"] == "i8 -> f32"
    assert found["depthwise/sigmoid"] == "f32 -> i8"


def test_a_q_behind_a_concat_is_cloned_and_a_transposed_convolution_does_not_take_its_clone_in() -> None:
    """TensorRT #2597: of a ConvTranspose and two convolutions, the two wrote INT8."""
    build = Builder()
    source = build.pair(build.layer("images", "stem", (3, 32)), "source")
    shape = (32, 32, 1, 1)
    up = build.node("ConvTranspose", [source, build.weight("up/weight", shape, axis=1)], "up")
    parts = [up, build.conv(source, "conv1", (32, 32)), build.conv(source, "conv2", (32, 32))]
    model = build.model([build.layer(build.node("Concat", parts, "concat", axis=1), "behind", (96, 16))])
    found = types(model)
    assert (found["up"], found["conv1"], found["conv2"]) == ("i8 -> f32", "i8 -> i8", "i8 -> i8")
    (quantize,) = standalone(model)
    assert quantize.name == "QuantizeLinear of up_out"
    assert quantize.rules == ("transposed-quantize",)


@pytest.mark.parametrize(("quantized", "written"), [(True, "i8 -> i8"), (False, "i8 -> f32")])
def test_an_add_is_fused_and_the_q_behind_it_where_the_skip_is_quantized(quantized: bool, written: str) -> None:
    """TensorRT's placement recommendations: with a float skip the fused convolution writes float."""
    build = Builder()
    # the skip itself, the tensor before the block, is wanted in float by no one else
    tensor = build.layer("images", "stem", (3, 32))
    skip = build.pair(tensor, "block/input")
    branch = build.silu(build.conv(skip, "block", (32, 32)), "block")
    added = build.node("Add", [skip if quantized else tensor, branch], "add")
    model = build.model([build.layer(added, "behind", (32, 16))])
    assert types(model)["block"] == written
    assert layer_of(model, "add").nodes == ("block", "block/sigmoid", "block/silu", "add")
    causes = [found.cause for found in standalone(model)]
    assert causes == (
        []
        if quantized
        else ["'stem' is read by 'block' in INT8 and by 'add' in float", "'add' reads 'stem/silu_out' in float"]
    )


def test_an_add_of_two_quantized_inputs_is_a_layer_of_its_own_in_integers() -> None:
    """TensorRT's placement recommendations: an elementwise Add takes its DQs and its Q in."""
    build = Builder()
    skip = build.pair(build.layer("images", "stem", (3, 32)), "block/input")
    branch = build.pair(build.silu(build.conv(skip, "block", (32, 32)), "block"), "block/output")
    model = build.model([build.layer(build.node("Add", [skip, branch], "add"), "behind", (32, 16))])
    assert types(model)["add"] == "i8 -> i8"
    assert types(model)["block"] == "i8 -> i8"
    assert standalone(model) == []


def test_a_q_moves_back_across_a_maximum_pool_and_a_dq_forward() -> None:
    """TensorRT, Q/DQ propagation."""
    build = Builder()
    before = build.node("MaxPool", [build.layer("images", "one", (3, 32))], "back", kernel_shape=[1, 1])
    after = build.node(
        "MaxPool",
        [build.pair(build.silu(build.conv(build.pair(before, "two/input"), "two", (32, 32)), "two"), "pair")],
        "forward",
        kernel_shape=[1, 1],
    )
    found = types(build.model([build.silu(build.conv(after, "three", (32, 16)), "three")]))
    assert {name: found[name] for name in ("one", "back", "two", "forward", "three")} == {
        "one": "i8 -> i8",
        "back": "i8 -> i8",
        "two": "i8 -> i8",
        "forward": "i8 -> i8",
        "three": "i8 -> f32",
    }


def test_differing_scales_at_a_concat_cost_a_dq_and_a_q() -> None:
    """NVIDIA's guide to YOLOv7: copies from INT8 to FP16 and back."""
    build = Builder()
    first = build.pair(build.layer("images", "one", (3, 32)), "first", 0.05)
    second = build.pair(build.silu(build.conv(first, "two", (32, 32)), "two"), "second", 0.07)
    model = build.model(
        [build.layer(build.node("Concat", [first, second], "concat", axis=1), "behind", (64, 16), scale=0.09)]
    )
    assert [found.kind for found in standalone(model)] == [Kind.DEQUANTIZE, Kind.DEQUANTIZE, Kind.QUANTIZE]


def test_a_float_convolution_between_quantized_ones_costs_the_q_behind_it() -> None:
    build = Builder()
    one = build.layer("images", "one", (3, 32))
    island = build.silu(build.conv(one, "island", (32, 32), quantized=False), "island")
    model = build.model([build.layer(island, "two", (32, 16))])
    (quantize,) = standalone(model)
    assert quantize.cause == "'island' runs in float"
    assert types(model)["one"] == "i8 -> f32"


@pytest.mark.parametrize(("channels", "copied"), [(32, []), (16, ["two/silu_out copy"])])
def test_a_part_that_starts_inside_a_block_of_32_channels_is_copied(channels: int, copied: list[str]) -> None:
    """TensorRT #4039: copies between layouts of 32 and of 4 channels."""
    build = Builder()
    source = build.pair(build.layer("images", "stem", (3, 32)), "source")
    parts = [build.silu(build.conv(source, name, (32, channels)), name) for name in ("one", "two")]
    joined = build.node("Concat", parts, "concat", axis=1)
    layers = predict_layers(build.model([build.layer(joined, "behind", (2 * channels, 16))]))
    assert [layer.name for layer in layers if layer.kind is Kind.REFORMAT] == copied


def test_slices_of_a_tensor_and_what_another_operator_reads_are_copied_into_a_concat() -> None:
    """Layer lists of YOLO26n: 'Split_output_0 copy', 'Split_output_1 copy', and no copy of the last part."""
    build = Builder()
    build.node("Split", [build.layer("images", "cv1", (3, 64))], "split", outputs=2, axis=1, num_outputs=2)
    half = build.pair("split_out1", "block/input")
    added = build.node("Add", [half, build.silu(build.conv(half, "block", (32, 32)), "block")], "add")
    joined = build.node("Concat", ["split_out0", "split_out1", added], "concat", axis=1)
    layers = predict_layers(build.model([build.layer(joined, "cv2", (96, 16))]))
    copies = [(layer.name, layer.precision_in) for layer in layers if layer.kind is Kind.REFORMAT]
    assert copies == [("split_out0 copy", "i8"), ("split_out1 copy", "i8")]


def test_every_rule_has_a_source_and_is_used_by_a_layer_or_is_about_the_graph() -> None:
    assert len({rule.id for rule in FUSION_RULES}) == len(FUSION_RULES)
    assert all(rule.source.url.startswith("https://") and rule.says.endswith(".") for rule in FUSION_RULES)
