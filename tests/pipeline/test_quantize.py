from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_detector import IMGSZ, TinyData
from trt_profiles import Ran, written

from yoloqat.cli import finetune as finetune_command
from yoloqat.cli import quantize as quantize_command
from yoloqat.config import CalibrationConfig, EvalConfig, QuantConfig, QuantScheme, Recipe
from yoloqat.datasets import DetectionDataset, calibration_images, load_dataset
from yoloqat.detectors import load_checkpoint, torch_threads
from yoloqat.errors import CalibrationError, ConfigError, DataError, EngineError, ModelError
from yoloqat.finetuning import SupervisionConfig
from yoloqat.pipeline import candidates
from yoloqat.pipeline import quantize as module
from yoloqat.pipeline import quantize_way as way
from yoloqat.pipeline.candidates import Judge
from yoloqat.pipeline.engine import BuildConfig
from yoloqat.pipeline.float_checkpoint import FloatCheckpoint
from yoloqat.pipeline.quantize import open_float_model, quantize
from yoloqat.pipeline.quantize_config import QuantizeConfig, Quantized
from yoloqat.pipeline.quantize_way import ALL_INT8
from yoloqat.pipeline.refine_steps import BIAS, QUICK, steps_of
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.tuning import Tuning
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

    def go(
        out: Path, *, labelled: bool = True, train: bool = False, compared: int | None = None, **config: Any
    ) -> Quantized:
        records = calibration_images(tiny_data.train, 8)
        untimed = QuantConfig(target="onnxruntime")  # its engines are not timed in a search
        own = {"quant": QuantConfig() if labelled else untimed, "calibration": CALIBRATION}
        own |= {"methods": ("max", "mse"), "refine": ()}
        wanted = QuantizeConfig(**(own | config))
        with torch_threads(1):
            return quantize(
                open_float_model(tiny_model, out),
                records,
                wanted,
                scoring=SCORING,
                run=Run(out, torch.device("cpu"), 1),
                dataset=data if labelled else None,
                compared=data.images[:compared],
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
    assert results["int8_mac_share"] == results["build"]["int8_mac_share_all"] < 1.0, (
        "of all multiply-adds, the float head too"
    )
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
    assert "latency.json" in found.files
    assert json.loads((out / "latency.json").read_text())["source"] == results["latency_source"]


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
    calibrated, build = FloatCheckpoint._calibrated, candidates._built
    monkeypatch.setattr(FloatCheckpoint, "_calibrated", lambda *args: done.append(ALL_INT8) or calibrated(*args))

    def cut_short(settings: Any, folder: Path, run: Run) -> dict[str, Any]:
        if (folder / "finetune").exists():
            raise KeyboardInterrupt
        return build(settings, folder, run)

    monkeypatch.setattr(candidates, "_built", cut_short)
    with pytest.raises(KeyboardInterrupt):
        whole(tmp_path / "out", max_noise=1e-4, labelled=False, train=True, epochs=1)
    assert done, "float sets were tried, and the last was fine-tuned"
    monkeypatch.setattr(candidates, "_built", build)
    done.clear()
    found = whole(tmp_path / "out", max_noise=1e-4, labelled=False, train=True, epochs=1)
    assert len(done) == 1, "of all engines only the fine-tuned one was not finished before"
    for name in ("chosen", "float_layers", "d", "method"):
        assert found.results[name] == beyond[0].results[name]
    recipes = [Recipe.load(out / "recipe.yaml") for out in (tmp_path / "out", beyond[1])]
    assert recipes[0].training == recipes[1].training


@pytest.mark.parametrize("vnni", [False, True])
def test_engines_are_built_for_the_processors_that_are_named(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vnni: bool
) -> None:
    class BuiltError(Exception):
        pass

    def build(onnx: Path, out: Path, config: BuildConfig, **_: Any) -> None:
        raise BuiltError(config.vnni)

    monkeypatch.setattr(candidates, "build_and_score", build)
    with pytest.raises(BuiltError, match=str(vnni)):
        whole(tmp_path / "out", max_noise=0.9, labelled=False, methods=("max",), vnni=vnni)


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
        ({"max_drop": 0.1, "float_profile": "b.json"}, r"float_profile is 'b\.json' and int8_profile is not named"),
        ({"max_drop": 0.1, "methods": ("mse", "mean")}, "calibration method is 'mean'"),
        ({"max_drop": 0.1, "refine": "biases"}, "refine is 'biases'"),
        ({"max_drop": 0.1, "vnni": 2}, "vnni is 2"),
        (
            {"max_drop": 0.1, "vnni": True, "quant": QuantConfig(target="tensorrt")},
            "vnni is True and the engine is 'tensorrt'",
        ),
    ],
)
def test_what_is_wanted_is_checked(values: dict[str, float], told: str) -> None:
    with pytest.raises(ConfigError, match=f"^{told}"):
        QuantizeConfig(**values)


