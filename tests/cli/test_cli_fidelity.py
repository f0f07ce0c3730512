"""How far a model is from the float model, by every command that tells it, with labels and without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_detector import VALIDATION_IMAGES, TinyData, make_module, save_module

Cli = Callable[..., Any]
FIDELITY = {
    "d",
    "d_ci95",
    "box_disagreement",
    "box_disagreement_ci95",
    "score_shift",
    "fidelity_map",
    "fidelity_images",
}


def results(ran: Any) -> dict[str, Any]:
    assert ran.code == 0, ran.err
    found: dict[str, Any] = ran.result["results"]
    return found


def test_eval_with_labels_adds_the_fidelity(
    cli: Cli, tiny_checkpoint: Path, tiny_model: Path, tiny_data: TinyData
) -> None:
    data = ("--data", tiny_data.yaml, "--reference", tiny_model)
    ran = cli("eval", tiny_checkpoint, *data, "--fidelity-images", 5)
    found = results(ran)
    assert found.keys() >= FIDELITY | {"map50_95", "images"}
    assert (found["images"], found["fidelity_images"]) == (VALIDATION_IMAGES, 5)
    low, high = found["d_ci95"]
    assert 0.01 < low <= found["d"] <= high < 1
    assert f"fidelity of {tiny_checkpoint.name} to {tiny_model.name}, 5 images" in ran.out
    assert ran.result["provenance"]["inputs"]["reference"]["path"] == str(tiny_model)
    same = results(cli("eval", tiny_model, *data))
    assert (same["d"], same["box_disagreement"], same["score_shift"]) == (0.0, pytest.approx(0.0), 0.0)


def test_eval_without_labels_is_the_fidelity_alone(
    cli: Cli, tiny_engine: Path, tiny_model: Path, tiny_data: TinyData
) -> None:
    ran = cli("eval", tiny_engine, "--images", tiny_data.images, "--reference", tiny_model)
    found = results(ran)
    assert found.keys() >= FIDELITY
    assert not found.keys() & {"map50_95", "images", "built_in_conf", "per_class"}
    assert found["fidelity_images"] == VALIDATION_IMAGES // 2  # the other half would calibrate
    assert "mAP50-95" not in ran.out


def test_eval_beside_a_model_of_other_classes_is_refused(
    cli: Cli, tiny_model: Path, tiny_data: TinyData, tmp_path: Path
) -> None:
    module = make_module()
    module.names = {0: "disc", 1: "box", 2: "moon"}
    other = save_module(module, tmp_path / "other.pt")
    ran = cli("eval", tiny_model, "--data", tiny_data.yaml, "--reference", other)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert f"the classes of '{other}' and '{tiny_model}' differ: 3 with 2 'moon' and 3 with 2 'star'" in ran.err
    ran = cli("eval", tiny_model, "--data", tiny_data.yaml, "--reference", tmp_path / "absent.pt")
    assert (ran.code, "absent.pt' does not exist" in ran.err) == (2, True)
    ran = cli("eval", tiny_model, "--data", tiny_data.yaml, "--reference", tiny_model, "--fidelity-images", 0)
    assert (ran.code, "--fidelity-images is 0; expected a whole number from 1" in ran.err) == (2, True)


def test_calibrate_without_labels_measures_the_noise_on_other_images(
    cli: Cli, tiny_model: Path, tiny_data: TinyData, tmp_path: Path
) -> None:
    bare = ("--images", tiny_data.images)
    options = ("--calib-images", 3, "--curve", "auto", "--method", "max")
    ran = cli("calibrate", tiny_model, *bare, *options, out=tmp_path / "calibrated")
    found = results(ran)
    assert (found["map_float"], found["map_qfloat"]) == (None, None)
    assert found["d"] == pytest.approx(found["curve"][-1]["d"], rel=1e-3)
    checkpoint = ran.directory / "model.safetensors"
    measured = results(cli("eval", checkpoint, *bare, "--reference", tiny_model))
    assert measured["d"] == pytest.approx(found["d"], rel=1e-3)
    assert f"{found['d']:.4f} [" in ran.out
    assert max(map(len, ran.out.split("wrote")[0].splitlines())) <= 80  # a pipe has as many


def test_a_small_directory_calibrates_on_the_half_that_there_is(
    cli: Cli, tiny_model: Path, tiny_data: TinyData
) -> None:
    found = cli("calibrate", tiny_model, "--images", tiny_data.images, "--method", "max").result
    assert found["results"]["calibration_images"] == found["config"]["calibration"]["images"] == 5
    assert found["results"]["fidelity_images"] == 5
    asked = cli("calibrate", tiny_model, "--images", tiny_data.images, "--calib-images", 6)
    assert (asked.code, "has 5 images to calibrate on (the other half" in asked.err) == (2, True)


def test_export_is_compared_without_labels(cli: Cli, tiny_checkpoint: Path, tiny_data: TinyData) -> None:
    ran = cli("export", tiny_checkpoint, "--images", tiny_data.images)
    found = results(ran)
    assert "map_onnx" not in found
    assert found["node_max_steps"] <= 1
    assert 0 <= found["d_onnx"] <= 0.01
    assert f"{found['d_onnx']:.4f} [" in ran.out
    bare = ("--images", tiny_data.images, "--batch", 6)
    ran = cli("export", tiny_checkpoint, *bare)
    assert (ran.code, "batch is 6 and the data set has 5 images" in ran.err) == (2, True)


def test_export_with_nms_inside_has_no_anchors_to_compare(cli: Cli, tiny_checkpoint: Path, tiny_data: TinyData) -> None:
    found = results(cli("export", tiny_checkpoint, "--images", tiny_data.images, "--nms"))
    assert (found["d_onnx"], found["d_onnx_ci95"]) == (None, None)


def test_build_measures_the_noise_of_the_engine_without_labels(
    cli: Cli, tiny_onnx: Path, tiny_model: Path, tiny_data: TinyData, tmp_path: Path
) -> None:
    bare = ("--images", tiny_data.images)
    ran = cli("build", tiny_onnx, *bare, out=tmp_path / "bare")
    found = results(ran)
    assert "map_engine" not in found
    assert found["qfloat_d"] < 0.1 * found["d"]
    assert f"{found['d']:.4f} [" in ran.out
    engine = ran.directory / "model_openvino"
    assert results(cli("eval", engine, *bare, "--reference", tiny_model))["d"] == pytest.approx(found["d"])


def test_build_beside_a_model_of_other_classes_is_refused(
    cli: Cli, tiny_onnx: Path, tiny_data: TinyData, tmp_path: Path
) -> None:
    module = make_module()
    module.names = {0: "disc", 1: "box", 2: "moon"}
    other = save_module(module, tmp_path / "other.pt")
    ran = cli("build", tiny_onnx, "--data", tiny_data.yaml, "--float", other)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert f"the classes of '{other}' and '{tiny_onnx}' differ" in ran.err
    assert not ran.directory.is_dir() or ran.files == []
