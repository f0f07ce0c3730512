"""The qparams an exporter writes are those that fake quantization uses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from yoloqat.config import QuantConfig, QuantScheme
from yoloqat.errors import CalibrationError
from yoloqat.quant import QParams, module_qparams, quantized_layers, share_quantizers, swap_layers, swappable_layers

SCHEMES = [
    QuantScheme(axis=0, narrow_range=True),
    QuantScheme(axis=0),
    QuantScheme(),
    QuantScheme(bits=4, axis=0),
    QuantScheme(bits=16),
]


def calibrated(net: nn.Module, config: QuantConfig) -> nn.Module:
    swap_layers(net, swappable_layers(net), config)
    for index, (_, layer) in enumerate(quantized_layers(net), start=1):
        layer.calibrate_weight()
        if config.activations.symmetric:
            layer._input_quantizer.amax = float(index)
        else:
            layer._input_quantizer.set_range(-0.25, float(index))
    return net


@pytest.mark.parametrize("weights", SCHEMES, ids=str)
def test_integers_times_scale_is_the_fake_quantized_weight(net, weights):
    net[0][0].weight[2] = 0.0
    net = calibrated(net, QuantConfig(weights=weights))
    for (found, weight), (name, layer) in zip(module_qparams(net).weights.items(), quantized_layers(net), strict=True):
        assert found == name
        assert (weight.integers.dtype, weight.scale.dtype, weight.zero_point.dtype) == (np.int64, np.float32, np.int64)
        assert weight.integers.shape == layer.weight.shape
        assert weight.integers.min() >= weight.scheme.low
        assert weight.integers.max() <= weight.scheme.high
        assert (weight.zero_point == 0).all()
        scale = weight.scale
        if weights.axis is None:
            assert scale.shape == ()
        else:
            shape = [-1 if dim == layer.weight_axis else 1 for dim in range(layer.weight.dim())]
            assert scale.shape == weight.zero_point.shape == (layer.weight.shape[layer.weight_axis],)
            assert np.abs(weight.integers).max(
                axis=tuple(d for d in range(layer.weight.dim()) if shape[d] == 1)
            ).max() == (weight.scheme.high)
            scale = scale.reshape(shape)
        product = weight.integers.astype(np.float32) * scale
        # two roundings on either side: q / (high / amax) there, q * (amax / high) here
        np.testing.assert_array_max_ulp(product, layer.quantized_weight().numpy(), maxulp=2)


def test_a_dead_channel_has_zero_integers_and_a_usable_scale(net):
    net[0][0].weight[2] = 0.0
    weight = module_qparams(calibrated(net, QuantConfig())).weights["0.0"]
    assert not weight.integers[2].any()
    assert weight.scale[2] == 1.0


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("unsigned", [True, False])
def test_input_qparams_are_those_of_the_forward(net, symmetric, unsigned):
    activations = QuantScheme(symmetric=symmetric, unsigned=unsigned)
    net = calibrated(net, QuantConfig(activations=activations))
    x = torch.linspace(-1, 5, 1001)
    for (location, qparams), (name, layer) in zip(
        module_qparams(net).activations.items(), quantized_layers(net), strict=True
    ):
        assert location == f"{name}._input_quantizer"
        assert qparams.scheme == activations
        assert qparams.integers is None
        assert qparams.scale.shape == qparams.zero_point.shape == ()
        assert (qparams.zero_point == 0) == (symmetric or (unsigned and qparams.zero_point == 0))
        integers = np.clip(np.rint(x.numpy() / qparams.scale) + qparams.zero_point, *limits(activations))
        found = (integers - qparams.zero_point) * qparams.scale
        steps = np.abs(found - layer._input_quantizer(x).numpy()) / qparams.scale
        assert steps.max() <= 1.001, "at most one step, where a tie was rounded the other way"
        assert (steps > 0.5).mean() <= 0.01


def limits(scheme: QuantScheme) -> tuple[int, int]:
    return scheme.low, scheme.high


def test_a_switched_off_edge_is_float(net):
    net = calibrated(net, QuantConfig())
    layers = [layer for _, layer in quantized_layers(net)]
    layers[0]._input_quantizer.disable()
    layers[1]._weight_quantizer.disable_quant()
    qparams = module_qparams(net)
    assert list(qparams.activations) == ["0.2._input_quantizer", "1.1._input_quantizer"]
    assert list(qparams.weights) == ["0.0", "1.1"]


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_range_that_is_missing_is_named(net, symmetric):
    net = calibrated(net, QuantConfig(activations=QuantScheme(symmetric=symmetric)))
    dict(quantized_layers(net))["0.2"]._input_quantizer.reset_amax()
    with pytest.raises(CalibrationError, match=r"quantizer '0.2._input_quantizer' has no amax"):
        module_qparams(net)


def test_a_float_model_has_no_qparams(net):
    assert module_qparams(net) == QParams({}, {})


def test_a_shared_quantizer_has_its_qparams_at_every_location(net):
    net = calibrated(net, QuantConfig())
    share_quantizers(net, {"1.1._input_quantizer": "0.0._input_quantizer"})
    qparams = module_qparams(net).activations
    assert set(qparams) == {"0.0._input_quantizer", "0.2._input_quantizer", "1.1._input_quantizer"}
    assert qparams["1.1._input_quantizer"] == qparams["0.0._input_quantizer"]
