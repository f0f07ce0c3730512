from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_detector import TinyData

from yoloqat.cli import main
from yoloqat.detectors import load_detector, save_checkpoint
from yoloqat.quant import state_digest


@pytest.fixture(scope="module")
def data(labelled: Path) -> Path:
    return labelled


def run(*arguments: object) -> int:
    return main([*map(str, arguments), "--threads", "1"])


def result(out: Path) -> dict[str, Any]:
    return json.loads((out / "result.json").read_text())["results"]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, data: Path) -> Path:
    """The directory of a finished run."""
    out = tmp_path_factory.mktemp("tuned") / "out"
    assert run("finetune", tiny_checkpoint, "--data", data, "--epochs", 2, "--batch", 4, "--out", out) == 0
    return out


def test_the_result_tells_the_curve_and_the_gain(tuned: Path) -> None:
    former = json.loads((Path(__file__).parents[1] / "golden" / "former" / "results" / "finetune.json").read_text())
    found = result(tuned)
    assert found.keys() >= former["results"].keys()
    assert found["epochs"][0].keys() >= former["results"]["epochs"][0].keys()
    assert [row["epoch"] for row in found["epochs"]] == [1, 2]
    assert all(row["loss"] > 0 and 0 <= row["map50_95"] <= 1 for row in found["epochs"])
    scores = [found["start"]["map50_95"], *(row["map50_95"] for row in found["epochs"])]
    assert found["map50_95"] == scores[found["best_epoch"]]
    noise = [found["start"]["d"], *(row["d"] for row in found["epochs"])]
    assert found["d"] == noise[found["best_epoch"]]
    assert found["d_ci95"][0] <= found["d"] <= found["d_ci95"][1]
    assert found["map50_95"] == max(scores) or "ties with the highest" in found["best_reason"]
    assert found["drop"] == pytest.approx(found["map_float"] - found["map50_95"])
    assert found["gain"] == pytest.approx(found["map50_95"] - found["start"]["map50_95"])
    assert found["gain_ci95"][0] <= found["gain"] <= found["gain_ci95"][1]
    assert found["last"]["map50_95"] == scores[-1]
    assert not (tuned / ".parts").exists()


def test_the_checkpoint_says_how_it_was_trained_and_exports(tuned: Path, tiny_data: TinyData, tmp_path: Path) -> None:
    detector = load_detector(tuned / "last.safetensors")
    assert state_digest(detector.module) == result(tuned)["epochs"][-1]["weights"]
    assert detector.quantization.calibration["finetune"]["epochs"] == 2
    assert detector.quantization.calibration["images"] == 4
    checkpoint = tuned / "last.safetensors"
    assert run("export", checkpoint, "--data", tiny_data.yaml, "--out", tmp_path) == 0
    assert result(tmp_path)["node_max_steps"] <= 1


def test_a_trained_checkpoint_is_trained_further_from_its_float_file(tuned: Path, data: Path, tmp_path: Path) -> None:
    line = ("finetune", tuned / "last.safetensors", "--data", data, "--epochs", 1, "--batch", 8, "--task", 0)
    assert run(*line, "--out", tmp_path) == 0
    assert set(result(tmp_path)["epochs"][0]["losses"]) == {"distill_classes", "distill_boxes", "distill_features"}


def test_unlabelled_images_are_enough_to_supervise(tiny_checkpoint: Path, tiny_data: TinyData, tmp_path: Path) -> None:
    pair = ("--images", tiny_data.images, "--annotations", tiny_data.annotations)
    images = ("--supervise", 2, "--train-images-dir", tiny_data.train, "--lr0", "0:1e-4,1:1e-5")
    assert run("finetune", tiny_checkpoint, *pair, *images, "--epochs", 2, "--out", tmp_path) == 0
    found = json.loads((tmp_path / "result.json").read_text())
    assert len(found["results"]["epochs"]) == 2
    assert found["config"]["training"]["rates"] == [[0, 1e-4], [1, 1e-5]]


