"""The public API: its names, its results, and that nothing it is given changes."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny_detector import TinyData

import yoloqat as yq
from yoloqat.config import EvalConfig, ExportConfig, QuantConfig, QuantScheme
from yoloqat.detectors import Detector
from yoloqat.errors import CalibrationError, ConfigError, DataError, ModelError, YoloqatWarning
from yoloqat.finetuning import FinetuneConfig, SupervisionConfig
from yoloqat.pipeline import refine_steps
from yoloqat.pipeline.bench import BenchConfig
from yoloqat.pipeline.engine import BuildConfig
from yoloqat.pipeline.refine_steps import QUICK
from yoloqat.pipeline.sensitivity import ScanOptions
from yoloqat.quant import state_digest
from yoloqat.results import Result, counted
from yoloqat.sensitivity.settings import ScanConfig

NAMES = [
    "Dataset",
    "__version__",
    "bench",
    "build_engine",
    "calibrate",
    "collect_statistics",
    "compare_methods",
    "diff",
    "evaluate",
    "export_onnx",
    "fidelity",
    "finetune",
    "lint",
    "load",
    "noise_budget",
    "paired_difference",
    "predict",
    "quantize",
    "rank_sensitivity",
    "refine",
    "search",
]
"""A name that is added here stays; one that is taken away breaks what users wrote."""


@pytest.fixture(scope="module")
def data(tiny_data: TinyData) -> yq.Dataset:
    return yq.Dataset.from_yaml(tiny_data.yaml, calibration_images=tiny_data.train)


@pytest.fixture(scope="module")
def detector(tiny_model: Path) -> Detector:
    return yq.load(str(tiny_model))


@pytest.fixture(scope="module")
def statistics(detector: Detector, data: yq.Dataset) -> yq.api.CollectedStatistics:
    return yq.collect_statistics(detector, data.calibration(4), device="cpu")


@pytest.fixture(scope="module")
def calibrated(detector: Detector, statistics: yq.api.CollectedStatistics) -> Detector:
    return yq.calibrate(detector, statistics, "mse", device="cpu")


def test_the_names_are_frozen() -> None:
    assert yq.__all__ == NAMES
    assert set(NAMES) <= set(dir(yq))
    assert all(getattr(yq, name) is not None for name in NAMES)
    assert sorted(yq.api.__all__) == [name for name in NAMES if name != "__version__"]


def test_a_name_that_is_not_there_is_named() -> None:
    with pytest.raises(AttributeError, match="module 'yoloqat' has no attribute 'quantise'"):
        _ = yq.quantise


def test_importing_costs_nothing() -> None:
    code = "import sys, yoloqat; yoloqat.__version__; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(run.stdout.split()) & {"torch", "numpy", "onnx", "ultralytics", "yoloqat.api"}


def test_a_function_keeps_its_name_whatever_was_imported_before() -> None:
    # importing a module puts it under its name into the package
    assert not {module.name for module in pkgutil.iter_modules(yq.__path__)} & set(NAMES)
    for module in ("linting", "finetuning", "refining"):
        importlib.import_module(f"yoloqat.{module}")
    assert all(callable(function) for function in (yq.lint, yq.finetune, yq.refine))


def test_detectors_and_results_say_what_they_are(
    detector: Detector, calibrated: Detector, statistics: yq.api.CollectedStatistics
) -> None:
    assert repr(detector) == "Detector(tiny.pt, detect, 3 classes, 64 px, float)"
    layers = len(calibrated.quantization.layers)
    assert repr(calibrated) == f"Detector(tiny.pt, detect, 3 classes, 64 px, {layers} layers at 8 bits, mse)"
    assert str(statistics).splitlines()[1].split() == ["quantizer", "lowest", "highest"]
    assert statistics.to_dict()["calibration_images"] == 4
    assert "<table>" in statistics._repr_html_()


def test_a_calibrated_copy_is_made_and_saved(
    detector: Detector, calibrated: Detector, data: yq.Dataset, tmp_path: Path
) -> None:
    assert detector.quantization is None
    calibrated.save(tmp_path / "model.safetensors")
    loaded = yq.load(tmp_path / "model.safetensors")
    assert state_digest(loaded.module) == state_digest(calibrated.module)
    first, second = (yq.evaluate(model, data, device="cpu") for model in (calibrated, tmp_path / "model.safetensors"))
    assert first.to_dict() == second.to_dict()
    assert yq.paired_difference(first, second).to_dict() == {"difference": 0.0, "ci95": [0.0, 0.0]}
    assert repr(first).splitlines()[2].split() == ["mAP50-95", f"{first.metrics.map50_95:.4f}"]
    assert "<table>" in first._repr_html_()
    assert first.plot().axes[0].get_xlabel() == "AP50-95"


def test_nothing_that_goes_in_is_changed(
    detector: Detector, statistics: yq.api.CollectedStatistics, calibrated: Detector, data: yq.Dataset, tmp_path: Path
) -> None:
    before = state_digest(detector.module), state_digest(calibrated.module)
    formats = [value.stride() for value in calibrated.module.state_dict().values()]
    yq.evaluate(calibrated, data, device="cpu")
    compared = yq.compare_methods(detector, statistics, data, methods=["max", "mse", "max"], device="cpu")
    assert [row["method"] for row in compared["methods"]] == ["max", "mse"]
    assert "float" in repr(compared)
    assert len(compared.plot().axes) == 2, "noise and drop"
    ranked = yq.rank_sensitivity(calibrated, data, scan=ScanConfig(granularity="block"), device="cpu")
    assert {item["images"] for item in ranked["items"]} == {len(data.validation.images)}
    assert "effect on map50_95" in ranked.plot().axes[0].get_xlabel()
    blocks = ScanConfig(granularity="block")
    same = ScanOptions(fidelity_images=len(data.validation.images))
    budget = yq.noise_budget(calibrated, data, scan=blocks, options=same, device="cpu")
    assert budget["mode"] == "noise"
    assert sum(item["share"] for item in budget["items"]) == pytest.approx(1.0)
    assert "noise budget" in repr(budget)
    assert "share of the squared noise" in budget.plot().axes[0].get_xlabel()
    exported = yq.export_onnx(calibrated, tmp_path / "model.onnx", data=data)
    assert (exported.failed, exported["node_max_steps"] <= 1) == (None, True)
    assert (state_digest(detector.module), state_digest(calibrated.module)) == before
    assert [value.stride() for value in calibrated.module.state_dict().values()] == formats
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx"]


def test_the_fidelity_of_any_two_models_is_measured(
    detector: Detector, calibrated: Detector, tiny_model: Path, tiny_onnx: Path, tiny_engine: Path, data: yq.Dataset
) -> None:
    before = state_digest(detector.module), state_digest(calibrated.module)
    found = yq.fidelity(detector, calibrated, data, device="cpu")
    assert found.d.images == len(data.validation.images)
    assert found.d.value > 0.01
    again = yq.fidelity(str(tiny_model), calibrated, data.validation.images, config=EvalConfig(imgsz=64), device="cpu")
    assert again.to_dict() == found.to_dict()
    assert yq.fidelity(calibrated, calibrated, data, device="cpu").d.value == 0.0
    assert yq.fidelity(tiny_onnx, tiny_engine, data, device="cpu").d.value < 0.1 * found.d.value
    halved = yq.fidelity(detector, calibrated, data.validation.images[0].path.parent, device="cpu")
    assert halved.d.images == len(data.validation.images) // 2
    assert (state_digest(detector.module), state_digest(calibrated.module)) == before


def test_models_are_compared_at_the_size_that_one_is_fixed_to(
    detector: Detector, data: yq.Dataset, tmp_path: Path
) -> None:
    path = yq.export_onnx(detector, tmp_path / "float.onnx", config=ExportConfig(imgsz=96)).path
    assert yq.fidelity(detector, path, data, device="cpu").d.value < 1e-4


def test_other_bits_need_no_other_statistics(detector: Detector, statistics: yq.api.CollectedStatistics) -> None:
    six = QuantConfig(activations=QuantScheme(bits=6), weights=QuantScheme(bits=6, axis=0, narrow_range=True))
    found = yq.calibrate(detector, statistics, "max", quant=six, device="cpu")
    assert "at 6 bits, max" in repr(found)


def test_statistics_of_other_quantizers_are_refused(detector: Detector, statistics: yq.api.CollectedStatistics) -> None:
    other = QuantConfig(merge="tensor")
    with pytest.raises(CalibrationError, match="the statistics were collected with other tensors at "):
        yq.calibrate(detector, statistics, quant=other, device="cpu")


def test_a_quantized_detector_is_not_calibrated_again(calibrated: Detector, data: yq.Dataset) -> None:
    with pytest.raises(ModelError, match=r"tiny.pt' is quantized already"):
        yq.collect_statistics(calibrated, data.calibration(2), device="cpu")


def test_a_float_detector_is_not_ranked(detector: Detector, data: yq.Dataset) -> None:
    with pytest.raises(ModelError, match=r"tiny.pt' is a float model"):
        yq.rank_sensitivity(detector, data, device="cpu")
    with pytest.raises(ModelError, match=r"tiny.pt' is a float model"):
        yq.noise_budget(detector, data, device="cpu")
    with pytest.raises(ModelError, match=r"tiny.pt' is a float model"):
        yq.finetune(detector, data, device="cpu")


def test_processes_that_the_devices_do_not_give_are_refused(calibrated: Detector, data: yq.Dataset) -> None:
    training = FinetuneConfig(epochs=1, batch=4, imgsz=64, processes=2)
    with pytest.raises(ConfigError, match=r"processes is 2 and the devices are 'cpu'; .*; set processes to 1;"):
        yq.finetune(calibrated, data, training=training, device="cpu")


def test_fine_tuning_gives_the_best_detector(calibrated: Detector, data: yq.Dataset) -> None:
    before = state_digest(calibrated.module)
    training = SupervisionConfig(epochs=1, batch=4, imgsz=64)
    found = yq.finetune(calibrated, data, training=training, device="cpu")
    assert found.detector.quantization is not None
    assert "best epoch" in repr(found)
    assert len(found["epochs"]) == 1
    assert list(found.plot().axes[0].lines[0].get_xdata()) == [0, 1]
    assert state_digest(calibrated.module) == before


def test_fine_tuning_and_engines_are_judged_without_labels(
    calibrated: Detector, tiny_onnx: Path, data: yq.Dataset, tmp_path: Path
) -> None:
    bare = yq.Dataset.from_images(data.validation.images[0].path.parent)
    training = SupervisionConfig(epochs=1, batch=1, imgsz=64, rates=((0, 3e-6),))
    found = yq.finetune(calibrated, bare, training=training, device="cpu")
    assert found["d"] == min(found["start"]["d"], found["epochs"][0]["d"])
    assert (found["map50_95"], found["best_reason"]) == (None, "lowest d")
    built = yq.build_engine(tiny_onnx, tmp_path, data=bare, device="cpu")
    assert built["d"] > 0.01
    assert "map_engine" not in built.to_dict()
    exported = yq.export_onnx(calibrated, tmp_path / "model.onnx", data=bare)
    assert (exported.failed, exported["d_onnx"] < 0.01, "map_onnx" in exported.to_dict()) == (None, True, False)
    with pytest.raises(DataError, match="the images in 'None' have no labels"):
        yq.finetune(calibrated, yq.Dataset(calibration_source=data.calibration_source), training=training, device="cpu")


def test_a_refined_copy_is_exported_as_ever(
    detector: Detector,
    statistics: yq.api.CollectedStatistics,
    data: yq.Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refine_steps, "learn_ranges", partial(refine_steps.learn_ranges, steps=4))
    clipped = yq.calibrate(detector, statistics, "percentile-97", device="cpu")
    before = state_digest(clipped.module)
    refined = yq.refine(clipped, data, count=8, device="cpu")
    assert state_digest(clipped.module) == before != state_digest(refined.detector.module)
    assert [row["step"] for row in refined["refine"]] == ["none", *QUICK]
    assert "held out of the refinement" in repr(refined)
    exported = yq.export_onnx(refined.detector, tmp_path / "model.onnx", data=data)
    assert (exported.failed, exported["node_max_steps"] <= 1) == (None, True)


def test_a_float_detector_is_not_refined(detector: Detector, data: yq.Dataset) -> None:
    with pytest.raises(ModelError, match=r"tiny.pt' is not calibrated"):
        yq.refine(detector, data, device="cpu")


def test_an_engine_is_built_linted_and_timed(
    calibrated: Detector, detector: Detector, data: yq.Dataset, tmp_path: Path
) -> None:
    path = yq.export_onnx(calibrated, tmp_path / "model.onnx").path
    found = yq.lint(path)
    assert found["errors"] == 0
    assert f"0 errors, {counted(found['warnings'], 'warning')}, " in repr(found)
    built = yq.build_engine(path, tmp_path / "engine", data=data, device="cpu")
    assert built.path == tmp_path / "engine" / "model_openvino"
    assert built["map_engine"] == pytest.approx(yq.evaluate(built.path, data, device="cpu").metrics.map50_95)
    assert built["d"] == pytest.approx(yq.fidelity(detector, built.path, data, device="cpu").d.value)
    timed = yq.bench([detector, path, built.path], config=BenchConfig(rounds=2, warmup=1), device="cpu")
    assert [item["engine"] for item in timed["items"]] == ["torch", "onnxruntime", "openvino"]
    assert timed["items"][0]["speedup"] == 1.0
    assert "speed-up" in repr(timed)
    assert len(timed.plot().axes[0].patches) == 3
    with pytest.raises(ConfigError, match="a Result with errors, warnings, notes has no picture"):
        found.plot()


def test_ranges_for_onnx_runtime_come_from_the_data(tiny_onnx: Path, data: yq.Dataset, tmp_path: Path) -> None:
    config = BuildConfig(engine="onnxruntime")
    with pytest.raises(ConfigError, match="engine is 'onnxruntime' and no images to measure ranges on are named"):
        yq.build_engine(tiny_onnx, tmp_path, config=config, device="cpu")
    images = yq.Dataset.from_images(data.calibration_source)
    small = yq.Dataset(calibration_source=images.calibration_source)
    with pytest.raises(DataError, match="images to calibrate on and 32 were asked for"):
        yq.build_engine(tiny_onnx, tmp_path, config=config, data=small, device="cpu")


def test_mistakes_are_named(detector: Detector, data: yq.Dataset, tiny_data: TinyData, tiny_onnx: Path) -> None:
    with pytest.raises(DataError, match=f"the images in '{tiny_data.train}' have no labels"):
        yq.evaluate(detector, yq.Dataset.from_images(tiny_data.train), device="cpu")
    with pytest.raises(ConfigError, match=r"calibration images are not named \(calibration_images is None\)"):
        yq.Dataset.from_coco(tiny_data.images, "labels.json").calibration(2)
    with pytest.raises(ConfigError, match="trt_version is 'tensorrt-7'; expected one of tensorrt-10, tensorrt-11"):
        yq.lint(tiny_onnx, trt_version="tensorrt-7")
    with pytest.raises(ConfigError, match="trt_version is 'tensorrt-8'"):
        yq.lint(tiny_onnx, target="tensorrt-8")  # the name of 0.1.0
    with pytest.raises(ConfigError, match="engine is 'tflite'"):
        BuildConfig(engine="tflite")
    with pytest.raises(ConfigError, match="imgsz is 65"):
        yq.evaluate(detector, data, config=EvalConfig(imgsz=65), device="cpu")
    with pytest.raises(ConfigError, match=r"model '.*\.onnx' is named twice"):
        yq.bench([tiny_onnx, tiny_onnx], device="cpu")


def test_the_thread_count_comes_back(detector: Detector, data: yq.Dataset) -> None:
    before = torch.get_num_threads()
    yq.evaluate(detector, data, device="cpu")
    assert torch.get_num_threads() == before


def test_a_float_export_that_is_not_compared_says_so(detector: Detector, data: yq.Dataset, tmp_path: Path) -> None:
    with pytest.warns(YoloqatWarning, match=r"tiny\.pt' is a float model: its export is not compared on the images"):
        found = yq.export_onnx(detector, tmp_path / "float.onnx", data=data)
    assert "map_onnx" not in found.to_dict()
    assert "none, it is float" in repr(found)


def test_the_export_follows_its_settings(detector: Detector, tmp_path: Path) -> None:
    found = yq.export_onnx(detector, tmp_path / "float.onnx", config=ExportConfig(imgsz=96))
    assert "96 px" in repr(found)
    assert found["quantized_convolutions"] == 0


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: yq.load(3), "path of load is 3; expected str or Path"),
        (lambda: yq.lint(None), "path of lint is None; expected str or Path"),
        (
            lambda: yq.bench("model.onnx"),
            "models of bench is 'model.onnx'; expected a sequence of Detector or str or Path",
        ),
        (lambda: yq.bench([3]), r"models of bench is \[3\]; expected a sequence of"),
        (lambda: yq.bench([]), "models to time are 0; expected at least one"),
        (lambda: yq.evaluate("a.onnx", "data.yaml"), "data of evaluate is 'data.yaml'; expected Dataset"),
        (lambda: yq.evaluate("a.onnx", yq.Dataset(), device=0), "device of evaluate is 0; expected str"),
        (lambda: yq.evaluate("a.onnx", yq.Dataset(), config=3), "config of evaluate is 3; expected EvalConfig or None"),
        (
            lambda: yq.fidelity("a.pt", "b.onnx", 3),
            "images of fidelity is 3; expected Dataset or str or Path or a sequ",
        ),
        (lambda: yq.paired_difference(0.5, 0.4), "a of paired_difference is 0.5; expected Evaluation"),
        (lambda: yq.Dataset().calibration(seed="x"), "seed is 'x'"),
        (lambda: yq.Dataset(yaml=3), "yaml of Dataset is 3; expected a path, or None"),
        (lambda: yq.Dataset.from_yaml(3), "path of from_yaml is 3; expected str or Path"),
        (lambda: yq.Dataset.from_images(None), "directory of from_images is None; expected str or Path"),
        (lambda: BuildConfig(calibration_images=0), "calibration_images is 0"),
        (lambda: BuildConfig(split_above=2), "split_above is 2"),
        (lambda: BuildConfig(vnni="yes"), "vnni is 'yes'"),
    ],
)
def test_an_argument_of_another_kind_is_told_in_one_line(call: Callable[[], object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        call()


def test_a_data_set_takes_paths_as_text(data: yq.Dataset) -> None:
    found = yq.Dataset(yaml=str(data.yaml), calibration_source=str(data.calibration_source))
    assert found == data
    assert found.validation.images == data.validation.images


def test_statistics_and_paths_are_not_taken_for_each_other(detector: Detector, data: yq.Dataset) -> None:
    with pytest.raises(
        ConfigError, match=r"images of collect_statistics is Dataset\(.*; expected a sequence of ImageRecord"
    ):
        yq.collect_statistics(detector, data)
    with pytest.raises(ConfigError, match=r"statistics of calibrate is Detector\(tiny.pt"):
        yq.calibrate(detector, detector)
    with pytest.raises(ConfigError, match="methods to compare are 0; expected at least one"):
        yq.compare_methods(detector, _none(detector, data), data, methods=[], device="cpu")


def _none(detector: Detector, data: yq.Dataset) -> yq.api.CollectedStatistics:
    return yq.collect_statistics(detector, data.calibration(1), device="cpu")


def test_what_a_result_gives_away_is_a_copy(statistics: yq.api.CollectedStatistics) -> None:
    statistics.to_dict()["ranges"].clear()
    assert statistics["ranges"]


def test_completion_offers_no_helpers() -> None:
    assert not {"Any", "TYPE_CHECKING", "annotations"} & set(dir(yq))


def test_a_detector_is_timed_beside_what_it_became(detector: Detector, calibrated: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "float.safetensors")
    models = [detector, calibrated, calibrated, tmp_path / "float.safetensors"]
    items = yq.bench(models, config=BenchConfig(rounds=1, warmup=0), device="cpu")["items"]
    assert [item["precision"] for item in items] == ["float32", "fake quant", "fake quant", "float32"]
    names = [Path(item["artifact"]).name for item in items]
    assert names == ["tiny.pt", "tiny.pt (mse)", "tiny.pt (mse) #2", "float.safetensors"]


def test_ranges_are_measured_on_as_many_images_as_asked(tiny_onnx: Path, data: yq.Dataset, tmp_path: Path) -> None:
    images = yq.Dataset(calibration_source=data.calibration_source)
    config = BuildConfig(engine="onnxruntime", calibration_images=2)
    assert "on 2 images" in repr(yq.build_engine(tiny_onnx, tmp_path, config=config, data=images, device="cpu"))


def test_a_target_goes_from_the_statistics_to_the_engine(detector: Detector, data: yq.Dataset, tmp_path: Path) -> None:
    images = data.calibration(2)
    statistics = yq.collect_statistics(detector, images, target="openvino", device="cpu")
    assert statistics.quant == QuantConfig(target="openvino")
    quantized = yq.calibrate(detector, statistics, "max", device="cpu").quantization
    assert quantized is not None
    assert (quantized.config.target, quantized.config.activations.symmetric) == ("openvino", False)
    other = yq.calibrate(
        detector, statistics, "max", target="tensorrt", device="cpu"
    )  # the same places, another scheme
    assert other.quantization is not None
    assert other.quantization.config == QuantConfig(target="tensorrt")
    assert yq.export_onnx(other, tmp_path / "model.onnx").failed is None
    with pytest.raises(ConfigError, match=r"target is 'openvino' and '.*tiny.pt' is calibrated for 'tensorrt'"):
        yq.export_onnx(other, tmp_path / "model.onnx", target="openvino")
    plain = yq.calibrate(detector, statistics, "max", quant=QuantConfig(), device="cpu")
    with pytest.raises(
        ConfigError, match="is calibrated without a target, and its activations are symmetric with target"
    ):
        yq.export_onnx(plain, tmp_path / "plain.onnx", target="openvino")
    yq.export_onnx(plain, tmp_path / "plain.onnx")
    built = yq.build_engine(tmp_path / "plain.onnx", device="cpu")
    assert (built.engine, built.path.name) == ("openvino", "model_openvino")
    assert "calibrate with target=openvino" in built["advice"]
    two = BuildConfig(calibration_images=2)
    built = yq.build_engine(tmp_path / "plain.onnx", config=two, target="onnxruntime", data=data, device="cpu")
    assert (built.engine, built["advice"]) == ("onnxruntime", None)
    with pytest.warns(YoloqatWarning, match="model.onnx' is for the target 'tensorrt' and is built for 'openvino'"):
        assert yq.build_engine(tmp_path / "model.onnx", target="openvino", device="cpu").engine == "openvino"


def test_a_target_that_settings_name_otherwise_is_told(detector: Detector, data: yq.Dataset, tiny_onnx: Path) -> None:
    images, quant = data.calibration(1), QuantConfig()
    with pytest.raises(ConfigError, match="target is 'openvino' and that of quant is None; expected the same in both"):
        yq.collect_statistics(detector, images, quant=quant, target="openvino", device="cpu")
    statistics = yq.collect_statistics(detector, images, device="cpu")
    with pytest.raises(ConfigError, match="target is 'openvino' and that of quant is 'tensorrt'"):
        yq.calibrate(detector, statistics, quant=QuantConfig(target="tensorrt"), target="openvino", device="cpu")
    with pytest.raises(ConfigError, match="target is 'openvino' and that of config is 'onnxruntime'"):
        yq.build_engine(tiny_onnx, config=BuildConfig(engine="onnxruntime"), target="openvino", device="cpu")
    config = ExportConfig(target="tensorrt")
    with pytest.raises(ConfigError, match="target is 'openvino' and that of config is 'tensorrt'"):
        yq.export_onnx(detector, "model.onnx", config=config, target="openvino")


def test_a_search_takes_one_goal_and_a_budget_of_the_detector(
    calibrated: Detector, detector: Detector, data: yq.Dataset, tiny_onnx: Path
) -> None:
    with pytest.raises(ConfigError, match="max_drop and max_noise are named"):
        yq.search(calibrated, data, max_drop=0.1, max_noise=0.1, device="cpu")
    with pytest.raises(ModelError, match="is a float model"):
        yq.search(detector, data, max_noise=0.1, device="cpu")
    with pytest.raises(ModelError, match=f"'{tiny_onnx}' does not tell how an ONNX file was quantized"):
        yq.search(tiny_onnx, data, max_noise=0.1, device="cpu")
    other = Result({"state_hash": "0"}, ())
    with pytest.raises(ConfigError, match="the noise budget has state_hash '0'"):
        yq.search(calibrated, data, max_noise=0.1, budget=other, fidelity_images=2, device="cpu")
