"""What `yoloqat predict` finds and draws, by every kind of model that needs no GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_detector import IMGSZ, VALIDATION_IMAGES, TinyData

import yoloqat as yq
from yoloqat.config.detecting import PredictConfig

Cli = Callable[..., Any]
CONF = ("--conf", 0.05)


@pytest.mark.parametrize("model", ["tiny_model", "tiny_checkpoint", "tiny_onnx", "tiny_engine"])
def test_every_kind_of_model_sees_an_image(
    cli: Cli, model: str, tiny_data: TinyData, request: pytest.FixtureRequest
) -> None:
    image = sorted(tiny_data.images.iterdir())[0]
    ran = cli("predict", request.getfixturevalue(model), image, "--conf", 0.02, "--no-pictures")
    assert ran.code == 0, ran.err
    assert ran.files == ["report.html", "result.json"]
    found = ran.result["results"]
    (row,) = found["predictions"]
    assert (row["image"], row["width"], row["height"], "picture" in row) == (str(image), IMGSZ, IMGSZ, False)
    assert found["objects"] == len(row["objects"]) == sum(found["classes"].values()) > 0
    scores = [one["score"] for one in row["objects"]]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0.02
    for one in row["objects"]:
        x1, y1, x2, y2 = one["box"]
        assert 0 <= x1 <= x2 <= IMGSZ
        assert 0 <= y1 <= y2 <= IMGSZ
        assert tiny_names()[one["class_id"]] == one["class"]


def tiny_names() -> list[str]:
    return ["disc", "box", "star"]


def test_a_directory_is_drawn_and_agrees_with_eval(cli: Cli, tiny_model: Path, tiny_data: TinyData) -> None:
    ran = cli("predict", tiny_model, tiny_data.images, *CONF, "--batch", 4)
    found = ran.result["results"]
    assert found["images"] == VALIDATION_IMAGES
    assert f"{found['objects']} objects on {VALIDATION_IMAGES} images" in ran.out
    assert "sees" in (ran.directory / "report.html").read_text()
    for row in found["predictions"]:
        with Image.open(ran.directory / row["picture"]) as picture:
            assert (picture.format, picture.size) == ("JPEG", (IMGSZ, IMGSZ))
    evaluated = yq.evaluate(tiny_model, yq.Dataset.from_yaml(tiny_data.yaml), device="cpu").detections
    expected = sorted(score for score in evaluated.scores.tolist() if score > 0.05)
    assert sorted(one["score"] for row in found["predictions"] for one in row["objects"]) == pytest.approx(
        expected, rel=1e-4
    )


def test_a_video_becomes_a_video(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    source = tmp_path / "my video.avi"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    rng = np.random.default_rng(0)
    for _ in range(3):
        writer.write(cv2.resize(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), (64, 48)))
    writer.release()
    ran = cli("predict", tiny_model, source, "--conf", 0.01, "--batch", 2)
    assert ran.code == 0, ran.err
    found = ran.result["results"]
    assert [row["frame"] for row in found["predictions"]] == [1, 2, 3]
    assert (found["frames_per_second"], found["predictions"][0]["picture"]) == (10.0, "pictures/my_video.mp4")
    capture = cv2.VideoCapture(str(ran.directory / "pictures" / "my_video.mp4"))
    read = []
    while (frame := capture.read())[0]:
        read.append(frame[1].shape)
    assert read == [(48, 64, 3)] * 3


def test_an_opencv_that_writes_no_video_is_told(
    cli: Cli, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()

    class Closed:
        fourcc = staticmethod(lambda *_: 0)

        def __init__(self, *_: object) -> None:
            pass

        def isOpened(self) -> bool:
            return False

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoWriter", Closed)
    ran = cli("predict", tiny_model, source)
    assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
    assert "OpenCV cannot write the video 'a.mp4' of 64 x 48 pixels" in ran.err
    assert not (ran.directory / "pictures").exists()


def test_what_cannot_be_looked_at_is_one_line(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    for source, told in (
        ("absent.jpg", "absent.jpg' does not exist; expected an image, a directory of images, or a video"),
        ("notes.txt", "notes.txt' is neither an image nor a video by its name (videos: .avi, "),
        ("empty", "empty' holds no images"),
    ):
        ran = cli("predict", tiny_model, tmp_path / source)
        assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
        assert told in ran.err


def test_from_python(tiny_model: Path, tiny_data: TinyData, tmp_path: Path) -> None:
    image = sorted(tiny_data.images.iterdir())[0]
    found = yq.predict(yq.load(tiny_model), image, config=PredictConfig(conf=0.05), pictures=tmp_path, device="cpu")
    assert found.to_dict()["images"] == 1
    assert "on 1 image" in repr(found)
    assert found.names == dict(enumerate(tiny_names()))
    assert (tmp_path / "pictures").is_dir()
