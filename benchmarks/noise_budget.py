"""What the noise budget promises: methods told apart, noises that add up, a stable ranking, and layers worth floating.

    python benchmarks/noise_budget.py pairs  yolov8n.pt --data coco_val.yaml --imgsz 320
    python benchmarks/noise_budget.py budget yolov8n.pt yolov8s.pt yolov5s.pt yolov8n-seg.pt --data coco_val.yaml --imgsz 320
    python benchmarks/noise_budget.py budget yolov8n.pt --data coco_val.yaml --imgsz 320 --scan

`pairs` compares the calibration methods at 8 bits: of how many pairs the paired interval excludes zero, by the noise d on 64
images and by mAP on all. `budget` measures each quantizer and each layer alone on 64 images: the predicted noise of the whole
against the measured one, Spearman's rank correlation of the ranking from 16 images with that from 64, and, on 64 other images,
the noise with the first three layers float, chosen by noise, by SQNR, by Fisher information and, with --scan, by the
leave-one-out scan of mAP on all images.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from yoloqat.config import CalibrationConfig, EvalConfig, MethodSpec, QuantConfig
from yoloqat.config.method import DEFAULT_METHODS, PER_LAYER
from yoloqat.datasets import ImageRecord, calibration_images, load_dataset, plan_batches, read_batches
from yoloqat.detectors import load_detector, save_checkpoint, torch_threads
from yoloqat.evaluation import Resampling, bootstrap
from yoloqat.evaluation.fidelity import mean
from yoloqat.evaluation.reference import Reference
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.sensitivity import ScanOptions, run_scan
from yoloqat.quant import quantization_disabled
from yoloqat.quant.graph import Executor
from yoloqat.sensitivity.items import Item
from yoloqat.sensitivity.noise import PREFIX, WHOLE, NoiseScan
from yoloqat.sensitivity.proxies import edge_noise, joined, rank_correlation
from yoloqat.sensitivity.scanner import MEMORY
from yoloqat.sensitivity.settings import ScanConfig

IMAGES, FEW, FIRST = 64, 16, 3

METHODS = tuple(method for method in DEFAULT_METHODS if method.kind != PER_LAYER)


def prepared(args: argparse.Namespace, model: str, run: Run) -> Ptq:
    """Return a swapped detector with its calibration images."""
    return Ptq(
        load_detector(args.weights / model),
        calibration_images(args.data, IMAGES, 0),
        quant=QuantConfig(),
        calibration=CalibrationConfig(images=IMAGES),
        imgsz=args.imgsz,
        batch=args.batch,
        run=run,
    )


def pairs(args: argparse.Namespace, run: Run) -> None:
    """Print how many pairs of methods the noise and mAP tell apart."""
    config, dataset = EvalConfig(imgsz=args.imgsz, batch=args.batch), load_dataset(args.data)
    for model in args.models:
        ptq = prepared(args, model, run)
        with quantization_disabled(ptq.detector.module):
            reference = Reference(ptq.predictor, dataset.images[:IMAGES], config, detections=False)
        noises, resampled = {}, {}
        for method in METHODS:
            ptq.apply(method)
            noises[str(method)] = reference.compare(ptq.predictor).measures["d"]
            found = run.evaluate(
                ptq.predictor, dataset, config, label=str(method), model_key=ptq.model_key(str(method))
            )
            resampled[str(method)] = bootstrap(found.matches, Resampling(len(dataset.images)))
        by_noise = by_map = 0
        for a, b in combinations(noises, 2):
            difference = mean(noises[a] - noises[b])
            by_noise += not difference.low <= 0.0 <= difference.high
            low, high = np.percentile(resampled[a] - resampled[b], [2.5, 97.5])
            by_map += not low <= 0.0 <= high
        for name, values in noises.items():
            print(f"{model} {name:18} d {mean(values).value:.4f}")
        total = len(list(combinations(noises, 2)))
        print(f"{model}: of {total} pairs d on {IMAGES} images tells {by_noise}, mAP on {len(dataset.images)} {by_map}")


def budget(args: argparse.Namespace, run: Run) -> None:
    """Print additivity, the stability of the ranking, and what the first layers of each ranking are worth."""
    config, dataset = EvalConfig(imgsz=args.imgsz, batch=args.batch), load_dataset(args.data)
    for model in args.models:
        ptq = prepared(args, model, run)
        ptq.apply(MethodSpec("mse"))
        images, checkpoint = dataset.images, run.out / f"{Path(model).stem}.safetensors"
        save_checkpoint(ptq.detector, checkpoint)
        scan = noise_scan(checkpoint, images[:IMAGES], config)
        start = time.process_time()
        found = scan.budget([scan.run(batch) for batch in range(len(scan.batches))])
        seconds = time.process_time() - start
        whole, predicted = mean(found.values[WHOLE]), mean(found.predicted)
        ratio, together = predicted.value / whole.value, np.corrcoef(found.values[WHOLE], found.predicted)[0, 1]
        print(
            f"{model} {args.imgsz} px: {len(scan.names)} models on {IMAGES} images in {seconds:.0f} s of processor time\n"
            f"  whole {whole.value:.4f}, predicted {predicted.value:.4f}, ratio {ratio:.3f}; correlated by image {together:.2f}"
        )
        for title, items, prefix in (("layers", scan.items, ""), ("quantizers", scan.quantizers, PREFIX)):
            values = np.stack([found.values[prefix + item.name] for item in items])
            few, many = (mean_shares(part) for part in (values[:, :FEW], values))
            ten = set(np.argsort(-few)[:10]) & set(np.argsort(-many)[:10])
            correlation = rank_correlation(few.tolist(), many.tolist())
            print(
                f"  {title}: Spearman of {FEW} with {IMAGES} images {correlation:.3f}; {len(ten)} of the first ten the same"
            )
        rankings = {"noise": mean_shares(np.stack([found.values[item.name] for item in scan.items]))}
        # a module that has run in inference mode keeps tensors that no gradient goes through
        rankings |= proxies(noise_scan(checkpoint, images[:IMAGES], config), config)
        if args.scan:
            rankings["mAP scan"] = scanned(checkpoint, args, config, scan.items)
        worth(scan, rankings, noise_scan(checkpoint, images[IMAGES : 2 * IMAGES], config))


def noise_scan(checkpoint: Path, images: Sequence[ImageRecord], config: EvalConfig) -> NoiseScan:
    """Return what measures the noise of a checkpoint's layers on some images."""
    device = torch.device("cpu")
    return NoiseScan(load_detector(checkpoint), images, config=config, scan=ScanConfig(), device=device, memory=MEMORY)


