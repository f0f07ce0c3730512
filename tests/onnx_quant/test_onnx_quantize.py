"""The whole way of a float ONNX file, without the torch model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from graphs import yolox

import yoloqat as yq
from yoloqat.cli import main
from yoloqat.config import CalibrationConfig, EvalConfig, QuantConfig, Recipe
from yoloqat.datasets import calibration_images, load_dataset
from yoloqat.errors import PatternError
from yoloqat.pipeline import onnx_calibrate
from yoloqat.pipeline import quantize as module
from yoloqat.pipeline import quantize_way as way
from yoloqat.pipeline.quantize import open_float_model, quantize
from yoloqat.pipeline.quantize_config import QuantizeConfig, Quantized
from yoloqat.pipeline.quantize_way import ALL_INT8
from yoloqat.pipeline.run import Run

LIMIT = 0.08


@pytest.fixture(autouse=True)
def the_file_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the ONNX file: quicker than an engine."""
    monkeypatch.setattr(module, "_engine", lambda target: None)
    monkeypatch.setattr(way, "TRIES", 1)


def test_the_command_ends_with_files_that_its_recipe_makes_again(
    tiny_float: Path, tiny_data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    calibration = ["--calib-images-dir", str(tiny_data.train), "--threads", "1", "--quiet"]
    data = ["--data", str(tiny_data.yaml), "--calib-images", "4", *calibration]
    assert main(["quantize", str(tiny_float), *data, "--max-drop", "0.9", "--out", str(out)]) == 0
    results = json.loads((out / "result.json").read_text())["results"]
    assert (results["chosen"], results["verdict"]["verdict"], results["refine"]) == (ALL_INT8, "met", [])
    assert results["drop"] == pytest.approx(results["map_float"] - results["map50_95"])
    left_out = next(row for row in results["decisions"] if row["step"] == "refinement and fine-tuning")
    assert left_out["reason"] == "they need the .pt, and 'model.onnx' is an ONNX file"
    methods = {row["method"]: row["d"] for row in results["compare"]["methods"]}
    assert min(methods.values()) == methods[results["method"].partition("-")[0]]
    assert {"model.onnx", "float.onnx", "recipe.yaml"} <= {path.name for path in out.iterdir()}
    line = ["calibrate", str(tiny_float), "--recipe", str(out / "recipe.yaml"), "--no-eval", *calibration]
    assert main([*line, "--out", str(again)]) == 0, capsys.readouterr().err
    assert onnx.load(again / "model.onnx").graph == onnx.load(out / "model.onnx").graph
    compared = ["eval", str(out / "model.onnx"), "--reference", str(out / "float.onnx"), "--data", str(tiny_data.yaml)]
    assert main([*compared, "--threads", "1", "--quiet", "--out", str(tmp_path / "eval")]) == 0
    assert json.loads((tmp_path / "eval" / "result.json").read_text())["results"]["d"] == pytest.approx(results["d"])


@pytest.fixture
def whole(tiny_float: Path, tiny_data) -> Any:
    images = load_dataset(tiny_data.yaml).images

    def go(out: Path) -> Quantized:
        config = QuantizeConfig(
            max_noise=LIMIT,
            quant=QuantConfig(target="onnxruntime"),
            calibration=CalibrationConfig(images=4),
            methods=("max", "mse"),
        )
        return quantize(
            open_float_model(tiny_float, out, target="onnxruntime"),
            calibration_images(tiny_data.train, 4),
            config,
            scoring=EvalConfig(imgsz=64, batch=4),
            run=Run(out, torch.device("cpu"), 1),
            dataset=None,
            compared=images,
            training=lambda: pytest.fail("it is not fine-tuned"),
        )

    return go


def test_float_sets_are_searched_and_an_interrupted_run_ends_alike(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = way.run_search

    def stopped(*args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(way, "run_search", stopped)
    with pytest.raises(KeyboardInterrupt):
        whole(tmp_path / "out")
    monkeypatch.setattr(way, "run_search", search)
    found = whole(tmp_path / "out")
    results = found.results
    first, second = results["candidates"][:2]
    assert first["d"] > LIMIT
    assert second["d"] < first["d"]
    assert results["float_layers"] == second["float_layers"] != []
    assert results["d_predicted"] == pytest.approx(second["d"], rel=0.9)
    assert found.files == ("model.onnx", "float.onnx", "latency.json", "recipe.yaml")
    recipe = Recipe.load(tmp_path / "out" / "recipe.yaml")
    assert (list(recipe.float_layers), recipe.quantization.ignore) == (second["float_layers"], ())
    monkeypatch.setattr(onnx_calibrate, "collect_histograms", None)
    again = whole(tmp_path / "out")
    assert again.results["candidates"] == results["candidates"], "every stage was finished before"


def test_a_repeated_run_reads_its_latency_table_again(whole: Any, tmp_path: Path) -> None:
    whole(tmp_path / "out")
    Run(tmp_path / "out", torch.device("cpu"), 1).forget_parts()
    table = tmp_path / "out" / "latency.json"
    known = json.loads(table.read_text())
    table.write_text(json.dumps(known | {"latency_ms": 2.0 * known["latency_ms"]}))
    whole(tmp_path / "out")
    assert json.loads(table.read_text())["latency_ms"] == 2.0 * known["latency_ms"]


def test_python_takes_the_path(tiny_float: Path, tiny_data, tmp_path: Path) -> None:
    config = QuantizeConfig(max_noise=10.0, calibration=CalibrationConfig(images=4), methods=("max",))
    data = yq.Dataset.from_images(tiny_data.images)
    with pytest.raises(PatternError, match="nowhere"):
        yq.quantize(tiny_float, data, out=tmp_path / "none", config=config, outputs=["nowhere"], device="cpu")
    found = yq.quantize(tiny_float, data, out=tmp_path / "out", config=config, device="cpu")
    assert found.failed is None
    assert (tmp_path / "out" / "model.onnx").is_file()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--refine", "rounding"], "refine is 'rounding' with '"),
        (["--epochs", "3"], "epochs is '3' with '"),
        (["--calib-select", "range"], "calib_select is 'range' with '"),
        (["--bits", "6"], "bits is 6"),
        (["--outputs", "nowhere"], "outputs names 'nowhere'"),
        (["--outputs", "zzz"], "tensors and nodes are named like "),
        (["--outputs", ","], "outputs is ',', in which a name is empty"),
        (["--outputs", ""], "outputs is '', in which a name is empty"),
    ],
)
def test_what_needs_torch_is_refused(
    options: list[str], told: str, tiny_float: Path, tiny_data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["quantize", str(tiny_float), "--images", str(tiny_data.images), "--max-noise", "1", *options, "--quiet"]
    assert main([*line, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_file_is_not_fine_tuned(tiny_float: Path, tmp_path: Path) -> None:
    model: Any = open_float_model(tiny_float, tmp_path)
    with pytest.raises(TypeError, match=f"'{tmp_path / 'float.onnx'}' cannot be fine-tuned"):
        model.make(None, (), tmp_path, None, object())


def test_it_is_told_how_a_file_of_another_exporter_is_read(tiny_data, tmp_path: Path) -> None:
    onnx.save(yolox(), tmp_path / "yolox.onnx")
    data, out = ["--images", str(tiny_data.images), "--max-noise", "10", "--target", "tensorrt"], tmp_path / "out"
    assert main(["quantize", str(tmp_path / "yolox.onnx"), *data, "--threads", "1", "--quiet", "--out", str(out)]) == 0
    results = json.loads((out / "result.json").read_text())["results"]
    assert [("YOLOX" in note) for note in results["notes"]] == [True, False]
    assert results["candidates"][0]["d"] > 0, "against the file with boxes decoded"


def test_a_quantized_file_is_refused(
    calibrated: Path, tiny_data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = calibrated / "model.onnx"
    line = ["quantize", str(path), "--images", str(tiny_data.images), "--max-noise", "1", "--quiet"]
    assert main([*line, "--out", str(tmp_path / "out")]) == 2
    assert f"'{path}' has" in capsys.readouterr().err
