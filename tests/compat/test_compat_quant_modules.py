"""Replacing torch's layers, and putting them back."""

from __future__ import annotations

import types

import pytest
from torch import nn

from yoloqat.compat.pytorch_quantization import nn as quant_nn
from yoloqat.compat.pytorch_quantization import quant_modules
from yoloqat.compat.pytorch_quantization.nn import TensorQuantizer

NAMES = [entry.mod_name for entry in quant_modules._DEFAULT_QUANT_MAP]


def test_every_layer_is_replaced_and_comes_back():
    before = {name: getattr(nn, name) for name in NAMES}
    quant_modules.initialize()
    quant_modules.initialize()  # a second call must not take the quantized layers for torch's
    assert all(getattr(nn, name) is getattr(quant_nn, f"Quant{name}") for name in NAMES)
    quant_modules.deactivate()
    assert {name: getattr(nn, name) for name in NAMES} == before


def test_layers_can_be_left_out_and_added():
    linear, pool = nn.Linear, nn.MaxPool2d
    elsewhere = types.SimpleNamespace(Conv=nn.Conv2d)
    quant_modules.initialize(
        ["Linear"], [(nn, "MaxPool2d", quant_nn.QuantMaxPool2d), (elsewhere, "Conv", quant_nn.QuantConv2d)]
    )
    assert nn.Linear is linear
    assert nn.MaxPool2d is quant_nn.QuantMaxPool2d
    assert elsewhere.Conv is quant_nn.QuantConv2d
    quant_modules.deactivate()
    assert nn.MaxPool2d is pool
    assert elsewhere.Conv is nn.Conv2d


def test_export_is_switched_on_for_a_while_even_past_an_error():
    assert not TensorQuantizer().native
    with quant_modules.enable_onnx_export():
        assert TensorQuantizer().native
        with quant_modules.enable_onnx_export():
            pass
        assert TensorQuantizer().native
    with pytest.raises(KeyError, match="gone"), quant_modules.enable_onnx_export():
        raise KeyError("gone")
    assert not TensorQuantizer().native
