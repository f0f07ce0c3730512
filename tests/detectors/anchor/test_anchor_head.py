"""The decoding, against the formula written out for single cells."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_anchor import DESCRIPTIONS, make_model

from yoloqat.detectors.anchor import raw_heads
from yoloqat.detectors.anchor.head import cell_grid, decode


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_cells_are_listed_row_by_row():
    assert cell_grid(2, 3, torch.zeros(())).tolist() == [[0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1]]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.sampled_from([8.0, 32.0]))
def test_decoding_follows_the_formula(count, height, width, classes, stride):
    generator = torch.Generator().manual_seed(height * 100 + width * 10 + classes)
    raw = torch.randn(2, count * (5 + classes), height, width, generator=generator, dtype=torch.float64)
    anchors = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 50
    decoded = decode(raw, anchors, stride)
    assert decoded.shape == (2, 4 + classes, count * height * width)
    for place in range(decoded.shape[2]):
        anchor, y, x = place // (height * width), place // width % height, place % width
        image = place % 2
        values = raw[image, anchor * (5 + classes) : (anchor + 1) * (5 + classes), y, x].tolist()
        s = [sigmoid(value) for value in values]
        expected = [
            (2 * s[0] - 0.5 + x) * stride,
            (2 * s[1] - 0.5 + y) * stride,
            (2 * s[2]) ** 2 * float(anchors[anchor, 0]),
            (2 * s[3]) ** 2 * float(anchors[anchor, 1]),
            *(probability * s[4] for probability in s[5:]),
        ]
        assert decoded[image, :, place].tolist() == pytest.approx(expected, rel=1e-9)


def test_raw_heads_are_what_is_decoded(family, picture):
    model = make_model(DESCRIPTIONS[family])
    with torch.no_grad():
        levels = raw_heads(model, picture)
        assert [tuple(level.shape) for level in levels] == [(2, 3, 8, 8, 8), (2, 3, 4, 4, 8)]
        flat = [level.permute(0, 1, 4, 2, 3).flatten(1, 2) for level in levels]
        parts = [decode(raw, model.head.anchors[i], model.head.stride[i]) for i, raw in enumerate(flat)]
        torch.testing.assert_close(torch.cat(parts, 2), model(picture), rtol=0, atol=0)


def test_gradients_reach_every_weight_through_raw_heads(picture):
    model = make_model(DESCRIPTIONS["yolov5"])
    sum(level.square().sum() for level in raw_heads(model, picture)).backward()
    assert not [name for name, value in model.named_parameters() if value.grad is None]


def test_raw_heads_want_an_anchor_model():
    with pytest.raises(TypeError, match="raw_heads takes an AnchorModel, not a Identity"):
        raw_heads(torch.nn.Identity(), torch.zeros(1, 3, 64, 64))
