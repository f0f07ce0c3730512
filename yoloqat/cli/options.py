"""Arguments that several commands share, and what they stand for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from yoloqat.config import CalibrationConfig, EvalConfig, MethodSpec, QuantConfig, QuantScheme
from yoloqat.datasets import DetectionDataset, ImageRecord, calibration_images, load_dataset
from yoloqat.detectors import Detector
from yoloqat.errors import ConfigError
from yoloqat.provenance import digest


def add_data(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add the arguments that name a validation set."""
    group = parser.add_argument_group("data")
    group.add_argument("--data", type=Path, metavar="YAML", help="data set YAML of Ultralytics")
    group.add_argument("--images", type=Path, metavar="DIR", help="images of a COCO json, instead of --data")
    group.add_argument("--annotations", type=Path, metavar="JSON", help="that COCO json")
    parser.set_defaults(data_required=required)


def add_evaluation(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say how a model is scored."""
    group = parser.add_argument_group("scoring")
    group.add_argument("--imgsz", type=int, metavar="N", help="side of the square letterbox (default: the model's own)")
    group.add_argument("--batch", type=int, default=8, metavar="N", help="images per forward (default: 8)")
    group.add_argument("--nms-iou", type=float, default=0.7, metavar="F", help="IoU of the suppression (default: 0.7)")
    group.add_argument("--rect", action="store_true", help="rectangular batches instead of the square letterbox")


def add_calibration(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose the calibration images."""
    group = parser.add_argument_group("calibration")
    group.add_argument("--calib-images", type=int, default=64, metavar="N", help="images to calibrate on (default: 64)")
    group.add_argument(
        "--calib-images-dir", type=Path, metavar="DIR", help="directory to take them from (default: the train split)"
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="chooses the images (default: 0)")


def add_quantization(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what is quantized, and how."""
    group = parser.add_argument_group("quantization")
    group.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave layers float: a name, a block, a glob, re:REGEX, or @FILE with one per line; may be repeated",
    )
    group.add_argument("--quantize-head", action="store_true", help="quantize the DFL and the head's last layers too")
    group.add_argument("--bits", type=int, default=8, metavar="N", help="width of the codes (default: 8)")
    group.add_argument("--per-tensor-weights", action="store_true", help="one weight scale per layer, not per channel")
    group.add_argument("--affine", action="store_true", help="activations with a zero-point, for CPU engines only")


def eval_config(args: argparse.Namespace, imgsz: int) -> EvalConfig:
    """Return how to score, with the model's own image size where the user named none."""
    return EvalConfig(
        imgsz=imgsz if args.imgsz is None else args.imgsz, batch=args.batch, nms_iou=args.nms_iou, rect=args.rect
    )


def quant_config(args: argparse.Namespace) -> QuantConfig:
    """Return what is quantized, and how.

    Raises:
        ConfigError: A value is out of range, or a pattern file cannot be read.
    """
    return QuantConfig(
        activations=QuantScheme(bits=args.bits, symmetric=not args.affine),
        weights=QuantScheme(bits=args.bits, axis=None if args.per_tensor_weights else 0, narrow_range=True),
        ignore=tuple(pattern for text in args.ignore for pattern in _patterns(text)),
        quantize_head=args.quantize_head,
    )


def _patterns(text: str) -> list[str]:
    if not text.startswith("@"):
        return [text]
    try:
        lines = Path(text[1:]).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"pattern file '{text[1:]}' cannot be read ({error})",
            expected="a text file with one pattern per line",
            mend="check the path after @",
        ) from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def calibration_config(args: argparse.Namespace, method: MethodSpec | None = None) -> CalibrationConfig:
    """Return how to calibrate."""
    config = CalibrationConfig(images=args.calib_images, seed=args.seed)
    return config if method is None else CalibrationConfig(method=method, images=args.calib_images, seed=args.seed)


def calibration_records(args: argparse.Namespace) -> tuple[ImageRecord, ...]:
    """Return the calibration images.

    Raises:
        DataError: There are too few, or the data set has no training split.
        ConfigError: Neither a YAML nor a directory to take them from was named.
    """
    source = args.calib_images_dir or args.data
    if source is None:
        raise ConfigError(
            f"calibration images are not named (--calib-images-dir is {args.calib_images_dir})",
            expected="a directory of images, because validation images are not calibrated on unless you name them",
            mend="add --calib-images-dir DIR",
        )
    return calibration_images(source, args.calib_images, args.seed)


def dataset(args: argparse.Namespace) -> DetectionDataset | None:
    """Return the validation set, or None where none was named and none is needed.

    Raises:
        DataError: It cannot be loaded.
    """
    if not args.data_required and args.data is None and args.images is None and args.annotations is None:
        return None
    return load_dataset(args.data, images=args.images, annotations=args.annotations)


def dataset_input(dataset: DetectionDataset | None) -> dict[str, Any] | None:
    """Return what identifies a data set, for the provenance."""
    if dataset is None:
        return None
    return {
        "images": len(dataset.images),
        "labels": dataset.labels_source,
        "annotations_sha": digest(dataset.annotations),
    }


def model_input(detector: Detector) -> dict[str, Any]:
    """Return what identifies a model, for the provenance."""
    return {"path": detector.source.path, "sha256": detector.source.sha256, "family": detector.family}
