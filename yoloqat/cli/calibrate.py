"""Calibrate a model by one method and save it.

Writes DIR/model.safetensors. With the validation split of --data the noise d of the calibrated model is measured, and the mAP
of three models: float, swapped (quantizers without calibrated ranges) and QFloat (calibrated). With --images DIR alone, which
needs no labels, one half of the images calibrates and the other measures d. With --curve DIR/curve.png shows how ranges, d and
mAP settle with the number of calibration images. --refine corrects biases and learns ranges afterwards, judged by the noise on
calibration images held out. Statistics that an earlier run collected of the same model, images and settings are found and reused.
--recipe takes every option from a recipe.yaml and makes the same checkpoint, or QDQ file, again.

A float .onnx needs no Ultralytics: DIR/model.onnx is the QDQ file, DIR/float.onnx the float file that it is compared with. Its
heads are found, or named by --outputs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from yoloqat.calibration.nvidia import BACKENDS, nvidia_package
from yoloqat.cli import export, onnx_file, options
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.fields import default_of
from yoloqat.config import CalibrationConfig, MethodSpec, to_dict
from yoloqat.detectors import load_detector, save_checkpoint
from yoloqat.errors import ConfigError
from yoloqat.pipeline.calibrate import calibrate
from yoloqat.pipeline.curve import doubling, save_curve, settling_curve
from yoloqat.pipeline.onnx_files import FLOAT, QDQ
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.recipe import check_images, check_model
from yoloqat.pipeline.refine_steps import ALL, NONE, STEPS, steps_of
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.tables import curve_table, per_layer_table, refine_table, scores_table
from yoloqat.results import Table, counted

CHECKPOINT, CURVE = "model.safetensors", "curve.png"
AUTO = "auto"
_DIGITS = 9
"""Of the largest number of images; Python refuses to read numbers of some thousands."""


def add_refine(
    parser: argparse._ActionsContainer,
    what: str = "afterwards lower the noise by what is learned on calibration images without labels",
    default: str = NONE,
) -> None:
    """Add ``--refine``."""
    parser.add_argument(
        "--refine",
        default=default,
        metavar="STEPS",
        help=f"{what}: {NONE}, {ALL}, or {', '.join(STEPS)}, joined by commas in any order (default: %(default)s)",
    )


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="Ultralytics .pt, or a float .onnx")
    parser.add_argument(
        "--method",
        default=str(default_of(CalibrationConfig, "method")),
        metavar="M",
        help="max, entropy, mse, percentile-99.9 or per-layer (default: %(default)s)",
    )
    options.add_histograms(parser)
    options.add_recipe(parser)
    parser.add_argument(
        "--curve",
        metavar="LIST",
        help=f"numbers of calibration images to show, e.g. 1,2,4,8,16,32,64; {AUTO} doubles them until the noise d settles",
    )
    parser.add_argument(
        "--backend", default=BACKENDS[0], choices=BACKENDS, help="whose modules calibrate (default: %(default)s)"
    )
    add_refine(parser)
    onnx_file.add_outputs(parser)
    parser.add_argument("--no-eval", action="store_true", help="calibrate only, measure nothing")
    options.add_data(parser)
    options.add_evaluation(parser)
    options.add_fidelity(parser)
    options.add_calibration(parser)
    options.add_quantization(parser)


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    if onnx_file.is_onnx(args.model):
        return onnx_file.run_calibrate(args, run)
    onnx_file.outputs_of(args)
    recipe = options.take_recipe(args)
    method = MethodSpec.parse(args.method)
    steps = steps_of(args.refine) if recipe is None else recipe.refine
    package = nvidia_package() if args.backend == BACKENDS[1] else None
    counts = None if args.curve in (None, AUTO) else _counts(args.curve)
    quant = options.quant_config(args) if recipe is None else recipe.quant
    calibration = options.calibration_config(args, method) if recipe is None else recipe.calibration
    detector = load_detector(args.model)
    config = options.eval_config(args, detector.imgsz)
    records = options.calibration_records(args)
    if recipe is not None:
        check_model(recipe, detector)
    ptq = Ptq(
        detector,
        records,
        quant=quant,
        calibration=calibration,
        imgsz=config.imgsz,
        batch=config.batch,
        run=run,
        histograms=args.histograms,
    )
    if recipe is not None:
        check_images(recipe, ptq.records)
    dataset = None if args.no_eval else options.dataset(args)
    files = [CHECKPOINT]
    tables: list[Table] = []
    compared = () if args.no_eval else options.offered_records(args, dataset)
    curve = None
    if args.curve is not None:
        curve = settling_curve(
            ptq,
            method,
            doubling(len(ptq.records)) if counts is None else counts,
            config,
            run=run,
            dataset=dataset,
            compared=compared,
            until_settled=counts is None,
        )
    results = calibrate(ptq, method, config, run=run, dataset=dataset, package=package, compared=compared, refine=steps)
    save_checkpoint(detector, run.out / CHECKPOINT)
    if compared:
        title = f"{args.model.name}, {counted(len(ptq.layers), 'layer')} quantized by {method}"
        tables.append(scores_table(title, results))
    if steps:
        tables.append(refine_table(results))
    if "per_layer" in results:
        tables.append(per_layer_table(results["per_layer"]))
    if curve is not None:
        results["curve"] = curve
        save_curve(curve, run.out / CURVE)
        files.append(CURVE)
        tables.append(curve_table(curve))
    settings = {"evaluation": to_dict(config), "quantization": to_dict(quant), "calibration": to_dict(calibration)}
    inputs = {"model": options.model_input(detector), "data": options.dataset_input(dataset)}
    lines = export.lines_after(args, detector, run.out / CHECKPOINT)
    return Outcome({**settings, "refine": list(steps)}, results, inputs, tables, files, lines)


def _counts(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and len(part) <= _DIGITS for part in parts):
        raise ConfigError(
            f"curve is {text[:120]!r}",
            expected="whole numbers with commas between",
            hint=f"write e.g. --curve 1,2,4,8, or {AUTO}",
        )
    return [int(part) for part in parts]


COMMAND = Command("calibrate", __doc__ or "", _arguments, _run, files=(CHECKPOINT, CURVE, QDQ, FLOAT))
