"""The classic script of the field in ten lines: load, calibrate three ways, score, find noisy blocks, export.

    python examples/ten_lines.py [OUT.onnx]

Runs offline in a few seconds on the small detector and the rendered scenes that yoloqat brings along; put your own
``yolov8n.pt``, ``coco.yaml`` and image size in their place.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import yoloqat as yq
from yoloqat.config import EvalConfig, ExportConfig
from yoloqat.pipeline.sensitivity import ScanOptions
from yoloqat.sensitivity.settings import ScanConfig

ROOT = Path(__file__).resolve().parents[1]


def main(path: Path, model: Path = ROOT / "weights" / "demo.pt", yaml: Path = ROOT / "data" / "demo.yaml") -> None:
    """Write a model as INT8 ONNX after finding what each calibration method costs in mAP and which blocks are noisy."""
    detector, data, scoring = yq.load(model), yq.Dataset.from_yaml(yaml), EvalConfig(imgsz=96)
    statistics = yq.collect_statistics(detector, data.calibration(8), imgsz=96)
    float_scores = yq.evaluate(detector, data, config=scoring)
    drops = {}
    for method in ("max", "entropy", "mse"):
        quantized = yq.calibrate(detector, statistics, method=method)
        drops[method] = yq.paired_difference(float_scores, yq.evaluate(quantized, data, config=scoring))
        print(f"{method:<8} drop in mAP50-95 {drops[method]}")
    best = yq.calibrate(detector, statistics, method=min(drops, key=lambda method: drops[method].difference))
    blocks = ScanConfig(granularity="block")
    print(yq.noise_budget(best, data, scan=blocks, options=ScanOptions(fidelity_images=16), config=scoring))
    print(yq.export_onnx(best, path, config=ExportConfig(imgsz=96)))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder) / "demo.onnx")
