"""What earlier versions wrote is still read: a study, a checkpoint, and a result of each command; see golden/README.md."""

from __future__ import annotations

import json
import shutil
import sqlite3
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from yoloqat.cli import main
from yoloqat.config import EvalConfig
from yoloqat.datasets import DetectionDataset, load_dataset
from yoloqat.detectors import TorchPredictor, load_detector, torch_threads
from yoloqat.finetuning import EpochRow
from yoloqat.pipeline.demo import demo_assets
from yoloqat.sensitivity.proxies import Noise
from yoloqat.sensitivity.ranking import bootstrapped, evaluations, measured, rank_items
from yoloqat.sensitivity.scanner import Scanner
from yoloqat.sensitivity.settings import ScanConfig
from yoloqat.sensitivity.study import Study
from yoloqat.sensitivity.workers import work

FORMER = Path(__file__).parent / "golden" / "former"
IMAGES = 8


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    """The first validation images of the embedded data set."""
    _, source = demo_assets()
    folder = tmp_path_factory.mktemp("few")
    for kind, suffix in (("images", ".jpg"), ("labels", ".txt")):
        (folder / kind / "val").mkdir(parents=True)
        for number in range(IMAGES):
            shutil.copy(source.parent / kind / "val" / f"{number:04d}{suffix}", folder / kind / "val")
    names = yaml.safe_load(source.read_text())["names"]
    (folder / "data.yaml").write_text(yaml.safe_dump({"train": "images/val", "val": "images/val", "names": names}))
    return load_dataset(folder / "data.yaml")


@pytest.fixture(scope="module")
def scanner(few: DetectionDataset, tmp_path_factory: pytest.TempPathFactory) -> Scanner:
    weights, _ = demo_assets()
    out, images = tmp_path_factory.mktemp("calibrated"), few.images[0].path.parent
    options = ["--imgsz", "160", "--method", "max", "--calib-images", "2", "--threads", "1", "--no-eval"]
    assert main(["calibrate", str(weights), "--calib-images-dir", str(images), *options, "--out", str(out)]) == 0
    config, scan = EvalConfig(imgsz=160, batch=4), ScanConfig(granularity="block")
    detector = load_detector(out / "model.safetensors")
    return Scanner(detector, few, config=config, scan=scan, device=torch.device("cpu"))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """The study, opened with the inputs that it was made of."""
    path = shutil.copy(FORMER / "study.db", tmp_path)
    with sqlite3.connect(path) as connection:
        inputs = {name: json.loads(value) for name, value in connection.execute("SELECT name, value FROM input")}
    return Study(Path(path), inputs)


def test_a_study_gives_the_same_rows(study: Study, scanner: Scanner, few: DetectionDataset) -> None:
    expected = json.loads((FORMER / "study.json").read_text())
    assert study.counts() == (38, 38)
    known = measured(study, scanner)
    noises = {name: Noise(**values) for name, values in study.noted("noise").items()}
    rows = rank_items(study, scanner, known, noises=noises, shares=study.noted("shares"))
    rows = bootstrapped(rows, study, known, first=10, seed=0)
    assert [row.item.name for row in rows] == [item["name"] for item in expected["items"]]
    for row, item in zip(rows, expected["items"], strict=True):
        assert list(row.item.edges) == item["quantizers"]
        assert row.effect.value == pytest.approx(item["map50_95"], abs=1e-12)
        assert row.estimate == pytest.approx(item["effect"], abs=1e-12)
        assert row.interval == pytest.approx(item["effect_ci95"], abs=1e-9)
        assert (row.rank, row.tied_with, row.changed) == (item["rank"], item["tied_with"], item["images_changed"])
        assert (row.noise.sqnr_db, row.head_error) == pytest.approx((item["sqnr_db"], item["head_error"]))
        assert (row.forward, row.share) == pytest.approx((item["forward_seconds"], item["forward_share"]))
    for found, name in zip(evaluations(study, scanner, few), ("baseline", "quantized"), strict=True):
        assert found.metrics.map50_95 == pytest.approx(expected[name]["map50_95"], abs=1e-12)


def test_a_study_that_was_interrupted_goes_on(study: Study, scanner: Scanner) -> None:
    last = "model.21"
    before = {name: study.results(name) for name in scanner.names}
    with sqlite3.connect(study.path) as connection:
        connection.execute("UPDATE piece SET done = 0, matches = NULL WHERE item = ?", (last,))
    assert study.counts() == (36, 38)
    with torch_threads(1):
        work(study, scanner)
    assert study.counts() == (38, 38)
    for name in scanner.names:
        found = study.results(name)
        assert found.keys() == before[name].keys()
        for batch, result in found.items():
            assert name == last or vars(result) == vars(before[name][batch])
            assert result.head_error == pytest.approx(before[name][batch].head_error, rel=0.2)


def test_a_checkpoint_gives_the_same_numbers() -> None:
    detector = load_detector(FORMER / "model.safetensors")
    assert (detector.imgsz, detector.info.names) == (64, {0: "disc", 1: "box", 2: "star"})
    assert detector.quantization is not None
    assert len(detector.quantization.layers) == 12
    assert detector.quantization.calibration["method"]["kind"] == "mse"
    pixels = np.linspace(0, 1, 3 * 64 * 64, dtype=np.float32).reshape(1, 3, 64, 64)
    with torch_threads(1):
        (raw,) = TorchPredictor(detector)(pixels)
    assert raw.shape == (1, 7, 16)
    expected = [24.787184, 23.791798, 2.003464, 2.671345, 0.066752, 0.020689, 0.048772]
    assert raw[0, :, 5] == pytest.approx(expected, rel=1e-3)


def test_a_finetune_curve_is_read_back_into_rows() -> None:
    """The rows of a training state have the keys of the result's epochs."""
    results = json.loads((FORMER / "results" / "finetune.json").read_text())["results"]
    (row,) = [EpochRow(**row) for row in results["epochs"]]
    assert (row.epoch, asdict(row)) == (1, results["epochs"][0] | {"d": None, "d_ci95": None})


@pytest.mark.parametrize("path", sorted((FORMER / "results").iterdir()), ids=lambda path: path.stem)
def test_a_result_is_known_for_what_it_is(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(path, tmp_path / "result.json")
    assert main(["lint", str(tmp_path / "model.onnx"), "--out", str(tmp_path)]) == 2
    made = "made with MODEL" if path.stem == "lint" else f"of `yoloqat {path.stem}`"
    assert f"'{tmp_path}' holds results {made}" in capsys.readouterr().err
