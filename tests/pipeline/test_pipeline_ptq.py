from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from forwards import CONFIG
from tiny_detector import IMGSZ, NAMES, TinyData, make_module, save_module

from yoloqat.config import CalibrationConfig, MethodSpec, QuantConfig, to_dict
from yoloqat.datasets import DetectionDataset, calibration_images
from yoloqat.detectors import TorchPredictor, load_checkpoint, load_detector, save_checkpoint
from yoloqat.errors import CalibrationError, ConfigError, DataError, ModelError
from yoloqat.evaluation import evaluate
from yoloqat.pipeline.calibrate import calibrate
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run
from yoloqat.quant import dynamic_amax, quantization_disabled, quantized_layers

MakeRun, MakePtq = Callable[..., Run], Callable[..., Ptq]


def test_the_three_maps_are_those_of_the_three_models(
    make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset
) -> None:
    ptq = make_ptq(make_run())
    found = calibrate(ptq, MethodSpec("max"), CONFIG, run=make_run(), dataset=dataset)
    with quantization_disabled(ptq.detector.module):
        assert found["map_float"] == evaluate(ptq.predictor, dataset, CONFIG).metrics.map50_95
    with dynamic_amax(ptq.detector.module):
        assert found["map_swapped"] == evaluate(ptq.predictor, dataset, CONFIG).metrics.map50_95
    assert found["map_qfloat"] == evaluate(ptq.predictor, dataset, CONFIG).metrics.map50_95
    assert found["map_float"] == evaluate_float(ptq, dataset)
    assert len({found["map_float"], found["map_swapped"], found["map_qfloat"]}) == 3
    assert found["drop"] == pytest.approx(found["map_float"] - found["map_qfloat"], abs=1e-9)
    assert (found["method"], found["quantized_layers"], found["layers"]) == ("max", len(ptq.layers), ptq.layers)


def evaluate_float(ptq: Ptq, dataset: DetectionDataset) -> float | None:
    """Return the mAP of the detector as it lies in its file."""
    detector = load_detector(Path(ptq.detector.source.path))
    return evaluate(TorchPredictor(detector), dataset, CONFIG).metrics.map50_95


def test_nothing_is_scored_without_a_data_set(make_run: MakeRun, make_ptq: MakePtq) -> None:
    found = calibrate(make_ptq(make_run()), MethodSpec("max"), CONFIG, run=make_run())
    assert [found[name] for name in ("map_float", "map_swapped", "map_qfloat")] == [None] * 3


def test_a_calibrated_detector_is_saved_and_loaded_with_its_ranges(
    make_run: MakeRun, make_ptq: MakePtq, tmp_path: Path
) -> None:
    ptq = make_ptq(make_run(), ignore=("model.0",))
    ptq.apply(MethodSpec("percentile", 99.0))
    save_checkpoint(ptq.detector, tmp_path / "c.safetensors")
    loaded = load_checkpoint(tmp_path / "c.safetensors")
    assert [name for name, _ in quantized_layers(loaded.module)] == ptq.layers
    state, again = ptq.detector.module.state_dict(), loaded.module.state_dict()
    assert state.keys() == again.keys()
    assert all(torch.equal(value.contiguous(), again[name].contiguous()) for name, value in state.items())
    assert loaded.quantization == ptq.detector.quantization
    assert loaded.quantization is not None
    assert loaded.quantization.calibration["method"] == to_dict(MethodSpec("percentile", 99.0))
    images = np.random.default_rng(0).random((1, 3, IMGSZ, IMGSZ), dtype=np.float32)
    np.testing.assert_array_equal(TorchPredictor(loaded)(images)[0], ptq.predictor(images)[0])


def test_a_quantized_model_is_refused(make_run: MakeRun, make_ptq: MakePtq, tiny_checkpoint: Path) -> None:
    with pytest.raises(ModelError, match=r"tiny\.pt' is quantized already \(22 layers\)"):
        make_ptq(make_run(), model=tiny_checkpoint)


def test_a_model_that_its_description_does_not_give_is_refused(
    make_run: MakeRun, make_ptq: MakePtq, tmp_path: Path
) -> None:
    module = make_module()
    module.model[0].act = torch.nn.ReLU()
    path = save_module(module, tmp_path / "changed.pt")
    with pytest.raises(ModelError, match=r"changed\.pt' cannot be rebuilt: its outputs differ"):
        make_ptq(make_run(), model=path)


def test_patterns_that_leave_nothing_are_refused(make_run: MakeRun, make_ptq: MakePtq) -> None:
    with pytest.raises(ConfigError, match=r"ignore patterns model\.\? leave no layer"):
        make_ptq(make_run(), ignore=("model.?",))


def test_an_image_size_that_the_model_cannot_take_is_refused(
    make_run: MakeRun, tiny_model: Path, tiny_data: TinyData
) -> None:
    with pytest.raises(ConfigError, match=r"imgsz is 72; expected a multiple of the model's stride 16"):
        Ptq(
            load_detector(tiny_model),
            calibration_images(tiny_data.train, 2),
            quant=QuantConfig(),
            calibration=CalibrationConfig(),
            imgsz=72,
            batch=1,
            run=make_run(),
        )


def test_unfit_names_are_told_before_anything_is_collected(
    make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset
) -> None:
    ptq = make_ptq(make_run())
    dataset = replace(dataset, names=NAMES | {0: "coin", 3: "more"})
    with pytest.raises(DataError, match=f"model classes without a category: '{NAMES[0]}'"):
        calibrate(ptq, MethodSpec("max"), CONFIG, run=make_run(), dataset=dataset)
    assert not make_run().out.exists()


def test_values_that_are_not_finite_leave_no_part(
    make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset
) -> None:
    ptq = make_ptq(make_run())
    with torch.no_grad():
        ptq.detector.module.get_submodule("model.1.conv").bias[0] = float("nan")
    with pytest.raises(CalibrationError, match=r"model\.2\.cv1\.conv.*NaN \(batch of "):
        ptq.apply(MethodSpec("max"))
    assert not make_run().out.exists()
