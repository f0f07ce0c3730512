"""What refinement wins: the noise d of the refined model over that of the calibrated one, on images that neither saw.

    python benchmarks/refine.py --weights ../shared/real/weights --data ../shared/real/coco/coco_val.yaml --imgsz 320
    python benchmarks/refine.py ... --models yolov8n.pt yolov8s.pt yolov5s.pt --imgsz 640 --int8-macs 0.9 --refine bias --map
    python benchmarks/refine.py ... --imgsz 320 --bits 6 --refine all --refine-images 341 --map

The baseline is today's default: mse, 64 calibration images, seed 0, one thread, 8 bits. Every row refines a copy of it, on the
calibration images of one seed, and measures both on the validation images. A ratio is that of the two means, with the 95 %
interval of a paired bootstrap over the images. With --int8-macs the layers that a noise budget of the calibration images says to
leave float are, up to that share of the multiply-adds in INT8: the exact best by its shares, layers with a common scale together.
With --map every row also has its mAP50-95 on all validation images, its drop and that minus the baseline's, paired.
OpenVINO engines beside NNCF's are measured by `benchmarks/openvino_nncf.py`.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from ratio import Ratio

from yoloqat.config import CalibrationConfig, EvalConfig, MethodSpec, QuantConfig, QuantScheme
from yoloqat.config.sizes import sides
from yoloqat.datasets import calibration_images, load_dataset, spread
from yoloqat.detectors import Detector, TorchPredictor, load_detector, save_checkpoint, torch_threads
from yoloqat.evaluation import evaluate, paired_difference
from yoloqat.evaluation.fidelity import BOX, NOISE
from yoloqat.pipeline.fidelity import float_reference
from yoloqat.pipeline.noise_mode import run_noise_budget
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.refine import refine_detector
from yoloqat.pipeline.refine_steps import ALL, STEPS, steps_of
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.search import budget_figures
from yoloqat.pipeline.sensitivity import ScanOptions
from yoloqat.quant import state_digest
from yoloqat.quant.graph import trace
from yoloqat.quant.graph.cost import layer_costs
from yoloqat.searching import Choice, Problem, least_noise
from yoloqat.searching.tied import tied_layers
from yoloqat.sensitivity.settings import NOISE as NOISE_MODE
from yoloqat.sensitivity.settings import ScanConfig

IMAGES = CalibrationConfig.images


def _macs(ptq: Ptq) -> tuple[dict[str, int], int]:
    """Return the multiply-adds of each quantized layer, and of all layers."""
    example = torch.zeros(1, ptq.detector.info.channels, *sides(ptq.imgsz))
    costs = layer_costs(trace(ptq.detector.module, example))
    return {cost.name: cost.macs for cost in costs if cost.name in ptq.layers}, sum(cost.macs for cost in costs)


def int8_share(ptq: Ptq) -> float:
    """Return which share of the multiply-adds of all layers is quantized."""
    quantized, total = _macs(ptq)
    return sum(quantized.values()) / total


def least_noise_within(ptq: Ptq, share: float, run: Run) -> tuple[str, ...]:
    """Return the layers that are best left float with at least a share of the multiply-adds in INT8."""
    checkpoint = run.out / "budget.safetensors"
    save_checkpoint(ptq.detector, checkpoint)
    config, inner = (
        EvalConfig(imgsz=ptq.imgsz, batch=ptq.batch),
        replace(run, out=run.out / f"budget-{ptq.detector.source.sha256[:8]}-{ptq.imgsz}"),
    )
    images = spread(ptq.records, 16)
    options = ScanOptions()
    budget = run_noise_budget(checkpoint, images, config, scan=ScanConfig(mode=NOISE_MODE), options=options, run=inner)
    d, shares = budget_figures(budget, state_digest(ptq.detector.module))
    quantized, total = _macs(ptq)
    quantization = ptq.detector.quantization
    if quantization is None:
        return ()
    groups = tied_layers(quantization.placement, quantization.layers)
    choices = [
        Choice(group, sum(shares.get(name, 0.0) for name in group), sum(quantized[name] for name in group) / total)
        for group in groups
    ]
    found = least_noise(Problem(tuple(choices), (), d, 0.0), sum(quantized.values()) / total - share)
    return () if found is None else found.layers


def measured(args: argparse.Namespace, model: str, imgsz: int, folder: Path) -> None:
    """Print the rows of one model at one size."""
    run = Run(folder, torch.device("cpu"), 1)
    records = calibration_images(args.data, IMAGES, 0)
    config = EvalConfig(imgsz=imgsz, batch=args.batch)

    def calibrated(ignore: Sequence[str] = ()) -> Ptq:
        weights = QuantScheme(bits=args.bits, axis=0, narrow_range=True)
        quant = QuantConfig(QuantScheme(bits=args.bits), weights, ignore=tuple(ignore))
        ptq = Ptq(
            load_detector(args.weights / model),
            records,
            quant=quant,
            calibration=CalibrationConfig(),
            imgsz=imgsz,
            batch=args.batch,
            run=run,
        )
        ptq.apply(MethodSpec("mse"))
        return ptq

    ptq = calibrated()
    images = spread(load_dataset(args.data).images, args.images)
    reference = float_reference(ptq, images, config, run=run)
    if reference is None:
        return
    base = reference.compare(ptq.predictor)
    print(f"{model}, {imgsz} px, {len(images)} images: d {base.d.value:.4f} as calibrated", flush=True)

    scored = None
    if args.map:
        dataset = load_dataset(args.data)
        floating = evaluate(TorchPredictor(load_detector(args.weights / model)), dataset, config).matches
        scored = evaluate(ptq.predictor, dataset, config)
        drop = paired_difference(floating, scored.matches)
        print(f"  mAP50-95 {scored.metrics.map50_95:.4f}, drop {drop}, {len(dataset.images)} images", flush=True)

    def row(what: str, detector: Detector) -> None:
        after = reference.compare(TorchPredictor(detector))
        noise, box = (Ratio.of(after.measures[name], base.measures[name]) for name in (NOISE, BOX))
        print(f"  {what}: d {after.d.value:.4f}, ratio {noise}; box disagreement, ratio {box}", flush=True)
        if scored is not None:
            found = evaluate(TorchPredictor(detector), dataset, config)
            more = paired_difference(scored.matches, found.matches)
            drop = paired_difference(floating, found.matches)
            print(
                f"    mAP50-95 {found.metrics.map50_95:.4f}; drop {drop}; drop minus the baseline's {more}", flush=True
            )

    ignored = [*args.ignore, *(least_noise_within(ptq, args.int8_macs, run) if args.int8_macs else ())]
    if ignored:
        ptq = calibrated(ignored)
        row(f"float: {', '.join(ignored)}; multiply-adds in INT8 {int8_share(ptq):.3f}", ptq.detector)
    for seed in args.seeds:
        chosen = calibration_images(args.data, args.refine_images, seed)
        for name in args.refine:
            refined: Detector = copy.deepcopy(ptq.detector)
            found = refine_detector(refined, chosen, steps=steps_of(name), imgsz=imgsz, batch=args.batch, run=run)
            kept = "+".join(entry["step"] for entry in found["refine"][1:] if entry["accepted"]) or "nothing"
            seconds = found["refine_seconds"]
            row(f"refined by {kept}, seed {seed}, {args.refine_images} images, {seconds:.0f} s", refined)


def main() -> None:
    """Measure every model at every size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="directory of the .pt files")
    parser.add_argument("--data", type=Path, required=True, help="data set YAML")
    parser.add_argument("--models", nargs="+", default=["yolov8n.pt"])
    parser.add_argument("--imgsz", type=int, nargs="+", default=[320])
    parser.add_argument("--images", type=int, default=220, help="validation images that d is measured on")
    parser.add_argument("--refine-images", type=int, default=IMAGES, help="calibration images that refine")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="choose these images")
    parser.add_argument("--refine", nargs="+", default=[*STEPS, ALL], choices=[*STEPS, ALL], help="one row for each")
    parser.add_argument(
        "--ignore", nargs="+", default=[], help="layers to leave float, as `calibrate --ignore` takes them"
    )
    parser.add_argument(
        "--int8-macs", type=float, help="leave layers float down to this share of multiply-adds in INT8"
    )
    parser.add_argument("--bits", type=int, default=8, help="width of weights and activations")
    parser.add_argument("--map", action="store_true", help="score mAP too; needs labels")
    parser.add_argument("--batch", type=int, default=8)
    args = parser.parse_args()
    with torch_threads(1), tempfile.TemporaryDirectory() as folder:
        for model in args.models:
            for imgsz in args.imgsz:
                measured(args, model, imgsz, Path(folder))


if __name__ == "__main__":
    main()
