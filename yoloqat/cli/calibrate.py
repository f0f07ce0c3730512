"""Calibrate a model by one method and save it.

Writes DIR/model.safetensors. With the validation split of --data the mAP of three models is measured: float, swapped (quantizers
without calibrated ranges) and QFloat (calibrated).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from yoloqat.cli import options
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.terminal import interval, number, table
from yoloqat.config import MethodSpec, to_dict
from yoloqat.detectors import load_detector, save_checkpoint
from yoloqat.pipeline.calibrate import calibrate
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run

CHECKPOINT = "model.safetensors"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="Ultralytics .pt")
    parser.add_argument(
        "--method", default="mse", metavar="M", help="max, entropy, mse or percentile-99.9 (default: mse)"
    )
    parser.add_argument("--no-eval", action="store_true", help="calibrate only, measure nothing")
    options.add_data(parser, required=False)
    options.add_evaluation(parser)
    options.add_calibration(parser)
    options.add_quantization(parser)


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    method = MethodSpec.parse(args.method)
    quant = options.quant_config(args)
    calibration = options.calibration_config(args, method)
    detector = load_detector(args.model)
    config = options.eval_config(args, detector.imgsz)
    records = options.calibration_records(args)
    dataset = None if args.no_eval else options.dataset(args)
    ptq = Ptq(detector, records, quant=quant, calibration=calibration, imgsz=config.imgsz, batch=config.batch, run=run)
    results = calibrate(ptq, method, config, run=run, dataset=dataset)
    save_checkpoint(detector, run.out / CHECKPOINT)
    shown = table(f"{args.model.name}, {len(ptq.layers)} layers quantized by {method}", "model", "mAP50-95")
    if dataset is not None:
        shown.add_row("float", number(results["map_float"]))
        shown.add_row("swapped, ranges of each tensor", number(results["map_swapped"]))
        shown.add_row("QFloat, calibrated", number(results["map_qfloat"]))
        shown.add_row("drop, 95 % interval", f"{results['drop']:+.4f} {interval(results['drop_ci95'])}")
    settings = {"evaluation": to_dict(config), "quantization": to_dict(quant), "calibration": to_dict(calibration)}
    inputs = {"model": options.model_input(detector), "data": options.dataset_input(dataset)}
    next_line = f"yoloqat export {run.out / CHECKPOINT}" + (f" --data {args.data}" if args.data else "")
    return Outcome(settings, results, inputs, [shown] if dataset else [], [CHECKPOINT], [next_line])


COMMAND = Command("calibrate", __doc__ or "", _arguments, _run)
