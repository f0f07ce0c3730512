from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from graphs import yolox

from yoloqat.cli import main
from yoloqat.onnx_graph.file import properties


def results(out: Path) -> dict[str, Any]:
    return json.loads((out / "result.json").read_text())["results"]


def test_the_noise_and_the_map_are_those_of_the_torch_way(calibrated: Path) -> None:
    found = results(calibrated)
    assert (found["quantized_layers"], found["convolutions"], found["map_swapped"]) == (22, 27, None)
    assert 0 < found["d_ci95"][0] <= found["d"] <= found["d_ci95"][1] < 1
    assert found["drop"] == pytest.approx(found["map_float"] - found["map_qfloat"])
    assert found["float"]["model.9.dfl.conv"] == "fixed expectation over box distances"


def test_the_file_keeps_its_metadata_and_lints_and_builds(
    calibrated: Path, tiny_float: Path, tiny_data, tmp_path
) -> None:
    own, before = (properties(onnx.load(path)) for path in (calibrated / "model.onnx", tiny_float))
    kept = ("names", "stride", "task", "imgsz", "batch", "args")
    assert {key: own[key] for key in kept} == {key: before[key] for key in kept}
    assert main(["lint", str(calibrated / "model.onnx"), "--quiet", "--out", str(tmp_path / "lint")]) == 0
    data = ["--images", str(tiny_data.images), "--threads", "1"]
    line = ["build", str(calibrated / "model.onnx"), *data, "--quiet", "--out", str(tmp_path / "build")]
    assert main(line) == 0
    built = results(tmp_path / "build")
    assert built["quantized_convolutions"] == 22
    assert built["d"] > 0, "against float.onnx, which the file names"


def test_layers_of_a_pattern_stay_float(tiny_float: Path, tiny_data, tmp_path: Path) -> None:
    ignore = tmp_path / "ignore.txt"
    ignore.write_text("# noisy\nmodel.0.conv\n")
    line = ["--images", str(tiny_data.images), "--no-eval", "--threads", "1", "--ignore", f"@{ignore}", "--quiet"]
    assert main(["calibrate", str(tiny_float), *line, "--target", "openvino", "--out", str(tmp_path / "out")]) == 0
    found = results(tmp_path / "out")
    assert (found["quantized_layers"], found["d"]) == (21, None)
    assert found["float"]["model.0.conv"] == "named by the user"
    assert properties(onnx.load(tmp_path / "out" / "model.onnx"))["yoloqat_target"] == "openvino"


def test_a_yolox_file_goes_the_same_way(tiny_data, tmp_path: Path) -> None:
    path, out = tmp_path / "yolox.onnx", tmp_path / "out"
    onnx.save(yolox(), path)
    line = ["--images", str(tiny_data.images), "--threads", "1", "--target", "tensorrt", "--quiet"]
    assert main(["calibrate", str(path), *line, "--out", str(out)]) == 0
    found = results(out)
    assert (found["quantized_layers"], found["convolutions"]) == (7, 16)
    assert found["d"] > 0
    assert "YOLOX" in found["notes"][0]
    assert main(["lint", str(out / "model.onnx"), "--quiet", "--out", str(tmp_path / "lint")]) == 0
    compared = ["eval", str(out / "model.onnx"), "--reference", str(out / "float.onnx"), *line[:4], "--quiet"]
    assert main([*compared, "--out", str(tmp_path / "eval")]) == 0
    assert results(tmp_path / "eval")["d"] > 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--refine", "bias"], "refine is 'bias' with"),
        (["--curve", "1,2"], "curve is '1,2' with"),
        (["--calib-select", "range"], "calib_select is 'range' with"),
        (["--method", "per-layer"], "method is 'per-layer' with an ONNX file"),
    ],
)
def test_what_needs_torch_is_refused(
    options: list[str], told: str, tiny_float: Path, tiny_data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["calibrate", str(tiny_float), "--images", str(tiny_data.images), *options, "--quiet"]
    assert main([*line, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_heads_are_named_for_a_file_alone(tiny_model: Path, tiny_data, tmp_path, capsys) -> None:
    line = ["calibrate", str(tiny_model), "--images", str(tiny_data.images), "--outputs", "a,b"]
    assert main([*line, "--out", str(tmp_path / "out")]) == 2
    assert "outputs is 'a,b' with" in capsys.readouterr().err
