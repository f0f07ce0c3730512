from __future__ import annotations

import pytest
from written import LOSSES, ROWS, WIDE, trt_json, trt_profile

from yoloqat.engines.reading import Layer, Tensor, losses, read_reports
from yoloqat.engines.reading.layer import nodes_of


@pytest.fixture
def planted(tmp_path):
    for name, text in (("layers.json", trt_json(10)), ("profile.json", trt_profile())):
        (tmp_path / name).write_text(text, encoding="utf-8")
    return read_reports([tmp_path / "layers.json", tmp_path / "profile.json"])


def layer(name, reads, writes, kind="CaskConvolution"):
    sides = (tuple(Tensor(*text.split(":")) for text in side.split()) for side in (reads, writes))
    return Layer(name, kind, *sides, nodes_of(name))


def test_every_planted_loss_is_named_with_its_cost(planted):
    found = {loss.rule: loss for loss in losses(planted.layers, "tensorrt")}
    assert {rule: (pytest.approx(loss.ms), loss.nodes) for rule, loss in found.items()} == {
        rule: (ms, nodes) for rule, (ms, nodes) in LOSSES.items()
    }
    assert [loss.rule for loss in losses(planted.layers, "tensorrt")][-1] == "input-output"
    assert found["float-island"].message == (
        "1 float layer (0.0300 ms) between INT8 layers, with 1 conversion at the edges (0.0200 ms): 'dw'"
    )
    assert found["standalone-quantize"].message == (
        "'side/input/QuantizeLinear' runs alone (f16 to i8), because 'dw' reads the same in float"
    )
    assert "(Thirty-two wide" in found["reformat"].message
    assert found["reformat"].message.endswith("from 'side' to 'cat'")
    assert WIDE in found["reformat"].message
    assert ROWS in found["reformat"].message
    assert found["input-output"].to_dict()["severity"] == "note"


def test_an_engine_that_is_all_int8_loses_nothing_but_its_ends():
    run = [
        layer("stem/QuantizeLinear", "images:f32", "a:i8", "Reformat"),
        layer("conv1", "a:i8", "b:i8"),
        layer("conv2", "b:i8", "out:f16"),
        layer("Reformatting CopyNode for Output Tensor 0 to conv2", "out:f16", "output0:f32", "Reformat"),
    ]
    assert [(loss.rule, loss.message) for loss in losses(run, "tensorrt")] == [
        (
            "input-output",
            "2 conversions at the input and the outputs: 'stem/QuantizeLinear', 'conv2'",
        )
    ]


def test_a_float_engine_has_no_island():
    run = [layer("conv1", "images:f16", "a:f16"), layer("conv2", "a:f16", "b:f16")]
    assert losses(run, "tensorrt") == []


def test_a_float_tail_is_no_island():
    run = [layer("conv1", "images:i8", "a:f16"), layer("conv2", "a:f16", "b:f16")]
    assert losses(run, "tensorrt") == []


def test_a_q_that_was_not_fused_though_nothing_else_reads():
    run = [
        layer("conv1", "images:i8", "a:f16"),
        layer("late/QuantizeLinear", "a:f16", "b:i8", "Reformat"),
        layer("conv2", "b:i8", "c:i8"),
    ]
    [loss] = losses(run, "tensorrt")
    assert (loss.rule, loss.message) == (
        "standalone-quantize",
        "'late/QuantizeLinear' runs alone (f16 to i8) behind 'conv1'",
    )


def test_fp32_is_no_loss_where_there_is_no_fp16():
    run = [layer("conv1", "images:i8", "a:f32"), layer("conv2", "a:f32", "b:f32", "Convolution")]
    assert [loss.rule for loss in losses(run, "tensorrt")] == ["fp32"]
    assert losses(run, "openvino") == []


def test_names_alone_still_tell_of_copies():
    run = [
        Layer("a/QuantizeLinear", nodes=("a/QuantizeLinear",), ms=0.5),
        Layer("Reformatting CopyNode for Input Tensor 0 to b"),
    ]
    found = {loss.rule: loss for loss in losses(run, "tensorrt")}
    assert (found["standalone-quantize"].ms, found["reformat"].ms) == (0.5, None)
    assert found["standalone-quantize"].message == "1 Q whose neighbours are not told: 'a/QuantizeLinear'"
    assert found["reformat"].message.startswith("1 copy whose neighbours are not told: 'Reformatting CopyNode")
