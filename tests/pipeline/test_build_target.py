"""Which engine a file is built for."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import pytest

from yoloqat.config.target import TARGET_KEY
from yoloqat.errors import ConfigError, YoloqatWarning
from yoloqat.pipeline.build_target import checked_engine


def meant_for(path: Path, target: str, out: Path) -> Path:
    model = onnx.load(path)
    model.metadata_props.add(key=TARGET_KEY, value=target)
    onnx.save(model, out / "model.onnx")
    return out / "model.onnx"


@pytest.mark.parametrize(
    ("target", "engine", "chosen"),
    [
        ("tensorrt", None, "tensorrt"),
        ("openvino", None, "openvino"),
        ("onnxruntime", None, "onnxruntime"),
        ("openvino", "openvino", "openvino"),
        ("of another version", None, "openvino"),
        ("of another version", "tensorrt", "tensorrt"),
    ],
)
def test_the_engine_is_the_named_one_else_the_files(target, engine, chosen, tiny_onnx: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checked_engine(meant_for(tiny_onnx, target, tmp_path), engine)[0] == chosen


@pytest.mark.parametrize(
    ("target", "engine"),
    [
        ("tensorrt", "openvino"),
        ("tensorrt", "onnxruntime"),
        ("onnxruntime", "openvino"),
        ("onnxruntime", "tensorrt"),
        ("openvino", "onnxruntime"),
    ],
)
def test_another_engine_that_can_take_the_file_is_built_with_a_warning(
    target: str, engine: str, tiny_onnx: Path, tmp_path: Path
) -> None:
    told = f"model.onnx' is for the target '{target}' and is built for '{engine}'"
    with pytest.warns(YoloqatWarning, match=told):
        assert checked_engine(meant_for(tiny_onnx, target, tmp_path), engine) == (engine, None)


def test_zero_points_are_refused_for_tensorrt(tiny_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"model.onnx' is for the target 'openvino', whose activations have zero-points, and engine is 'tensorrt'; "
        r"expected engine 'openvino', or a file for 'tensorrt'.*; calibrate with target=tensorrt",
    ):
        checked_engine(meant_for(tiny_onnx, "openvino", tmp_path), "tensorrt")


def test_only_a_symmetric_file_without_a_target_is_told_of_affine_activations(tiny_onnx: Path) -> None:
    assert "calibrate with `target=openvino`" in str(checked_engine(tiny_onnx, None)[1])
    assert checked_engine(tiny_onnx, "onnxruntime") == ("onnxruntime", None)
    assert checked_engine(tiny_onnx, "tensorrt") == ("tensorrt", None)
