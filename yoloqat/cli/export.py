"""Export a calibrated model to QDQ ONNX.

Writes DIR/model.onnx: 8-bit weights, one Q/DQ pair per quantized tensor, Ultralytics' metadata, so that YOLO("model.onnx")
loads it. A float .pt is exported as plain float ONNX, to compare with. The file names the target that the model was
calibrated for, and is written as that engine wants it. --half writes FP16 where nothing is quantized, for engines without
precision flags (TensorRT 11); the target tensorrt has it unless --no-half is given. The file is linted; an error ends with
code 1. With --data it is compared with the torch model: node by node on real images, by the noise d, and by mAP beside the
thread noise; with --images DIR alone, which needs no labels, without mAP.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from yoloqat.cli import build, options
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.fields import add_field, default_of
from yoloqat.cli.next_line import next_line
from yoloqat.config import ExportConfig, to_dict
from yoloqat.config.target import TARGETS
from yoloqat.detectors import Detector, load_detector
from yoloqat.pipeline.export import export_config
from yoloqat.pipeline.export_check import export_and_check
from yoloqat.pipeline.recipe import check_made_by
from yoloqat.pipeline.run import Run

ONNX = "model.onnx"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="yoloqat checkpoint, or a float .pt")
    parser.add_argument(
        "--target",
        choices=tuple(TARGETS),
        help="the engine that will run the file (default: the one it was calibrated for, if any)",
    )
    add_field(parser, ExportConfig, "opset", "version of the ONNX operators")
    add_field(parser, ExportConfig, "dynamic", "leave the batch size open (not the image size)")
    parser.add_argument(
        "--half",
        action=argparse.BooleanOptionalAction,
        help="FP16 where nothing is quantized; images and outputs FP32 (default: what the target wants: FP16 for tensorrt)",
    )
    add_field(parser, ExportConfig, "nms", "put NMS into the graph: 300 detections per image come out")
    add_field(parser, ExportConfig, "nms_conf", "with --nms, scores to exceed")
    options.add_recipe(parser)
    options.add_data(parser)
    options.add_evaluation(parser)
    options.add_fidelity(parser)
    parser.set_defaults(batch=default_of(ExportConfig, "batch"))


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    recipe = options.take_recipe(args)
    detector = load_detector(args.model)
    if recipe is not None:
        check_made_by(recipe, detector)
    dataset = options.dataset(args)
    compared = options.offered_records(args, dataset)
    config = options.eval_config(args, detector.imgsz)
    asked = ExportConfig(
        imgsz=config.imgsz,
        batch=config.batch,
        opset=args.opset,
        dynamic=args.dynamic,
        half=args.half,
        nms=args.nms,
        nms_conf=args.nms_conf,
        nms_iou=config.nms_iou,
        max_det=config.max_det,
        target=args.target,
    )
    path, export = run.out / ONNX, export_config(detector, asked)
    found = export_and_check(detector, path, export, run=run, dataset=dataset, scoring=config, compared=compared)
    settings = {"evaluation": to_dict(config), "export": to_dict(export)}
    inputs = {"model": options.model_input(detector), "data": options.dataset_input(dataset)}
    half = {"half": False} if args.half is False else {}
    lines = [
        next_line(args, build.COMMAND, path, without=("batch", "half"), **half)
    ]  # the engine's batch is the file's
    return Outcome(settings, found.to_dict(), inputs, found.tables, [ONNX], lines, found.failed)


def lines_after(args: argparse.Namespace, detector: Detector, checkpoint: Path) -> list[str]:
    """Return the line that exports a checkpoint that a command has just written; none where no engine runs its bits."""
    config = None if detector.quantization is None else detector.quantization.config
    if config is not None and {config.activations.bits, config.weights.bits} != {8}:
        return []
    # the batch would be the file's, the target is the checkpoint's own
    return [next_line(args, COMMAND, checkpoint, without=("batch", "target"))]


COMMAND = Command("export", __doc__ or "", _arguments, _run, files=(ONNX,))
