"""Folding changes how a model computes, not what."""

from __future__ import annotations

import copy

import pytest
import torch
from small_anchor import DESCRIPTIONS, YOLOV7, make_model
from torch import nn

from yoloqat.detectors.anchor.blocks import RepConv
from yoloqat.detectors.anchor.fold import fold, reparametrized
from yoloqat.detectors.anchor.layers import ImplicitA, ImplicitM


def test_a_folded_model_gives_the_same(family, picture):
    model = make_model(DESCRIPTIONS[family]).double()
    images = picture.double()
    with torch.no_grad():
        before = model(images)
        after = fold(copy.deepcopy(model))(images)
    assert before.std() > 0.1
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)


def test_only_plain_layers_are_left(family):
    model = fold(make_model(DESCRIPTIONS[family]))
    odd = (nn.BatchNorm2d, ImplicitA, ImplicitM)
    assert not [name for name, layer in model.named_modules() if isinstance(layer, odd)]
    assert not model.training
    assert not [name for name, value in model.named_parameters() if value.requires_grad]


def test_layers_for_training_alone_are_left_out():
    model = fold(make_model(YOLOV7))
    assert model.live == (*range(17), 19)
    assert not list(model.model[17].parameters())
    assert not list(model.head.m2.parameters())


@pytest.mark.parametrize(
    ("inputs", "outputs", "stride", "groups"), [(8, 8, 1, 1), (8, 8, 1, 4), (4, 8, 1, 1), (8, 8, 2, 2)]
)
def test_the_branches_of_repconv_become_one_convolution(inputs, outputs, stride, groups):
    torch.manual_seed(0)
    block = RepConv(inputs, outputs, 3, stride, groups=groups, act="nn.Identity()").double().train()
    assert (block.rbr_identity is not None) == (inputs == outputs and stride == 1)
    images = torch.randn(4, inputs, 9, 9, dtype=torch.float64)
    for norm in (layer for layer in block.modules() if isinstance(layer, nn.BatchNorm2d)):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    with torch.no_grad():
        block(images)
        block.eval()
        torch.testing.assert_close(reparametrized(block)(images), block(images), rtol=1e-9, atol=1e-9)
