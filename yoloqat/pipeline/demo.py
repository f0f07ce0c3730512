"""The whole way on the detector and the data that yoloqat brings along: compare, calibrate, export, build, time."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from yoloqat.config import CalibrationConfig, EvalConfig, ExportConfig, MethodSpec, QuantConfig, QuantScheme
from yoloqat.config.method import DEFAULT_METHODS
from yoloqat.datasets import calibration_images, load_dataset
from yoloqat.detectors import TorchPredictor, load_detector, save_checkpoint
from yoloqat.engines import OpenVINOPredictor, bench, build_openvino
from yoloqat.errors import ModelError
from yoloqat.evaluation.drops import Baseline, drop_results
from yoloqat.pipeline.build import build_results
from yoloqat.pipeline.compare import compare_methods
from yoloqat.pipeline.export import export_onnx
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run
from yoloqat.provenance import atomic_path

CALIBRATION_IMAGES = 64
BENCH_ROUNDS = 100
HARD_BITS = 6
HARD_METHODS = (MethodSpec("max"), MethodSpec("mse"))
"""At 8 bits a small detector forgives much; at 6 bits the choice of the method shows."""


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
    """Take the embedded detector the whole way to a measured INT8 engine.

    Args:
        run: Where the files go: ``demo.pt``, ``model.safetensors``, ``model.onnx``, ``model_openvino``, and the float
            model for comparison as ``float.onnx`` and ``float_openvino``.
        imgsz: Side of the images in pixels.
        batch: Images per forward of torch.

    Returns:
        ``compare`` as that command gives it, ``careless`` with its rows at 6 bits, ``method``, ``map_float``,
        ``map_qfloat``, ``map_engine``, ``drop`` and ``drop_ci95`` of the engine, ``build`` and ``bench`` as those
        commands give them.
    """
    weights, yaml = demo_assets()
    model = run.out / weights.name
    with atomic_path(model) as temporary:
        shutil.copyfile(weights, temporary)
    dataset, config = load_dataset(yaml), EvalConfig(imgsz=imgsz, batch=batch)
    calibration = CalibrationConfig(images=CALIBRATION_IMAGES)
    records = calibration_images(yaml, calibration.images, calibration.seed)

    def swapped(quant: QuantConfig) -> Ptq:
        detector = load_detector(model)
        return Ptq(detector, records, quant=quant, calibration=calibration, imgsz=imgsz, batch=batch, run=run)

    ptq = swapped(QuantConfig())
    compared = compare_methods(ptq, dataset, DEFAULT_METHODS, config, run=run)
    hard = QuantConfig(
        activations=QuantScheme(bits=HARD_BITS), weights=QuantScheme(bits=HARD_BITS, axis=0, narrow_range=True)
    )
    careless = compare_methods(swapped(hard), dataset, HARD_METHODS, config, run=run.named(f"{HARD_BITS} bits"))
    method = MethodSpec.parse(compared["recommended"])
    ptq.apply(method)
    save_checkpoint(ptq.detector, run.out / "model.safetensors")
    export_onnx(ptq.detector, run.out / "model.onnx", ExportConfig(imgsz=imgsz))
    built = build_openvino(run.out / "model.onnx", run.out / "model_openvino", threads=run.threads)
    floating = load_detector(model)
    export_onnx(floating, run.out / "float.onnx", ExportConfig(imgsz=imgsz))
    build_openvino(run.out / "float.onnx", run.out / "float_openvino", threads=run.threads)
    torch_float = TorchPredictor(floating, device=run.device)
    engine = OpenVINOPredictor(run.out / "model_openvino", threads=run.threads)
    weights_key = {"weights": floating.source.sha256}  # the comparison's own baseline: found, not run again
    reference = run.evaluate(torch_float, dataset, config, label="float", model_key=weights_key)
    scored = run.evaluate(
        engine, dataset, config, label="INT8 engine", model_key={**weights_key, "engine": str(method)}
    )
    timed = bench(
        {
            "float, torch": torch_float,
            "float, OpenVINO": OpenVINOPredictor(run.out / "float_openvino", threads=run.threads),
            "INT8, OpenVINO": engine,
        },
        np.random.default_rng(0).random((1, 3, imgsz, imgsz), dtype=np.float32),
        rounds=BENCH_ROUNDS,
        progress=run.progress,
    )
    rows = {str(MethodSpec(row["method"], **row["params"])): row for row in compared["methods"]}
    return {
        "compare": compared,
        "careless": careless["methods"],
        "method": str(method),
        "map_float": reference.metrics.map50_95,
        "map_qfloat": rows[str(method)]["map50_95"],
        "map_engine": scored.metrics.map50_95,
        **drop_results(Baseline(reference.matches).drop(scored.matches)),
        "build": build_results(built),
        "bench": {"items": [vars(item) for item in timed]},
    }
