from __future__ import annotations

import json
import re

import pytest

from yoloqat.config import EvalConfig, ExportConfig, from_dict, to_dict
from yoloqat.config.sizes import checked_imgsz, json_size, sides, size_text, square_side
from yoloqat.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "kept"),
    [(640, 640), ((640, 640), 640), ([384, 640], (384, 640)), ((640, 384), (640, 384)), ((64,), 64)],
)
def test_a_square_is_one_number_and_anything_else_is_height_and_width(value, kept):
    assert checked_imgsz(value) == kept


@pytest.mark.parametrize(
    "value", [0, 31, 8193, 10**9, -640, 640.0, "640", None, True, (384, 0), (384, 640.5), [640, None]]
)
def test_sides_out_of_range_are_named(value):
    side = value[1] if isinstance(value, tuple | list) else value
    with pytest.raises(ConfigError, match=re.escape(f"imgsz is {side!r}; expected a whole number from 32 to 8192")):
        checked_imgsz(value)


@pytest.mark.parametrize("value", [[], (1, 2, 3)])
def test_other_than_one_or_two_sides_are_named(value):
    with pytest.raises(ConfigError, match=re.escape(f"imgsz is {value!r}; expected one side, or height and width")):
        checked_imgsz(value)


def test_what_sides_and_text_give():
    assert (sides(64), sides((32, 96))) == ((64, 64), (32, 96))
    assert (size_text(64), size_text((32, 96))) == ("64", "32 x 96")
    assert (json_size(64), json_size((32, 96))) == (64, [32, 96])


@pytest.mark.parametrize("kind", [EvalConfig, ExportConfig])
def test_settings_keep_a_square_as_one_number_in_json_and_read_a_pair_back(kind):
    assert kind(imgsz=(320, 320)) == kind(imgsz=320)
    assert to_dict(kind(imgsz=(320, 320)))["imgsz"] == 320
    config = kind(imgsz=(384, 640))
    written = json.loads(json.dumps(to_dict(config)))
    assert written["imgsz"] == [384, 640]
    assert from_dict(kind, written) == config


def test_rectangular_batches_take_one_side():
    with pytest.raises(ConfigError, match="imgsz is 384 x 640 for rectangular batches; expected one side of a square"):
        EvalConfig(imgsz=(384, 640), rect=True)
    assert EvalConfig(imgsz=(640, 640), rect=True).imgsz == 640


def test_a_size_that_must_be_a_square():
    assert square_side(64, reason="a test", hint="none") == 64
    with pytest.raises(ConfigError, match="imgsz is 32 x 64 for a test; expected one side of a square; do this"):
        square_side((32, 64), reason="a test", hint="do this")


@pytest.mark.parametrize("kind", [EvalConfig, ExportConfig])
def test_a_batch_that_no_machine_holds_is_refused(kind):
    with pytest.raises(
        ConfigError, match=f"batch is {10**12} images of 384 x 640 pixels; expected at most 2184 images"
    ):
        kind(imgsz=(384, 640), batch=10**12)
    assert kind(imgsz=(384, 640), batch=2184).batch == 2184
