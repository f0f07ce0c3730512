"""How many calibration images are enough: the noise d of the calibrated model over their number, by seed and method.

    python benchmarks/calibration_images.py --weights WEIGHTS --data coco_val.yaml --models yolov8n.pt yolov5s.pt

One pass over the calibration images in a seeded order gives every number of them. d is measured on the same validation images
for all; each row has the quotient of its d and that of all images, with the 95 % interval of a paired bootstrap.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from itertools import pairwise
from pathlib import Path

import torch
from refine import Ratio

from yoloqat.calibration import Statistics, collect_statistics
from yoloqat.config import CalibrationConfig, EvalConfig, MethodSpec, QuantConfig
from yoloqat.datasets import calibration_images, load_dataset, spread
from yoloqat.detectors import load_detector, torch_threads
from yoloqat.evaluation.fidelity import NOISE
from yoloqat.pipeline.fidelity import float_reference
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run


def measured(args: argparse.Namespace, model: str, seed: int, folder: Path) -> None:
    """Print the rows of one model and one order of the images."""
    run = Run(folder, torch.device("cpu"), 1)
    count = max(args.counts)
    records = calibration_images(args.data, count, seed)
    order = random.Random(seed).sample(records, len(records))
    config = EvalConfig(imgsz=args.imgsz, batch=args.batch)
    ptq = Ptq(
        load_detector(args.weights / model),
        order,
        quant=QuantConfig(),
        calibration=CalibrationConfig(images=count, seed=seed),
        imgsz=args.imgsz,
        batch=args.batch,
        run=run,
    )
    stages: list[Statistics] = []
    for start, end in pairwise((0, *sorted(args.counts))):
        part = collect_statistics(ptq.detector, ptq.predictor, order[start:end], imgsz=args.imgsz, batch=args.batch)
        stages.append(stages[-1].merge(part) if stages else part)
    reference = float_reference(ptq, spread(load_dataset(args.data).images, args.images), config, run=run)
    if reference is None:
        return
    for method in args.methods:
        found = {}
        for stage in stages:
            ptq.apply(MethodSpec.parse(method), stage)
            found[stage.images] = reference.compare(ptq.predictor)
        last = found[count]
        for images, fidelity in found.items():
            ratio = Ratio.of(fidelity.measures[NOISE], last.measures[NOISE])
            print(f"{model} {method} seed {seed} images {images}: d {fidelity.d.value:.4f}, ratio {ratio}", flush=True)


def main() -> None:
    """Measure every model with every seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="directory of the .pt files")
    parser.add_argument("--data", type=Path, required=True, help="data set YAML")
    parser.add_argument("--models", nargs="+", default=["yolov8n.pt"])
    parser.add_argument("--methods", nargs="+", default=["mse", "entropy"])
    parser.add_argument("--counts", type=int, nargs="+", default=[16, 32, 64, 128, 256, 341])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--images", type=int, default=64, help="validation images that d is measured on")
    parser.add_argument("--batch", type=int, default=8)
    args = parser.parse_args()
    with torch_threads(1), tempfile.TemporaryDirectory() as folder:
        for model in args.models:
            for seed in args.seeds:
                measured(args, model, seed, Path(folder))


if __name__ == "__main__":
    main()
