"""Compare calibration methods by COCO mAP.

Statistics are collected in one pass over the calibration images; every method is computed from them and scored on the
validation split, beside the float model, with the 95 % interval of each difference. `per-layer` takes for every layer the method
that harms its output least. The best method is the one of the highest mAP; those that cannot be told apart from it are marked.
What choosing the best is worth is measured too: chosen on one half of the validation images, confirmed on the other.
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
    options.add_histograms(parser)
    options.add_data(parser)
    options.add_evaluation(parser)
    options.add_calibration(parser)
    options.add_quantization(parser)


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    methods = list(dict.fromkeys(MethodSpec.parse(text) for text in args.methods.split(",")))
    quant = options.quant_config(args)
    calibration = options.calibration_config(args)
    dataset = options.required_dataset(args)
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
    results = compare_methods(ptq, dataset, methods, config, run=run, seed=args.seed)
    settings = {
        "evaluation": to_dict(config),
        "quantization": to_dict(quant),
        "calibration": to_dict(calibration),
        "methods": [str(method) for method in methods],
    }
    inputs = {"model": options.model_input(detector), "data": options.dataset_input(dataset)}
    title = f"{args.model.name}, {len(ptq.layers)} layers at {args.bits} bits"
    line = next_line(args, calibrate.COMMAND, args.model, "--method", results["best"])
    return Outcome(settings, results, inputs, comparison_tables(title, results), next=[line])


COMMAND = Command("compare", __doc__ or "", _arguments, _run)
