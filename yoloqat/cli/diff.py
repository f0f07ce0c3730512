"""Show on which images a quantized model and its float model disagree, and what it does to their boxes.

Both models run on the same images; no labels are needed. Boxes above --conf are matched by class and overlap: some are lost or
gained, some move, and of some the score crosses the threshold. The images that change most are drawn side by side with the
differences marked, in the directory pictures and in report.html; the classes and the sizes that change most are listed. Where
all scores shifted, the threshold is told at which the quantized model has as many boxes as the float model.

--images DIR alone takes the half of the images that `calibrate --images DIR` leaves out, at most --fidelity-images of them.
fiftyone.json holds all boxes for FiftyOne: fiftyone.Dataset.from_json("fiftyone.json").
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from yoloqat.cli import options
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.fields import add_field
from yoloqat.config import EvalConfig, to_dict
from yoloqat.config.detecting import DiffConfig
from yoloqat.pipeline.diff import diff_models
from yoloqat.pipeline.diff_files import FIFTYONE, PICTURES
from yoloqat.pipeline.models import common_size, open_model
from yoloqat.pipeline.run import Run


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("float", type=Path, metavar="FLOAT", help="the float model, or any other to compare with")
    parser.add_argument(
        "quantized", type=Path, metavar="QUANTIZED", help=".pt, .safetensors, .onnx, .engine or OpenVINO directory"
    )
    options.add_data(parser)
    group = parser.add_argument_group("forward")
    options.add_imgsz(group, "side of the square letterbox, or its height and width (default: the model's own)")
    add_field(group, EvalConfig, "batch", "images per forward")
    add_field(group, EvalConfig, "nms_iou", "IoU above which NMS drops the less confident of two boxes")
    options.add_fidelity(parser)
    group = parser.add_argument_group("differences")
    add_field(group, DiffConfig, "conf", "the confidence threshold that the models work at")
    add_field(group, DiffConfig, "moved", "IoU with the float model's box below which a box has moved")
    add_field(group, DiffConfig, "pictures", "images to draw, those that change most")


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    dataset = None if options.unlabelled(args) else options.required_dataset(args)
    config = DiffConfig(conf=args.conf, moved=args.moved, pictures=args.pictures)
    floating, other = (open_model(path, run) for path in (args.float, args.quantized))
    size = common_size(floating, other) if args.imgsz is None else args.imgsz
    scoring = EvalConfig(imgsz=size, batch=args.batch, nms_iou=args.nms_iou)
    images = options.comparison_records(args, dataset)
    found = diff_models(floating, other, images, scoring, config, run=run)
    results: dict[str, Any] = found.to_dict() | found.save(run.out)
    inputs = {"float": floating.key, "model": other.key, "data": options.dataset_input(dataset)}
    files = [FIFTYONE, *([PICTURES] if results["pictures"] else [])]
    settings = {"evaluation": to_dict(scoring), "diff": to_dict(config)}
    return Outcome(settings, results, inputs, found.tables, files, notes=[found.advice])


COMMAND = Command("diff", __doc__ or "", _arguments, _run, files=(PICTURES, FIFTYONE))
