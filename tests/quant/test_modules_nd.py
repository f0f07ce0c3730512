"""Quantized convolutions of one and three dimensions compute what torch's compute on quantized values."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from yoloqat.config import QuantScheme
from yoloqat.quant import modules_nd
from yoloqat.quant.swap import swappable_layers

SHAPES = {1: (2, 4, 9), 3: (1, 4, 5, 6, 5)}


@pytest.mark.parametrize("dimensions", SHAPES)
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_the_layer_is_torchs_on_quantized_values(kind: str, dimensions: int):
    plain = getattr(nn, f"{kind}{dimensions}d")(4, 6, 3, stride=2, padding=1, groups=2)
    form = getattr(modules_nd, f"Quant{kind}{dimensions}d")
    layer = form.from_float(plain, activations=QuantScheme(), weights=QuantScheme(axis=0))
    layer.calibrate_weight()
    x = torch.randn(SHAPES[dimensions], generator=torch.Generator().manual_seed(0))
    channels = 1 if kind == "ConvTranspose" else 0
    assert layer._weight_quantizer.amax.shape[channels] == plain.weight.shape[channels]
    assert layer._weight_quantizer.amax.numel() == plain.weight.shape[channels]
    result = layer(x)
    plain.weight.data = layer.quantized_weight().detach()
    assert torch.equal(result, plain(layer._input_quantizer(x)))
    assert not torch.equal(result, plain(x))


def test_swapping_leaves_them_float():
    assert swappable_layers(nn.Sequential(nn.Conv1d(1, 1, 1), nn.ConvTranspose3d(1, 1, 1))) == []
