"""Layers found, chosen and swapped."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from yoloqat.config import QuantConfig, QuantScheme
from yoloqat.errors import ModelError, PatternError
from yoloqat.quant import (
    QuantConv2d,
    QuantConvTranspose2d,
    QuantLinear,
    quantization_disabled,
    quantized_layers,
    quantizers,
    select_layers,
    swap_layers,
    swappable_layers,
)

NAMES = ["0.0", "0.2", "1.1"]


class OwnConv(nn.Conv2d):
    """A subclass, which may compute anything."""


def test_layers_are_found_in_order_of_registration(net):
    assert swappable_layers(net) == NAMES


def test_subclasses_are_not_found():
    assert swappable_layers(nn.Sequential(OwnConv(1, 1, 1), nn.Conv1d(1, 1, 1), nn.Conv2d(1, 1, 1))) == ["2"]


def test_what_is_ignored_or_kept_float_is_not_chosen(net):
    assert select_layers(net, QuantConfig()) == NAMES
    assert select_layers(net, QuantConfig(ignore=("0",))) == ["1.1"]
    assert select_layers(net, QuantConfig(), keep_float={"1.1": "head"}) == ["0.0", "0.2"]
    assert select_layers(net, QuantConfig(quantize_head=True), keep_float=["1.1"]) == NAMES
    assert select_layers(net, QuantConfig(quantize_head=True, ignore=("1.1",)), keep_float=["1.1"]) == ["0.0", "0.2"]
    with pytest.raises(PatternError, match=r"'1.0' matches no layer"):
        select_layers(net, QuantConfig(ignore=("1.0",)))


def test_swapped_layers_have_their_kind_name_and_schemes(net, image):
    expected, weight = net(image), net[0][0].weight
    config = QuantConfig(activations=QuantScheme(bits=6), weights=QuantScheme(bits=4, axis=0))
    swap_layers(net, NAMES, config)
    layers = dict(quantized_layers(net))
    assert {name: type(layer) for name, layer in layers.items()} == {
        "0.0": QuantConv2d,
        "0.2": QuantConvTranspose2d,
        "1.1": QuantLinear,
    }
    assert layers["0.0"].weight is weight
    assert not layers["0.0"].training
    assert layers["0.2"]._input_quantizer.scheme == QuantScheme(bits=6)
    assert layers["0.2"]._weight_quantizer.scheme == QuantScheme(bits=4, axis=1)
    assert [name for name, _ in quantizers(net)] == [quantizer.name for _, quantizer in quantizers(net)]
    assert len(list(quantizers(net))) == 6
    assert swappable_layers(net) == []
    with quantization_disabled(net):
        assert torch.equal(net(image), expected)
    assert not torch.equal(net(image), expected)


def test_only_the_named_layers_are_swapped(net):
    swap_layers(net, ["0.2"], QuantConfig())
    assert [name for name, _ in quantized_layers(net)] == ["0.2"]
    swap_layers(net, [], QuantConfig())
    assert swappable_layers(net) == ["0.0", "1.1"]


def test_a_shared_layer_stays_shared():
    layer = nn.Linear(2, 2)
    net = nn.ModuleDict({"a": layer, "b": nn.Sequential(layer, nn.Linear(2, 2))})
    swap_layers(net, swappable_layers(net), QuantConfig())
    assert isinstance(net["a"], QuantLinear)
    assert net["b"][0] is net["a"]
    assert isinstance(net["b"][1], QuantLinear)
    assert net["b"][1] is not net["a"]


def test_a_shared_layer_may_be_named_twice():
    layer = nn.Linear(2, 2)
    net = nn.Sequential(layer, layer)
    swap_layers(net, ["0", "1"], QuantConfig())
    assert net[0] is net[1]
    assert isinstance(net[0], QuantLinear)
    assert net[0]._input_quantizer.name == "0._input_quantizer"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("0.7", "layer '0.7' is missing"),
        ("0.1", "layer '0.1' is SiLU; expected one of Conv2d"),
        ("0", "layer '0' is Sequential"),
    ],
)
def test_a_name_that_cannot_be_swapped_leaves_everything_as_it_was(net, name, message):
    with pytest.raises(ModelError, match=message):
        swap_layers(net, ["0.0", name], QuantConfig())
    assert swappable_layers(net) == NAMES


def test_swapping_twice_is_told(net):
    swap_layers(net, ["0.0"], QuantConfig())
    with pytest.raises(ModelError, match=r"layer '0.0' is QuantConv2d"):
        swap_layers(net, ["0.0"], QuantConfig())


def test_a_model_that_is_itself_a_layer_cannot_be_swapped():
    layer = nn.Conv2d(1, 1, 1)
    assert swappable_layers(layer) == [""]
    with pytest.raises(ModelError, match="the model is itself the layer Conv2d"):
        swap_layers(layer, select_layers(layer, QuantConfig()), QuantConfig())
    assert not list(layer.children())


def test_a_quantized_layer_as_the_model_is_found():
    layer = QuantConv2d.from_float(nn.Conv2d(1, 1, 1), activations=QuantScheme(), weights=QuantScheme())
    assert [name for name, _ in quantized_layers(layer)] == [""]
    assert [name for name, _ in quantizers(layer)] == ["_input_quantizer", "_weight_quantizer"]
