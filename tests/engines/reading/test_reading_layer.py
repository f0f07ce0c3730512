from __future__ import annotations

import pytest

from yoloqat.engines.reading.layer import Layer, Tensor, nodes_of, shape_of, type_of
from yoloqat.engines.reading.losses import known_by


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("a.weight + Q_9 + Conv_13 + PWN(Clip_14)", ("a.weight", "Q_9", "Conv_13", "Clip_14")),
        ("Conv_757 || Conv_635", ("Conv_757", "Conv_635")),
        ("PWN(PWN(/model.0/act/Sigmoid), /model.0/act/Mul)", ("/model.0/act/Sigmoid", "/model.0/act/Mul")),
        (
            "PWN(Clip_589 + (Unnamed Layer* 16) [Shuffle], PWN(PWN(Add_586), Div_49))",
            ("Clip_589", "(Unnamed Layer* 16) [Shuffle]", "Add_586", "Div_49"),
        ),
        ("{ForeignNode[conv1/7x7_s2...loss3/classifier]}", ("conv1/7x7_s2", "loss3/classifier")),
        ("/neck/conv/QuantizeLinear_clone_1", ("/neck/conv/QuantizeLinear",)),
        ("Reformatting CopyNode for Input Tensor 0 to a + b", ()),
    ],
)
def test_nodes_that_a_name_joins(name, nodes):
    assert nodes_of(name) == nodes


@pytest.mark.parametrize(("shape", "elements"), [((2, 3), 6), ((-1, 3), None), ((), None), ((0, 3), None)])
def test_how_many_numbers_a_layer_reads(shape, elements):
    assert Layer("a", inputs=(Tensor("b", shape=shape), Tensor("scale"))).elements == elements


def test_shapes_as_trtexec_writes_them():
    assert [shape_of(text) for text in ("1,64:32,8,-1", "1, 3", "1,?", "")] == [(1, 64, 8, -1), (1, 3), (), ()]


@pytest.mark.parametrize(
    ("name", "type", "nodes", "kind"),
    [
        ("Reformatting CopyNode for Output Tensor 0 to x", "Reformat", (), "copy"),
        ("/neck/Concat_/neck/Resize_output_0_clone_0 copy", "Reformat", ("a",), "copy"),
        ("Conv_41 input reformatter 0", "unknown", (), "copy"),
        ("QuantizeLinear_2", "Reformat", ("QuantizeLinear_2",), "quantize"),
        ("QuantizeLinear_2_quantize_scale_node", "Scale", ("QuantizeLinear_2_quantize_scale_node",), "quantize"),
        ("DequantizeLinear_2", "Reformat", ("DequantizeLinear_2",), "dequantize"),
        ("__myl_Cast", "kgen", ("a/DequantizeLinear", "b/QuantizeLinear"), "quantize"),
        (
            "x.weight + QuantizeLinear_9 + Conv_13",
            "CaskConvolution",
            ("x.weight", "QuantizeLinear_9", "Conv_13"),
            "compute",
        ),
        ("a/QuantizeLinear_abcd_acdb_conv", "Reorder", ("a/QuantizeLinear_abcd_acdb_conv",), "copy"),
        ("Resize_3", "Resize", ("Resize_3",), "compute"),
    ],
)
def test_what_a_layer_does(name, type, nodes, kind):  # noqa: A002 - the attribute's name
    assert Layer(name, type, nodes=nodes).kind == kind


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("Row major linear FP32", "f32"),
        ("Channel major FP16 format where channel % 8 == 0", "f16"),
        ("BFloat16", "bf16"),
        ("I8", "i8"),
        ("U8", "u8"),
        ("Bool", "bool"),
        ("FP8", "f8"),
        ("", "unknown"),
    ],
)
def test_types_in_any_tools_words(text, short):
    assert type_of(text) == short


def test_a_skip_of_another_type_is_told_and_indices_are_not():
    layer = Layer("x", inputs=(Tensor("a", "i8"), Tensor("b", "f16"), Tensor("c", "i32")))
    assert layer.precision_in == "i8+f16"
    assert Layer("x", inputs=(Tensor("c", "i32"),)).precision_in == "i32"
    assert Layer("x", own_precision="u8").precision_in == "u8"
    assert Layer("x").precision_out == "unknown"


def test_a_layer_is_known_by_its_product():
    nodes = ("m.weight", "m/weight/QuantizeLinear", "m/Sigmoid", "m/conv/Conv", "m/Mul")
    assert known_by(Layer("all", nodes=nodes)) == "m/conv/Conv"
    assert known_by(Layer("__myl_Fc", "kgen")) == "__myl_Fc"
