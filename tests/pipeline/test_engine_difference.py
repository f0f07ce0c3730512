from __future__ import annotations

import pytest

from yoloqat.engines.reading import Layer, Tensor
from yoloqat.errors import ConfigError
from yoloqat.linting.fusion import Kind, PredictedLayer
from yoloqat.pipeline.engine_difference import difference, difference_table
from yoloqat.pipeline.engine_report import report_engine


def predicted(*nodes, types=("i8", "i8"), kind=Kind.CONVOLUTION):
    return PredictedLayer(" + ".join(nodes), kind, nodes, *types, bytes=1, macs=1, time_ms={"t4": 0.01})


def ran(*nodes, types=("i8", "i8"), ms=0.5):
    return Layer(" + ".join(nodes), "CaskConvolution", (Tensor("a", types[0]),), (Tensor("b", types[1]),), nodes, ms=ms)


def test_what_agrees_what_differs_and_what_is_not_there():
    found = difference(
        [
            ran("one", "one/mul"),
            ran("two", types=("i8", "f16"), ms=0.7),
            ran("three", types=("i8+f16", "f32")),
            ran("four", types=("unknown", "unknown")),
            Layer("two/QuantizeLinear", "Reformat", nodes=("two/QuantizeLinear",)),
            Layer("Reformatting CopyNode for Input Tensor 0 to two", "Reformat"),
        ],
        [
            predicted("one"),
            predicted("two", "two/mul"),
            predicted("three", types=("i8", "f16")),
            predicted("four"),
            predicted("gone"),
            predicted("x/QuantizeLinear", kind=Kind.QUANTIZE),
        ],
        "t4",
    )
    assert [found[key] for key in ("agree", "differ", "not_told", "not_found")] == [2, 1, 1, ["gone"]]
    assert found["standalone"] == {"quantize": 1, "dequantize": 0, "reformat": 1}
    assert found["standalone_predicted"] == {"quantize": 1, "dequantize": 0, "reformat": 0}
    [item] = [item for item in found["items"] if item["agrees"] is False]
    assert (item["engine_layer"], item["predicted_ms"], item["ms"]) == ("two", 0.01, 0.7)
    table = difference_table(found)
    assert table.title == "against the prediction: 2 layers as predicted, 1 other"
    assert table.rows == (("two", "i8 to i8", "i8 to f16", "0.7000"),)
    assert table.caption == (
        "run alone: quantize 1 (predicted 1), dequantize 0 (predicted 0), reformat 1 (predicted 0)\n1 predicted layer not found"
    )


def test_openvino_is_not_predicted(tmp_path):
    (tmp_path / "counters.csv").write_text(
        "layerName;execStatus;layerType;execType;realTime (ms);cpuTime (ms)\nc;EXECUTED;Convolution;jit_I8;1;1\n"
    )
    with pytest.raises(ConfigError, match=r"m.onnx' is to be compared with '.*counters.csv', an engine of openvino"):
        report_engine([tmp_path / "counters.csv"], onnx=tmp_path / "m.onnx")
