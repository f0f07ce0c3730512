from __future__ import annotations

import re

import cv2
import pytest

from yoloqat.errors import OutputError
from yoloqat.report.bars import MOST_BARS, Bar, draw_bars

BLUE = (0xA6, 0x63, 0x25)  # as OpenCV reads it


def pixels(path, colour):
    image = cv2.imread(str(path))
    return int((abs(image.astype(int) - colour).sum(axis=2) < 12).sum())


def test_a_longer_bar_has_more_pixels_and_undecided_ones_are_pale(tmp_path):
    one, two, pale = tmp_path / "one.png", tmp_path / "two.png", tmp_path / "pale.png"
    draw_bars([Bar("a", 0.5, 0.4, 0.6), Bar("b", 1.0, 0.9, 1.1)], title="t", axis="x").save(one)
    draw_bars([Bar("a", 1.0, 0.9, 1.1), Bar("b", 1.0, 0.9, 1.1)], title="t", axis="x").save(two)
    draw_bars([Bar("a", 1.0, -0.1, 2.1)], title="t", axis="x").save(pale)
    assert pixels(two, BLUE) > 1.2 * pixels(one, BLUE) > 1000
    assert pixels(pale, BLUE) == 0


def test_it_grows_with_its_rows_up_to_a_limit(tmp_path):
    heights = []
    for count in (3, 40, MOST_BARS, MOST_BARS + 50):
        draw_bars([Bar(f"layer {n}", 0.1, 0.0, 0.2) for n in range(count)], title="t", axis="x").save(
            tmp_path / "x.png"
        )
        heights.append(cv2.imread(str(tmp_path / "x.png")).shape[0])
    assert heights[0] < heights[1] < heights[2] == heights[3]


def test_nothing_to_show_is_an_empty_chart(tmp_path):
    draw_bars([], title="t", axis="x").save(tmp_path / "x.png")
    assert cv2.imread(str(tmp_path / "x.png")) is not None


@pytest.mark.parametrize(
    ("low", "high", "decided"), [(0.1, 0.2, True), (-0.2, -0.1, True), (-0.1, 0.1, False), (0.0, 0.1, False)]
)
def test_an_interval_that_holds_zero_decides_nothing(low, high, decided):
    assert Bar("a", (low + high) / 2, low, high).decided is decided


def test_an_unfit_place_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "x.png"
    with pytest.raises(OutputError, match=re.escape(str(place))):
        draw_bars([Bar("a", 1, 0, 2)], title="t", axis="x").save(place)
