"""The time of engine layers among the layers of the model, by figures worked out by hand, and profiles that do not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from trt_profiles import Ran, reformat, times, written

from yoloqat.errors import ConfigError, EngineError, ModelError
from yoloqat.linting.fusion import GPUS
from yoloqat.searching.profile_table import PROFILED, ROOFLINE, LayerTimes, profile_table
from yoloqat.searching.profiles import ProfileFiles, Profiles

SILU = "PWN(PWN({0}/Sigmoid), {0}/Mul)"
IMAGES = (1, 3, 100, 200)
INT8 = (
    reformat("model.0.conv/input/QuantizeLinear", 0.006, "Float", "Int8", IMAGES),
    Ran(f"model.0.conv.weight + model.0.conv + {SILU.format('model.0')}", 0.5),
    Ran("model.1/MaxPool", 0.1, type="TiledPooling"),
    reformat("Reformatting CopyNode for Input Tensor 0 to model.2.conv", 0.05, "Int8", "Int8"),
    Ran("model.2.conv || model.3.0.conv", 0.6),
    reformat("head/input/DequantizeLinear", 0.014, "Int8", "Half", (1, 4, 100, 100)),
    Ran("head.conv", 0.3, "Half", "Half"),
    Ran("decode", 0.2, "Half", "Float", type="Myelin"),
)
FLOAT = (
    reformat("Reformatting CopyNode for Input Tensor 0 to /model.0/conv/Conv", 0.02, "Float", "Half", IMAGES),
    Ran("/model.0/conv/Conv", 0.7, "Half", "Half"),
    Ran(SILU.format("/model.0/act"), 0.08, "Half", "Half", type="PointWiseV2"),
    Ran("/model.1/MaxPool", 0.2, "Half", "Half", type="TiledPooling"),
    Ran("/model.2/conv/Conv + /model.2/Add", 0.9, "Half", "Half"),
    Ran("/model.3/model.3.0/conv/Conv_1", 1.0, "Half", "Half"),
    Ran("/head/conv/Conv", 0.3, "Half", "Half"),
    Ran("decode", 0.2, "Half", "Float", type="Myelin"),
)
LAYERS = ("model.0.conv", "model.2.conv", "model.3.0.conv")
NODES = {name: name for name in LAYERS}
COSTS = {"model.0.conv": (1000, 100), "model.2.conv": (200, 50), "model.3.0.conv": (400, 50), "head.conv": (9, 9)}
SIZE = IMAGES[2:]


@pytest.fixture
def table(tmp_path):
    """Return the table of two engines."""

    def make(int8=INT8, floating=FLOAT, version=10, layers=LAYERS, parts=2):
        files = ProfileFiles.of(
            written(tmp_path, "int8", int8, version)[-parts:], written(tmp_path, "float", floating, version)[-parts:]
        )
        profiles = Profiles.read(files)
        profiles.check({name: name for name in layers}, SIZE)
        return profile_table(profiles, layers, {name: name for name in layers}, COSTS, {"x": 1})

    return make


@pytest.mark.parametrize("version", [8, 10, 11])
def test_engine_layers_are_divided_among_the_layers_that_they_compute(table, version):
    found = table(version=version)
    assert found.int8_ms == pytest.approx({"model.0.conv": 0.5, "model.2.conv": 0.25, "model.3.0.conv": 0.5})
    assert found.float_ms == pytest.approx({"model.0.conv": 0.8, "model.2.conv": 1.1, "model.3.0.conv": 1.0})
    assert (found.latency_ms, found.float_latency_ms) == (pytest.approx(1.77), pytest.approx(3.4))
    assert found.border_ms == pytest.approx((0.006 + 0.014) / (0.06 + 0.04)), "ms of a million numbers"
    assert (found.source, found.border_source, found.estimated_layers) == (PROFILED, None, [])
    assert (found.measured, found.made_of) == (True, {"x": 1})


def test_without_types_conversions_belong_to_the_layer_that_runs_next_and_borders_are_estimated(table):
    found = table(version=8, parts=1)
    assert found.int8_ms == pytest.approx({"model.0.conv": 0.506, "model.2.conv": 0.25, "model.3.0.conv": 0.5})
    bandwidth = GPUS["orin"].bandwidth
    least = (200 + 100 + 100) / bandwidth  # these layers' bytes in FP16, which take longer than their multiply-adds
    assert found.border_ms == pytest.approx((0.8 + 1.1 + 1.0) / least * 3e6 / bandwidth)
    assert found.border_source == ROOFLINE
    assert "orin" in ROOFLINE


def test_a_layer_that_an_engine_does_not_name_is_estimated_at_the_pace_of_the_others(table):
    found = table(int8=[layer for layer in INT8 if layer.name != "model.2.conv || model.3.0.conv"])
    assert found.estimated_layers == ["model.2.conv", "model.3.0.conv"]
    assert found.int8_ms == pytest.approx({"model.0.conv": 0.5, "model.2.conv": 0.25, "model.3.0.conv": 0.25})


def test_a_layer_that_runs_twice_takes_both_times():
    from yoloqat.engines.reading import EngineReport, Layer

    report = EngineReport((Layer("a", nodes=("a",), ms=1.0), Layer("a_1", nodes=("a_1",), ms=2.0)), "tensorrt")
    assert LayerTimes.of(report, {"a": "a"}, {}).ms == {"a": 3.0}


def test_profiles_of_another_model_are_refused(table):
    with pytest.raises(
        EngineError,
        match=r"'.*int8_layers.json' names no layer of the model, e.g. '__fused_0'.*'other.conv'",
    ):
        table(layers=("other.conv",))


@pytest.mark.parametrize(("version", "parts"), [(8, 1), (10, 2)])
def test_profiles_of_one_engine_are_refused(table, version, parts):
    with pytest.raises(EngineError, match=r"int8_\w+.json' and '.*float_\w+.json' are of one engine: no layer differs"):
        table(floating=INT8, version=version, parts=parts)


def test_profiles_that_were_changed_about_are_refused(table):
    with pytest.raises(
        EngineError, match=r"float_layers.json' runs 3 layers in INT8, e.g. 'model.0.conv'; .*float_profile"
    ):
        table(int8=FLOAT, floating=INT8)


def test_profiles_of_other_images_are_refused(table):
    other = [replace(INT8[0], shape=(8, 3, 64, 64)), *INT8[1:]]
    with pytest.raises(
        EngineError, match=r"int8_layers.json' is of images of the shape 8x3x64x64; expected one image of 100x200"
    ):
        table(int8=other)


def test_a_file_without_times_is_refused(tmp_path):
    layers, both = written(tmp_path, "int8", INT8)[:1], written(tmp_path, "float", FLOAT)
    with pytest.raises(
        EngineError,
        match=r"int8_profile '.*int8_layers.json' tells no times; .*; name the profile that",
    ):
        Profiles.read(ProfileFiles.of(layers, both))
    (tmp_path / "zero.json").write_text(times([replace(layer, ms=0.0) for layer in FLOAT], 10))
    with pytest.raises(EngineError, match=r"float_profile '.*zero.json' tells no times"):
        Profiles.read(ProfileFiles.of(both, tmp_path / "zero.json"))


def test_counters_of_openvino_are_no_profile_of_tensorrt(tmp_path):
    path = tmp_path / "counters.csv"
    path.write_text(
        "layerName;execStatus;layerType;execType;realTime (ms);cpuTime (ms);\nconv;EXECUTED;Convolution;jit_I8;1.0;1.0;\n"
    )
    with pytest.raises(ConfigError, match=f"int8_profile '{path}' is of openvino; expected what trtexec wrote"):
        Profiles.read(ProfileFiles.of(path, path))


def test_both_profiles_are_named_or_none():
    assert ProfileFiles.of((), ()) is None
    with pytest.raises(
        ConfigError, match=r"int8_profile is 'a.json' and float_profile is not named; .*name `?float_profile"
    ):
        ProfileFiles.of("a.json", ())
    with pytest.raises(ConfigError, match=r"float_profile is 'b.json' and int8_profile is not named"):
        ProfileFiles.of((), [Path("b.json")])
    with pytest.raises(ModelError, match=r"cannot read 'gone.json' \(No such file"):
        Profiles.read(ProfileFiles.of("gone.json", "gone.json"))


def test_files_are_known_by_their_hash(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[]")
    files = ProfileFiles.of([path], str(path))
    assert files.digests()["int8"] == files.digests()["float"] == [files.to_dict()["int8"][0]["sha256"]]
    assert files.to_dict()["float"][0]["path"] == str(path)
    json.dumps(files.to_dict())
