from __future__ import annotations

import json
import re

import pytest
from stand_in import inspection

from yoloqat.engines.tensorrt import engine_layers
from yoloqat.errors import EngineError

MACS = {"model.1": 100, "model.10": 50, "model.2": 50}


def layer(name, kind="CaskConvolution", **more):
    return {"Name": name, "LayerType": kind, "Inputs": [], "Outputs": [], **more}


def read(*layers, macs=MACS, quantized=("model.1", "model.10")):
    return engine_layers(json.dumps({"Layers": list(layers)}), macs, quantized)


def precisions(found):
    return {entry.name: entry.precision for entry in found.precision.convolutions}


@pytest.mark.parametrize("major", [10, 11])
@pytest.mark.parametrize("detailed", [True, False])
def test_both_schemas_of_both_versions(tiny, major, detailed):
    text = json.dumps(inspection(tiny(), major, detailed=detailed))
    found = engine_layers(text, {"first": 3, "second": 1}, ["first", "second"])
    wanted = "i8" if detailed else "unknown"
    assert precisions(found) == {"first": wanted, "second": wanted}
    assert (found.detailed, len(found.reformats)) == (detailed, 1)
    assert found.precision.int8_mac_share == (1.0 if detailed else 0.0)


@pytest.mark.parametrize(
    ("tensor", "precision"),
    [
        ({"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}, "i8"),
        ({"Format/Datatype": "Row major linear FP32"}, "f32"),
        ({"Format/Datatype": "Half"}, "f16"),
        ({"Format": "Row major linear FP32 format (kLINEAR)", "DataType": "Int8"}, "i8"),
        ({"Format": "LINEAR", "Datatype": "BFloat16"}, "bf16"),
        ({"DataType": "FP8"}, "f8"),
        ({"DataType": "UInt8"}, "u8"),
        ({"Name": "x"}, "unknown"),
    ],
)
def test_types_of_tensors(tensor, precision):
    found = read(layer("model.1", Inputs=[tensor], Metadata="[ONNX Layer: model.1]"))
    assert precisions(found)["model.1"] == precision


def test_names_are_matched_whole():
    found = read(
        layer("a", Inputs=[{"DataType": "Int8"}], Metadata="[ONNX Layer: model.10]\x1e[ONNX Layer: model.10/q]")
    )
    assert precisions(found) == {"model.10": "i8", "model.1": "unknown", "model.2": "unknown"}
    assert found.precision.int8_mac_share == pytest.approx(50 / 150)


def test_fused_and_sibling_convolutions_share_a_layer():
    found = read(layer("model.1.weight + model.1 || model.2", Inputs=[{"DataType": "Int8"}]))
    assert precisions(found) == {"model.1": "i8", "model.2": "i8", "model.10": "unknown"}


def test_reformat_of_weights_is_not_the_convolution():
    first = layer("Reformatting CopyNode for model.1", "Reformat", Metadata="[ONNX Layer: model.1]")
    second = layer("myelin", "kgen", Inputs=[{"DataType": "Half"}], Metadata="[ONNX Layer: model.1]")
    third = layer("conv", Inputs=[{"DataType": "Int8"}], Metadata="[ONNX Layer: model.1]")
    found = read(first, second, third)
    assert precisions(found)["model.1"] == "i8"
    assert found.reformats == ("Reformatting CopyNode for model.1",)


def test_tactic_tells_of_an_input_that_is_quantized_inside():
    entry = layer("model.1", Inputs=[{"DataType": "Float"}], TacticName="sm80_xmma_fprop_i8i8_i8i32_f32_nchw")
    assert precisions(read(entry))["model.1"] == "i8"


def test_weights_tell_where_inputs_do_not():
    assert precisions(read(layer("model.1", Weights={"Type": "Int8", "Count": 3})))["model.1"] == "i8"


def test_convolution_that_no_layer_names_is_counted():
    found = read(layer("ForeignNode[a...b]", "Myelin"))
    assert [entry.name for entry in found.precision.convolutions] == list(MACS)
    assert found.precision.int8_mac_share == 0.0


@pytest.mark.parametrize("text", ["no JSON", "{}", '{"Layers": 3}', "[]"])
def test_something_else(text):
    with pytest.raises(EngineError, match=rf"the engine inspector gave {re.escape(repr(text))}"):
        engine_layers(text, MACS, ())
