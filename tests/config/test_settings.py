"""Every check of the settings, with the value in the message."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yoloqat.config import CalibrationConfig, EvalConfig, MethodSpec, QuantConfig, QuantScheme
from yoloqat.config.checks import check_bool, check_fraction, check_int
from yoloqat.config.method import DEFAULT_METHODS
from yoloqat.errors import ConfigError


@pytest.mark.parametrize("value", [1, 5, 10])
def test_whole_numbers_inside_pass(value):
    check_int("n", value, 1, 10)
    check_int("n", value, 1)


@pytest.mark.parametrize("value", [0, 11, 1.0, "3", None, True, math.nan])
def test_others_are_named(value):
    with pytest.raises(ConfigError, match=f"n is {value!r}; expected a whole number from 1 to 10; set n to one"):
        check_int("n", value, 1, 10)


def test_a_number_without_an_upper_end():
    with pytest.raises(ConfigError, match="n is -1; expected a whole number of at least 0"):
        check_int("n", -1, 0)
    check_int("n", 10**12, 0)


@pytest.mark.parametrize("value", [0, 1, 0.0, 0.5, 1.0])
def test_fractions_pass(value):
    check_fraction("f", value)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, "0.5", None, True])
def test_what_is_no_fraction_is_named(value):
    with pytest.raises(ConfigError, match=f"f is {value!r}; expected a number from 0 to 1"):
        check_fraction("f", value)


@pytest.mark.parametrize("value", [0, 1, "yes", None])
def test_what_is_not_true_or_false_is_named(value):
    with pytest.raises(ConfigError, match=f"b is {value!r}; expected True or False"):
        check_bool("b", value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QuantScheme(bits=1), "bits is 1"),
        (lambda: QuantScheme(bits=17), "bits is 17"),
        (lambda: QuantScheme(axis=-1), "axis is -1"),
        (lambda: QuantScheme(axis=8), "axis is 8"),
        (lambda: QuantScheme(symmetric="no"), "symmetric is 'no'"),
        (lambda: QuantScheme(unsigned=1), "unsigned is 1"),
        (lambda: QuantScheme(narrow_range=None), "narrow_range is None"),
        (lambda: QuantScheme(unsigned=True, narrow_range=True), "narrow_range is True with unsigned integers"),
        (lambda: QuantConfig(ignore=("a", "")), "ignore pattern is ''"),
        (lambda: QuantConfig(ignore=(3,)), "ignore pattern is 3"),
        (lambda: QuantConfig(ignore="model.22"), "ignore is 'model.22'"),
        (lambda: QuantConfig(quantize_head="yes"), "quantize_head is 'yes'"),
        (lambda: QuantConfig(activations=QuantScheme(axis=1)), "activation axis is 1"),
        (lambda: QuantConfig(weights=QuantScheme(symmetric=False)), r"weights are QuantScheme\(.*symmetric=False"),
        (lambda: QuantConfig(weights=QuantScheme(unsigned=True)), r"weights are QuantScheme\(.*unsigned=True"),
        (lambda: CalibrationConfig(images=0), "images is 0"),
        (lambda: CalibrationConfig(seed=-1), "seed is -1"),
        (lambda: CalibrationConfig(bins=100), "bins is 100"),
        (lambda: CalibrationConfig(bins=1 << 21), "bins is 2097152"),
        (lambda: EvalConfig(imgsz=31), "imgsz is 31"),
        (lambda: EvalConfig(batch=0), "batch is 0"),
        (lambda: EvalConfig(conf=-0.5), "conf is -0.5"),
        (lambda: EvalConfig(nms_iou=1.5), "nms_iou is 1.5"),
        (lambda: EvalConfig(max_det=0), "max_det is 0"),
        (lambda: EvalConfig(rect=1), "rect is 1"),
        (lambda: MethodSpec("mean"), "calibration method is 'mean'"),
        (lambda: MethodSpec("percentile"), "percentile is None with method 'percentile'"),
        (lambda: MethodSpec("mse", 99.9), "percentile is 99.9 with method 'mse'"),
        (lambda: MethodSpec("percentile", 0.0), "percentile is 0.0"),
        (lambda: MethodSpec("percentile", 100.1), "percentile is 100.1"),
        (lambda: MethodSpec("percentile", math.nan), "percentile is nan"),
        (lambda: MethodSpec("percentile", "99"), "percentile is '99'"),
        (lambda: MethodSpec.parse("percentile-x"), "percentile is 'x'"),
        (lambda: MethodSpec.parse("percentile-"), "percentile is ''"),
        (lambda: MethodSpec.parse("percentile-101"), "percentile is 101.0"),
        (lambda: MethodSpec.parse("mse-99"), "calibration method is 'mse-99'"),
        (lambda: MethodSpec.parse(""), "calibration method is ''"),
    ],
)
def test_what_cannot_be_is_refused_with_its_value(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("bins", [300, 4097])
def test_bins_are_a_power_of_two(bins):
    with pytest.raises(ConfigError, match=f"bins is {bins}; expected a power of two"):
        CalibrationConfig(bins=bins)


@pytest.mark.parametrize(
    ("scheme", "low", "high"),
    [
        (QuantScheme(), -128, 127),
        (QuantScheme(narrow_range=True), -127, 127),
        (QuantScheme(unsigned=True), 0, 255),
        (QuantScheme(bits=4), -8, 7),
        (QuantScheme(bits=2, narrow_range=True), -1, 1),
        (QuantScheme(bits=16, unsigned=True, symmetric=False), 0, 65535),
    ],
)
def test_the_ends_of_the_codes(scheme, low, high):
    assert (scheme.low, scheme.high) == (low, high)


def test_settings_cannot_be_changed():
    for config in (QuantScheme(), QuantConfig(), CalibrationConfig(), EvalConfig(), MethodSpec("max")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, dataclasses.fields(config)[0].name, 1)


def test_the_defaults_are_what_tensorrt_takes():
    config = QuantConfig()
    assert config.activations == QuantScheme(bits=8, symmetric=True, axis=None)
    assert (config.weights.symmetric, config.weights.axis, config.weights.bits) == (True, 0, 8)


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("max", MethodSpec("max")),
        (" MSE ", MethodSpec("mse")),
        ("percentile", MethodSpec("percentile", 99.99)),
        ("Percentile-99.9", MethodSpec("percentile", 99.9)),
        ("percentile-100", MethodSpec("percentile", 100.0)),
    ],
)
def test_methods_are_read_from_text(text, method):
    assert MethodSpec.parse(text) == method


@given(st.floats(0, 100, exclude_min=True))
def test_a_method_is_read_back_from_its_text(percentile):
    method = MethodSpec("percentile", percentile)
    assert MethodSpec.parse(str(method)) == method


def test_methods_have_short_and_distinct_texts():
    texts = ["max", "entropy", "mse", "percentile-99.9", "percentile-99.99", "percentile-99.999", "per-layer"]
    assert [str(method) for method in DEFAULT_METHODS] == texts
    assert str(MethodSpec("percentile", 99)) == "percentile-99"
    assert str(MethodSpec("percentile", 99.99999)) == "percentile-99.99999"
    assert MethodSpec("percentile", 99.9).params == {"percentile": 99.9}
    assert MethodSpec("max").params == {}
    assert [method.kind for method in sorted(DEFAULT_METHODS)][:3] == ["entropy", "max", "mse"]
