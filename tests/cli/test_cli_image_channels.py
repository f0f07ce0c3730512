"""Models of one and of four input channels, through every command that runs one."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import pytest
import yaml
from tiny_detector import IMGSZ, NAMES, make_module, save_module

CALIBRATION = ("--calib-images", 4)


@pytest.fixture(scope="module", params=[1, 4])
def channels(request):
    return request.param


@pytest.fixture(scope="module")
def model(tmp_path_factory, channels):
    return save_module(make_module(channels=channels), tmp_path_factory.mktemp("model") / f"of-{channels}.pt")


@pytest.fixture(scope="module")
def data(tmp_path_factory, tiny_data, channels):
    """The tiny data set: colour images for the model of one channel, images with alpha for that of four."""
    root = tmp_path_factory.mktemp("data")
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for source in sorted((tiny_data.images if split == "val" else tiny_data.train).glob("*.png"))[:4]:
            image = cv2.imread(str(source))
            if channels == 4:
                image = np.dstack((image, image[:, :, 0]))
            cv2.imwrite(str(root / "images" / split / source.name), image)
            labels = tiny_data.yaml.parent / "labels" / "val" / f"{source.stem}.txt"
            (root / "labels" / split / labels.name).write_text(labels.read_text())
    path = root / "data.yaml"
    content = {"path": ".", "train": "images/train", "val": "images/val", "names": NAMES, "channels": channels}
    path.write_text(yaml.safe_dump(content))
    return path


def test_from_the_model_to_an_engine_that_scores_alike(cli, model, data, channels, tmp_path):
    scored = cli("eval", model, "--data", data, out=tmp_path / "a")
    assert scored.code == 0, scored.err
    compared = cli("compare", model, "--data", data, *CALIBRATION, "--methods", "max", out=tmp_path / "b")
    assert compared.code == 0, compared.err
    assert compared.result["results"]["baseline"]["map50_95"] == scored.result["results"]["map50_95"]
    calibrated = cli("calibrate", model, "--data", data, *CALIBRATION, "--calib-select", "range", out=tmp_path / "c")
    assert calibrated.code == 0, calibrated.err
    checkpoint = tmp_path / "c" / "model.safetensors"
    ranked = cli("sensitivity", checkpoint, "--data", data, "--granularity", "block", out=tmp_path / "d")
    assert ranked.code == 0, ranked.err
    told = cli("inspect", checkpoint, out=tmp_path / "e")
    assert told.result["results"]["layers"][0]["input"] == [channels, IMGSZ, IMGSZ]
    exported = cli("export", checkpoint, "--data", data, out=tmp_path / "f")
    assert exported.code == 0, exported.err
    assert exported.result["results"]["node_max_steps"] <= 1
    file = tmp_path / "f" / "model.onnx"
    assert {entry.key: entry.value for entry in onnx.load(file).metadata_props}["channels"] == str(channels)
    for engine, name in (("openvino", "model_openvino"), ("onnxruntime", "model_ort.onnx")):
        arguments = CALIBRATION if engine == "onnxruntime" else ()
        built = cli("build", file, "--engine", engine, "--data", data, *arguments, out=tmp_path / engine)
        assert built.code == 0, built.err
        found = cli("eval", tmp_path / engine / name, "--data", data, out=tmp_path / f"eval-{engine}")
        assert found.result["results"]["map50_95"] == built.result["results"]["map_engine"]
    timed = cli("bench", checkpoint, file, tmp_path / "openvino" / "model_openvino", "--rounds", 2, out=tmp_path / "g")
    assert timed.code == 0, timed.err
    tuned = ("--data", data, "--epochs", 1)
    distilled = cli("finetune", checkpoint, *tuned, "--supervise", 4, out=tmp_path / "h")
    assert distilled.code == 0, distilled.err
    trained = cli("finetune", checkpoint, *tuned, out=tmp_path / "i")
    assert trained.code == 0, trained.err


def test_images_of_other_channels_are_one_line(cli, model, tiny_data, channels):
    if channels == 1:
        pytest.skip("every image has a grey one")
    found = cli("eval", model, "--images", tiny_data.images, "--annotations", tiny_data.annotations)
    assert found.code == 2
    assert found.err.splitlines()[-1].startswith(f"yoloqat eval: image '{tiny_data.images / '000.png'}' has 3 channels")


def test_models_of_different_channels_are_not_timed_together(cli, model, tiny_model, channels):
    found = cli("bench", model, tiny_model, "--rounds", 1)
    assert found.code == 2
    first = model if channels < 3 else tiny_model
    assert (
        f"model '{first}' takes images of {min(channels, 3)} channels, the images have {max(channels, 3)}" in found.err
    )
