"""Compare calibration methods by COCO mAP.

Statistics are collected in one pass over the calibration images; every method is computed from them and scored on the
validation split, beside the float model, with the 95 % interval of each difference. The best method is chosen on one half of the
validation images and confirmed on the other.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from yoloqat.cli import options
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.terminal import interval, number, table
from yoloqat.config import MethodSpec, to_dict
from yoloqat.config.method import DEFAULT_METHODS
from yoloqat.detectors import load_detector
from yoloqat.pipeline.compare import compare_methods
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="Ultralytics .pt")
    parser.add_argument(
        "--methods",
        default=",".join(str(method) for method in DEFAULT_METHODS),
        metavar="LIST",
        help="comma-separated: max, entropy, mse, percentile-P (default: %(default)s)",
    )
    options.add_data(parser, required=True)
    options.add_evaluation(parser)
    options.add_calibration(parser)
    options.add_quantization(parser)


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    methods = list(dict.fromkeys(MethodSpec.parse(text) for text in args.methods.split(",")))
    quant = options.quant_config(args)
    calibration = options.calibration_config(args)
    dataset = options.dataset(args)
    assert dataset is not None  # noqa: S101 - data_required
    detector = load_detector(args.model)
    config = options.eval_config(args, detector.imgsz)
    records = options.calibration_records(args)
    ptq = Ptq(detector, records, quant=quant, calibration=calibration, imgsz=config.imgsz, batch=config.batch, run=run)
    results = compare_methods(ptq, dataset, methods, config, run=run, seed=args.seed)
    shown = table(
        f"{args.model.name}, {len(ptq.layers)} layers at {args.bits} bits, {results['calibration_images']} calibration images",
        "method",
        "mAP50-95",
        "drop",
        "95 % interval",
        "search s",
    )
    shown.add_row("float", number(results["baseline"]["map50_95"]), "-", "-", "-")
    for method, row in zip(methods, results["methods"], strict=True):
        seconds = number(row["search_seconds"], 2)
        shown.add_row(str(method), number(row["map50_95"]), f"{row['drop']:+.4f}", interval(row["drop_ci95"]), seconds)
    confirmed = results["confirmed"]
    if confirmed is not None:
        shown.caption = (
            f"best on one half of the images: {results['best']}; drop on the other half "
            f"{confirmed['drop']:+.4f} {interval(confirmed['drop_ci95'])}"
        )
    settings = {
        "evaluation": to_dict(config),
        "quantization": to_dict(quant),
        "calibration": to_dict(calibration),
        "methods": [str(method) for method in methods],
    }
    inputs = {"model": options.model_input(detector), "data": options.dataset_input(dataset)}
    next_line = f"yoloqat calibrate {args.model} --method {results['best']} --data {args.data}"
    return Outcome(settings, results, inputs, [shown], next=[next_line] if args.data else [])


COMMAND = Command("compare", __doc__ or "", _arguments, _run)
