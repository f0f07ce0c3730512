"""Quantizing a detector as a whole."""

from __future__ import annotations

import pytest
import torch

from yoloqat.config import QuantConfig, QuantScheme
from yoloqat.detectors import Quantization
from yoloqat.detectors.detector import apply_quantization
from yoloqat.errors import ModelError, PatternError
from yoloqat.quant import quantized_layers
from yoloqat.quant.functional import reduce_amax


def test_weights_have_their_range_at_once(tiny):
    names = tiny.quantize(QuantConfig(weights=QuantScheme(axis=0)))
    layers = dict(quantized_layers(tiny.module))
    assert list(layers) == names
    for layer in layers.values():
        assert torch.equal(layer._weight_quantizer.amax, reduce_amax(layer.weight, axis=0))
        assert layer._input_quantizer.amax is None


def test_what_was_quantized_is_kept(tiny):
    config = QuantConfig(ignore=("model.2",))
    names = tiny.quantize(config)
    assert tiny.quantization == Quantization(config, tuple(names), {})
    assert not any(name.startswith("model.2.") for name in names)


def test_a_pattern_without_a_match_leaves_the_detector_float(tiny):
    with pytest.raises(PatternError, match=r"'model\.99' matches no layer"):
        tiny.quantize(QuantConfig(ignore=("model.99",)))
    assert tiny.quantization is None
    assert not list(quantized_layers(tiny.module))


def test_a_layer_that_is_not_there_leaves_the_detector_float(tiny):
    with pytest.raises(ModelError, match=r"layer 'model\.99' is missing"):
        apply_quantization(tiny, Quantization(QuantConfig(), ("model.0.conv", "model.99")))
    assert tiny.quantization is None
    assert not list(quantized_layers(tiny.module))