def test_epochs_are_judged_by_the_noise_without_labels(
    tiny_checkpoint: Path, tiny_data: TinyData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = ("--images", tiny_data.images, "--supervise", 2, "--lr0", "3e-6", "--batch", 1)
    bare += ("--epochs", 5, "--patience", 1)
    assert run("finetune", tiny_checkpoint, *bare, "--out", tmp_path) == 0
    found = result(tmp_path)
    noise = [found["start"]["d"], *(row["d"] for row in found["epochs"])]
    assert found["d"] == min(noise) == noise[found["best_epoch"]]
    assert found["best_reason"] == "lowest d"
    assert 1 <= found["best_epoch"] <= len(found["epochs"]) <= found["best_epoch"] + 1, "patience stops it"
    assert (found["map_float"], found["map50_95"], found["drop"], found["confirmed"]) == (None,) * 4
    shown = " ".join(capsys.readouterr().out.split())
    assert f"best epoch {found['best_epoch']} (lowest d): d {found['d']:.4f} [" in shown
    assert "mAP50-95" not in shown
    best = ("eval", tmp_path / "best.safetensors", "--images", tiny_data.images, "--reference")
    assert run(*best, load_detector(tiny_checkpoint).source.path, "--out", tmp_path / "eval") == 0
    assert result(tmp_path / "eval")["d"] == pytest.approx(found["d"], rel=1e-3)


def test_an_interrupted_run_goes_on_when_the_line_is_typed_again(
    tiny_checkpoint: Path, data: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yoloqat.finetuning.checkpoints import CheckpointManager

    line = ("finetune", tiny_checkpoint, "--data", data, "--epochs", 2, "--batch", 4, "--out", tmp_path)
    save = CheckpointManager.save

    def interrupted(self: CheckpointManager, state: Any) -> None:
        save(self, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointManager, "save", interrupted)
        assert run(*line) == 130
    assert not (tmp_path / "result.json").exists()
    assert run(*line, "--resume") == 0
    ours, whole = result(tmp_path)["epochs"], result(tuned)["epochs"]
    rows = [[(row["loss"], row["weights"], row["d"], row["map50_95"]) for row in epochs] for epochs in (ours, whole)]
    assert rows[0] == rows[1]
    assert result(tmp_path)["best_epoch"] == result(tuned)["best_epoch"]


def wrong(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert run("finetune", *arguments) == 2
    return capsys.readouterr().err


def test_what_cannot_be_trained_is_told(
    tiny_model: Path, tiny_checkpoint: Path, data: Path, tiny_data: TinyData, tmp_path: Path, capsys: Any
) -> None:
    out = ("--out", tmp_path)
    assert f"'{tiny_model}' is a float model" in wrong(capsys, tiny_model, "--data", data, *out)
    line = (tiny_checkpoint, "--data", data, *out)
    assert f"'{tmp_path}' holds no unfinished run" in wrong(capsys, *line, "--resume")
    assert "training argument is 'mosaic'" in wrong(capsys, *line, "--train", "mosaic")
    assert "training argument is 'mosaik=1'" in wrong(capsys, *line, "--train", "mosaik=1")
    assert "training argument is 'epochs=1'" in wrong(capsys, *line, "--train", "epochs=1")
    assert "training argument is 'mosaic=['" in wrong(capsys, *line, "--train", "mosaic=[")
    dated = "training argument is 'mosaic=2026-13-45' (a value is unfit: month must be in 1..12)"
    assert dated in wrong(capsys, *line, "--train", "mosaic=2026-13-45")
    assert "'--lr0 0:1e-4,1:1e-5' goes with --supervise" in wrong(capsys, *line, "--lr0", "0:1e-4,1:1e-5")
    told = wrong(capsys, *line, "--train-images-dir", tiny_data.train)
    assert f"to train on ('{tiny_data.train}') by the loss of the task" in told
    assert "leave them out, or set --supervise\n" in told
    assert "amp is bf16 on the device 'cpu'" in wrong(capsys, *line, "--train", "amp=bf16")
    refused = wrong(capsys, *line, "--train", "fraction=lots")
    assert "Ultralytics' trainer refuses" in refused
    told = f"the images in '{tiny_data.images}' have no labels, which Ultralytics' trainer needs"
    assert told in wrong(capsys, tiny_checkpoint, "--images", tiny_data.images, *out)
    pair = ("--images", tiny_data.images, "--annotations", tiny_data.annotations)
    assert "the images to train on are not named" in wrong(capsys, tiny_checkpoint, *pair, *out)


def test_another_float_file_is_refused(
    tuned: Path, tiny_checkpoint: Path, data: Path, tmp_path: Path, capsys: Any
) -> None:
    other = tmp_path / "other.pt"
    line = (tuned / "last.safetensors", "--data", data, "--out", tmp_path)
    assert f"float model '{other}' does not exist" in wrong(capsys, *line, "--float", other)
    other.write_bytes(b"other")
    assert f"float model '{other}' is another file" in wrong(capsys, *line, "--float", other)


def test_kept_batch_norms_leave_a_checkpoint_as_any_other(
    tiny_checkpoint: Path, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    line = (
        "finetune",
        tiny_checkpoint,
        "--data",
        data,
        "--epochs",
        1,
        "--batch",
        4,
        "--keep-bn",
        "--float",
        tiny_model,
    )
    assert run(*line, "--out", tmp_path / "tuned") == 0
    checkpoint = tmp_path / "tuned" / "last.safetensors"
    tuned, start = load_detector(checkpoint), load_detector(tiny_checkpoint)
    assert list(tuned.module.state_dict()) == list(start.module.state_dict())
    assert tuned.quantization.calibration["finetune"]["keep_bn"] is True
    assert run("export", checkpoint, "--data", data, "--out", tmp_path / "exported") == 0
    assert result(tmp_path / "exported")["node_max_steps"] <= 1
    assert run("lint", tmp_path / "exported" / "model.onnx", "--out", tmp_path / "linted") == 0
    assert (
        run("finetune", checkpoint, *line[2:], "--out", tmp_path / "again") == 0
    )  # its weights are not the float model's


def test_batch_norms_that_cannot_be_kept_are_told(
    tiny_model: Path, tiny_checkpoint: Path, data: Path, tiny_data: TinyData, tmp_path: Path, capsys: Any
) -> None:
    line = ("--data", data, "--keep-bn", "--out", tmp_path / "out")
    other = tmp_path / "other.pt"
    other.write_bytes(b"other")
    floating = load_detector(tiny_checkpoint)
    floating.source = replace(floating.source, path=str(tmp_path / "moved.pt"))
    save_checkpoint(floating, tmp_path / "moved.safetensors")
    assert f"float model '{tmp_path / 'moved.pt'}' does not exist" in wrong(
        capsys, tmp_path / "moved.safetensors", *line
    )
    tensors = ("--per-tensor-weights", "--no-eval", "--calib-images-dir", tiny_data.train, "--calib-images", 2)
    assert run("calibrate", tiny_model, *tensors, "--out", tmp_path) == 0
    capsys.readouterr()
    told = wrong(capsys, tmp_path / "model.safetensors", *line)
    assert "the weight of 'model.0.conv' has one scale for all channels" in told
    assert len(told.strip().splitlines()) == 1
    assert "'--keep-bn' does not go with '--supervise 1'" in wrong(capsys, tiny_checkpoint, *line, "--supervise", 1)
    checked = wrong(capsys, tiny_checkpoint, *line, "--float", other, "--distill", 0, "--features", 0)
    assert f"float model '{other}' is another file" in checked


def test_processes_that_do_not_go_together_are_told(
    tiny_checkpoint: Path, data: Path, tmp_path: Path, capsys: Any
) -> None:
    line = (tiny_checkpoint, "--data", data, "--out", tmp_path)
    told = wrong(capsys, *line, "--device", "cpu,cpu")
    assert "the devices are 'cpu,cpu'" in told
    assert told.endswith("name each once; on a CPU set --processes\n")
    assert "3 processes are to train on the device 'cpu,cpu'" in wrong(
        capsys, *line, "--device", "cpu,cpu", "--processes", 3
    )
    assert "a batch of 5 images is shared by 2 processes" in wrong(capsys, *line, "--processes", 2, "--batch", 5)
    assert "2 processes do not go with distillation alone (stride is 1)" in wrong(
        capsys, *line, "--processes", 2, "--supervise", 1
    )
    if not torch.cuda.is_available():
        assert "device is '0'" in wrong(capsys, *line, "--device", "0,1")
