"""Cost of calibrating by every method at once against the float forward of the same images, in one run.

    python benchmarks/calibration.py yolov8n.pt --imgsz 640 --images 16

Rows: the float forward (the baseline), collecting a histogram of every quantized layer's input, collecting with torch.ao's
HistogramObserver, and the search of amax by entropy and by mse for all tensors together.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch.ao.quantization import HistogramObserver

from yoloqat.config import MethodSpec, QuantConfig
from yoloqat.detectors import TorchPredictor, load_detector, torch_threads
from yoloqat.quant import collecting, quantization_disabled, quantized_layers


def main() -> None:
    """Measure and print one row per step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    detector = load_detector(args.model)
    detector.quantize(QuantConfig())
    layers = dict(quantized_layers(detector.module))
    predictor = TorchPredictor(detector)
    images = np.random.default_rng(0).random((args.images, 3, args.imgsz, args.imgsz), dtype=np.float32)

    def seconds(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def observed() -> float:
        observers = {name: HistogramObserver() for name in layers}
        handles = [
            layer.register_forward_pre_hook(lambda _, inputs, name=name: (observers[name](inputs[0]), None)[1])
            for name, layer in layers.items()
        ]
        with quantization_disabled(detector.module):
            found = seconds(lambda: predictor(images))
        for handle in handles:
            handle.remove()
        return found

    def search(method: str) -> float:
        histograms = [layer._input_quantizer._calibrator.histogram() for layer in layers.values()]
        return seconds(lambda: [histogram.compute_amax(MethodSpec(method)) for histogram in histograms if histogram])

    with torch_threads(args.threads) as threads:
        with quantization_disabled(detector.module):
            predictor(images)
            floating = min(seconds(lambda: predictor(images)) for _ in range(3))
        with collecting(detector.module):
            collected = min(seconds(lambda: predictor(images)) for _ in range(3))
        entropy, mse = search("entropy"), search("mse")
        torch_ao = observed()
    print(f"{args.model.name} {args.imgsz} px, {args.images} images, {len(layers)} tensors, {threads} threads")
    for name, value in (
        ("float forward", floating),
        ("forward and collection", collected),
        ("collection, entropy and mse of all tensors", collected + entropy + mse),
        ("forward and torch.ao HistogramObserver", torch_ao),
    ):
        print(f"{name:45s} {value:7.2f} s  {value / floating:6.2f} x float")
    print(f"{'search by entropy, all tensors':45s} {entropy:7.2f} s")
    print(f"{'search by mse, all tensors':45s} {mse:7.2f} s")


if __name__ == "__main__":
    main()
