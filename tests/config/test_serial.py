"""Settings survive the way to JSON and back, and nothing else is taken for them."""

from __future__ import annotations

import json

import pytest

from yoloqat.config import CalibrationConfig, EvalConfig, MethodSpec, QuantConfig, QuantScheme, from_dict, to_dict
from yoloqat.errors import ConfigError

SETTINGS = [
    QuantScheme(bits=6, symmetric=False, unsigned=True),
    QuantScheme(axis=1, narrow_range=True),
    QuantConfig(activations=QuantScheme(bits=4), ignore=("model.22", "re:.*dfl.*"), quantize_head=True),
    QuantConfig(),
    MethodSpec("percentile", 99.999),
    MethodSpec("max"),
    CalibrationConfig(MethodSpec("percentile", 99.9), images=3, seed=7, bins=512),
    EvalConfig(imgsz=320, conf=0.25, rect=True),
]


@pytest.mark.parametrize("config", SETTINGS, ids=str)
def test_there_and_back_through_json(config):
    data = json.loads(json.dumps(to_dict(config)))
    assert (data["type"], data["version"]) == (type(config).__name__, 1)
    again = from_dict(type(config), data)
    assert again == config
    assert hash(again) == hash(config)


def test_what_is_left_out_has_its_default():
    assert from_dict(EvalConfig, {"type": "EvalConfig", "version": 1, "batch": 2}) == EvalConfig(batch=2)


def test_reading_does_not_change_the_dict():
    data = to_dict(QuantConfig(ignore=("a",)))
    before = json.dumps(data)
    from_dict(QuantConfig, data)
    assert json.dumps(data) == before


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (
            EvalConfig,
            {"type": "QuantScheme"},
            r"of type and version \('QuantScheme', 1\); expected EvalConfig version 1",
        ),
        (EvalConfig, {"version": 2}, r"of type and version \('EvalConfig', 2\)"),
        (EvalConfig, {"version": "1"}, r"of type and version \('EvalConfig', '1'\)"),
        (EvalConfig, {"type": None}, r"of type and version \(None, 1\)"),
        (EvalConfig, {"speed": 1, "colour": 2}, "EvalConfig has the unknown keys colour, speed"),
        (EvalConfig, {"batch": "8"}, "batch is '8'"),
        (QuantConfig, {"ignore": "model.22"}, "ignore is 'model.22'"),
        (QuantConfig, {"ignore": None}, "ignore is None"),
        (QuantConfig, {"ignore": [1]}, "ignore pattern is 1"),
        (QuantConfig, {"activations": 8}, "settings are 8; expected a dict of QuantScheme"),
        (QuantConfig, {"weights": {"bits": 4}}, r"of type and version \(None, None\); expected QuantScheme"),
    ],
)
def test_what_does_not_fit_is_told(kind, change, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(kind, to_dict(kind()) | change)


@pytest.mark.parametrize("data", [None, [1], "text"])
def test_what_is_no_dict_is_told(data):
    with pytest.raises(ConfigError) as caught:
        from_dict(EvalConfig, data)
    assert f"settings are {data!r}" in str(caught.value)


def test_a_missing_key_is_told():
    with pytest.raises(ConfigError, match="MethodSpec lacks kind"):
        from_dict(MethodSpec, {"type": "MethodSpec", "version": 1})
