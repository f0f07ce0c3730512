"""Replacing torch's layers, and putting them back."""

from __future__ import annotations

import types

import pytest
from torch import nn

from yoloqat.compat import uninstall
from yoloqat.compat.pytorch_quantization import nn as quant_nn
from yoloqat.compat.pytorch_quantization import quant_modules
from yoloqat.compat.pytorch_quantization.nn import TensorQuantizer
from yoloqat.errors import ConfigError

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


def test_the_helper_does_the_same_in_steps_and_apart_from_others():
    linear, conv, pool = nn.Linear, nn.Conv2d, nn.MaxPool2d
    helper = quant_modules.QuantModuleReplacementHelper()
    custom = [(nn, "Linear", quant_nn.QuantLinear), (nn, "MaxPool2d", quant_nn.QuantMaxPool2d)]
    helper.prepare_state(["Linear", "ConvTranspose2d"], custom)
    assert nn.Linear is linear
    assert {entry.mod_name for entry in helper.quant_map} == {*NAMES, "MaxPool2d"} - {"ConvTranspose2d"}
    before = {entry.mod_name: entry.replace_mod for entry in helper.orginal_func_map}
    assert (before["Linear"], before["Conv2d"], before["MaxPool2d"]) == (linear, conv, pool)
    for _ in range(2):
        helper.apply_quant_modules()
    assert (nn.Linear, nn.MaxPool2d) == (quant_nn.QuantLinear, quant_nn.QuantMaxPool2d)
    quant_modules.deactivate()
    assert nn.Linear is quant_nn.QuantLinear
    helper.restore_float_modules()
    assert (nn.Linear, nn.Conv2d, nn.MaxPool2d) == (linear, conv, pool)


@pytest.mark.parametrize(
    ("custom", "kind", "message"),
    [
        ((nn, "Linear"), TypeError, "a custom quantized module is .*'Linear'"),
        (7, TypeError, "a custom quantized module is 7"),
        (
            (nn, "Liner", nn.Linear),
            AttributeError,
            "a custom quantized module names 'Liner'; expected an attribute of torch",
        ),
        ((nn, 3, nn.Linear), AttributeError, "a custom quantized module names 3"),
    ],
)
def test_mistakes_are_named_before_anything_is_replaced(custom, kind, message):
    conv = nn.Conv2d
    with pytest.raises(ConfigError, match=message) as caught:
        quant_modules.initialize(custom_quant_modules=[custom])
    assert isinstance(caught.value, kind)
    assert nn.Conv2d is conv


def test_what_a_helper_replaced_ends_with_the_namespace():
    linear = nn.Linear
    for kind in (quant_nn.QuantLinear, quant_nn.QuantConv2d):  # the second finds what the first put there
        helper = quant_modules.QuantModuleReplacementHelper()
        helper.prepare_state(NAMES, [(nn, "Linear", kind)])
        helper.apply_quant_modules()
    assert nn.Linear is quant_nn.QuantConv2d
    uninstall()
    assert nn.Linear is linear
