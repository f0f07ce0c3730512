"""Contexts switch quantizers and bring back exactly what was."""

from __future__ import annotations

import pytest
import torch

from yoloqat.config import QuantConfig, QuantScheme
from yoloqat.quant import (
    collecting,
    dynamic_amax,
    quantization_disabled,
    quantized_layers,
    quantizers,
    swap_layers,
    swappable_layers,
)

CONTEXTS = [quantization_disabled, collecting, dynamic_amax]


@pytest.fixture(params=[True, False], ids=["symmetric", "affine"])
def mixed(net, request):
    """A quantized net whose quantizers are all in different states."""
    swap_layers(net, swappable_layers(net), QuantConfig(activations=QuantScheme(symmetric=request.param)))
    layers = [layer for _, layer in quantized_layers(net)]
    for layer in layers:
        layer.calibrate_weight()
        layer._input_quantizer.amax = 0.7
    layers[0]._input_quantizer.disable()
    layers[0]._weight_quantizer.disable_quant()
    layers[1]._input_quantizer.disable_quant()
    layers[1]._weight_quantizer.disable()
    layers[2]._input_quantizer.reset_amax()
    return net


def states(net):
    return [
        (quantizer._disabled, quantizer._if_quant, quantizer._if_calib, quantizer.amax, quantizer.low)
        for _, quantizer in quantizers(net)
    ]


def assert_same_states(first, second):
    assert [state[:3] for state in first] == [state[:3] for state in second]
    assert all(a is b for x, y in zip(first, second, strict=True) for a, b in zip(x[3:], y[3:], strict=True))


@pytest.mark.parametrize("context", CONTEXTS)
def test_mixed_states_come_back(context, mixed, image):
    before, output = states(mixed), mixed(image)
    with context(mixed):
        mixed(image)
        assert [state[:4] for state in states(mixed)] != [state[:4] for state in before]
    assert_same_states(states(mixed), before)
    assert torch.equal(mixed(image), output)


def change_and_interrupt(net, *, ranges: bool):
    for _, layer in quantized_layers(net):
        if ranges:
            layer._input_quantizer.amax = 9.0
        else:
            layer._input_quantizer.enable_calib()
            layer._weight_quantizer.enable()
    raise KeyboardInterrupt


@pytest.mark.parametrize("context", CONTEXTS)
def test_states_come_back_after_an_exception(context, mixed):
    before = states(mixed)
    with pytest.raises(KeyboardInterrupt), context(mixed):
        change_and_interrupt(mixed, ranges=context is dynamic_amax)
    assert_same_states(states(mixed), before)


def test_contexts_nest(mixed):
    before = states(mixed)
    with quantization_disabled(mixed), dynamic_amax(mixed), collecting(mixed):
        pass
    assert_same_states(states(mixed), before)


@pytest.fixture
def quantized_net(net):
    swap_layers(net, swappable_layers(net), QuantConfig())
    for _, layer in quantized_layers(net):
        layer.calibrate_weight()
        layer._input_quantizer.amax = 0.1
    return net


def test_collecting_runs_in_float_and_collects_inputs_only(net, image):
    expected = net(image)
    swap_layers(net, swappable_layers(net), QuantConfig())
    layers = dict(quantized_layers(net))
    layers["1.1"]._input_quantizer.disable()
    with collecting(net), torch.inference_mode():
        assert torch.equal(net(image), expected)
    for name, layer in layers.items():
        histogram = layer._input_quantizer._calibrator.histogram()
        assert (histogram is None) == (name == "1.1")
        assert layer._weight_quantizer._calibrator.compute_amax() is None
    assert layers["0.0"]._input_quantizer._calibrator.histogram().counts.sum() == image.numel()
    net(image)
    assert layers["0.0"]._input_quantizer._calibrator.histogram().counts.sum() == image.numel()


def test_dynamic_amax_ignores_the_calibrated_input_ranges_only(quantized_net, image):
    calibrated = quantized_net(image)
    with dynamic_amax(quantized_net):
        dynamic = quantized_net(image)
        assert all(layer._input_quantizer.amax is None for _, layer in quantized_layers(quantized_net))
        assert all(layer._weight_quantizer.amax is not None for _, layer in quantized_layers(quantized_net))
    assert not torch.equal(calibrated, dynamic)
    assert torch.equal(quantized_net(image), calibrated)
