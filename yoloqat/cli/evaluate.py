"""Score a model by COCO mAP.

Takes any MODEL: an Ultralytics .pt, a yoloqat checkpoint, an ONNX file or an OpenVINO directory. All are scored by the same
code: square letterbox, confidence 0.001, NMS IoU 0.7, 300 detections, then pycocotools. Of a rotated-box model the upright
boxes around its boxes are scored; --task-metrics adds what boxes leave out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from yoloqat.cli import options
from yoloqat.cli.command import Command, Outcome
from yoloqat.config import to_dict
from yoloqat.pipeline.models import open_model
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.task_metrics import check_task, score_task
from yoloqat.results import number


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help=".pt, .safetensors, .onnx or OpenVINO directory")
    options.add_data(parser)
    options.add_evaluation(parser)
    parser.add_argument(
        "--task-metrics",
        action="store_true",
        help="also mAP of masks, keypoints or rotated boxes, by the validator of Ultralytics",
    )


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    dataset = options.required_dataset(args)
    model = open_model(args.model, run)
    config = options.eval_config(args, model.imgsz)
    if args.task_metrics:
        check_task(model.predictor.info, config)
    evaluation = run.evaluate(model.predictor, dataset, config, label=args.model.name, model_key=model.key)
    inputs = {"model": model.key, "data": options.dataset_input(dataset)}
    results = evaluation.to_dict() | {"built_in_conf": model.predictor.info.conf}
    more: list[tuple[str, str]] = []
    if args.task_metrics:
        found = score_task(model.predictor, dataset, config)
        results["task_metrics"] = {"task": model.predictor.info.task, **found}
        more = [(f"{name} (Ultralytics)", number(value)) for name, value in found.items() if name != "images"]
    shown = evaluation.table(f"{args.model.name} on {evaluation.metrics.images} images", more)
    return Outcome({"evaluation": to_dict(config)}, results, inputs, [shown])


COMMAND = Command("eval", __doc__ or "", _arguments, _run)
