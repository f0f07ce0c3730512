from __future__ import annotations

import argparse
import shlex
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yoloqat.cli.tensorrt import add_arguments, options_from
from yoloqat.engines.tensorrt import Span, TensorRTOptions, trtexec_lines
from yoloqat.engines.tensorrt.load import checked_tensorrt, load_tensorrt, version_of
from yoloqat.engines.tensorrt.logs import hint_of
from yoloqat.engines.tensorrt.profile import InputProfile, input_profile
from yoloqat.errors import ConfigError, DependencyError, ModelError

FIXED = InputProfile("images", (1, 3, 64, 64), (1, 3, 64, 64), (1, 3, 64, 64), dynamic=False)


def forget_tensorrt(monkeypatch):
    """Let the next import look anew, and what it leaves behind be forgotten after the test."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.delitem(sys.modules, "tensorrt")


def options_of(tmp_path, *words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return options_from(parser.parse_args(list(words)), tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimization_level": 6}, "optimization_level is 6"),
        ({"workspace_gib": 0}, "workspace_gib is 0"),
        ({"dla": -1}, "dla is -1"),
        ({"version_compatible": 1}, "version_compatible is 1"),
    ],
)
def test_settings_out_of_range(settings, words):
    with pytest.raises(ConfigError, match=words):
        TensorRTOptions(**settings)


def test_spans_rise():
    with pytest.raises(ConfigError, match="the span is 4, 2, 8"):
        Span(4, 2, 8)
    with pytest.raises(ConfigError, match="low is 0"):
        Span(0, 2, 8)


@pytest.mark.parametrize(
    ("words", "batch"),
    [
        ([], None),
        (["--max-batch", "8"], Span(1, 8, 8)),
        (["--opt-batch", "4"], Span(1, 4, 4)),
        (["--min-batch", "2", "--opt-batch", "4", "--max-batch", "8"], Span(2, 4, 8)),
    ],
)
def test_unnamed_ends_follow_from_the_named(tmp_path, words, batch):
    assert options_of(tmp_path, *words).batch == batch


def test_one_image_size_is_all_three(tmp_path):
    assert options_of(tmp_path, "--opt-imgsz", "640").imgsz == Span(640, 640, 640)


def test_timing_cache_lies_among_the_results_unless_named(tmp_path):
    assert options_of(tmp_path).timing_cache == tmp_path / "timing.cache"
    assert options_of(tmp_path, "--timing-cache", "mine").timing_cache.name == "mine"


def profile_of(shape, **settings):
    return input_profile("images", shape, TensorRTOptions(**settings), stride=32, source="a.onnx")


def test_fixed_shape_needs_no_profile():
    found = profile_of((1, 3, 64, 96), batch=Span(1, 1, 1))
    assert (found.low, found.high, found.dynamic) == ((1, 3, 64, 96), (1, 3, 64, 96), False)


def test_a_span_that_contradicts_the_file():
    with pytest.raises(ConfigError, match=r"batch 1 to 8 is asked for, 'a\.onnx' fixes it to 1"):
        profile_of((1, 3, 64, 64), batch=Span(1, 4, 8))


def test_open_size():
    found = profile_of((1, 3, None, None), imgsz=Span(320, 640, 960))
    assert (found.low, found.usual, found.high) == ((1, 3, 320, 320), (1, 3, 640, 640), (1, 3, 960, 960))
    with pytest.raises(ConfigError, match=r"imgsz is 650"):
        profile_of((1, 3, None, None), imgsz=Span(320, 650, 960))


def test_input_that_is_no_image():
    with pytest.raises(ModelError, match=r"input 'images' of 'a.onnx' has the shape \(1, 64, 64\)"):
        profile_of((1, 64, 64))


def test_grey_images_of_another_shape_than_the_square():
    assert profile_of((1, 1, 384, 640)).usual == (1, 1, 384, 640)


@given(st.lists(st.integers(1, 9), min_size=3, max_size=3), st.integers(1, 12))
def test_a_profile_holds_what_lies_between(sides, batch):
    low, usual, high = sorted(sides)
    profile = profile_of((None, 3, 64, 64), batch=Span(low, usual, high))
    assert profile.holds((batch, 3, 64, 64)) == (low <= batch <= high)
    assert not profile.holds((usual, 3, 64))


def test_trtexec_differs_by_major_in_strong_typing_alone(tmp_path):
    lines = trtexec_lines(tmp_path / "a b.onnx", tmp_path / "a.plan", FIXED, TensorRTOptions())
    ten, eleven = shlex.split(lines["10"]), shlex.split(lines["11"])
    assert [word for word in ten if word not in eleven] == ["--stronglyTyped"]
    assert eleven == [
        "trtexec",
        f"--onnx={tmp_path / 'a b.onnx'}",
        f"--saveEngine={tmp_path / 'a.plan'}",
        "--builderOptimizationLevel=3",
        "--profilingVerbosity=detailed",
        "--skipInference",
    ]


def test_trtexec_takes_every_setting(tmp_path):
    options = TensorRTOptions(
        workspace_gib=2,
        optimization_level=5,
        timing_cache=tmp_path / "cache",
        dla=0,
        version_compatible=True,
        hardware_compatible=True,
    )
    profile = InputProfile("images", (1, 3, 64, 64), (2, 3, 64, 64), (4, 3, 64, 64), dynamic=True)
    words = shlex.split(trtexec_lines(tmp_path / "a.onnx", tmp_path / "a.plan", profile, options)["11"])
    assert {
        "--minShapes=images:1x3x64x64",
        "--optShapes=images:2x3x64x64",
        "--maxShapes=images:4x3x64x64",
        "--memPoolSize=workspace:2048",
        f"--timingCacheFile={tmp_path / 'cache'}",
        "--useDLACore=0",
        "--allowGPUFallback",
        "--versionCompatible",
        "--hardwareCompatibilityLevel=ampere+",
    } < set(words)


def test_versions(trt):
    assert version_of(trt) in ((10, 16), (11, 4))
    assert checked_tensorrt(trt) is trt
    with pytest.raises(DependencyError, match=r"TensorRT is 10\.9\.0\.1"):
        checked_tensorrt(argparse.Namespace(__version__="10.9.0.1"))


def test_a_folder_that_has_the_name(tmp_path, monkeypatch):
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    forget_tensorrt(monkeypatch)
    with pytest.raises(DependencyError, match=r"TensorRT is no package but <module 'tensorrt'"):
        load_tensorrt()


def test_tensorrt_that_cannot_be_imported(tmp_path, monkeypatch):
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.11: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    forget_tensorrt(monkeypatch)
    with pytest.raises(DependencyError, match=r"TensorRT cannot be imported \(libnvinfer\.so\.11: cannot open"):
        load_tensorrt()


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("Requested amount of GPU memory (3 bytes) could not be allocated", "free memory"),
        ("Could not find any implementation for node", "raise `workspace_gib`"),
        ("CUDA initialization failure with error: 35", "nvidia-smi"),
        ("The engine plan file was generated on an incompatible compute capability", "on this machine anew"),
        ("no optimization profile has been defined", "set `TensorRTOptions.batch` or"),
    ],
)
def test_what_to_do_about_a_line(line, hint):
    assert hint in hint_of(["something before", line])
