"""Marks on pictures, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from yoloqat.report.drawing import Mark, beside, class_colour, drawn

RED = (255, 0, 0)


def grey(height=40, width=60, channels=3):
    return np.full((height, width, channels), 100, np.uint8)


def red(picture):
    return (np.asarray(picture) == RED).all(axis=2)


def test_a_box_is_an_outline_and_a_dashed_one_has_gaps():
    whole, dashed = (
        red(drawn(grey(), [Mark(((10, 5), (50, 30)), RED, width=1, dashed=dashed)])) for dashed in (False, True)
    )
    ys, xs = np.nonzero(whole)
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (5, 30, 10, 50)
    assert not whole[6:30, 11:50].any()
    assert whole[5, 10:51].all()
    assert 0.3 < dashed[5, 10:51].mean() < 0.8


def test_a_picture_is_shrunk_with_its_marks_and_never_enlarged():
    small = drawn(grey(80, 120), [Mark(((60, 40), (120, 80)), RED)], longest=60)
    assert small.size == (60, 40)
    assert np.nonzero(red(small))[1].min() in (29, 30)
    assert drawn(grey(), [], longest=600).size == (60, 40)


def test_labels_of_two_boxes_in_one_place_do_not_cover_each_other():
    marks = [Mark(((5, 20), (100, 90)), RED, "first"), Mark(((5, 20), (100, 90)), (0, 0, 255), "second")]
    pixels = np.asarray(drawn(grey(120, 160), marks, text=11))
    rows = [np.nonzero((pixels[:, 12] == colour).all(axis=1))[0] for colour in (RED, (0, 0, 255))]
    assert min(len(row) for row in rows) > 4
    assert not set(rows[0]) & set(rows[1])


def test_masks_are_blended_and_keypoints_are_dots():
    mask = np.zeros((40, 60), bool)
    mask[:10] = True
    pixels = np.asarray(drawn(grey(), [Mark(((0, 0), (0, 0)), RED, mask=mask, points=((30.0, 30.0),))]))
    assert tuple(pixels[5, 20]) == (162, 60, 60)  # 0.6 of 100 and 0.4 of red
    assert tuple(pixels[15, 20]) == (100, 100, 100)
    assert tuple(pixels[30, 30]) == RED


def test_a_polygon_is_closed():
    pixels = red(drawn(grey(), [Mark(((30, 5), (50, 20), (30, 35), (10, 20)), RED, width=1)]))
    assert all(pixels[y, x] for x, y in ((30, 5), (50, 20), (30, 35), (10, 20), (20, 12)))


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_images_of_any_channels_become_rgb(channels):
    image = grey(channels=channels)
    image[..., 0] = 20
    first = 20 if channels != 3 else 100  # OpenCV's first of three is blue
    assert tuple(np.asarray(drawn(image, []))[0, 0]) == ((100, 100, 20) if channels == 3 else (first,) * 3)


def test_pictures_stand_side_by_side_above_a_legend_that_wraps():
    pictures = [("one", drawn(grey(), [])), ("two", drawn(grey(), []))]
    plain, legend = beside(pictures), beside(pictures, [("lost", RED), ("a long meaning", (0, 0, 255))])
    assert plain.size == (128, 64)
    assert legend.size == (128, 64 + 2 * 21)
    assert red(legend)[64:85].any()


def test_classes_have_colours_however_many_there_are():
    assert class_colour(0) != class_colour(1)
    assert class_colour(0) == class_colour(12 * 1000)
