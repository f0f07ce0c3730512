"""One calibrated detector, with its noise and the mAP of the float, the swapped and the calibrated model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from yoloqat.calibration.nvidia import BACKENDS, calibrate_with, check_backend, package_version
from yoloqat.config import EvalConfig, MethodSpec
from yoloqat.datasets import DetectionDataset, ImageRecord
from yoloqat.evaluation.drops import Baseline, drop_results
from yoloqat.pipeline.fidelity import float_reference, noise_results
from yoloqat.pipeline.models import check_scoring
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.refine import check_image_count, refine_detector
from yoloqat.pipeline.run import Run
from yoloqat.quant import dynamic_amax, quantization_disabled


def calibrate(
    ptq: Ptq,
    method: MethodSpec,
    config: EvalConfig,
    *,
    run: Run,
    dataset: DetectionDataset | None = None,
    package: ModuleType | None = None,
    compared: Sequence[ImageRecord] = (),
    refine: Sequence[str] = (),
) -> dict[str, Any]:
    """Calibrate the swapped detector by one method, and measure what that costs where there is a data set.

    Args:
        ptq: The swapped detector with its calibration images; it is calibrated afterwards.
        method: How amax is found.
        config: How to score.
        run: Where finished parts are kept.
        dataset: The validation images, or None to measure nothing.
        package: NVIDIA's package where its modules are to calibrate.
        compared: Images to measure the noise on; none measures none.
        refine: The steps of :func:`yoloqat.pipeline.refine.refine_detector` that follow; none by default.

    Returns:
        The keys of the result of ``calibrate``; without a data set the maps are None, without ``compared`` the noise is.

    Raises:
        ConfigError: NVIDIA's package has no such method.
        CalibrationError: A layer's input holds NaN or Inf, a quantizer is not reached, or there are too few images to refine on.
    """
    check_scoring(ptq.detector.info, dataset, config)
    if refine:
        check_image_count(ptq.config.images)
    result: dict[str, Any] = {"method": str(method), "quantized_layers": len(ptq.layers), "layers": ptq.layers}
    key: dict[str, Any] = {}
    if package is None:
        seconds = ptq.apply(method)
        result |= {"backend": {"name": BACKENDS[0]}, **ptq.calibrated_on()}
        result["calibration_seconds"] = ptq.statistics.seconds + seconds
    else:
        check_backend(ptq.detector, method)
        backend = {"name": BACKENDS[1], "version": package_version(package)}
        result |= {"backend": backend, "calibration_images": len(ptq.records)}
        result["calibration_seconds"] = _by_package(package, ptq, method, run)
        ptq.record(method, backend=backend)
        key = {"backend": backend}
    result |= {"map_float": None, "map_swapped": None, "map_qfloat": None}
    reference = float_reference(ptq, compared, config, run=run)
    floating = swapped = None
    if dataset is not None:
        module, predictor = ptq.detector.module, ptq.predictor
        weights = {"weights": ptq.detector.source.sha256}
        with quantization_disabled(module):
            floating = run.evaluate(predictor, dataset, config, label="float", model_key=weights)
        with dynamic_amax(module):
            swapped = run.evaluate(
                predictor, dataset, config, label="swapped", model_key=ptq.model_key("dynamic") | key
            )
    result |= _refined(ptq, refine, run)  # what follows has other biases than the float model
    found = None if reference is None else reference.compare(ptq.predictor, progress=run.labelled(str(method)))
    result |= noise_results(found) | {"fidelity_images": len(compared)}
    if dataset is None or floating is None or swapped is None:
        return result
    model_key = ptq.model_key(str(method)) | key | ({"refine": list(refine)} if refine else {})
    calibrated = run.evaluate(ptq.predictor, dataset, config, label=str(method), model_key=model_key)
    drop = Baseline(floating.matches).drop(calibrated.matches)
    return result | {
        "map_float": floating.metrics.map50_95,
        "map_swapped": swapped.metrics.map50_95,
        "map_qfloat": calibrated.metrics.map50_95,
        **drop_results(drop),
    }


def _refined(ptq: Ptq, steps: Sequence[str], run: Run) -> dict[str, Any]:
    if not steps:
        return {}
    return refine_detector(ptq.detector, ptq.records, steps=steps, imgsz=ptq.imgsz, batch=ptq.batch, run=run)


def _by_package(package: ModuleType, ptq: Ptq, method: MethodSpec, run: Run) -> float:
    start = time.perf_counter()
    calibrate_with(
        package,
        ptq.detector,
        ptq.predictor,
        ptq.records,
        method,
        imgsz=ptq.imgsz,
        batch=ptq.batch,
        progress=run.labelled("calibrate"),
    )
    return time.perf_counter() - start
