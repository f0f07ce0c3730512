"""Checkpoints: the same detector again, bit for bit, or a clear refusal."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

from yoloqat.config import QuantConfig, QuantScheme
from yoloqat.detectors import Detector, checkpoint, load_checkpoint, load_detector, save_checkpoint
from yoloqat.errors import CalibrationError, ModelError, OutputError
from yoloqat.quant import activation_quantizers, module_qparams, shared_locations

CONFIGS = [
    QuantConfig(),
    QuantConfig(ignore=("model.0", "re:.*dfl.*"), quantize_head=True),
    QuantConfig(activations=QuantScheme(symmetric=False, unsigned=True), weights=QuantScheme(bits=6)),
]


def calibrated(detector: Detector, config: QuantConfig) -> Detector:
    detector.quantize(config)
    for index, (_, quantizer) in enumerate(activation_quantizers(detector.module), start=1):
        if config.activations.symmetric:
            quantizer.amax = 0.5 * index
        else:
            quantizer.set_range(-0.3, 0.5 * index)
    detector.quantization = replace(detector.quantization, calibration={"method": "mse", "images": 3})
    return detector


@pytest.fixture(scope="module")
def quantized(tiny_model, tmp_path_factory) -> Path:
    """A checkpoint of the small detector, quantized; not to be changed by a test."""
    path = tmp_path_factory.mktemp("quantized") / "model.safetensors"
    save_checkpoint(calibrated(load_detector(tiny_model), QuantConfig()), path)
    return path


@pytest.fixture
def saved(tmp_path, quantized) -> Path:
    """A checkpoint of the small detector, quantized, the test's own."""
    return Path(shutil.copy(quantized, tmp_path / "model.safetensors"))


def rewritten(path: Path, *, metadata: dict[str, str] | None = None, **changes) -> Path:
    """Write a checkpoint anew with another description."""
    tensors = load_file(path)
    if metadata is None:
        with safe_open(path, framework="pt") as file:
            description = json.loads(file.metadata()["yoloqat"]) | changes
        metadata = {"yoloqat": json.dumps({key: value for key, value in description.items() if value != "removed"})}
    save_file(tensors, path, metadata=metadata)
    return path


@pytest.mark.parametrize("config", CONFIGS, ids=["default", "ignore", "affine"])
def test_the_way_to_the_disk_and_back_changes_no_bit(tmp_path, tiny, config, picture):
    detector = calibrated(tiny, config)
    save_checkpoint(detector, tmp_path / "m.safetensors")
    state = torch.random.get_rng_state()
    again = load_detector(tmp_path / "m.safetensors")
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.inference_mode():
        assert torch.equal(again.module(picture), detector.module(picture))
    for field in ("info", "imgsz", "family", "architecture", "source", "keep_float", "quantization", "not_rebuildable"):
        assert getattr(again, field) == getattr(detector, field), field
    assert not again.module.training
    first, second = module_qparams(detector.module), module_qparams(again.module)
    assert first.activations == second.activations
    assert list(first.weights) == list(second.weights)
    assert all((first.weights[name].integers == weight.integers).all() for name, weight in second.weights.items())
    assert (
        shared_locations(again.module) == shared_locations(detector.module) == detector.quantization.placement.aliases
    )