@pytest.mark.parametrize("name", ["model.onnx", "float.onnx"])
def test_the_model_is_not_replaced_by_the_results(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / ".." / name
    with pytest.raises(ConfigError, match=re.escape(f"the results in '{tmp_path}' would replace '{path}'")):
        open_float_model(path, tmp_path)


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
    rest: Any = {
        "scoring": SCORING,
        "run": Run(tmp_path, torch.device("cpu"), 1),
        "dataset": None,
        "compared": (None,) * 4,
    }
    config = replace(config, max_drop=None, max_noise=0.1)
    model = open_float_model(Path(load_checkpoint(within[1] / "model.safetensors").source.path), tmp_path)
    with pytest.raises(ConfigError, match="bits is 4; expected 8"):
        quantize(model, (), config, **rest)
    with pytest.raises(ModelError, match=r"is quantized already \(\d+ layers\)"):
        open_float_model(within[1] / "model.safetensors", tmp_path)


def test_a_pattern_of_no_layer_is_refused_before_the_float_model_is_scored(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Judge", lambda *args: pytest.fail("the float model was scored"))
    with pytest.raises(ConfigError, match=r"ignore patterns re:\.\* leave no layer to quantize"):
        whole(tmp_path / "out", max_noise=0.1, labelled=False, quant=QuantConfig(ignore=("re:.*",)))


def test_the_python_api_refines_like_the_command_line() -> None:
    assert QuantizeConfig(max_noise=0.1).refine == QUICK
    parser = argparse.ArgumentParser()
    quantize_command._arguments(parser)
    assert steps_of(parser.get_default("refine")) == QUICK


def test_too_few_images_are_refused_before_the_work(whole: Whole, tmp_path: Path) -> None:
    few = CalibrationConfig(images=4)
    with pytest.raises(CalibrationError, match="there are 4 images to refine on; expected at least 8"):
        whole(tmp_path / "out", max_noise=0.1, labelled=False, refine=(BIAS,), calibration=few)
    with pytest.raises(ConfigError, match="there is 1 image to measure the loss on; expected at least 4"):
        whole(tmp_path / "out", max_noise=0.1, labelled=False, compared=1)
    with pytest.raises(ConfigError, match="there are 3 images to measure the loss on; expected at least 4"):
        whole(tmp_path / "out", max_drop=0.1, compared=3)


def test_a_latency_limit_needs_an_engine_to_time(whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_engine", lambda target: None)
    with pytest.raises(ConfigError, match=r"max_latency is 2\.5 and TensorRT is not installed"):
        whole(tmp_path / "out", max_noise=0.1, max_latency=2.5, labelled=False)


@pytest.mark.parametrize(
    ("compared", "objects", "told"),
    [
        ((1, 2), (), "2 images of 4, which one half is, have no object"),
        ((2,), ("disc",), "2 images of 4, which one half is, have no image among those"),
    ],
)
def test_a_half_with_nothing_to_measure_is_refused(
    compared: tuple[int, ...], objects: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "subset", lambda matches, half: SimpleNamespace(categories=objects))
    judge: Any = Judge.__new__(Judge)
    judge.ids, judge.baseline = (1, 2, 3, 4), SimpleNamespace(matches=None)
    judge.reference = SimpleNamespace(image_ids=compared)
    with pytest.raises(DataError, match=told):
        judge._check(np.array([True, False, True, False]))


def _profiles(folder: Path, layer: str = "model.{}.conv") -> dict[str, Any]:
    """Write profiles of two layers, the rest of which is estimated."""
    int8, floating = (
        [Ran(layer.format(number), ms, kind, kind, (1, 16, 8, 8)) for number in (0, 1)]
        for ms, kind in ((0.1, "Int8"), (0.3, "Half"))
    )
    return {
        "quant": QuantConfig(target="tensorrt"),
        "int8_profile": written(folder, "int8", int8),
        "float_profile": written(folder, "float", floating),
    }


def test_profiles_predict_the_latency_of_an_engine_that_does_not_run_here(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, asked = _profiles(tmp_path), []
    row = {"d_choosing": 0.1, "int8_mac_share": 0.9, "latency_ms": None, "d_predicted": 0.1}
    frontier = [
        row | {"float_layers": [], "latency_predicted_ms": 0.2},
        row | {"float_layers": ["model.0.conv"], "d_choosing": 0.01, "latency_predicted_ms": 0.4},
    ]
    told = {
        "latency_source": "tensorrt profile",
        "latency_measured": False,
        "tied_layers": [],
        "frontier_predicted": [],
    }

    def search(*given: Any, profiles: Any, **more: Any) -> SimpleNamespace:
        asked.append(profiles)
        (more["run"].out / "latency.json").write_text("{}")
        return SimpleNamespace(results=frontier[0] | told | {"frontier": frontier})

    monkeypatch.setattr(way, "run_search", search)
    found = whole(tmp_path / "out", max_noise=1e-4, max_latency=0.15, labelled=False, compared=4, **files)
    results = found.results
    assert (results["latency_source"], results["latency_ms"]) == ("tensorrt profile", None)
    assert results["latency_predicted_ms"] == pytest.approx(0.2)
    expected = (
        r"the best engine .*; the engine \(all in INT8\) is predicted to take 0\.20 ms of 0\.15 ms, by the profiles"
    )
    assert re.match(expected, found.failed or "")
    assert asked == [QuantizeConfig(max_noise=0.1, **files).profiles]
    assert "none is tried" in [row["decision"] for row in results["decisions"]], "a float set takes longer still"
    assert next(row for row in results["decisions"] if row["step"] == "latency")["reason"] == "no engine was timed here"
    assert QuantizeConfig(max_noise=0.1, **files).int8_profile == tuple(map(str, files["int8_profile"]))


def test_profiles_that_do_not_fit_are_refused_before_the_float_model_is_scored(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Judge", lambda *args: pytest.fail("the float model was scored"))
    with pytest.raises(EngineError, match=r"int8_layers.json' names no layer of the model, e.g. '__fused_0'"):
        whole(tmp_path / "out", max_noise=0.1, labelled=False, **_profiles(tmp_path, "other.{}.conv"))
    files = _profiles(tmp_path) | {"quant": QuantConfig(target="onnxruntime")}
    with pytest.raises(ConfigError, match=r"int8_profile is '.*int8_layers.json' and the engine is 'onnxruntime'"):
        whole(tmp_path / "out", max_noise=0.1, labelled=False, **files)


def test_two_sets_of_as_many_layers_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(way, "make_candidate", lambda *args, name, **rest: SimpleNamespace(name=name, found={}))
    walk = way.Way(None, None, None, None, None, None)  # type: ignore[arg-type]
    names = [walk._candidate((layer,), "1 layer float").name for layer in "abc"]
    assert names == ["1 layer float", "1 layer float, set 2", "1 layer float, set 3"]


def test_it_is_told_why_no_float_set_is_tried() -> None:
    run = SimpleNamespace(progress=lambda *args: None)
    walk = way.Way(None, SimpleNamespace(max_latency=2.0), None, None, run, None)  # type: ignore[arg-type]
    row = {"float_layers": ["a"], "d_choosing": 0.1, "int8_mac_share": 0.4, "latency_ms": 1.0}
    assert walk._float_sets({"float_layers": ["a"], "frontier": [row]}) == []
    (told,) = walk.decisions
    assert (told["step"], told["decision"]) == ("float sets", "none is tried")
    assert told["reason"] == "no set has less noise with at least 50% of the multiply-adds in INT8, and at most 2 ms"


def test_the_options_of_a_recipe_fine_tune_alike() -> None:
    config = SupervisionConfig(epochs=3, batch=2, imgsz=64, rates=((0, 1e-5), (2, 1e-6)), seed=7, patience=1)
    options = Tuning(Path("float.pt"), (), (), SCORING, config).options
    parser = argparse.ArgumentParser()
    finetune_command._arguments(parser)
    args = argparse.Namespace(**vars(parser.parse_args(["model.safetensors"])) | options, device="cpu")
    assert finetune_command._trainer(args, None, EvalConfig(imgsz=64, batch=2), ()).config == config
