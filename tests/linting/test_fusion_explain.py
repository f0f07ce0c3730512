"""What a prediction says of a file: totals, what was planted in it with its cost, and the same model in FP16."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from qdq_graphs import Builder

from yoloqat.cli import main
from yoloqat.errors import ModelError
from yoloqat.linting.fusion import GPUS, Kind, Loss, fusion_rules_table, gpus_table, predict_model, prediction_tables
from yoloqat.linting.fusion.roofline import roofline_ms


def planted(fault: str = "", channels: int = 32) -> onnx.ModelProto:
    """Return a chain of quantized layers with a split and a concat, and one fault in it."""
    build = Builder()
    tensor = build.layer("images", "one", (3, 32))
    if fault == "mixed-reader":
        side = build.silu(build.conv(tensor, "side", (32, 32), quantized=False, group=32), "side")
    if fault == "float-island":
        tensor = build.silu(build.conv(tensor, "island", (32, 32), quantized=False), "island")
    source = build.pair(tensor, "source")
    parts = [build.silu(build.conv(source, name, (32, channels)), name) for name in ("left", "right")]
    outputs = [build.layer(build.node("Concat", parts, "concat", axis=1), "behind", (2 * channels, 32))]
    outputs += [build.layer(side, "class", (32, 16))] if fault == "mixed-reader" else []
    return build.model([build.layer(outputs[0], "end", (32, 16)), *outputs[1:]])


def losses(model: onnx.ModelProto) -> dict[str, Loss]:
    return {loss.kind: loss for loss in predict_model(model).losses}


@pytest.mark.parametrize(
    ("fault", "node", "least_bytes"),
    [("mixed-reader", "one", 8 * 8 * 32 * 5), ("float-island", "island", 8 * 8 * 32 * 5)],
)
def test_a_planted_fault_is_named_with_its_cost(fault: str, node: str, least_bytes: int) -> None:
    assert fault not in losses(planted())
    loss = losses(planted(fault))[fault]
    assert node in loss.nodes
    assert f"'{node}'" in loss.message
    assert loss.bytes >= least_bytes
    assert all(loss.time_ms[name] >= 1000 * least_bytes / gpu.bandwidth for name, gpu in GPUS.items())


def test_parts_of_a_concat_that_fill_no_block_are_named_with_their_cost() -> None:
    assert "concat-channels" not in losses(planted())
    loss = losses(planted(channels=16))["concat-channels"]
    assert loss.nodes == ("concat",)
    assert loss.message == "'right/silu_out' is copied: it starts at channel 16, no multiple of 32"
    assert loss.bytes == 2 * 8 * 8 * 16


def test_fp32_work_between_int8_layers_is_named_with_its_cost() -> None:
    build = Builder()
    tensor = build.silu(build.layer("images", "one", (3, 32)), "twice")  # a second SiLU, outside of what is fused
    pooled = build.node("Softmax", [tensor], "softmax", axis=1)
    found = losses(build.model([build.layer(pooled, "two", (32, 16))]))["fp32-remainder"]
    assert "softmax" in found.nodes
    assert found.message == "1 layer from the first INT8 layer to the last in FP32, 'softmax' first"
    assert found.bytes == 8 * 8 * 32 * 4
    assert found.time_ms["t4"] == pytest.approx(1000 * found.bytes / 320e9)


def test_the_same_model_in_half_and_with_implicit_int8_stands_beside_it() -> None:
    found = predict_model(planted())
    assert found.total.macs == found.half.macs == found.implicit_int8.macs
    assert (found.total.int8_mac_share, found.half.int8_mac_share) == (1.0, 0.0)
    assert found.total.bytes < found.half.bytes
    assert found.total.time_ms["orin"] < found.half.time_ms["orin"]
    assert found.total.layers == len(found.layers)
    assert found.implicit_int8.standalone == 1  # the Q of the images
    assert not any(layer.cause for layer in found.layers)


def test_inputs_of_open_size_are_named_where_sums_are_shown() -> None:
    model = planted()
    assert predict_model(model).open_inputs == ()
    del model.graph.value_info[:]
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    found = predict_model(model)
    assert (found.open_inputs, found.to_dict()["predicted_open_inputs"]) == (("images",), ["images"])
    assert "Open sizes of 'images' count as 1." in prediction_tables("m", found, "t4")[-1].caption


def test_a_float_model_has_no_q_and_no_int8() -> None:
    build = Builder()
    found = predict_model(build.model([build.silu(build.conv("images", "one", (3, 32), quantized=False), "one")]))
    assert [(layer.kind, layer.precision_in) for layer in found.layers] == [
        (Kind.CONVOLUTION, "f32"),
        (Kind.OTHER, "f32"),
    ]
    assert found.total.int8_mac_share == 0.0


def test_the_roofline_is_the_longer_of_bytes_and_operations() -> None:
    gpu = GPUS["t4"]
    kinds = {"kind": Kind.CONVOLUTION, "precision": "i8"}
    assert roofline_ms(gpu, **kinds, moved=320_000_000, macs=1) == pytest.approx(1.0)
    assert roofline_ms(gpu, **kinds, moved=1, macs=65_000_000_000) == pytest.approx(1.0)
    assert roofline_ms(gpu, kind=Kind.DEPTHWISE, precision="i8", moved=1, macs=4_050_000_000) == pytest.approx(1.0)


def test_shapes_that_cannot_be_inferred_are_an_error_in_one_line() -> None:
    model = planted()
    del model.opset_import[:]
    with pytest.raises(ModelError, match=r"^shapes cannot be inferred \(.*one/input/Q"):
        predict_model(model)


def test_the_command_writes_the_prediction_and_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(planted(channels=16), tmp_path / "m.onnx")
    line = ["lint", str(tmp_path / "m.onnx"), "--explain", "--gpu", "t4", "--out", str(tmp_path / "out")]
    assert main(line) == 0
    shown = capsys.readouterr().out
    assert "m.onnx: predicted engine, roofline of T4" in shown
    assert "Predicted from the file, not measured." in shown
    results = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))["results"]
    keys = {"layer", "kind", "nodes", "precision_in", "precision_out", "bytes", "macs", "rules", "cause", "time_ms"}
    assert {frozenset(layer) for layer in results["predicted"]} == {frozenset(keys)}
    assert set(results["predicted_totals"]) == {"file", "half", "implicit_int8"}
    assert results["predicted_totals"]["file"]["layers"] == len(results["predicted"])
    assert results["predicted_losses"][0]["kind"] == "concat-channels"


def test_the_documentation_has_the_tables_of_rules_and_gpus_as_they_are() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "tensorrt.md").read_text(encoding="utf-8")
    assert fusion_rules_table() in text, "put what fusion_rules_table() returns into docs/tensorrt.md"
    assert gpus_table() in text, "put what gpus_table() returns into docs/tensorrt.md"
