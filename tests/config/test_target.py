"""What a target decides, and what contradicts it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from yoloqat.config import ExportConfig, QuantConfig, QuantScheme, from_dict, to_dict
from yoloqat.config.target import DEFAULT_ENGINE, TARGET_KEY, TARGETS, UNNAMED, target_named, target_of
from yoloqat.errors import ConfigError
from yoloqat.pipeline.engine import ENGINES

AFFINE, PER_TENSOR = QuantScheme(symmetric=False), QuantScheme(narrow_range=True)


def test_the_table():
    table = {
        name: (target.symmetric, target.half, target.opset, target.zero_points) for name, target in TARGETS.items()
    }
    assert table == {
        "tensorrt": (True, True, 19, False),
        "openvino": (False, False, 19, True),
        "onnxruntime": (True, False, 19, True),
    }
    assert all(name == target.name for name, target in TARGETS.items())
    assert set(TARGETS) == set(ENGINES)
    assert DEFAULT_ENGINE == "openvino"


def test_the_defaults_of_the_placement_are_those_of_every_target():
    """Where a target comes to want another placement, the defaults must tell what was given from what was not."""
    assert {(target.adds, target.merge) for target in TARGETS.values()} == {(QuantConfig().adds, QuantConfig().merge)}


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_decides_what_is_not_given(name):
    config = QuantConfig(target=name, ignore=("model.1",))
    assert config.activations == QuantScheme(symmetric=TARGETS[name].symmetric)
    assert (config.weights.axis, config.adds, config.merge) == (0, TARGETS[name].adds, TARGETS[name].merge)
    assert ExportConfig(target=name).half is TARGETS[name].half


def test_without_a_target_all_is_as_for_tensorrt_but_in_fp32():
    assert target_named(None) == UNNAMED == dataclasses.replace(TARGETS["tensorrt"], half=False, feeds=False)
    assert QuantConfig() == QuantConfig(activations=QuantScheme(), adds="residual", merge="graph")
    assert QuantConfig(activations=AFFINE, adds="none").target is None
    assert (ExportConfig().half, ExportConfig(half=True).half) == (None, True)
    assert (ExportConfig(target="tensorrt").half, ExportConfig(target="tensorrt", half=False).half) == (True, False)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: QuantConfig(target="tensorrt", activations=AFFINE),
            "activations are affine with target 'tensorrt'; expected symmetric, as TensorRT's INT8 kernels want it; "
            "leave target or activations out",
        ),
        (
            lambda: QuantConfig(target="openvino", activations=QuantScheme(bits=6)),
            "activations are symmetric with target 'openvino'; expected affine, as OpenVINO's",
        ),
        (
            lambda: QuantConfig(target="onnxruntime", weights=PER_TENSOR),
            "weights are per tensor with target 'onnxruntime'; expected per channel, as ONNX Runtime's",
        ),
        (lambda: QuantConfig(target="openvino", adds="both"), "adds is both with target 'openvino'; expected residual"),
        (
            lambda: QuantConfig(target="tensorrt", merge="block"),
            "merge is block with target 'tensorrt'; expected graph",
        ),
        (lambda: QuantConfig(target="tflite"), "target is 'tflite'; expected one of tensorrt, openvino, onnxruntime"),
        (lambda: QuantConfig(target=3), "target is 3; expected one of tensorrt"),
        (lambda: ExportConfig(target="tflite"), "target is 'tflite'; expected one of tensorrt"),
        (
            lambda: ExportConfig(target="openvino", half=True),
            "half is True with target 'openvino'; expected FP32 where nothing is quantized, as OpenVINO's kernels want it",
        ),
        (
            lambda: ExportConfig(target="tensorrt", opset=17),
            "opset is 17 with half=True, as target 'tensorrt' wants it; expected opset 19 or newer",
        ),
    ],
)
def test_what_contradicts_a_target_is_told(make, told):
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value).startswith(told)


def test_the_same_layers_for_another_target():
    bits = QuantConfig(activations=QuantScheme(bits=6), ignore=("a",), attention=True)
    config = bits.for_target("openvino")
    assert config == QuantConfig(
        activations=QuantScheme(bits=6, symmetric=False), ignore=("a",), attention=True, target="openvino"
    )
    assert config.for_target(None) == bits
    with pytest.raises(ConfigError, match="target is 'onnx'"):
        bits.for_target("onnx")
    with pytest.raises(ConfigError, match="weights are per tensor with target 'tensorrt'"):
        QuantConfig(weights=PER_TENSOR).for_target("tensorrt")


@pytest.mark.parametrize("name", [None, *TARGETS])
def test_there_and_back_through_json(name):
    for config in (QuantConfig(target=name), ExportConfig(target=name)):
        assert from_dict(type(config), json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize("symmetric", [True, False])
def test_settings_written_before_there_were_targets_are_read(symmetric):
    former = to_dict(QuantConfig(activations=QuantScheme(symmetric=symmetric)))
    del former["target"]
    config = from_dict(QuantConfig, former)
    assert (config.target, config.activations.symmetric) == (None, symmetric)


def test_a_file_names_its_target():
    assert target_of({TARGET_KEY: "openvino"}) is TARGETS["openvino"]
    assert target_of({}) is target_of({TARGET_KEY: "of another version"}) is None
