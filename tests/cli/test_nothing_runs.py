"""Every command under a hook that refuses programs, connections, and files written outside of where results belong."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_detector import ARCHITECTURE, TinyData, save_module

from yoloqat.detectors.ultralytics import build

AUDITED = Path(__file__).with_name("audited.py")


def audited(lines: list[list[object]], folder: Path, *readable: Path) -> list[dict[str, Any]]:
    """Run command lines in a process of their own under the hook; only below ``folder`` may anything be written."""
    home, work = folder / "home", folder / "work"
    work.mkdir(parents=True)
    (folder / "lines.json").write_text(json.dumps([[str(word) for word in line] for line in lines]))
    environment = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"} | {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "TMPDIR": str(folder / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    (folder / "tmp").mkdir()
    (home / "config").mkdir(parents=True)  # of Ultralytics and matplotlib, which keep their own settings
    (home / "cache").mkdir()
    allowed = [work, folder / "tmp", folder / "found.json", home / "config", home / "cache" / "matplotlib"]
    done = subprocess.run(
        [sys.executable, AUDITED, folder / "lines.json", folder / "found.json", *allowed],
        env=environment,
        cwd=work,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[dict[str, Any]] = json.loads((folder / "found.json").read_text())
    return found


@pytest.mark.slow
def test_no_command_runs_a_program_connects_or_writes_elsewhere(
    tmp_path: Path, tiny_model: Path, tiny_data: TinyData, labelled: Path
) -> None:
    folder = tmp_path / "audited"
    out = folder / "work"
    data, calibrated = ["--data", tiny_data.yaml], out / "calibrate" / "model.safetensors"
    few = ["--calib-images", 2]
    onnx, engine = out / "export" / "model.onnx", out / "build" / "model_openvino"
    lines: list[list[object]] = [
        ["inspect", tiny_model],
        ["eval", tiny_model, *data],
        ["calibrate", tiny_model, *data, *few],
        ["eval", calibrated, *data],
        ["compare", tiny_model, *data, *few, "--methods", "max"],
        ["sensitivity", calibrated, *data, "--granularity", "block"],
        ["finetune", calibrated, "--data", labelled, "--epochs", 1, "--batch", 8],
        ["finetune", calibrated, *data, "--supervise", 1, "--train-images-dir", tiny_data.train],
        ["export", calibrated, *data],
        ["lint", onnx],
        ["build", onnx, *data],
        ["eval", engine, *data],
        ["eval", onnx, *data],
        ["demo", "--imgsz", 64],
        ["bench", engine, onnx, "--rounds", 2, "--warmup", 1],
        ["diff", tiny_model, engine, *data, "--conf", 0.02],
        ["predict", engine, tiny_data.images],
    ]
    names = [f"{line[0]}-{index}" for index, line in enumerate(lines)]
    places = {"calibrate-2": "calibrate", "export-8": "export", "build-10": "build"}
    for line, name in zip(lines, names, strict=True):
        line += ["--threads", 1, "--out", out / places.get(name, name)]
    found = audited(lines, folder)
    left = {str(path.relative_to(folder / "home")) for path in (folder / "home").rglob("*") if path.is_file()}
    assert {name for name in left if "matplotlib" not in name} == {"config/Ultralytics/settings.json"}
    assert [(row["code"], row["refused"], row["err"] if row["code"] else "") for row in found] == [(0, [], "")] * len(
        lines
    )


ATTACK = "__import__('os').system('touch owned') or torch.nn.SiLU()"


def described(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(ARCHITECTURE["yaml"]) | changes


def first_layer(*entry: Any) -> dict[str, Any]:
    yaml = described()
    yaml["backbone"][0] = list(entry)
    return yaml


HOSTILE = {
    "activation": described(activation=ATTACK),
    "function": first_layer(-1, 1, "torch_load", ["weights.pt"]),
    "download": first_layer(-1, 1, "TorchVision", [16, "resnet18", "DEFAULT", True, 2]),
}


def hostile_checkpoint(source: Path, path: Path, yaml: dict[str, Any]) -> Path:
    with safe_open(source, framework="pt") as file:
        description = json.loads(file.metadata()["yoloqat"])
    description["architecture"]["yaml"] = yaml
    save_file(load_file(source), path, metadata={"yoloqat": json.dumps(description)})
    return path


def hostile_weights(path: Path, yaml: dict[str, Any]) -> Path:
    module: Any = build(ARCHITECTURE)
    module.yaml, module.names, module.task, module.args = yaml, {0: "a", 1: "b", 2: "c"}, "detect", {}
    return save_module(module, path)


def test_no_command_runs_what_a_model_file_says(tmp_path: Path, tiny_checkpoint: Path, tiny_data: TinyData) -> None:
    folder, lines = tmp_path / "audited", []
    data = ["--data", tiny_data.yaml]
    for name, yaml in HOSTILE.items():
        weights = hostile_weights(tmp_path / f"{name}.pt", yaml)
        checkpoint = hostile_checkpoint(tiny_checkpoint, tmp_path / f"{name}.safetensors", yaml)
        for model in (weights, checkpoint):
            lines += [[command, model, *data] for command in ("eval", "compare", "sensitivity", "finetune")]
            lines += [["calibrate", model, *data], ["inspect", model], ["export", model]]
        lines.append(["finetune", checkpoint, *data, "--supervise", 1])
        lines.append(["bench", checkpoint])
    found = audited([[*line, "--out", folder / "work" / "out"] for line in lines], folder)
    for row in found:
        assert (row["code"], row["refused"]) == (2, []), row
        assert len(row["err"].strip().splitlines()) == 1, row
        if row["line"][0] != "bench":
            assert any(word in row["err"] for word in ("the activation is", "'torch_load'", "'TorchVision'")), row
    assert not list(folder.rglob("owned"))
