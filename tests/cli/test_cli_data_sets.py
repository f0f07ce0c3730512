"""Data sets as other tools write them go the whole way; what is read otherwise than it may be meant is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_detector import TinyData

Cli = Callable[..., Any]


@pytest.fixture
def roboflow(tiny_data: TinyData, tmp_path: Path) -> Path:
    """The small data set in the directories of Roboflow, and its YAML."""
    for split, images in (("train", tiny_data.train), ("valid", tiny_data.images)):
        shutil.copytree(images, tmp_path / "set" / split / "images")
        labels = tiny_data.yaml.parent / "labels" / images.name
        if labels.is_dir():
            shutil.copytree(labels, tmp_path / "set" / split / "labels")
    path = tmp_path / "set" / "data.yaml"
    path.write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 3\nnames: [disc, box, star]\n"
    )
    return path


def test_a_data_set_of_roboflow_scores_like_the_same_one_of_ultralytics(
    cli: Cli, tiny_model: Path, tiny_data: TinyData, roboflow: Path, tmp_path: Path
) -> None:
    before = cli("eval", tiny_model, "--data", tiny_data.yaml, out=tmp_path / "before").result["results"]
    ran = cli("eval", tiny_model, "--data", roboflow)
    assert ran.code == 0, ran.err
    assert ran.result["results"]["map50_95"] == before["map50_95"]
    assert "warnings" not in ran.result["results"]


def test_names_that_differ_in_case_are_told_once_and_kept_in_the_result(
    cli: Cli, tiny_model: Path, tiny_data: TinyData, roboflow: Path, tmp_path: Path
) -> None:
    before = cli("eval", tiny_model, "--data", tiny_data.yaml, out=tmp_path / "before").result["results"]
    roboflow.write_text(roboflow.read_text().replace("disc", "Disc"))
    ran = cli("eval", tiny_model, "--data", roboflow)
    assert ran.code == 0, ran.err
    assert ran.result["results"]["map50_95"] == before["map50_95"]
    (warning,) = ran.result["results"]["warnings"]
    assert "class 0 'Disc' and 'disc'; YOLO label files go by index" in warning
    assert ran.err.count("Disc") == 1
    assert f"yoloqat eval: warning: {warning}" in ran.err.splitlines()


def test_a_data_set_may_name_fewer_classes_than_the_model_has(
    cli: Cli, tiny_model: Path, roboflow: Path, tmp_path: Path
) -> None:
    for file in (roboflow.parent / "valid" / "labels").iterdir():
        file.write_text("".join(f"{line}\n" for line in file.read_text().splitlines() if not line.startswith("2 ")))
    before = cli("eval", tiny_model, "--data", roboflow, out=tmp_path / "before").result["results"]
    roboflow.write_text("val: ../valid/images\nnames: [disc, box]\n")
    ran = cli("eval", tiny_model, "--data", roboflow)
    assert ran.code == 0, ran.err
    assert 0 < ran.result["results"]["map50_95"] == before["map50_95"]
    assert list(ran.result["results"]["per_class"]) == ["disc", "box"]
    assert "warnings" not in ran.result["results"]


def test_a_bare_number_of_classes_and_a_repeated_line_are_enough_to_calibrate(
    cli: Cli, tiny_model: Path, roboflow: Path
) -> None:
    lines = [rf".\train\images\{path.name}" for path in sorted((roboflow.parent / "train" / "images").iterdir())]
    (roboflow.parent / "train.txt").write_bytes("\r\n".join([*lines, lines[0], ""]).encode("utf-8-sig"))
    roboflow.write_text("path: .\ntrain: train.txt\nval: valid\\images\nnc: 3\n")
    ran = cli("calibrate", tiny_model, "--data", roboflow, "--calib-images", len(lines), "--method", "max")
    assert ran.code == 0, ran.err
    assert ran.result["results"]["map_qfloat"] > 0
    assert "warnings" not in ran.result["results"]


def test_a_scan_tells_of_other_names_too(cli: Cli, tiny_checkpoint: Path, roboflow: Path) -> None:
    roboflow.write_text(roboflow.read_text().replace("disc", "Disc"))
    ran = cli("sensitivity", tiny_checkpoint, "--data", roboflow, "--batch", 5, "--granularity", "block", "--top", 1)
    assert ran.code == 0, ran.err
    assert ["'Disc' and 'disc'" in warning for warning in ran.result["results"]["warnings"]] == [True]
