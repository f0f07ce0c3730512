"""Descriptions that are taken and that are refused."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from small_anchor import DESCRIPTIONS, YOLOV5, architecture_of
from torch import nn

from yoloqat.detectors.anchor import build
from yoloqat.detectors.anchor.activations import activation, activation_text, is_activation
from yoloqat.detectors.anchor.head import HEADS
from yoloqat.detectors.anchor.kinds import HEAD_KINDS, KINDS, YOLOV7_KINDS, settings_of
from yoloqat.detectors.anchor.loading import family_of
from yoloqat.detectors.anchor.parse import anchors_per_level, read_layers
from yoloqat.errors import ModelError


def described(*entries, head=None, **more):
    """Return a description of two convolutions, the given layers and a head that reads the last."""
    backbone = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]], *entries]
    head = head or [[[len(backbone) - 1], 1, "Detect", ["nc", "anchors"]]]
    base = {"nc": 2, "depth_multiple": 1.0, "width_multiple": 1.0, "anchors": [[1, 2, 3, 4]], "ch": 3}
    return {**base, "backbone": backbone, "head": head, **more}


def run(yaml, side=64):
    model = build(architecture_of(yaml))
    with torch.no_grad():
        levels = model.levels(torch.zeros(1, 3, side, side))
    return model, levels


@pytest.mark.parametrize(
    ("entry", "channels", "stride"),
    [
        ([-1, 1, "Conv", [24, 3, 1]], 24, 4),
        ([-1, 1, "Conv", [24, 3, 2, None, 1, 1, True]], 24, 8),
        ([-1, 1, "Conv", [24, 3, 1, "None", 8, "nn.ReLU()"]], 24, 4),
        ([-1, 1, "Conv", [14, 1, 1]], 14, 4),  # what the head gives is not rounded: 2 anchors of 5 + 2 numbers
        ([-1, 1, "Conv", [15, 1, 1]], 16, 4),
        ([-1, 1, "RepConv", [32, 3, 1]], 32, 4),
        ([-1, 3, "Bottleneck", [32]], 32, 4),
        ([-1, 2, "C3", [40, False]], 40, 4),
        ([-1, 1, "SPP", [40, [5, 9, 13]]], 40, 4),
        ([-1, 1, "SPPF", [40, 5]], 40, 4),
        ([-1, 1, "SPPCSPC", [40]], 40, 4),
        ([-1, 1, "DownC", [40]], 40, 8),
        ([-1, 1, "Focus", [40, 3]], 40, 8),
        ([[-1, -1], 1, "Concat", [1]], 64, 4),
        ([[-1, 1], 1, "Shortcut", [1]], 32, 4),
        ([-1, 1, "MP", []], 32, 8),
        ([-1, 2, "MP", [2]], 32, 16),
        ([-1, 1, "SP", [5]], 32, 4),
        ([-1, 1, "ReOrg", []], 128, 8),
        ([-1, 1, "nn.Upsample", ["None", 2, "nearest"]], 32, 2),
    ],
    ids=lambda value: value[2] if isinstance(value, list) else "",
)
def test_channels_and_strides_are_those_of_the_tensors(entry, channels, stride):
    model, levels = run(described(entry))
    assert tuple(levels[0].shape) == (1, channels, 64 // stride, 64 // stride)
    assert model.head.stride == (stride,)
    assert model.head.m[0].in_channels == channels


def test_every_kind_has_its_place_in_the_tables():
    assert set(HEAD_KINDS) == set(HEADS)
    assert set(KINDS) | set(HEADS) >= YOLOV7_KINDS
    for name, kind in KINDS.items():
        assert kind.quantized, name
        assert kind.convolutional == (kind.quantized != "has no convolution"), name


def test_families_are_told_by_their_layers(family):
    assert family_of({layer.kind for layer in read_layers(DESCRIPTIONS[family])}) == family


def test_depth_scales_repeats_and_width_channels():
    model, _ = run(described([-1, 6, "C3", [64]], depth_multiple=0.33, width_multiple=0.5))
    assert len(model.model[2].m) == 2
    assert [layer.conv.out_channels for layer in (model.model[0], model.model[1], model.model[2].cv3)] == [8, 16, 32]


def test_anchors_may_be_given_by_number():
    assert anchors_per_level(YOLOV5) == 3
    assert anchors_per_level({"anchors": 4}) == 4


def test_the_last_argument_may_name_the_activation():
    assert settings_of(KINDS["Conv"], [3, 1, None, 1, "nn.ReLU()"], act="nn.SiLU()")["act"] == "nn.ReLU()"
    assert settings_of(KINDS["Conv"], [3, 1, None, 1, False], act="nn.SiLU()")["act"] == "nn.Identity()"
    assert settings_of(KINDS["Conv"], [3, 1, None, 1, True], act="nn.SiLU()")["act"] == "nn.SiLU()"
    assert settings_of(KINDS["C3"], [False], act="nn.SiLU()") == {"act": "nn.SiLU()", "shortcut": False}


def test_too_many_arguments_are_refused():
    with pytest.raises(ValueError, match="3 arguments for kernel, stride"):
        settings_of(KINDS["RepConv"], [3, 1, 1], act="nn.SiLU()")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"backbone": None}, "'backbone' is None"),
        ({"depth_multiple": "x"}, "'depth_multiple' is 'x'"),
        ({"backbone": [], "head": []}, "there are 0 layers, 0 of them in 'head'"),
        ({"head": [[-1, 1, "Detect"]]}, "layer 2 has 3 parts"),
        ({"head": [[[1], 1, "Segment", []]]}, "layer 2 is 'Segment', which is not supported there"),
        ({"head": [[[1], 1, "Detect", []]] * 2}, "layer 2 is 'Detect', which is not supported there"),
        ({"head": [[[7], 1, "Detect", []]]}, r"layer 2 \(Detect\) reads the layer 7"),
        ({"head": [[[], 1, "Detect", []]]}, r"layer 2 \(Detect\) reads no layer"),
        ({"width_multiple": "x"}, "'width_multiple' is 'x'"),
        ({"anchors": "x"}, "'anchors' is 'x'"),
    ],
)
def test_a_description_that_is_none_is_refused(change, reason):
    with pytest.raises(ModelError, match=reason):
        build(architecture_of(described() | change))


@pytest.mark.parametrize("key", ["depth_multiple", "width_multiple", "anchors"])
def test_a_description_without_what_all_have_is_refused(key):
    yaml = described()
    del yaml[key]
    with pytest.raises(ModelError, match=f"a part of the model's description is missing: '{key}'"):
        build(architecture_of(yaml))


def test_more_weights_than_any_model_has_are_refused():
    with pytest.raises(ModelError, match="there are layers of 606491678 weights"):
        build(architecture_of(described([-1, 1, "Conv", [8192, 3]], [-1, 1, "Conv", [8192, 3]])))


def test_a_layer_that_cannot_be_made_is_named():
    with pytest.raises(ModelError, match=r"layer 2 \(Conv \[0, 3\]\) of the model's description cannot be made"):
        build(architecture_of(described([-1, 1, "Conv", [0, 3]])))


@pytest.mark.parametrize("key", ["yaml", "channels", "classes", "act"])
def test_an_incomplete_architecture_is_refused(key):
    architecture = architecture_of(YOLOV5)
    del architecture[key]
    with pytest.raises(ModelError, match=f"the architecture lacks '{key}'"):
        build(architecture)


def test_building_does_not_change_the_description_or_draw_numbers():
    architecture = architecture_of(YOLOV5)
    before, state = copy.deepcopy(architecture), torch.get_rng_state()
    model = build(architecture)
    assert architecture == before
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(value.any() for value in model.state_dict().values())


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("nn.SiLU()", nn.SiLU),
        ("torch.nn.ReLU()", nn.ReLU),
        ("nn.LeakyReLU(0.1)", nn.LeakyReLU),
        ("nn.LeakyReLU(negative_slope=0.1, inplace=True)", nn.LeakyReLU),
        ("nn.Identity()", nn.Identity),
    ],
)
def test_activations_are_made_of_their_text(text, kind):
    made = activation(text)
    assert type(made) is kind
    assert is_activation(text)
    if kind is nn.LeakyReLU:
        assert made.negative_slope == 0.1
    assert type(activation(activation_text(kind.__name__, vars(made)))) is kind


@pytest.mark.parametrize("text", ["nn.Foo()", "nn.SiLU(0.1)", "SiLU", "nn.SiLU(); import os", "os.system('x')"])
def test_other_texts_are_no_activation(text):
    with pytest.raises(ModelError, match=f"the activation '{re.escape(text)}' is unknown"):
        activation(text)
