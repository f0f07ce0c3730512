"""`yoloqat bench` in both modes, on engines that it did not build, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Cli = Callable[..., Any]
FEW = ("--rounds", 2, "--warmup", 1)


def test_throughput(cli: Cli, tiny_onnx: Path, tiny_engine: Path) -> None:
    ran = cli("bench", tiny_onnx, tiny_engine, *FEW, "--mode", "throughput", threads=2)
    assert ran.code == 0, ran.err
    plain, streamed = ran.result["results"]["items"]
    assert plain["requests"] == 1
    assert streamed["requests"] >= 1
    for item in (plain, streamed):
        assert item["images_per_second"] > 0
        assert item["spread"] >= 0
        assert item["device"] == "cpu"
    assert ran.result["config"]["mode"] == "throughput"
    assert ran.out.lstrip().startswith("throughput, batch 1")


def test_the_machine_is_told(cli: Cli, tiny_engine: Path) -> None:
    ran = cli("bench", tiny_engine, *FEW)
    machine = ran.result["results"]["machine"]
    assert machine["processor"] == ran.result["provenance"]["processor"]
    assert machine["threads"] == 1
    assert len(machine["cores"]) <= 1
    assert ran.out.lstrip().startswith("latency, batch 1, 64 px, 2 rounds interleaved")


def test_openvino_keeps_compiled_models_only_where_told(cli: Cli, tiny_engine: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in tiny_engine.iterdir())
    assert cli("bench", tiny_engine, *FEW).code == 0
    assert cli("bench", tiny_engine, *FEW, "--cache-dir", tmp_path / "cache").code == 0
    assert list((tmp_path / "cache").glob("*.blob"))
    assert sorted(path.name for path in tiny_engine.iterdir()) == before


def test_an_export_of_ultralytics(cli: Cli, tiny_engine: Path, tmp_path: Path) -> None:
    exported = tmp_path / "tiny_int8_openvino_model"
    exported.mkdir()
    for source, name in (("model.xml", "tiny.xml"), ("model.bin", "tiny.bin"), ("metadata.yaml", "metadata.yaml")):
        shutil.copy(tiny_engine / source, exported / name)
    ran = cli("bench", exported, tiny_engine, *FEW)
    assert ran.code == 0, ran.err
    assert {item["engine"] for item in ran.result["results"]["items"]} == {"openvino"}
    assert len({item["precision"] for item in ran.result["results"]["items"]}) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"imgsz": [96, 96]}, r"has imgsz \(64, 64\), model '.*' has imgsz \(96, 96\)"),
        ({"batch": 2}, r"has batch 1, model '.*' has batch 2"),
    ],
)
def test_models_that_cannot_be_compared(
    cli: Cli, tiny_engine: Path, tmp_path: Path, change: dict[str, object], told: str
) -> None:
    other = tmp_path / "other_openvino"
    shutil.copytree(tiny_engine, other)
    metadata = json.loads((other / "metadata.json").read_text())
    metadata["info"] |= change
    (other / "metadata.json").write_text(json.dumps(metadata))
    ran = cli("bench", tiny_engine, other, *FEW)
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert re.search(told, ran.err)
    assert "export or build them alike, or time them in two runs" in ran.err


def test_a_batch_that_the_models_do_not_take(cli: Cli, tiny_engine: Path) -> None:
    ran = cli("bench", tiny_engine, *FEW, "--batch", 2)
    assert ran.code == 2
    assert "takes batch 1 of (64, 64), the images are batch 2 of (64, 64)" in ran.err


def test_models_trained_at_different_sizes_are_timed_at_a_named_one(
    cli: Cli, tiny_model: Path, tiny_onnx: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.pt"
    stored = torch.load(tiny_model, weights_only=False)
    stored["model"].args = {"imgsz": 96}
    torch.save(stored | {"train_args": {"imgsz": 96}}, other)
    ran = cli("bench", tiny_model, other, *FEW)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert f"model '{tiny_model}' was trained at 64 pixels, model '{other}' at 96; expected models of one" in ran.err
    assert cli("bench", tiny_model, other, *FEW, "--imgsz", 64).result["config"]["imgsz"] == 64
    assert cli("bench", other, tiny_onnx, *FEW).result["config"]["imgsz"] == 64  # the file is fixed to it
