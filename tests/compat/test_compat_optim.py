"""Parameters chosen by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from yoloqat.compat.pytorch_quantization import nn as quant_nn
from yoloqat.compat.pytorch_quantization.optim import helper


@pytest.fixture
def model() -> nn.Sequential:
    return nn.Sequential(quant_nn.QuantConv2d(2, 3, 3), nn.Conv2d(3, 1, 1))


def test_a_parameter_is_given_once_however_many_patterns_match(model):
    found = list(helper.match_parameters(model, ["weight", r"^0\."]))
    assert [tuple(parameter.shape) for parameter in found] == [(3, 2, 3, 3), (3,), (1, 3, 1, 1)]


def test_groups_are_what_optimizers_take(model):
    groups = helper.group_parameters(model, [["weight"], ["bias"]], [0.1, 0.2], [0.9, 0.8], [0.0, 1e-4])
    optimizer = torch.optim.SGD(groups)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.2]
    assert [group["momentum"] for group in optimizer.param_groups] == [0.9, 0.8]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 1e-4]


def test_groups_need_lists_of_one_length(model):
    with pytest.raises(TypeError, match="patterns of a group are 'weight'"):
        helper.group_parameters(model, ["weight"])
    for key, place in (("lr", 0), ("momentum", 1), ("weight_decay", 2)):
        values = [None] * 3
        values[place] = [0.1]
        with pytest.raises(TypeError, match=f"there are 1 values of {key}; expected 2"):
            helper.group_parameters(model, [["weight"], ["bias"]], *values)


def test_frozen_parameters_are_not_trained(model):
    helper.freeze_parameters(model, ["bias"])
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == ["0.weight", "1.weight"]


def test_weights_take_their_quantized_values(model):
    layer, plain = model[0], model[1].weight.clone()
    layer.requires_grad_(False)
    layer.weight_quantizer.amax = 0.1
    layer(torch.ones(1, 2, 3, 3))  # its quantized weight is kept from here on
    expected = layer.weight_quantizer(layer.weight)
    assert not torch.equal(layer.weight, expected)
    helper.quant_weight_inplace(model)
    assert torch.equal(layer.weight, expected)
    assert torch.equal(layer.quantized_weight(), expected)
    assert torch.equal(model[1].weight, plain)
