"""Does `quantize` leave exactly the noisy layers float? Layers are made noisy in the .pt, and the whole way is run on it.

    python benchmarks/planted_layers.py yolov8n.pt --data coco_val.yaml --imgsz 320 --out runs/planted

A layer is made noisy by one channel of its input that is constant and far above the others, and that its weights do not read:
the float model computes the same as without that channel, and 8 bits for the whole tensor leave the other channels few
integers. No method of calibration clips a value that one position in sixteen has. The limit of noise lies between that of the
model with these layers float and the least with one of them in INT8 (the root of their product). Latencies are measured on
OpenVINO; nothing is refined or fine-tuned. Printed are the layers that were left float, those that were expected (the noisy
ones, and what shares a scale with them), and d with each one of them quantized.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from yoloqat.config import CalibrationConfig, EvalConfig, MethodSpec, QuantConfig
from yoloqat.datasets import calibration_images, load_dataset, spread
from yoloqat.detectors import load_detector, torch_threads
from yoloqat.detectors.ultralytics_file import recorded_model
from yoloqat.pipeline.fidelity import float_reference
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.quantize import open_float_model, quantize
from yoloqat.pipeline.quantize_config import QuantizeConfig
from yoloqat.pipeline.run import Run
from yoloqat.searching.tied import tied_layers

PAIRS = (
    ("model.15.m.0.cv1", "model.15.m.0.cv2"),
    ("model.4.m.0.cv1", "model.4.m.0.cv2"),
    ("model.6.m.1.cv1", "model.6.m.1.cv2"),
    ("model.22.cv3.0.0", "model.22.cv3.0.1"),
)
"""Of each noisy layer the one that alone feeds it, and it, by their names in YOLOv8."""

TARGET = "openvino"


def plant(weights: Path, path: Path, height: float) -> None:
    """Write a copy of a .pt in which the second layer of each pair is noisy."""
    module = recorded_model(weights)
    with torch.no_grad():
        for feeder, layer in PAIRS:
            norm = module.get_submodule(feeder).bn
            norm.weight[0] = 0.0
            norm.bias[0] = height
            module.get_submodule(layer).conv.weight[:, 0] = 0.0
    torch.save({"model": module, "ema": None, "train_args": {}, "epoch": -1}, path)


def main() -> None:
    """Plant, measure the limit, run the whole way and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="YOLOv8 .pt")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--images", type=int, default=64, help="validation images; their labels are not read")
    parser.add_argument("--calib-images", type=int, default=32)
    parser.add_argument("--height", type=float, default=400.0, help="value of the constant channel")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    planted = args.out / "planted.pt"
    plant(args.weights, planted, args.height)
    records = calibration_images(args.data, args.calib_images, 0)
    images = spread(load_dataset(args.data).images, args.images)
    config = EvalConfig(imgsz=args.imgsz, batch=8)
    run = Run(args.out / "quantize", torch.device("cpu"), args.threads)

    def calibrated(ignore: Sequence[str] = ()) -> Ptq:
        quant, calibration = QuantConfig(target=TARGET, ignore=tuple(ignore)), CalibrationConfig(images=len(records))
        detector = load_detector(planted)
        ptq = Ptq(detector, records, quant=quant, calibration=calibration, imgsz=args.imgsz, batch=8, run=run)
        ptq.apply(MethodSpec("mse"))
        return ptq

    with torch_threads(args.threads):
        whole = calibrated()
        reference = float_reference(whole, images, config, run=run)
        quantization = whole.detector.quantization
        if reference is None or quantization is None:
            return
        noisy = {f"{layer}.conv" for _, layer in PAIRS}
        groups = tied_layers(quantization.placement, quantization.layers)
        expected = sorted(name for group in groups if noisy & set(group) for name in group)
        best = reference.compare(calibrated(expected).predictor).d.value
        print(f"d {reference.compare(whole.predictor).d.value:.3f} all quantized, {best:.3f} with the expected float")
        each = {}
        for name in sorted(noisy):
            others = [other for other in expected if other not in next(group for group in groups if name in group)]
            each[name] = reference.compare(calibrated(others).predictor).d.value
            print(f"  {name} quantized, the others float: {each[name]:.3f}")
        limit = math.sqrt(best * min(each.values()))
        settings = QuantizeConfig(
            max_noise=limit,
            quant=QuantConfig(target=TARGET),
            calibration=CalibrationConfig(images=len(records)),
            methods=("mse",),
            refine=(),
            finetune=False,
        )
        found = quantize(
            open_float_model(planted, run.out),
            records,
            settings,
            scoring=config,
            run=run,
            dataset=None,
            compared=images,
        ).results
    left = sorted(found["float_layers"])
    print(f"limit {limit:.3f}; d of the engine {found['d']:.3f}; latency by {found['latency_source']}")
    print(f"left float: {', '.join(left) or 'none'}")
    print(f"expected:   {', '.join(expected)}")
    print("the same" if left == expected else "NOT the same")


if __name__ == "__main__":
    main()
