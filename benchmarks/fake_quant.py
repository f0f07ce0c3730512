"""Cost of fake-quantized evaluation against the float forward, in one run.

    python benchmarks/fake_quant.py yolov8n.pt --imgsz 640 --batch 8

The baseline is the same swapped module with its quantizers off, which is the float model bit for bit. The two alternate, so that
a drift of the machine's speed hits both; the ratio of each pair is taken, and the median of the ratios is the figure.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from yoloqat.config import QuantConfig
from yoloqat.detectors import TorchPredictor, load_detector, torch_device, torch_threads
from yoloqat.quant import collecting, quantization_disabled, quantized_layers


def main() -> None:
    """Measure and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    detector = load_detector(args.model)
    layers = detector.quantize(QuantConfig())
    predictor = TorchPredictor(detector, device=torch_device(args.device))
    images = np.random.default_rng(0).random((args.batch, 3, args.imgsz, args.imgsz), dtype=np.float32)

    def seconds() -> float:
        start = time.perf_counter()
        predictor(images)
        return time.perf_counter() - start

    with torch_threads(args.threads) as threads:
        with collecting(detector.module):
            predictor(images)
        for _, layer in quantized_layers(detector.module):
            layer._input_quantizer.load_calib_amax("max")
        seconds()
        floats, quantized = [], []
        for _ in range(args.rounds):
            with quantization_disabled(detector.module):
                floats.append(seconds())
            quantized.append(seconds())
    ratios = sorted(q / f for q, f in zip(quantized, floats, strict=True))
    print(
        f"{args.model.name} {args.imgsz} px, batch {args.batch}, {len(layers)} layers, {threads} threads, "
        f"torch {torch.__version__}: "
        f"fake-quantized / float = {statistics.median(ratios):.3f} "
        f"(pairs {ratios[0]:.3f} to {ratios[-1]:.3f}; float {statistics.median(floats) * 1e3 / args.batch:.1f} ms an image)"
    )


if __name__ == "__main__":
    main()
