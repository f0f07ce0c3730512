"""Quantizing a detector as a whole."""

from __future__ import annotations

import pytest
import torch

from yoloqat.config import QuantConfig, QuantScheme
from yoloqat.detectors import Quantization
from yoloqat.detectors.detector import apply_quantization
from yoloqat.errors import ModelError, PatternError
from yoloqat.quant import activation_quantizers, quantized_layers, shared_locations
from yoloqat.quant.functional import reduce_amax
from yoloqat.quant.graph import PlacementPlan


def test_weights_have_their_range_at_once(tiny):
    names = tiny.quantize(QuantConfig(weights=QuantScheme(axis=0)))
    layers = dict(quantized_layers(tiny.module))
    assert list(layers) == names
    assert all(quantizer.amax is None for _, quantizer in activation_quantizers(tiny.module))
    for layer in layers.values():
        assert torch.equal(layer._weight_quantizer.amax, reduce_amax(layer.weight, axis=0))


def test_what_was_quantized_is_kept(tiny):
    config = QuantConfig(ignore=("model.2",))
    names = tiny.quantize(config)
    assert (tiny.quantization.config, tiny.quantization.layers) == (config, tuple(names))
    assert tiny.quantization.calibration == {}
    assert not any(name.startswith("model.2.") for name in names)


def test_a_pattern_without_a_match_leaves_the_detector_float(tiny):
    with pytest.raises(PatternError, match=r"'model\.99' matches no layer"):
        tiny.quantize(QuantConfig(ignore=("model.99",)))
    assert tiny.quantization is None
    assert not list(quantized_layers(tiny.module))


def test_a_layer_that_is_not_there_leaves_the_detector_float(tiny):
    with pytest.raises(ModelError, match=r"layer 'model\.99' is missing"):
        apply_quantization(tiny, Quantization(QuantConfig(), ("model.0.conv", "model.99"), PlacementPlan(())))
    assert tiny.quantization is None
    assert not list(quantized_layers(tiny.module))


def test_a_skip_shares_the_scale_of_its_tensor(tiny):
    tiny.quantize(QuantConfig())
    block = tiny.module.get_submodule("model.2.m.0")
    assert block._residual_quantizer is block.cv1.conv._input_quantizer
    assert shared_locations(tiny.module)["model.2.m.0._residual_quantizer"] == "model.2.m.0.cv1.conv._input_quantizer"
    assert shared_locations(tiny.module) == tiny.quantization.placement.aliases


def test_an_unmerge_pattern_without_a_match_leaves_the_detector_float(tiny):
    with pytest.raises(PatternError, match=r"unmerge pattern 'model\.99' matches no layer"):
        tiny.quantize(QuantConfig(unmerge=("model.99",)))
    assert tiny.quantization is None
    assert not list(quantized_layers(tiny.module))
    assert not shared_locations(tiny.module)


def test_an_add_that_is_left_float_leaves_the_blocks_as_they_are(tiny):
    kind = type(tiny.module.get_submodule("model.2.m.0"))
    tiny.quantize(QuantConfig(adds="none"))
    assert type(tiny.module.get_submodule("model.2.m.0")) is kind
    assert "add in model.2.m.0 (Bottleneck)" in tiny.quantization.placement.floats
