"""INT8 for YOLO detectors: calibrate, measure what it costs, find the noisy layers, export QDQ ONNX, build an engine.

    import yoloqat as yq

    detector = yq.load("yolov8n.pt")
    data = yq.Dataset.from_yaml("coco.yaml")
    statistics = yq.collect_statistics(detector, data.calibration(64))
    quantized = yq.calibrate(detector, statistics, method="mse")
    print(yq.paired_difference(yq.evaluate(detector, data), yq.evaluate(quantized, data)))

The names below are imported when they are first used, so that importing yoloqat costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yoloqat.api import (
        Dataset,
        bench,
        build_engine,
        calibrate,
        collect_statistics,
        compare_methods,
        diff,
        evaluate,
        export_onnx,
        fidelity,
        finetune,
        lint,
        load,
        noise_budget,
        paired_difference,
        predict,
        quantize,
        rank_sensitivity,
        refine,
        search,
    )

__all__ = [
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


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("yoloqat")
    if name in __all__:
        from yoloqat import api

        return getattr(api, name)
    raise AttributeError(f"module 'yoloqat' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"TYPE_CHECKING", "Any", "annotations"})
