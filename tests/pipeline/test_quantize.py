from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_detector import IMGSZ, TinyData

from yoloqat.config import CalibrationConfig, EvalConfig, QuantConfig, QuantScheme
from yoloqat.datasets import DetectionDataset, calibration_images, load_dataset
from yoloqat.detectors import load_checkpoint, torch_threads
from yoloqat.errors import ConfigError, ModelError
from yoloqat.pipeline import candidates
from yoloqat.pipeline import quantize as module
from yoloqat.pipeline import quantize_way as way
from yoloqat.pipeline.candidates import _calibrated as calibrated
from yoloqat.pipeline.quantize import quantize
from yoloqat.pipeline.quantize_config import QuantizeConfig, Quantized
from yoloqat.pipeline.quantize_way import ALL_INT8
from yoloqat.pipeline.run import Run
from yoloqat.provenance.files import finite

SCORING = EvalConfig(imgsz=IMGSZ, batch=2)
CALIBRATION = CalibrationConfig(images=8)
Whole = Callable[..., Quantized]


@pytest.fixture(scope="module", autouse=True)
def the_same_steps_fewer_times() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(way, "TRIES", 1)
        patch.setattr(way, "BENCH_ROUNDS", 3)
        yield


@pytest.fixture(scope="module")
def data(tiny_data: TinyData) -> DetectionDataset:
    return load_dataset(tiny_data.yaml)


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tiny_data: TinyData, data: DetectionDataset) -> Whole:
    """Take the tiny detector the whole way into a directory."""

    def go(out: Path, *, labelled: bool = True, train: bool = False, **config: Any) -> Quantized:
        records = calibration_images(tiny_data.train, 8)
        quant = (
            QuantConfig() if labelled else QuantConfig(target="onnxruntime")
        )  # whose engines are not timed in a search
        wanted = QuantizeConfig(quant=quant, calibration=CALIBRATION, methods=("max", "mse"), **config)
        with torch_threads(1):
            return quantize(
                tiny_model,
                records,
                wanted,
                scoring=SCORING,
                run=Run(out, torch.device("cpu"), 1),
                dataset=data if labelled else None,
                compared=data.images,
                training=(lambda: records[:2]) if train else None,
            )

    return go


@pytest.fixture(scope="module")
def within(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> tuple[Quantized, Path]:
    out = tmp_path_factory.mktemp("within") / "out"
    return whole(out, max_drop=0.9), out


def test_a_limit_that_is_met_at_once_ends_with_all_in_int8(within: tuple[Quantized, Path]) -> None:
    found, out = within
    results = found.results
    assert (results["chosen"], results["verdict"]["verdict"], found.failed) == (ALL_INT8, "met", None)
    assert results["float_layers"] == []
    assert results["frontier"] is None, "nothing to look for"
    steps = [entry["step"] for entry in results["decisions"]]
    assert steps == ["calibration method", ALL_INT8, "verdict"]
    assert all(entry["decision"] and entry["reason"] for entry in results["decisions"])
    assert results["drop"] == pytest.approx(results["map_float"] - results["map50_95"])
    assert {item["artifact"] for item in results["bench"]["items"]} == {"float", ALL_INT8}
    assert all((out / name).exists() for name in found.files)
    assert load_checkpoint(out / "model.safetensors").quantization is not None
    assert finite(results)[1] == {}


@pytest.fixture(scope="module")
def beyond(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> tuple[Quantized, Path]:
    out = tmp_path_factory.mktemp("beyond") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_engine", lambda target: None)  # the ONNX file itself: quicker than an engine
        return whole(out, max_noise=1e-4, labelled=False, train=True, epochs=1), out


def test_a_limit_that_nothing_meets_ends_with_the_best_and_what_was_tried(beyond: tuple[Quantized, Path]) -> None:
    found, out = beyond
    results = found.results
    assert results["verdict"]["verdict"] == "exceeded"
    assert len(results["frontier"]) > 1, "float sets were searched"
    names = [row["name"] for row in results["candidates"]]
    assert names[0] == ALL_INT8
    assert names[-1].endswith("fine-tuned")
    noises = {row["name"]: row["d"] for row in results["candidates"]}
    assert noises[results["chosen"]] == results["d"] == min(noises.values())
    told = f"the best engine \\({results['chosen']}\\) exceeds the limit 0.0001: 0\\.\\d+; tried: {ALL_INT8}, "
    assert re.match(told, found.failed or "")
    assert results["map_float"] is None
    assert (out / "model.onnx").is_file()


def test_an_interrupted_run_ends_alike(
    beyond: tuple[Quantized, Path], whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_engine", lambda target: None)
    search, done = way.run_search, list[str]()

    def stopped(*args: Any, **options: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(way, "run_search", stopped)
    with pytest.raises(KeyboardInterrupt):
        whole(tmp_path / "out", max_noise=1e-4, labelled=False, train=True, epochs=1)
    monkeypatch.setattr(way, "run_search", search)
    monkeypatch.setattr(candidates, "_calibrated", lambda *args: done.append(ALL_INT8) or calibrated(*args))
    found = whole(tmp_path / "out", max_noise=1e-4, labelled=False, train=True, epochs=1)
    assert len(done) == len(found.results["candidates"]) - 1, "the first engine was finished before"
    for name in ("chosen", "float_layers", "d", "method"):
        assert found.results[name] == beyond[0].results[name]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "max_drop is None and max_noise is None"),
        ({"max_drop": 0.1, "max_noise": 0.2}, "max_drop is 0.1 and max_noise is 0.2"),
        ({"max_drop": -0.1}, "max_drop is -0.1"),
        ({"max_noise": float("nan")}, "max_noise is nan"),
        ({"max_drop": 0.1, "time_limit": 0.0}, "time_limit is 0.0"),
        ({"max_drop": 0.1, "max_latency": -2.0}, "max_latency is -2.0"),
        ({"max_drop": 0.1, "epochs": 0}, "epochs is 0"),
    ],
)
def test_what_is_wanted_is_checked(values: dict[str, float], told: str) -> None:
    with pytest.raises(ConfigError, match=f"^{told}"):
        QuantizeConfig(**values)


def test_a_drop_needs_labels(whole: Whole, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_drop is 0\.25 and the images have no labels"):
        whole(tmp_path / "out", max_drop=0.25, labelled=False)


def test_a_spent_time_limit_begins_no_further_stage(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_engine", lambda target: None)
    found = whole(tmp_path / "out", max_noise=1e-4, labelled=False, train=True, time_limit=1e-6)
    left_out = {row["step"] for row in found.results["decisions"] if row["decision"] == "left out"}
    assert left_out == {"search", "fine-tuning"}
    assert [row["name"] for row in found.results["candidates"]] == [ALL_INT8]


def test_other_widths_and_quantized_models_are_refused_before_the_work(
    within: tuple[Quantized, Path], whole: Whole, tmp_path: Path
) -> None:
    four = QuantConfig(activations=QuantScheme(bits=4))
    config = QuantizeConfig(max_drop=0.1, quant=four)
    rest: Any = {"scoring": SCORING, "run": Run(tmp_path, torch.device("cpu"), 1), "dataset": None, "compared": ()}
    config = replace(config, max_drop=None, max_noise=0.1)
    with pytest.raises(ConfigError, match="bits is 4; expected 8"):
        quantize(Path(load_checkpoint(within[1] / "model.safetensors").source.path), (), config, **rest)
    with pytest.raises(ModelError, match=r"is quantized already \(\d+ layers\)"):
        quantize(within[1] / "model.safetensors", (), config, **rest)
