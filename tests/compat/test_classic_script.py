"""A script written for NVIDIA's package runs unchanged, and its ranges are those of the core on the same data."""

from __future__ import annotations

import copy
import sys
from typing import Any

import pytest
import torch
from torch import nn

from yoloqat.compat import installed
from yoloqat.config import QuantConfig
from yoloqat.detectors.ultralytics import build
from yoloqat.detectors.ultralytics_import import ultralytics_module
from yoloqat.quant import collecting, quantized_layers, quantizers, swap_layers
from yoloqat.quant.calib import HistogramCalibrator, amax_entropy, amax_mse, amax_percentile

HEAD = r"model\.22\.dfl\.(.*)"
SEARCHES = {"entropy": amax_entropy, "mse": amax_mse, "percentile": amax_percentile}


@pytest.fixture(scope="module")
def images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(2, 3, 64, 64, generator=generator) for _ in range(2)]


@pytest.fixture(scope="module")
def float_model(images: list[torch.Tensor]) -> nn.Module:
    """YOLOv8n of Ultralytics' own YAML with seeded weights, and batch-norms that saw the images."""
    description = ultralytics_module("nn.tasks").yaml_model_load("yolov8n.yaml")
    model = build({"task": "detect", "yaml": description, "channels": 3, "classes": 80})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 4:
                bound = parameter[0].numel() ** -0.5
                parameter.uniform_(-2 * bound, 2 * bound, generator=generator)
        model.train()
        model(images[0])
    return model.eval()


@pytest.fixture(scope="module")
def core_model(float_model: nn.Module, images: list[torch.Tensor]) -> nn.Module:
    """The same model swapped and run by the core alone, its calibrators as fine as the namespace's."""
    model = copy.deepcopy(float_model)
    names = [name for name, layer in model.named_modules() if type(layer) is nn.Conv2d and ".dfl." not in name]
    swap_layers(model, names, QuantConfig())
    for _, layer in quantized_layers(model):
        layer._input_quantizer._calibrator = HistogramCalibrator(num_bins=4096)
        layer.calibrate_weight()
    with collecting(model), torch.no_grad():
        for batch in images:
            model(batch)
    return model


@pytest.fixture(scope="module")
def collected(float_model: nn.Module, images: list[torch.Tensor]) -> tuple[nn.Module, Any]:
    """The model after the script's swap and one of its calibrations, with the script."""
    with pytest.MonkeyPatch.context() as patch, installed():
        patch.syspath_prepend(__file__.rpartition("/")[0])
        sys.modules.pop("classic_script", None)
        import classic_script as script

        model = copy.deepcopy(float_model)
        script.initialize()
        script.replace_to_quantization_model(model, ignore_layer=[HEAD])
        script.calibrate_model(model, images, torch.device("cpu"), method="percentile", percentile=99.9)
    return model, script


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("entropy", {"stride": 8}), ("mse", {"stride": 8}), ("percentile", {"percentile": 99.9})],
)
def test_every_amax_is_searched_in_nvidias_bins_of_what_the_core_collects(
    method: str, arguments: dict[str, Any], collected, core_model: nn.Module
):
    model, script = collected
    script.compute_amax(model, torch.device("cpu"), method=method, **arguments)
    found = {name: quantizer.amax for name, quantizer in quantizers(model)}
    expected = {}
    for name, layer in quantized_layers(core_model):
        core = layer._input_quantizer._calibrator.histogram()
        collected_ = model.get_submodule(name)._input_quantizer._calibrator
        counts, edges = collected_._calib_hist.numpy(), collected_._calib_bin_edges.numpy()
        assert counts.sum() == core.counts.sum()
        assert edges[-2] <= core.amax <= edges[-1]
        amax = SEARCHES[method](counts, edges, **arguments)
        expected[f"{name}._input_quantizer"] = torch.tensor(max(amax, edges[1]))
        expected[f"{name}._weight_quantizer"] = layer._weight_quantizer.amax
    assert len(found) == 2 * 63
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_the_quantized_model_is_near_the_float_one_and_not_it(collected, float_model: nn.Module, images):
    model, script = collected
    with torch.no_grad():
        expected = float_model(images[0])[0]
        quantized = model(images[0])[0]
        with script.disable_quantization(model):
            disabled = model(images[0])[0]
        assert torch.equal(model(images[0])[0], quantized)
    assert torch.equal(disabled, expected)
    assert 0 < (quantized - expected).abs().mean() < 0.1 * expected.abs().mean()


def test_a_state_dict_carries_the_ranges_over_in_both_directions(collected, core_model: nn.Module):
    model, _ = collected
    core = copy.deepcopy(core_model)
    core.load_state_dict(model.state_dict())  # strict: every key is known on both sides
    amax = {name: quantizer.amax for name, quantizer in quantizers(core)}
    assert all(torch.equal(amax[name], quantizer.amax) for name, quantizer in quantizers(model))
    back = copy.deepcopy(model)
    for _, quantizer in quantizers(back):
        quantizer.reset_amax()
    back.load_state_dict(core.state_dict())
    assert all(torch.equal(amax[name], quantizer.amax) for name, quantizer in quantizers(back))
    names = {key.rpartition(".")[2] for key in model.state_dict() if "_quantizer" in key}
    assert names == {"_amax"}


def test_initialize_quantizes_a_model_while_it_is_built(float_model: nn.Module, pq):
    pq.quant_modules.initialize(float_module_list=["ConvTranspose2d"])
    description = ultralytics_module("nn.tasks").yaml_model_load("yolov8n.yaml")
    model = build({"task": "detect", "yaml": description, "channels": 3, "classes": 80})
    pq.quant_modules.deactivate()
    assert sum(isinstance(layer, pq.nn.QuantConv2d) for layer in model.modules()) == 64
    assert nn.Conv2d.__module__ == "torch.nn.modules.conv"
    missing, unexpected = model.load_state_dict(float_model.state_dict(), strict=False)
    assert not missing
    assert not unexpected
