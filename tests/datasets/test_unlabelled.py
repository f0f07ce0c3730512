from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

from yoloqat.datasets import calibration_images, comparison_images, spread
from yoloqat.errors import ConfigError, DataError


@pytest.fixture
def photographs(tmp_path):
    for number in range(9):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((8, 16, 3), np.uint8))
    return tmp_path


def test_one_half_calibrates_and_the_other_compares(photographs):
    ours = calibration_images(photographs, 5, held_out=True)
    others = comparison_images(photographs, 64, held_out=True)
    assert (len(ours), len(others)) == (5, 4)
    assert not {record.path for record in ours} & {record.path for record in others}
    assert [record.image_id for record in others] == [1, 2, 3, 4]
    assert (others[0].width, others[0].height) == (16, 8)
    assert others == comparison_images(photographs, 64, held_out=True)


def test_a_directory_of_its_own_is_taken_whole(photographs):
    assert len(comparison_images(photographs)) == 9
    assert [record.path.name for record in comparison_images(photographs, 3)] == ["0.png", "3.png", "6.png"]


def test_images_that_do_not_decode_are_left_out_where_allowed(photographs):
    (photographs / "4.png").write_bytes(b"no image")
    skipped = []
    assert len(comparison_images(photographs, 9, skipped=skipped)) == 8
    assert [path.name for path in skipped] == ["4.png"]
    with pytest.raises(DataError, match=re.escape(f"image '{photographs / '4.png'}'")):
        comparison_images(photographs, 9)


def test_a_half_is_no_more_than_half(photographs):
    message = (
        f"'{photographs}' has 5 images to calibrate on (the other half measures what that costs) and 6 were asked for"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        calibration_images(photographs, 6, held_out=True)


def test_one_image_cannot_be_divided(tmp_path):
    cv2.imwrite(str(tmp_path / "one.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match=re.escape(f"'{tmp_path}' has 1 image;")):
        comparison_images(tmp_path, 4, held_out=True)


def test_images_are_spread_evenly():
    assert spread(range(10), 5) == (0, 2, 4, 6, 8)
    assert spread([1, 2], 5) == (1, 2)
    with pytest.raises(ConfigError, match="fidelity_images is 0"):
        spread([1, 2], 0)
