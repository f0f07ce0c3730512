"""One calibrated detector, with the mAP of the float, the swapped and the calibrated model."""

from __future__ import annotations

from typing import Any

from yoloqat.config import EvalConfig, MethodSpec
from yoloqat.datasets import DetectionDataset
from yoloqat.pipeline.drops import Baseline, drop_results
from yoloqat.pipeline.models import check_scoring
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run
from yoloqat.quant import dynamic_amax, quantization_disabled


def calibrate(
    ptq: Ptq, method: MethodSpec, config: EvalConfig, *, run: Run, dataset: DetectionDataset | None = None
) -> dict[str, Any]:
    """Calibrate the swapped detector by one method, and measure what that costs where there is a data set.

    Args:
        ptq: The swapped detector with its calibration images; it is calibrated afterwards.
        method: How amax is found.
        config: How to score.
        run: Where finished parts are kept.
        dataset: The validation images, or None to measure nothing.

    Returns:
        The keys of the result of ``calibrate``; without a data set the maps are None.
    """
    check_scoring(ptq.detector.info, dataset, config)
    seconds = ptq.apply(method)
    result: dict[str, Any] = {
        "method": str(method),
        "quantized_layers": len(ptq.layers),
        "layers": ptq.layers,
        "calibration_images": ptq.statistics.images,
        "calibration_seconds": ptq.statistics.seconds + seconds,
        "map_float": None,
        "map_swapped": None,
        "map_qfloat": None,
    }
    if dataset is None:
        return result
    module, predictor = ptq.detector.module, ptq.predictor
    weights = {"weights": ptq.detector.source.sha256}
    with quantization_disabled(module):
        floating = run.evaluate(predictor, dataset, config, label="float", model_key=weights)
    with dynamic_amax(module):
        swapped = run.evaluate(predictor, dataset, config, label="swapped", model_key=ptq.model_key("dynamic"))
    calibrated = run.evaluate(predictor, dataset, config, label=str(method), model_key=ptq.model_key(str(method)))
    drop = Baseline(floating.matches).drop(calibrated.matches)
    return result | {
        "map_float": floating.metrics.map50_95,
        "map_swapped": swapped.metrics.map50_95,
        "map_qfloat": calibrated.metrics.map50_95,
        **drop_results(drop),
    }
