"""The gain and cost of the equivalent graph for ONNX Runtime, beside the QDQ file it is made from, in one run on the same images.

    python benchmarks/onnxruntime_equivalent.py runs/export/model.onnx --data coco.yaml

The baseline of accuracy is the QDQ file, which ONNX Runtime computes in float as it is written: QFloat. Times are interleaved,
in milliseconds of the wall clock and of the processor (all threads), the latter little disturbed by neighbours. Rows: the QDQ
file, the equivalent graph whose activations end at 127 (`yoloqat build --engine onnxruntime`), and one that uses all 255, which
overflows on processors without VNNI.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from subset import first_images

from yoloqat.config import EvalConfig
from yoloqat.datasets import calibration_images, load_dataset, plan_batches, read_batches
from yoloqat.engines import OnnxPredictor, build_onnxruntime
from yoloqat.evaluation import evaluate, paired_difference


def main() -> None:
    """Measure and print one row per file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("onnx", type=Path)
    parser.add_argument("--float", type=Path, help="the float model as ONNX, to time it too")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, help="score the first N images (default: all)")
    parser.add_argument("--calib-images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    size = OnnxPredictor(args.onnx).info.imgsz
    side = max(size) if size else 640
    records = calibration_images(args.data, args.calib_images, 0)
    with tempfile.TemporaryDirectory() as folder:
        paths = {"QDQ": args.onnx}
        for highest in (127, 255):
            path = Path(folder) / f"integer{highest}.onnx"
            images = (batch.images for batch in read_batches(plan_batches(records, side, 1)))
            build = build_onnxruntime(args.onnx, path, images, threads=args.threads, highest=highest)
            paths[f"integers to {highest}"] = path
        print(
            f"{len(build.precision.int8_convolutions)} of {len(build.precision.convolutions)} convolutions in integers"
        )
        if args.float is not None:
            paths["float"] = args.float
        models = {name: OnnxPredictor(path, threads=args.threads) for name, path in paths.items()}
        _time(models, side, args.rounds)
        dataset, config = first_images(load_dataset(args.data), args.images), EvalConfig(imgsz=side, batch=1)
        found = {name: evaluate(model, dataset, config) for name, model in models.items()}
        for name, evaluation in found.items():
            drop = paired_difference(found["QDQ"].matches, evaluation.matches)
            print(
                f"{name:20s} mAP50-95 {evaluation.metrics.map50_95:.4f}, QDQ minus this "
                f"{drop.difference:+.4f} [{drop.low:+.4f}, {drop.high:+.4f}]"
            )


def _time(models: dict[str, OnnxPredictor], side: int, rounds: int) -> None:
    image = np.random.default_rng(0).random((1, 3, side, side), dtype=np.float32)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for turn in range(rounds + 3):
        for name, model in models.items():
            wall, busy = time.perf_counter(), time.process_time()
            model(image)
            if turn >= 3:
                seconds[name].append((time.perf_counter() - wall, time.process_time() - busy))
    for name, values in seconds.items():
        wall, busy = np.median(np.array(values), axis=0) * 1e3
        print(f"{name:20s} p50 {wall:.1f} ms, {busy:.1f} ms of the processor")


if __name__ == "__main__":
    main()
