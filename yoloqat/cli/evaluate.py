"""Score a model by COCO mAP, and by how far it is from the float model.

Takes any MODEL: an Ultralytics .pt, a yoloqat checkpoint, an ONNX file or an OpenVINO directory. All are scored by the same
code: square letterbox, confidence 0.001, NMS IoU 0.7, 300 detections, then pycocotools. Of a rotated-box model the upright
boxes around its boxes are scored; --task-metrics adds what boxes leave out. --reference FLOAT adds the fidelity to another
model: the noise d, disagreements of boxes, masks and keypoints, and fidelity mAP. That needs no labels: --images DIR alone
does, of which the half is taken that `calibrate --images DIR` leaves out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yoloqat.cli import diff, options
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.next_line import next_line
from yoloqat.config import EvalConfig, to_dict
from yoloqat.datasets import DetectionDataset, ImageRecord
from yoloqat.errors import ConfigError
from yoloqat.evaluation.reference import FIDELITY_MAP
from yoloqat.pipeline.fidelity import check_alike, fidelity_to
from yoloqat.pipeline.models import OpenModel, common_size, open_model
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.task_metrics import check_task, score_task
from yoloqat.results import Table, number

Found = tuple[dict[str, Any], list[Table]]
"""Keys of the result, and the tables that show them."""
Models = tuple[OpenModel, OpenModel]


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help=".pt, .safetensors, .onnx or OpenVINO directory")
    options.add_data(parser)
    options.add_evaluation(parser)
    options.add_fidelity(parser)
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="FLOAT",
        help="the float model, or any other of the same classes to compare with",
    )
    parser.add_argument(
        "--task-metrics",
        action="store_true",
        help="also mAP of masks, keypoints or rotated boxes, by the validator of Ultralytics",
    )


def _dataset(args: argparse.Namespace) -> DetectionDataset | None:
    """Return what to score on; None where images without labels are to show the fidelity alone.

    Raises:
        ConfigError: There are no labels, and nothing that can be measured without.
        DataError: No data set was named, or it cannot be loaded.
    """
    if not options.unlabelled(args):
        return options.required_dataset(args)
    if args.reference is None or args.task_metrics:
        needing = "--task-metrics needs" if args.task_metrics else "mAP needs"
        raise ConfigError(
            f"the images in '{args.images}' have no labels, which {needing}",
            expected="labels to score against, or a float model to compare with",
            hint="add --annotations FILE.json, or --reference FLOAT without --task-metrics",
        )
    return None


def _scored(
    args: argparse.Namespace, run: Run, model: OpenModel, dataset: DetectionDataset, config: EvalConfig
) -> Found:
    evaluation = run.evaluate(model.predictor, dataset, config, label=args.model.name, model_key=model.key)
    results = evaluation.to_dict() | {"built_in_conf": model.predictor.info.conf}
    more: list[tuple[str, str]] = []
    if args.task_metrics:
        found = score_task(model.predictor, dataset, config)
        results["task_metrics"] = {"task": model.predictor.info.task, **found}
        more = [(f"{name} (Ultralytics)", number(value)) for name, value in found.items() if name != "images"]
    return results, [evaluation.table(f"{args.model.name} on {evaluation.metrics.images} images", more)]


def _compared(
    args: argparse.Namespace, run: Run, models: Models, images: Sequence[ImageRecord], config: EvalConfig
) -> Found:
    model, reference = models
    names = str(args.reference), str(args.model)
    found = fidelity_to(reference.predictor, model.predictor, images, config, run=run, names=names)
    unmatched = {FIDELITY_MAP: None, f"{FIDELITY_MAP}_ci95": None}  # where the float model is sure of nothing
    return unmatched | found.to_dict(), [found.table(f"fidelity of {args.model.name} to {args.reference.name}")]


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    dataset = _dataset(args)
    model = open_model(args.model, run)
    reference = None if args.reference is None else open_model(args.reference, run)
    config = options.eval_config(args, model.imgsz if reference is None else common_size(model, reference))
    inputs: dict[str, Any] = {"model": model.key, "data": options.dataset_input(dataset)}
    if args.task_metrics:
        check_task(model.predictor.info, config)
    images: tuple[ImageRecord, ...] = ()
    if reference is not None:  # told of what does not fit before the work
        images = options.comparison_records(args, dataset)
        check_alike(reference.predictor.info, model.predictor.info, (str(args.reference), str(args.model)))
        inputs["reference"] = reference.key
    parts = [] if dataset is None else [_scored(args, run, model, dataset, config)]
    if reference is not None:
        parts.append(_compared(args, run, (model, reference), images, config))
    results = {name: value for found, _ in parts for name, value in found.items()}
    tables = [table for _, tables in parts for table in tables]
    lines = [] if args.reference is None else [next_line(args, diff.COMMAND, args.reference, args.model)]
    return Outcome({"evaluation": to_dict(config)}, results, inputs, tables, next=lines)


COMMAND = Command("eval", __doc__ or "", _arguments, _run)
