"""`yoloqat build` for ONNX Runtime, and what it writes for servers."""

from __future__ import annotations

import configparser
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tiny_detector import TinyData

from yoloqat.detectors.ultralytics_import import ultralytics_module
from yoloqat.engines import open_engine

Cli = Callable[..., Any]


def test_the_equivalent_graph_is_built_scored_and_timed(cli: Cli, tiny_onnx: Path, tiny_data: TinyData) -> None:
    ran = cli("build", tiny_onnx, "--engine", "onnxruntime", "--data", tiny_data.yaml, "--calib-images", 4)
    assert ran.code == 0, ran.err
    found = ran.result["results"]
    assert found["quantized_convolutions"] == found["int8_convolutions"] == 22
    assert found["int8_mac_share"] == 1.0
    assert found["operators"]["QLinearConv"] == 22
    assert found["drop"] == pytest.approx(found["map_float"] - found["map_engine"], abs=1e-9)
    assert found["map_engine"] > 0.1
    assert found["qfloat_d"] > 0
    assert 0.01 < found["d"] < 1
    equivalent = ran.directory / "model_ort.onnx"
    assert ran.files == ["model_ort.onnx", "report.html", "result.json"]
    bench = cli("bench", tiny_onnx, equivalent, "--rounds", 1, out=ran.directory / "bench").result["results"]["items"]
    assert [item["precision"] for item in bench] == ["QDQ", "integer twin"]


def test_ranges_come_from_named_images(cli: Cli, tiny_onnx: Path, tiny_data: TinyData) -> None:
    named = ("--calib-images-dir", tiny_data.train, "--calib-images", 2)
    ran = cli("build", tiny_onnx, "--engine", "onnxruntime", *named)
    assert ran.code == 0, ran.err
    ranges = ran.result["results"]["measured_ranges"]
    assert ranges
    assert all(low < high for low, high in ranges.values())


def test_without_images_nothing_is_built(cli: Cli, tiny_onnx: Path) -> None:
    ran = cli("build", tiny_onnx, "--engine", "onnxruntime")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "add --calib-images-dir DIR" in ran.err
    assert not (ran.directory / "model_ort.onnx").exists()


def test_what_servers_need(cli: Cli, tiny_onnx: Path, tmp_path: Path) -> None:
    triton, deepstream = tmp_path / "models", tmp_path / "deepstream"
    ran = cli("build", tiny_onnx, "--triton", triton, "--name", "tiny", "--deepstream", deepstream)
    assert ran.code == 0, ran.err
    assert 'backend: "openvino"' in (triton / "tiny" / "config.pbtxt").read_text()
    assert {path.name for path in (triton / "tiny" / "1").iterdir()} == {"model.xml", "model.bin"}
    config = configparser.ConfigParser()
    config.read(deepstream / "config_infer_primary.txt")
    assert config["property"]["infer-dims"] == "3;64;64"
    # DeepStream runs the ONNX file, not OpenVINO's
    assert onnx.load(deepstream / "model.onnx") == onnx.load(tiny_onnx)
    assert f"tritonserver --model-repository {triton}" in ran.out


def test_a_bad_name_is_told_before_the_work(cli: Cli, tiny_onnx: Path, tmp_path: Path) -> None:
    ran = cli("build", tiny_onnx, "--triton", tmp_path / "models", "--name", "a b")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "the model's name is 'a b'" in ran.err
    assert ran.files == [] or not ran.directory.exists()


def test_ultralytics_loads_the_directory_under_a_name_of_its_own(tiny_engine: Path, tmp_path: Path) -> None:
    directory = tmp_path / "tiny_openvino_model"
    shutil.copytree(tiny_engine, directory)
    model = ultralytics_module("models.yolo.model").YOLO(str(directory), task="detect")
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    (found,) = model.predict(image, imgsz=64, conf=0.01, verbose=False, device="cpu")
    assert found.names == open_engine(tiny_engine).info.names
