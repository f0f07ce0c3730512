from __future__ import annotations

from pathlib import Path

import pytest
import torch

from yoloqat.calibration import calibrate_weights
from yoloqat.config import QuantConfig, QuantScheme
from yoloqat.detectors import load_detector
from yoloqat.quant import quantized_layers


def errors(detector) -> dict[str, float]:
    return {
        name: float((layer._weight_quantizer(layer.weight) - layer.weight).double().square().sum())
        for name, layer in quantized_layers(detector.module)
    }


@pytest.mark.parametrize("axis", [0, None])
def test_mse_loses_less_than_max_in_every_layer(tiny_model: Path, axis: int | None) -> None:
    detector = load_detector(tiny_model)
    detector.quantize(QuantConfig(weights=QuantScheme(bits=4, axis=axis, narrow_range=True)))
    layers = dict(quantized_layers(detector.module))
    shapes = {name: layer._weight_quantizer.amax.shape for name, layer in layers.items()}
    with torch.no_grad():
        by_max = errors(detector)
        calibrate_weights(detector, "mse")
        by_mse = errors(detector)
        calibrate_weights(detector, "max")
        again = errors(detector)
    assert all(by_mse[name] <= by_max[name] * (1 + 1e-6) for name in by_max)
    assert sum(by_mse.values()) < 0.9 * sum(by_max.values())
    assert again == by_max
    assert {name: layer._weight_quantizer.amax.shape for name, layer in layers.items()} == shapes
