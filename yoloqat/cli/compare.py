"""Compare calibration methods by noise and by COCO mAP.

Statistics are collected in one pass over the calibration images, and every method is computed from them. The noise d says how far
the class probabilities of the quantized model are from those of the float model, on images that need no labels: with --images DIR
alone one half of them calibrates and the other measures. With labels every method is scored too, with the 95 % interval of its
drop. Methods whose mAP is not significantly below the best are tied; of these the one of the least noise is recommended. What
choosing is worth is measured: chosen on one half of the images, confirmed on the other. `per-layer` takes for every layer the
method that harms its output least. With --refine the recommended method is refined, and measured once more.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from yoloqat.calibration.per_layer import CANDIDATES
from yoloqat.cli import calibrate, options
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.next_line import next_line
from yoloqat.config import MethodSpec, to_dict
from yoloqat.config.method import DEFAULT_METHODS, PER_LAYER
from yoloqat.detectors import load_detector
from yoloqat.pipeline.compare import compare_methods
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.refine_steps import steps_of
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.tables import comparison_tables


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="Ultralytics .pt")
    parser.add_argument(
        "--methods",
        default=",".join(str(method) for method in DEFAULT_METHODS),
        metavar="LIST",
        help="comma-separated: max, entropy, mse, percentile-P, per-layer (default: %(default)s)",
    )
    calibrate.add_refine(parser)
    options.add_histograms(parser)
    options.add_data(parser)
    options.add_evaluation(parser)
    options.add_fidelity(parser)
    options.add_workers(parser)
    options.add_log(parser)
    options.add_calibration(parser)
    options.add_quantization(parser)


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    methods = [MethodSpec.parse(text) for text in args.methods.split(",")]
    quant = options.quant_config(args)
    calibration = options.calibration_config(args)
    dataset = options.dataset(args) if options.unlabelled(args) else options.required_dataset(args)
    detector = load_detector(args.model)
    config = options.eval_config(args, detector.imgsz)
    plain = [method for method in methods if method.kind != PER_LAYER]
    ptq = Ptq(
        detector,
        options.calibration_records(args),
        quant=quant,
        calibration=calibration,
        imgsz=config.imgsz,
        batch=config.batch,
        run=run,
        histograms=args.histograms,
        candidates=plain or CANDIDATES,
    )
    images, steps = options.comparison_records(args, dataset), steps_of(args.refine)
    with run.pooled(args.workers, args.ray) as run:
        results = compare_methods(ptq, dataset, methods, config, run=run, images=images, seed=args.seed, refine=steps)
    settings = {
        "evaluation": to_dict(config),
        "quantization": to_dict(quant),
        "calibration": to_dict(calibration),
        "methods": [str(method) for method in dict.fromkeys(methods)],
        "fidelity_images": args.fidelity_images,
        "refine": list(steps),
    }
    inputs = {"model": options.model_input(detector), "data": options.dataset_input(dataset)}
    title = f"{args.model.name}, {len(ptq.layers)} layers at {args.bits} bits"
    line = next_line(args, calibrate.COMMAND, args.model, "--method", results["recommended"])
    return Outcome(settings, results, inputs, comparison_tables(title, results), next=[line])


COMMAND = Command("compare", __doc__ or "", _arguments, _run, continues=("workers", "ray"))