def mean_shares(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each item's share of the sum of the squares of all items' noises."""
    squares = values.mean(axis=1) ** 2
    return squares / squares.sum()


def proxies(scan: NoiseScan, config: EvalConfig) -> dict[str, NDArray[np.float64]]:
    """Return the rankings by SQNR and by Fisher information on the first batch."""
    loaded = next(iter(read_batches(plan_batches(scan.images[: config.batch], config.imgsz, config.batch))))
    images = torch.from_numpy(loaded.images).to(memory_format=torch.channels_last)
    executor = Executor(scan._module, scan.traced(images))
    noises = edge_noise(executor, scan._edges, images, classes=scan.info.classes)
    own = [joined(noises, item.edges) for item in scan.items]
    return {
        "SQNR": np.asarray([noise.nmse for noise in own]),
        "Fisher": np.asarray([noise.fisher for noise in own]),
    }


def scanned(
    checkpoint: Path, args: argparse.Namespace, config: EvalConfig, items: Sequence[Item]
) -> NDArray[np.float64]:
    """Return the ranking by the mAP that each layer alone wins back, on all images."""
    run, dataset = Run(checkpoint.with_suffix(""), torch.device("cpu"), 1), load_dataset(args.data)
    only, settings = tuple(item.name for item in items), {"scan": ScanConfig(), "options": ScanOptions()}
    results = run_scan(checkpoint, dataset, config, run=run, only=only, **settings).results
    effects = {item["name"]: item["effect"] for item in results["items"]}
    return np.asarray([effects[item.name] for item in items])


def worth(scan: NoiseScan, rankings: Mapping[str, NDArray[np.float64]], others: NoiseScan) -> None:
    """Print the noise on other images with the first layers of each ranking float, and the paired differences."""
    sets = {}
    for name, values in rankings.items():
        order = [scan.items[index] for index in np.argsort(-values) if scan.items[index].layers]
        sets[name] = order[:FIRST]
    on = {"nothing": others.without(()), **{name: others.without(first) for name, first in sets.items()}}
    parts = [others.run(batch, on) for batch in range(len(others.batches))]
    noises = {name: np.concatenate([part[name] for part in parts]) for name in on}
    for name, values in noises.items():
        first = ", ".join(item.name for item in sets.get(name, ()))
        against = mean(values - noises["noise"])
        d = mean(values).value
        print(
            f"  {name:9} float: d {d:.4f}, {d / noises['nothing'].mean():.2f} of the whole; behind noise "
            f"{against.value:+.4f} [{against.low:+.4f}, {against.high:+.4f}]  {first}"
        )


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, work in (("pairs", pairs), ("budget", budget)):
        command = commands.add_parser(name)
        command.add_argument("models", nargs="+")
        command.add_argument("--weights", type=Path, default=Path(), help="directory of the models")
        command.add_argument("--data", type=Path, required=True)
        command.add_argument("--imgsz", type=int, default=320)
        command.add_argument("--batch", type=int, default=8)
        command.add_argument("--scan", action="store_true", help="rank by the mAP scan too")
        command.set_defaults(work=work)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, torch_threads(1):
        args.work(args, Run(Path(folder), torch.device("cpu"), 1))


if __name__ == "__main__":
    main()
