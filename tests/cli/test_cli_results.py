"""Every command ends with the result that the contract names."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_detector import NAMES, VALIDATION_IMAGES, TinyData

from yoloqat.config import MethodSpec

Cli = Callable[..., Any]
CALIBRATION = ("--calib-images", 4)
EVAL = {"map50_95", "map50", "map75", "map_small", "map_medium", "map_large", "images", "per_class"}


def checked(ran: Any, command: str, keys: set[str]) -> dict[str, Any]:
    """Return the results of a run that went well, after checking what all commands share."""
    assert (ran.code, "Traceback" in ran.err) == (0, False), ran.err
    result = ran.result
    assert list(result) == ["schema", "command", "config", "provenance", "results"]
    assert result["schema"] == {"name": "yoloqat/result", "version": 1}
    assert result["command"] == command
    provenance = result["provenance"]
    assert provenance.keys() >= {"yoloqat", "python", "processor", "device", "threads", "packages", "inputs"}
    assert (provenance["device"], provenance["threads"]) == ("cpu", 1)
    assert provenance["command_line"].startswith(f"yoloqat {command} ")
    assert ".parts" not in ran.files
    assert f"wrote {ran.directory}" in ran.out or ran.out.startswith("{")
    results: dict[str, Any] = result["results"]
    assert results.keys() >= keys, keys - results.keys()
    return results


@pytest.mark.parametrize("kind", ["tiny_model", "tiny_checkpoint", "tiny_onnx", "tiny_engine"])
def test_eval_of_every_kind(cli: Cli, tiny_data: TinyData, request: pytest.FixtureRequest, kind: str) -> None:
    ran = cli("eval", request.getfixturevalue(kind), "--data", tiny_data.yaml)
    found = checked(ran, "eval", EVAL)
    assert found["images"] == VALIDATION_IMAGES
    assert set(found["per_class"]) == set(NAMES.values())
    assert 0.1 < found["map50_95"] <= found["map50"] <= 1
    assert ran.files == ["report.html", "result.json"]
    assert f"{found['map50_95']:.4f}" in ran.out


def test_eval_of_a_coco_pair_equals_that_of_the_label_files(cli: Cli, tiny_model: Path, tiny_data: TinyData) -> None:
    pair = ("--images", tiny_data.images, "--annotations", tiny_data.annotations)
    found = checked(cli("eval", tiny_model, *pair), "eval", EVAL)
    labels = cli("eval", tiny_model, "--data", tiny_data.yaml).result["results"]
    assert found["map50_95"] == pytest.approx(labels["map50_95"], abs=2e-3)  # label files have six digits
    assert found["labels"] == str(tiny_data.annotations)


def test_compare(cli: Cli, tiny_model: Path, tiny_data: TinyData) -> None:
    methods = "max,percentile-99.9"
    ran = cli("compare", tiny_model, "--data", tiny_data.yaml, *CALIBRATION, "--methods", methods, "--seed", 5)
    found = checked(ran, "compare", {"baseline", "methods", "best", "confirmed"})
    assert found["baseline"].keys() >= EVAL
    row_keys = {"method", "params", "map50_95", "drop", "drop_ci95", "calibration_seconds"}
    assert all(row.keys() >= row_keys for row in found["methods"])
    assert [row["params"] for row in found["methods"]] == [{}, {"percentile": 99.9}]
    assert found["confirmed"].keys() >= {"method", "drop", "drop_ci95"}
    assert found["best"] in methods.split(",")
    assert set(found["tied"]) <= set(methods.split(",")) - {found["best"]}
    assert ran.result["provenance"]["seed"] == 5
    assert ran.files == [Path(found["histograms"]).name, "report.html", "result.json"]


def test_compare_with_a_coco_pair_and_per_layer_says_what_to_type_next(
    cli: Cli, tiny_model: Path, tiny_data: TinyData, tmp_path: Path
) -> None:
    images = tmp_path / "a b"
    images.symlink_to(tiny_data.images)
    pair = ("--images", images, "--annotations", tiny_data.annotations, "--calib-images-dir", tiny_data.train)
    line = ("compare", tiny_model, *pair, *CALIBRATION, "--methods", "max,mse,per-layer", "--affine")
    ran = cli(*line, "--weight-method", "mse")
    found = checked(ran, "compare", {"best", "tied"})
    row = found["methods"][2]
    assert (row["method"], row["params"]) == ("per-layer", {})
    assert {entry["method"] for entry in row["per_layer"].values()} <= {"max", "mse"}
    assert len(row["per_layer"]) == found["activation_quantizers"]
    assert ran.result["config"]["calibration"]["weight_method"] == "mse"
    following = next(text for text in ran.out.splitlines() if text.startswith("next: "))
    typed = shlex.split(following.removeprefix("next: yoloqat "))
    assert str(images) in typed
    again = cli(*typed, "--method", "per-layer", out=tmp_path / "calibrate")
    results = checked(again, "calibrate", {"per_layer"})
    assert Path(results["histograms"]).parent.resolve() == ran.directory.resolve(), "found without being asked"
    assert again.result["config"]["quantization"]["activations"]["symmetric"] is False
    assert again.files == ["model.safetensors", "report.html", "result.json"]


def test_calibrate_with_a_curve(cli: Cli, tiny_model: Path, tiny_data: TinyData) -> None:
    options = ("--calib-select", "first", "--sample", 4, "--curve", "1,4", "--no-eval", "--method", "max")
    ran = cli("calibrate", tiny_model, "--data", tiny_data.yaml, *CALIBRATION, *options)
    found = checked(ran, "calibrate", {"curve"})
    assert [point["images"] for point in found["curve"]] == [1, 4]
    assert found["backend"] == {"name": "yoloqat"}
    assert {"curve.png", "model.safetensors"} <= set(ran.files)
    calibration = ran.result["config"]["calibration"]
    assert (calibration["select"], calibration["sample"]) == ("first", 4)


def test_calibrate(cli: Cli, tiny_model: Path, tiny_data: TinyData) -> None:
    ran = cli("calibrate", tiny_model, "--data", tiny_data.yaml, *CALIBRATION, "--method", "max")
    found = checked(
        ran, "calibrate", {"map_float", "map_swapped", "map_qfloat", "quantized_layers", "method", "drop", "drop_ci95"}
    )
    assert (found["method"], found["quantized_layers"]) == ("max", 22)
    assert found["map_float"] > 0.3
    low, high = found["d_ci95"]
    assert 0.01 < low <= found["d"] <= high < 1
    assert ran.files == [Path(found["histograms"]).name, "model.safetensors", "report.html", "result.json"]
    scored = cli("eval", ran.directory / "model.safetensors", "--data", tiny_data.yaml, out=ran.directory / "e").result
    assert scored["results"]["map50_95"] == found["map_qfloat"]


def test_calibrate_and_refine_without_labels(cli: Cli, tiny_model: Path, tiny_data: TinyData) -> None:
    options = ("--calib-images", 8, "--calib-images-dir", tiny_data.train, "--refine", "bias", "--no-eval")
    ran = cli("calibrate", tiny_model, *options)
    found = checked(ran, "calibrate", {"refine", "refine_layers", "refine_skipped", "refine_images", "refine_seconds"})
    assert [row["step"] for row in found["refine"]] == ["none", "bias"]
    assert ran.result["config"]["refine"] == ["bias"]
    assert "held out of the refinement" in " ".join(ran.out.split())


def test_compare_refines_the_recommended_method(cli: Cli, tiny_model: Path, tiny_data: TinyData) -> None:
    options = ("--calib-images", 8, "--methods", "max,percentile-99", "--fidelity-images", 2, "--refine", "bias")
    ran = cli("compare", tiny_model, "--data", tiny_data.yaml, *options)
    found = checked(ran, "compare", {"refine", "refined", "refine_layers"})
    refined = found["refined"]
    (row,) = (
        row for row in found["methods"] if (row["method"], row["params"]) == (refined["method"], refined["params"])
    )
    assert str(MethodSpec(row["method"], **row["params"])) == found["recommended"]
    assert refined["d_behind_recommended"] == pytest.approx(refined["d"] - row["d"])
    assert refined["drop"] == pytest.approx(found["baseline"]["map50_95"] - refined["map50_95"], abs=1e-9)
    told = " ".join(ran.out.split())
    assert f"{found['recommended']}, refined" in told
    assert "--refine bias" in told


def test_calibrate_refuses_to_refine_on_few_images(cli: Cli, tiny_model: Path, tiny_data: TinyData) -> None:
    ran = cli("calibrate", tiny_model, "--data", tiny_data.yaml, *CALIBRATION, "--refine", "bias")
    told = "there are 4 images to refine on; expected at least 8: every 4th judges; take more with --calib-images"
    assert (ran.code, told in ran.err, "collect" in ran.err) == (2, True, False)


def test_calibrate_without_scoring(cli: Cli, tiny_model: Path, tiny_data: TinyData) -> None:
    ran = cli("calibrate", tiny_model, "--data", tiny_data.yaml, *CALIBRATION, "--no-eval")
    found = checked(ran, "calibrate", {"map_float", "map_swapped", "map_qfloat", "quantized_layers", "method"})
    assert [found[name] for name in ("map_float", "map_swapped", "map_qfloat", "d", "d_ci95")] == [None] * 5


def test_calibrate_takes_patterns_bits_and_the_head(
    cli: Cli, tiny_model: Path, tiny_data: TinyData, tmp_path: Path
) -> None:
    (tmp_path / "float.txt").write_text("# first\n\nmodel.0\n  model.2.m.*\n")
    calibration = ("--calib-images-dir", tiny_data.train, *CALIBRATION, "--no-eval", "--method", "max")
    few = cli("calibrate", tiny_model, *calibration, "--ignore", f"@{tmp_path / 'float.txt'}", "--bits", 6).result
    assert few["results"]["quantized_layers"] == 22 - 1 - 2
    assert few["config"]["quantization"]["ignore"] == ["model.0", "model.2.m.*"]
    assert few["config"]["quantization"]["activations"]["bits"] == 6
    all_ = cli("calibrate", tiny_model, *calibration, "--quantize-head", "--affine", "--per-tensor-weights").result
    assert all_["results"]["quantized_layers"] == 27
    quantization = all_["config"]["quantization"]
    assert (quantization["activations"]["symmetric"], quantization["weights"]["axis"]) == (False, None)


def test_export_and_its_parity(cli: Cli, tiny_checkpoint: Path, tiny_data: TinyData) -> None:
    ran = cli("export", tiny_checkpoint, "--data", tiny_data.yaml)
    keys = {"quantized_convolutions", "convolutions", "node_max_steps", "node_flip_share", "map_qfloat", "map_onnx"}
    found = checked(ran, "export", keys | {"thread_noise", "d_onnx", "d_onnx_ci95"})
    assert found["d_onnx"] <= 0.01
    assert (found["quantized_convolutions"], found["convolutions"]) == (22, 27)
    assert found["node_max_steps"] <= 1
    assert found["node_flip_share"] <= 0.001
    assert ran.files == ["model.onnx", "report.html", "result.json"]


def test_export_without_data_compares_nothing(cli: Cli, tiny_model: Path) -> None:
    found = checked(cli("export", tiny_model), "export", {"quantized_convolutions", "convolutions"})
    assert found["quantized_convolutions"] == 0
    assert "map_onnx" not in found


def test_build_and_its_precisions(cli: Cli, tiny_onnx: Path, tiny_data: TinyData) -> None:
    ran = cli("build", tiny_onnx, "--data", tiny_data.yaml)
    keys = {"layers", "int8_convolutions", "quantized_convolutions", "convolutions", "int8_mac_share"}
    found = checked(
        ran, "build", keys | {"map_engine", "drop", "drop_ci95", "d", "d_ci95", "qfloat_d", "qfloat_d_ci95"}
    )
    assert all(layer.keys() >= {"name", "type", "precision"} for layer in found["layers"])
    assert (found["quantized_convolutions"], found["convolutions"]) == (22, 27)
    assert found["int8_mac_share"] >= 0.9
    assert found["drop"] == pytest.approx(found["map_float"] - found["map_engine"], abs=1e-9)
    assert set(ran.files) == {"report.html", "result.json"} | {
        f"model_openvino{name}" for name in ("", "/metadata.json", "/metadata.yaml", "/model.bin", "/model.xml")
    }


def test_bench_of_every_kind(
    cli: Cli, tiny_model: Path, tiny_checkpoint: Path, tiny_onnx: Path, tiny_engine: Path
) -> None:
    models = (tiny_model, tiny_checkpoint, tiny_onnx, tiny_engine)
    found = checked(cli("bench", *models, "--rounds", 2, "--warmup", 1), "bench", {"items"})
    assert [item["artifact"] for item in found["items"]] == [str(path) for path in models]
    assert [item["engine"] for item in found["items"]] == ["torch", "torch", "onnxruntime", "openvino"]
    assert [item["precision"] for item in found["items"][:3]] == ["float32", "fake quant", "QDQ"]
    assert found["items"][3]["precision"].startswith("int8 22/27")
    for item in found["items"]:
        latency = item["latency_ms"]
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
        assert (item["batch"], item["images_per_second"] > 0) == (1, True)


def test_json_on_standard_output_is_the_result_and_nothing_else(
    cli: Cli, tiny_model: Path, tiny_checkpoint: Path, tiny_onnx: Path, tiny_data: TinyData, tmp_path: Path
) -> None:
    for number, arguments in enumerate(
        (
            ("eval", tiny_model, "--data", tiny_data.yaml),
            ("compare", tiny_model, "--data", tiny_data.yaml, *CALIBRATION, "--methods", "max"),
            ("calibrate", tiny_model, "--calib-images-dir", tiny_data.train, *CALIBRATION, "--method", "max"),
            ("export", tiny_checkpoint),
            ("build", tiny_onnx),
            ("bench", tiny_model, "--rounds", 1),
        )
    ):
        ran = cli(*arguments, "--json", "-", out=tmp_path / f"a directory with a long name {number}")
        assert ran.code == 0, ran.err
        assert json.loads(ran.out) == ran.result, arguments[0]


def test_a_relative_directory_is_the_default(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from yoloqat.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(["bench", str(tiny_model), "--rounds", "1", "--threads", "1"]) == 0
    assert json.loads((tmp_path / "runs" / "bench" / "result.json").read_text())["command"] == "bench"


def test_export_says_what_lint_found(cli: Cli, tiny_checkpoint: Path) -> None:
    found = checked(cli("export", tiny_checkpoint, "--half", "--nms"), "export", {"lint"})
    assert found["lint"] == {"errors": 0, "warnings": found["lint"]["warnings"]}
    assert all(finding["severity"] != "error" for finding in found["lint_findings"])


def test_an_error_of_lint_fails_the_export(cli: Cli, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "yoloqat.pipeline.export_check.lint_export",
        lambda path: {"lint": {"errors": 2, "warnings": 0}, "lint_findings": []},
    )
    ran = cli("export", tiny_checkpoint)
    assert ran.code == 1
    assert "lint found 2 errors in" in ran.err
    assert ran.result["results"]["lint"]["errors"] == 2


def test_a_confidence_inside_the_file_is_told_wherever_it_is_scored(
    cli: Cli, tiny_checkpoint: Path, tiny_data: TinyData, tmp_path: Path
) -> None:
    export = ("export", tiny_checkpoint, "--nms", "--nms-conf")
    assert cli(*export, 0.6, out=tmp_path / "cut").code == 0
    text = "the model drops boxes below a confidence of 0.6 by itself, so that its mAP is lower than at 0.001"
    cut = tmp_path / "cut" / "model.onnx"
    data = ("--data", tiny_data.yaml)
    built = cli("build", cut, *data, out=tmp_path / "built")
    assert built.code == 0, built.err
    assert built.result["results"]["warnings"][0].startswith(text)
    for model in (cut, tmp_path / "built" / "model_openvino"):
        ran = cli("eval", model, *data)
        assert ran.result["results"]["built_in_conf"] == 0.6
        assert [line[: len(text)] for line in ran.result["results"]["warnings"]] == [text]
        assert "below a confidence of 0.6" in " ".join(ran.out.split())
    assert cli(*export, 0.001, out=tmp_path / "whole").code == 0
    found = cli("eval", tmp_path / "whole" / "model.onnx", *data).result["results"]
    assert found["built_in_conf"] == pytest.approx(0.001)
    assert "warnings" not in found
    assert found["map50_95"] >= ran.result["results"]["map50_95"]
    assert cli("eval", tiny_checkpoint, *data).result["results"]["built_in_conf"] is None
