"""How a detector is exported."""

from __future__ import annotations

import pytest

from yoloqat.config import ExportConfig, QuantConfig, from_dict, to_dict
from yoloqat.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"opset": 12}, "opset is 12"),
        ({"opset": 24}, "opset is 24"),
        ({"imgsz": 0}, "imgsz is 0"),
        ({"batch": 1.5}, "batch is 1.5"),
        ({"half": 1}, "half is 1"),
        ({"nms_iou": 1.2}, "nms_iou is 1.2"),
        ({"nms_conf": True}, "nms_conf is True"),
        ({"max_det": 0}, "max_det is 0"),
        ({"half": True, "opset": 18}, "opset is 18 with half=True"),
    ],
)
def test_settings_out_of_range_are_told(settings, told):
    with pytest.raises(ConfigError, match=told):
        ExportConfig(**settings)


def test_settings_come_back_from_their_dict():
    config = ExportConfig(half=True, dynamic=True, nms_conf=0.25)
    assert from_dict(ExportConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"adds": "all"}, "adds is 'all'"),
        ({"merge": "layer"}, "merge is 'layer'"),
        ({"unmerge": "model.2"}, "unmerge is 'model.2'"),
        ({"unmerge": ("",)}, "unmerge pattern is ''"),
        ({"attention": 1}, "attention is 1"),
        ({"depthwise": 1}, "depthwise is 1"),
    ],
)
def test_recipes_that_are_unknown_are_told(settings, told):
    with pytest.raises(ConfigError, match=told):
        QuantConfig(**settings)


def test_settings_written_before_there_were_recipes_are_read():
    old = {
        name: value
        for name, value in to_dict(QuantConfig()).items()
        if name not in ("adds", "merge", "unmerge", "attention", "depthwise")
    }
    assert from_dict(QuantConfig, old) == QuantConfig()
