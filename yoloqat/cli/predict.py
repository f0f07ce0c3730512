"""Run any model on images or a video, and draw what it sees.

Takes any MODEL that eval takes, and an image, a directory of images or a video. The drawn images go to the directory pictures, or
one MP4 where the source is a video; result.json has every object: class, score and box in pixels of the image, and the mask as
polygons, the keypoints or the corners of the rotated box where the model tells them. --json - prints it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from yoloqat.cli import options
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.fields import add_field
from yoloqat.config import to_dict
from yoloqat.config.detecting import PredictConfig
from yoloqat.pipeline.models import open_model
from yoloqat.pipeline.predict import PICTURES, predict_source
from yoloqat.pipeline.run import Run


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help=".pt, .safetensors, .onnx, .engine or OpenVINO directory"
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="image, directory of images, or video")
    group = parser.add_argument_group("prediction")
    add_field(group, PredictConfig, "conf", "confidence at or below which detections are dropped")
    add_field(group, PredictConfig, "iou", "IoU above which NMS drops the less confident of two boxes")
    add_field(group, PredictConfig, "max_det", "detections kept per image")
    add_field(group, PredictConfig, "batch", "images per forward")
    options.add_imgsz(group, "side of the square letterbox, or its height and width (default: the model's own)")
    options.add_skip_bad_images(group)
    group.add_argument("--no-pictures", action="store_true", help="draw nothing; result.json alone holds the objects")


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    config = PredictConfig(args.conf, args.iou, args.max_det, args.batch)
    model = open_model(args.model, run)
    scoring = config.scoring(model.imgsz if args.imgsz is None else args.imgsz)
    pictures, skipped = None if args.no_pictures else run.out, options.skipped_images(args)
    found = predict_source(model, args.source, scoring, run=run, pictures=pictures, skipped=skipped)
    inputs = {"model": model.key, "source": str(args.source)}
    files = [] if args.no_pictures else [PICTURES]
    return Outcome(
        {"predict": to_dict(config), "evaluation": to_dict(scoring)}, found.to_dict(), inputs, found.tables, files
    )


COMMAND = Command("predict", __doc__ or "", _arguments, _run, files=(PICTURES,))
