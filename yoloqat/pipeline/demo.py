"""The story of INT8 on the detector and the data that yoloqat brings along: what a careless method loses, where, and the cure."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from yoloqat.config import CalibrationConfig, EvalConfig, MethodSpec
from yoloqat.datasets import calibration_images, load_dataset, spread
from yoloqat.detectors import TorchPredictor, load_checkpoint, load_detector, save_checkpoint
from yoloqat.errors import ModelError
from yoloqat.evaluation.drops import Baseline, drop_results
from yoloqat.pipeline.noise_mode import run_noise_budget
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.quantize import open_float_model, quantize
from yoloqat.pipeline.quantize_config import METHODS, QuantizeConfig
from yoloqat.pipeline.refine_steps import BIAS
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.sensitivity import ScanOptions
from yoloqat.provenance import atomic_path
from yoloqat.sensitivity.settings import NOISE, ScanConfig

CALIBRATION_IMAGES, COMPARED = 64, 32
CARELESS = MethodSpec("percentile", 99.9)
"""What clips a thousandth of the values: right for some networks, and a common default."""

MAX_DROP = 0.01
CARELESS_FOLDER = "careless"


def demo_assets() -> tuple[Path, Path]:
    """Return the embedded checkpoint and data set YAML: package resources, or the files of a checkout.

    Raises:
        ModelError: Neither is there.
    """
    package = Path(str(resources.files("yoloqat")))
    for weights, data in (
        (package / "resources" / "weights", package / "resources" / "data"),
        (package.parent / "weights", package.parent / "data"),
    ):
        if (weights / "demo.pt").is_file() and (data / "demo.yaml").is_file():
            return weights / "demo.pt", data / "demo.yaml"
    raise ModelError(
        f"the embedded detector is missing from '{package / 'resources'}'",
        expected="an installed wheel or a checkout of yoloqat",
        hint="install yoloqat again",
    )


def demo(run: Run, *, imgsz: int, batch: int) -> dict[str, Any]:
    """Calibrate the embedded detector carelessly, find where that makes the noise, and take it the whole way with care.

    Args:
        run: Where the files go: ``demo.pt``, ``careless/`` and what ``quantize`` writes.
        imgsz: Side of the images in pixels.
        batch: Images per forward of torch.

    Returns:
        The keys of ``quantize``; ``careless``: the careless method as ``compare`` gives it; ``budget``: of its noise; and
        ``map_qfloat`` and ``map_engine``.
    """
    weights, yaml = demo_assets()
    model = run.out / weights.name
    with atomic_path(model) as temporary:
        shutil.copyfile(weights, temporary)
    dataset, scoring = load_dataset(yaml), EvalConfig(imgsz=imgsz, batch=batch)
    calibration = CalibrationConfig(images=CALIBRATION_IMAGES)
    records = calibration_images(yaml, calibration.images, calibration.seed)
    compared = spread(dataset.images, COMPARED)
    config = QuantizeConfig(max_drop=MAX_DROP, calibration=calibration, methods=METHODS, refine=(BIAS,))

    ptq = Ptq(
        load_detector(model), records, quant=config.quant, calibration=calibration, imgsz=imgsz, batch=batch, run=run
    )
    ptq.apply(CARELESS)
    checkpoint = run.out / CARELESS_FOLDER / "model.safetensors"
    save_checkpoint(ptq.detector, checkpoint)
    floating = TorchPredictor(load_detector(model), device=run.device)
    sha = ptq.detector.source.sha256
    reference = run.evaluate(floating, dataset, scoring, label="float", model_key={"weights": sha})
    scored = run.evaluate(
        ptq.predictor, dataset, scoring, label=str(CARELESS), model_key={"weights": sha, "method": str(CARELESS)}
    )
    budget = run_noise_budget(
        checkpoint,
        compared,
        scoring,
        scan=ScanConfig(mode=NOISE),
        options=ScanOptions(),
        run=replace(run, out=checkpoint.parent),
    )
    careless = {
        "method": CARELESS.kind,
        "params": CARELESS.params,
        "map50_95": scored.metrics.map50_95,
        **drop_results(Baseline(reference.matches).drop(scored.matches)),
        "d": budget["d"],
        "d_ci95": budget["d_ci95"],
    }
    opened = open_float_model(model, run.out)
    found = quantize(opened, records, config, scoring=scoring, run=run, dataset=dataset, compared=compared).results
    refined = TorchPredictor(load_checkpoint(run.out / "model.safetensors"), device=run.device)
    qfloat = run.evaluate(refined, dataset, scoring, label="QFloat", model_key={"weights": sha, "as": "refined"})
    return found | {
        "careless": [careless],
        "budget": budget,
        "map_qfloat": qfloat.metrics.map50_95,
        "map_engine": found["map50_95"],
    }
