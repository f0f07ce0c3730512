"""Compare calibration methods by COCO mAP.

Statistics are collected in one pass over the calibration images; every method is computed from them and scored on the
validation split, beside the float model, with the 95 % interval of each difference. `per-layer` takes for every layer the method
that harms its output least. The best method is the one of the highest mAP; those that cannot be told apart from it are marked.
What choosing the best is worth is measured too: chosen on one half of the validation images, confirmed on the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from yoloqat.calibration.per_layer import CANDIDATES
from yoloqat.cli import calibrate, options
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.next_line import next_line
from yoloqat.cli.terminal import interval, number, table
from yoloqat.config import MethodSpec, to_dict
from yoloqat.config.method import DEFAULT_METHODS, PER_LAYER
from yoloqat.detectors import load_detector
from yoloqat.pipeline.compare import compare_methods, methods_taken
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run


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
    return Outcome(settings, results, inputs, _tables(title, methods, results), next=[line])


def _tables(title: str, methods: Sequence[MethodSpec], results: dict[str, Any]) -> list[Table]:
    headings = ("method", "mAP50-95", "drop", "95 % interval", "search s", "")
    shown = table(f"{title}, {results['calibration_images']} calibration images", *headings)
    shown.add_row("float", number(results["baseline"]["map50_95"]), "-", "-", "-", "")
    tables = [shown]
    for method, row in zip(methods, results["methods"], strict=True):
        name, seconds = str(method), number(row["search_seconds"], 2)
        mark = "best" if name == results["best"] else "tied" if name in results["tied"] else ""
        drop = f"{row['drop']:+.4f}"
        shown.add_row(name, number(row["map50_95"]), drop, interval(row["drop_ci95"]), seconds, mark)
        if "per_layer" in row:
            taken = table("per-layer", "method", "quantizers")
            for chosen, count in methods_taken(row["per_layer"]).items():
                taken.add_row(chosen, str(count))
            tables.append(taken)
    confirmed = results["confirmed"]
    if confirmed is not None:
        shown.caption = (
            f"tied: cannot be told apart from the best. Chosen on one half of the images: {confirmed['method']}; "
            f"its drop on the other half {confirmed['drop']:+.4f} {interval(confirmed['drop_ci95'])}"
        )
    return tables


COMMAND = Command("compare", __doc__ or "", _arguments, _run)
