from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yoloqat.datasets import letterbox
from yoloqat.datasets.letterbox import PADDING, centre_crop
from yoloqat.errors import ConfigError

SIDES = st.integers(1, 90)


def image_of(height, width):
    return np.full((height, width, 3), (10, 20, 30), dtype=np.uint8)


def test_channels_become_rgb_and_the_rest_is_grey():
    canvas, geometry = letterbox(image_of(4, 8), 8)
    assert canvas.shape == (3, 8, 8)
    assert canvas.flags["C_CONTIGUOUS"]
    assert geometry.padding == (2, 0)
    assert canvas[:, 2:6].reshape(3, -1).T.tolist() == [[30, 20, 10]] * 32
    assert (canvas[:, :2] == PADDING).all()
    assert (canvas[:, 6:] == PADDING).all()


def test_of_an_odd_margin_the_larger_half_is_below():
    _, geometry = letterbox(image_of(5, 8), 8)
    assert geometry.padding == (1, 0)


@given(SIDES, SIDES, st.integers(1, 64))
def test_the_long_side_fills_the_square(height, width, imgsz):
    canvas, geometry = letterbox(image_of(height, width), imgsz)
    assert canvas.shape == (3, imgsz, imgsz)
    assert max(geometry.gain[0] * height, geometry.gain[1] * width) == pytest.approx(imgsz)


@given(SIDES, SIDES, st.integers(8, 64), st.tuples(st.integers(8, 70), st.integers(8, 70)))
def test_the_image_lies_inside_any_canvas_and_its_corners_map_back(height, width, imgsz, shape):
    canvas, geometry = letterbox(image_of(height, width), imgsz, shape=shape)
    assert canvas.shape == (3, *shape)
    (top, left), (gain_y, gain_x) = geometry.padding, geometry.gain
    corners = np.array([[left, top, left + gain_x * width, top + gain_y * height]], dtype=np.float32)
    np.testing.assert_allclose(geometry.to_original(corners), [[0, 0, width, height]], rtol=1e-5, atol=1e-4)


def test_boxes_are_clipped_to_the_image_and_the_argument_is_left_alone():
    _, geometry = letterbox(image_of(4, 8), 16)
    boxes = np.array([[-5, -5, 400, 400]], dtype=np.float32)
    mapped = geometry.to_original(boxes)
    assert mapped.tolist() == [[0, 0, 8, 4]]
    assert mapped.dtype == np.float32
    assert boxes[0, 0] == -5


def test_a_crop_is_the_largest_part_around_the_centre_with_the_proportions_of_the_canvas():
    image = np.arange(6 * 12, dtype=np.uint8).reshape(6, 12, 1)
    assert centre_crop(image, (32, 32))[..., 0].tolist() == image[:, 3:9, 0].tolist()
    assert centre_crop(image, (32, 64))[..., 0].tolist() == image[..., 0].tolist()
    assert centre_crop(image, (64, 256))[..., 0].tolist() == image[1:4, :, 0].tolist()


@given(SIDES, SIDES, st.integers(8, 64))
def test_a_crop_fills_a_square_without_padding(height, width, imgsz):
    _, geometry = letterbox(centre_crop(image_of(height, width), (imgsz, imgsz)), imgsz)
    assert geometry.padding == (0, 0)
    assert geometry.original == (min(height, width),) * 2


def test_the_size_is_checked():
    with pytest.raises(ConfigError, match="imgsz is 0"):
        letterbox(image_of(2, 2), 0)
