import json

import pytest
import torch
from torch import nn

from yoloqat.cli import main
from yoloqat.detectors import load_detector


def inspect(model, out, *arguments) -> dict:
    assert main(["inspect", str(model), "--imgsz", "64", *arguments, "--out", str(out)]) == 0
    return json.loads((out / "result.json").read_text())["results"]


@pytest.fixture(scope="module")
def found(tiny_model, tmp_path_factory) -> dict:
    return inspect(tiny_model, tmp_path_factory.mktemp("inspect"))


def test_every_convolution_is_there_with_its_shapes(found, tiny_model):
    module = load_detector(tiny_model).module
    shapes, handles = {}, []
    for name, child in module.named_modules():
        if isinstance(child, nn.Conv2d):

            def hook(layer, inputs, output, name=name):
                shapes[name] = (list(inputs[0].shape[1:]), list(output.shape[1:]))

            handles.append(child.register_forward_hook(hook))
    with torch.inference_mode():
        module(torch.zeros(1, 3, 64, 64))
    assert {layer["name"]: (layer["input"], layer["output"]) for layer in found["layers"]} == shapes
    assert found["convolutions"] == len(shapes)


def test_the_sums_are_those_of_the_layers(found, tiny_model):
    module = load_detector(tiny_model).module
    assert found["parameters"] == sum(parameter.numel() for parameter in module.parameters())
    assert found["macs"] == sum(layer["macs"] for layer in found["layers"])
    assert 0.5 < found["quantized_macs"] / found["macs"] < 1


def test_what_stays_float_says_why(found):
    reasons = {layer["name"]: layer["reason"] for layer in found["layers"] if not layer["quantized"]}
    assert any("dfl" in name and reason == "fixed expectation over box distances" for name, reason in reasons.items())
    assert all(reason for reason in reasons.values())


def test_options_are_heeded(found, tiny_model, tmp_path):
    ignored = inspect(tiny_model, tmp_path, "--ignore", "model.0.*")
    layer = next(layer for layer in ignored["layers"] if layer["name"] == "model.0.conv")
    assert (layer["quantized"], layer["quantizer"]) == (False, None)
    assert ignored["quantized_layers"] == found["quantized_layers"] - 1


def test_a_checkpoint_is_described_as_it_is(found, tiny_checkpoint, tmp_path):
    stored = inspect(tiny_checkpoint, tmp_path)
    assert (stored["calibrated"], found["calibrated"]) == (True, False)
    assert stored["layers"] == found["layers"]
    assert stored["scales"] == found["scales"]


def test_every_quantized_layer_has_a_scale(found):
    owners = {scale["quantizer"] for scale in found["scales"]}
    assert {layer["quantizer"] for layer in found["layers"] if layer["quantized"]} <= owners


def test_an_unfit_size_is_refused(tiny_model, tmp_path, capsys):
    assert main(["inspect", str(tiny_model), "--imgsz", "50", "--out", str(tmp_path)]) == 2
    assert "imgsz is 50" in capsys.readouterr().err