def test_channels_last_makes_no_difference_to_the_file(tmp_path, tiny, tiny_model):
    save_checkpoint(tiny, tmp_path / "a.safetensors")
    tiny.module.to(memory_format=torch.channels_last)
    save_checkpoint(tiny, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_float_detector_may_be_saved(tmp_path, tiny, picture):
    save_checkpoint(tiny, tmp_path / "m.safetensors")
    again = load_checkpoint(tmp_path / "m.safetensors")
    assert again.quantization is None
    assert torch.equal(again.module(picture), tiny.module(picture))


def test_a_detector_without_input_ranges_stays_dynamic(tmp_path, tiny, picture):
    tiny.quantize(QuantConfig())
    save_checkpoint(tiny, tmp_path / "m.safetensors")
    again = load_checkpoint(tmp_path / "m.safetensors")
    assert all(quantizer.amax is None for _, quantizer in activation_quantizers(again.module))
    assert torch.equal(again.module(picture), tiny.module(picture))


def test_yolov8n_comes_back(tmp_path, weights, picture):
    detector = calibrated(load_detector(weights("yolov8n-seg")), QuantConfig())
    save_checkpoint(detector, tmp_path / "m.safetensors")
    again = load_checkpoint(tmp_path / "m.safetensors")
    with torch.inference_mode():
        pairs = zip(again.module(picture), detector.module(picture), strict=True)
        assert all(torch.equal(first, second) for first, second in pairs)


@pytest.mark.parametrize("count", [0, 7])
def test_a_file_cut_short_is_told(saved, count):
    saved.write_bytes(saved.read_bytes()[: -1000 if count else 0] if count else b"\x00" * 100)
    with pytest.raises(ModelError, match=f"'{saved}' cannot be loaded"):
        load_detector(saved)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, r"has the schema and version \(None, None\)"),
        ({"format": "pt"}, r"has the schema and version \(None, None\)"),
        ({"yoloqat": "{damaged"}, "has damaged metadata"),
        ({"yoloqat": "[1]"}, "has damaged metadata"),
    ],
)
def test_the_safetensors_of_someone_else_is_told(saved, metadata, message):
    with pytest.raises(ModelError, match=f"'{saved}' {message}"):
        load_detector(rewritten(saved, metadata=metadata))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "other"}, r"has the schema and version \('other', 2\)"),
        ({"version": 1}, r"has the schema and version \('yoloqat/checkpoint', 1\)"),
        ({"family": "yolov99"}, "metadata 'family' of '.*' is 'yolov99'; expected one of"),
        ({"names": "removed", "source": "removed"}, "lacks names, source"),
        ({"quantization": None}, r"do not fit its architecture \(.*Unexpected key"),
    ],
)
def test_another_description_is_told(saved, changes, message):
    with pytest.raises(ModelError, match=message) as caught:
        load_detector(rewritten(saved, **changes))
    assert len(str(caught.value)) < 800


def test_a_layer_that_the_architecture_lacks_is_told(saved):
    with safe_open(saved, framework="pt") as file:
        quantization = json.loads(file.metadata()["yoloqat"])["quantization"]
    quantization["layers"].append("model.99")
    with pytest.raises(ModelError, match=r"layer 'model\.99' is missing"):
        load_detector(rewritten(saved, quantization=quantization))


def test_a_placement_that_names_another_site_is_told(saved):
    with safe_open(saved, framework="pt") as file:
        quantization = json.loads(file.metadata()["yoloqat"])["quantization"]
    quantization["placement"]["groups"][0]["input"].append("model.99._input_quantizer")
    with pytest.raises(ModelError, match=r"the model has no quantizer 'model\.99\._input_quantizer'"):
        load_detector(rewritten(saved, quantization=quantization))


def test_a_changed_detector_is_refused(tmp_path, tiny):
    tiny.not_rebuildable = "'model.0' was pruned"
    with pytest.raises(ModelError, match=f"'{tiny.source.path}' cannot be rebuilt: 'model.0' was pruned"):
        save_checkpoint(tiny, tmp_path / "m.safetensors")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), checkpoint.SafetensorError("disk is full")])
def test_a_full_disk_leaves_the_old_checkpoint(saved, tiny, monkeypatch, error):
    before = saved.read_bytes()

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(OutputError, match=rf"cannot write '{saved}' \((No space left|disk is full)"):
        save_checkpoint(tiny, saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize("value", [math.inf, math.nan, -2.0, None])
def test_a_range_that_is_none_is_refused_and_the_quantizer_named(saved, value):
    tensors = load_file(saved)
    name = "model.2.cv1.conv._input_quantizer"
    if value is None:
        del tensors[f"{name}._amax"]
    else:
        tensors[f"{name}._amax"].fill_(value)
    with safe_open(saved, framework="pt") as file:
        metadata = file.metadata()
    save_file(tensors, saved, metadata=metadata)
    what = "has no amax" if value is None else f"has the amax {value}"
    with pytest.raises(CalibrationError, match=f"quantizer '{name}' of '{saved}' {what}; expected finite"):
        load_checkpoint(saved)
