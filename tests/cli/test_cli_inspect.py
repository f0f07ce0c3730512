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


def test_a_layer_is_explained_with_a_plot(found, tiny_checkpoint, tmp_path, capsys):
    explained = inspect(tiny_checkpoint, tmp_path, "--quantizer", "model.2.cv1")
    location = "model.2.cv1.conv._input_quantizer"
    assert list(explained["quantizer"]) == [location, "model.2.cv1.conv._weight_quantizer"]
    facts = explained["quantizer"][location]
    assert sum(facts["histogram"]["shares"]) == pytest.approx(1.0)
    assert (len(facts["histogram"]["shares"]), facts["histogram"]["clip"]) == (64, facts["amax"])
    assert explained["layers"] == found["layers"]
    assert (tmp_path / "quantizer.png").stat().st_size > 10_000
    shown = " ".join(capsys.readouterr().out.split())
    assert f"{location}" in shown
    assert facts["verdict"] in shown


def test_a_weight_needs_no_statistics(tiny_checkpoint, tmp_path):
    alone = tmp_path / "alone" / "model.safetensors"
    alone.parent.mkdir()
    alone.write_bytes(tiny_checkpoint.read_bytes())
    name = "model.0.conv._weight_quantizer"
    assert list(inspect(alone, tmp_path / "out", "--quantizer", name)["quantizer"]) == [name]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--quantizer", "model.2.cv9"], "'model.2.cv9' is not in the model; expected the name of a quantizer"),
        (["--quantizer", "model.0", "--histograms", "no.npz"], "statistics 'no.npz' cannot be read"),
    ],
)
def test_an_unknown_quantizer_or_file_is_one_line(tiny_checkpoint, tmp_path, capsys, arguments, words):
    line = ["inspect", str(tiny_checkpoint), *arguments, "--imgsz", "64", "--out", str(tmp_path)]
    assert main(line) == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert shown.count("\n") == 1


def test_a_float_model_has_no_quantizer_to_explain(tiny_model, tmp_path, capsys):
    assert main(["inspect", str(tiny_model), "--quantizer", "model.0", "--out", str(tmp_path)]) == 2
    assert "is float and has no quantizer 'model.0'" in capsys.readouterr().err
