"""Ranges that give no integers are refused, and the quantizer is named."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from yoloqat.config import QuantConfig, QuantScheme
from yoloqat.errors import CalibrationError
from yoloqat.quant import activation_quantizers, check_ranges, module_qparams, quantized_layers, swap_layers


def calibrated(**schemes: QuantScheme) -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    swap_layers(net, ["0", "2"], QuantConfig(**schemes))
    for _, quantizer in activation_quantizers(net):
        quantizer.amax = 2.0
    for _, layer in quantized_layers(net):
        layer.calibrate_weight()
    return net


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1.0, -float("inf")])
@pytest.mark.parametrize("location", ["0._weight_quantizer", "2._input_quantizer"])
def test_an_amax_that_is_no_range_is_named(location, value):
    net = calibrated()
    check_ranges(net)
    net.get_submodule(location)._amax.flatten()[-1] = value
    text = re.escape(f"quantizer '{location}' of 'a.safetensors' has the amax {value}; expected finite")
    with pytest.raises(CalibrationError, match=text):
        check_ranges(net, "'a.safetensors'")
    with pytest.raises(CalibrationError, match=re.escape(f"quantizer '{location}' of the model has the amax {value}")):
        module_qparams(net)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1.0])
def test_the_lower_end_of_an_affine_range_counts_too(value):
    net = calibrated(activations=QuantScheme(symmetric=False, unsigned=True))
    check_ranges(net)
    net[2]._input_quantizer._low.fill_(value)
    with pytest.raises(CalibrationError, match=f"quantizer '2._input_quantizer' of x has the low end {value}"):
        check_ranges(net, "x")


def test_zero_is_the_range_of_what_is_all_zeros_and_of_nothing_else():
    net = calibrated()
    net[2]._input_quantizer.amax = 0.0  # nothing passed while it was calibrated
    check_ranges(net)
    net[0]._weight_quantizer._amax[1] = 0.0
    with pytest.raises(
        CalibrationError, match=r"'0._weight_quantizer' of x has the amax 0.0 for weights that are not 0"
    ):
        check_ranges(net, "x")
    with torch.no_grad():
        net[0].weight[1] = 0.0
    check_ranges(net)


def test_a_missing_range_matters_where_the_model_should_be_calibrated_and_a_switched_off_one_never():
    net = calibrated()
    net[2]._input_quantizer.reset_amax()
    check_ranges(net)
    with pytest.raises(CalibrationError, match=r"quantizer '2._input_quantizer' of x has no amax"):
        check_ranges(net, "x", calibrated=True)
    net[2]._input_quantizer.disable()
    check_ranges(net, "x", calibrated=True)
