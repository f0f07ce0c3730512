from __future__ import annotations

import re

import cv2
import pytest

from yoloqat.errors import OutputError
from yoloqat.report.quantizer_plot import draw_quantizers

RED = (0x2F, 0x2F, 0xC0)  # as OpenCV reads it


def facts(clip: float, shares: list[float]) -> dict:
    usage = {"steps": 3, "integer_shares": shares, "integers_per_share": 1, "zero_share": shares[0], "one_share": 0.1}
    usage |= {"entropy_bits": 1.0, "most_entropy_bits": 2.0}
    histogram = {"unit": "value", "edges": [0.0, 1.0, 2.0, 3.0, 4.0], "shares": shares, "clip": clip}
    return {"verdict": "why", "usage": usage, "histogram": histogram}


def red_column(path) -> float:
    image = cv2.imread(str(path))
    red = abs(image.astype(int) - RED).sum(axis=2) < 30
    columns = red.sum(axis=0)
    return float(columns.argmax()) / image.shape[1]


def test_the_clip_line_is_where_the_range_ends_and_columns_stand_side_by_side(tmp_path):
    shares = [0.9, 0.09, 0.009, 0.001]
    places = []
    for clip in (1.0, 3.0):
        draw_quantizers({"a": facts(clip, shares)}).save(tmp_path / "x.png")
        places.append(red_column(tmp_path / "x.png"))
    assert places[1] - places[0] > 0.3
    one = cv2.imread(str(tmp_path / "x.png")).shape
    draw_quantizers({"a": facts(1.0, shares), "b": facts(2.0, shares)}).save(tmp_path / "x.png")
    assert cv2.imread(str(tmp_path / "x.png")).shape[1] == 2 * one[1]


def test_an_empty_range_is_drawn(tmp_path):
    draw_quantizers({"a": facts(0.0, [1.0, 0.0, 0.0, 0.0])}).save(tmp_path / "x.png")
    assert (tmp_path / "x.png").is_file()


def test_an_unfit_place_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "x.png"
    with pytest.raises(OutputError, match=re.escape(str(place))):
        draw_quantizers({"a": facts(1.0, [0.5, 0.5, 0.0, 0.0])}).save(place)
