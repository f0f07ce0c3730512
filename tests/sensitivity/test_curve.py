from __future__ import annotations

import math

import pytest

from yoloqat.sensitivity.curve import CurvePoint, corrected, floatable, knee, within
from yoloqat.sensitivity.items import Item


def curve(*points):
    return [CurvePoint(count, count, None, d, d, macs) for count, (d, macs) in enumerate(points)]


def test_the_knee_is_the_least_number_that_wins_nearly_the_most():
    points = curve((1.0, 1.0), (0.5, 0.99), (0.48, 0.98), (0.47, 0.9), (0.0, 0.0))
    assert knee(points) == 1  # the second wins 0.01 more, which is not worth a layer
    assert knee(curve((1.0, 1.0), (0.7, 0.98), (0.4, 0.96), (0.38, 0.7))) == 2


def test_nothing_pays_where_noise_falls_no_faster_than_multiply_adds():
    assert knee(curve((1.0, 1.0), (0.9, 0.9), (0.5, 0.5), (0.0, 0.0))) == 0
    assert knee(curve((0.0, 1.0), (0.0, 0.9))) == 0
    assert knee(curve((1.0, 0.0), (0.5, 0.0))) == 0
    assert knee(curve((math.nan, 1.0), (math.nan, 0.5))) == 0


def test_the_least_number_within_a_drop():
    points = curve((1.0, 1.0), (0.5, 0.9), (0.2, 0.8))
    assert within(points, {0: 0.02, 1: 0.01, 2: 0.001}, 0.01) == 1
    assert within(points, {0: 0.02, 1: 0.01, 2: 0.001}, 0.05) == 0
    assert within(points, {0: None, 1: 0.01, 2: 0.001}, 0.0) is None


def test_predictions_are_scaled_by_what_was_measured():
    assert corrected([1.0, 0.8, 0.6, 0.4], {0: 2.0, 2: 0.6}) == pytest.approx([2.0, 1.2, 0.6, 0.4])
    assert corrected([1.0, 0.5], {}) == [1.0, 0.5]
    assert corrected([0.0, 0.0], {0: 1.0}) == [1.0, 0.0], "what is predicted as nothing and measured as something"
    assert corrected([1.0, 0.5, 0.0], {0: 2.0, 2: 0.3}) == [2.0, 1.0, 0.3]


def test_an_item_without_a_layer_cannot_be_left_float_by_name():
    named, nameless = Item("a", ("a._input_quantizer",), ("a",)), Item("b (residual)", ("b._add",), ())
    assert floatable([nameless, named]) == [named]
