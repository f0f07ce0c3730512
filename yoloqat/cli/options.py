"""Arguments that several commands share, and what they stand for."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from yoloqat.cli.fields import add_field
from yoloqat.config import CalibrationConfig, EvalConfig, MethodSpec, QuantConfig, QuantScheme, Recipe
from yoloqat.config.calibration import SELECTIONS, WEIGHT_METHODS
from yoloqat.config.sizes import ImageSize
from yoloqat.config.target import ADDS, MERGES, TARGETS, target_named
from yoloqat.datasets import DetectionDataset, ImageRecord, calibration_images, comparison_images, load_dataset, spread
from yoloqat.datasets.unlabelled import COMPARED, halves
from yoloqat.detectors import Detector
from yoloqat.detectors.detector import Quantization
from yoloqat.errors import ConfigError
from yoloqat.pipeline.finetune_trainers import training_images
from yoloqat.pipeline.recipe import calibration_of
from yoloqat.pipeline.sensitivity import ScanOptions
from yoloqat.provenance import digest

LONGEST_PATTERNS = 1 << 20
"""Characters of a file of patterns."""


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a validation set."""
    group = parser.add_argument_group("data")
    group.add_argument("--data", type=Path, metavar="YAML", help="data set YAML of Ultralytics")
    group.add_argument(
        "--images", type=Path, metavar="DIR", help="images of a COCO json, or alone where labels are not needed"
    )
    group.add_argument("--annotations", type=Path, metavar="JSON", help="that COCO json")
    add_skip_bad_images(group)


def add_skip_bad_images(group: argparse._ActionsContainer) -> None:
    """Add ``--skip-bad-images``."""
    group.add_argument(
        "--skip-bad-images",
        action="store_true",
        help="leave out images that do not decode, and count them, instead of refusing them",
    )


def image_size(text: str) -> ImageSize:
    """Return what ``--imgsz`` was given, one number or two with a comma between; its range is checked by the settings."""
    parts = text.split(",")
    if len(parts) > 2 or not all(part.strip().removeprefix("-").isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; expected one side, or height and width, as 384 640")
    numbers = [int(part) for part in parts]
    return numbers[0] if len(set(numbers)) == 1 else (numbers[0], numbers[1])


def add_imgsz(parser: argparse._ActionsContainer, text: str) -> None:
    """Add ``--imgsz``, which takes N or H W; see :func:`yoloqat.cli.main.joined_sizes`."""
    parser.add_argument("--imgsz", type=image_size, metavar="N | H W", help=text)


def add_evaluation(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say how a model is scored."""
    group = parser.add_argument_group("scoring")
    add_imgsz(group, "side of the square letterbox, or its height and width (default: the model's own)")
    add_field(group, EvalConfig, "batch", "images per forward")
    add_field(group, EvalConfig, "nms_iou", "IoU above which NMS drops the less confident of two boxes")
    add_field(group, EvalConfig, "rect", "rectangular batches instead of the square letterbox")


def add_fidelity(parser: argparse.ArgumentParser) -> None:
    """Add the argument that says on how many images models are compared by their raw outputs."""
    group = parser.add_argument_group("fidelity")
    group.add_argument(
        "--fidelity-images",
        type=int,
        default=COMPARED,
        metavar="N",
        help="images on which the noise is measured; no labels are needed (default: %(default)s)",
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that spread the evaluations over workers."""
    group = parser.add_argument_group("workers")
    add_field(
        group, ScanOptions, "workers", "local processes, or workers of --ray; on CUDA each has a device of its own"
    )
    group.add_argument("--ray", metavar="ADDRESS", help="run on a Ray cluster; 'local' starts one on this machine")


def add_log(parser: argparse.ArgumentParser) -> None:
    """Add the argument that keeps the run in TensorBoard, MLflow or W&B."""
    group = parser.add_argument_group("log")
    group.add_argument(
        "--log",
        metavar="NAME[:DIR]",
        help="also write the run for tensorboard, mlflow or wandb, offline (DIR: a directory of that name in --out)",
    )


def add_histograms(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a file of statistics."""
    parser.add_argument(
        "--histograms",
        type=Path,
        metavar="FILE",
        help="statistics to read, or to write (default: found in the results)",
    )


def add_calibration(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose the calibration images."""
    group = parser.add_argument_group("calibration")
    add_field(group, CalibrationConfig, "images", "images to calibrate on", flag="--calib-images")
    group.add_argument(
        "--calib-images-dir", type=Path, metavar="DIR", help="directory to take them from (default: the train split)"
    )
    add_field(group, CalibrationConfig, "seed", "chooses the images")
    add_field(
        group,
        CalibrationConfig,
        "select",
        "random, the first by path, or those that cover the range of every activation",
        flag="--calib-select",
        choices=SELECTIONS,
    )
    add_field(group, CalibrationConfig, "sample", "count every K-th element of large tensors", metavar="K", shown="all")
    add_field(group, CalibrationConfig, "weight_method", "how weights get their range", choices=WEIGHT_METHODS)


def add_quantization(parser: argparse.ArgumentParser, *, bits: str = "--bits") -> None:
    """Add the arguments that say what is quantized, and how.

    Args:
        parser: Of the command.
        bits: The option of the bit width, where the command means another by ``--bits``.
    """
    group = parser.add_argument_group("quantization")
    group.add_argument(
        "--target",
        choices=tuple(TARGETS),
        help="the engine that will run the model: decides the scheme, the placement and how it is exported "
        "(default: none, which is TensorRT's scheme with the rest in FP32)",
    )
    group.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave layers float: a name, a block, a glob, re:REGEX, or @FILE with one per line; may be repeated",
    )
    add_field(group, QuantConfig, "quantize_head", "quantize the DFL and the head's last layers too")
    add_field(group, QuantScheme, "bits", "bit width of weights and activations", flag=bits, dest="bits")
    group.add_argument("--per-tensor-weights", action="store_true", help="one weight scale per layer, not per channel")
    group.add_argument("--affine", action="store_true", help="activations with a zero-point, for CPU engines only")
    add_field(group, QuantConfig, "adds", "inputs of Adds to quantize: the skip, both or none", choices=ADDS)
    add_field(group, QuantConfig, "merge", "how far a scale is shared", choices=MERGES)
    group.add_argument(
        "--unmerge", action="append", default=[], metavar="PATTERN", help="layers whose input keeps a scale of its own"
    )
    add_field(group, QuantConfig, "attention", "quantize the matrix products of attention too")
    group.add_argument(
        "--depthwise",
        action=argparse.BooleanOptionalAction,
        help="quantize all depthwise convolutions, or none (default: those whose input a quantized layer reads too)",
    )


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a recipe."""
    parser.add_argument(
        "--recipe",
        type=Path,
        metavar="FILE",
        help="recipe.yaml whose options are taken; none of them may be given otherwise",
    )


def take_recipe(args: argparse.Namespace) -> Recipe | None:
    """Let the options of a command be those of the recipe that the line names, and return it; None where it names none.

    Raises:
        ConfigError: It cannot be read, or an option was given otherwise than the recipe says.
    """
    if args.recipe is None:
        return None
    recipe = Recipe.load(args.recipe)
    values: dict[str, Any] = {"imgsz": recipe.imgsz}
    if args.command == "calibrate":
        values |= {"batch": recipe.batch, "refine": ",".join(recipe.refine) or None}
        values |= {"outputs": ",".join(recipe.outputs) or None}
        values |= quantization_options(recipe.quant) | calibration_options(recipe.calibration)
    elif args.command == "finetune":
        values |= recipe.training
    else:
        values |= {"target": recipe.quantization.target, **recipe.export}
    for name, value in values.items():
        if not hasattr(args, name) or (value is None and args.command != "calibrate"):
            continue
        given, usual = getattr(args, name), args.parser.get_default(name)
        if value is None:  # what a recipe leaves out of a calibration is the default
            value = usual
        elif isinstance(usual, str):  # a number that YAML reads, e.g. of lr0
            value = str(value)
        if given not in (usual, value):
            raise ConfigError(
                f"{name} is {given!r} and the recipe '{args.recipe}' says {'none' if value is None else repr(value):.200}",
                expected="one of them",
                hint=f"leave `{name}` or `recipe` out",
            )
        setattr(args, name, value)
    return recipe


def eval_config(args: argparse.Namespace, imgsz: ImageSize) -> EvalConfig:
    """Return how to score, with the model's own image size where the user named none."""
    return EvalConfig(
        imgsz=imgsz if args.imgsz is None else args.imgsz, batch=args.batch, nms_iou=args.nms_iou, rect=args.rect
    )


def quant_config(args: argparse.Namespace) -> QuantConfig:
    """Return what is quantized, and how.

    Raises:
        ConfigError: A value is out of range or is another than the target decides, or a pattern file cannot be read.
    """
    affine = args.affine or not target_named(args.target).symmetric
    return QuantConfig(
        activations=QuantScheme(bits=args.bits, symmetric=not affine),
        weights=QuantScheme(bits=args.bits, axis=None if args.per_tensor_weights else 0, narrow_range=True),
        ignore=tuple(pattern for text in args.ignore for pattern in _patterns(text)),
        quantize_head=args.quantize_head,
        adds=args.adds,
        merge=args.merge,
        unmerge=tuple(args.unmerge),
        attention=args.attention,
        depthwise=args.depthwise,
        target=args.target,
    )


def _patterns(text: str) -> list[str]:
    if not text.startswith("@"):
        return [text]
    try:
        with Path(text[1:]).open(encoding="utf-8-sig") as file:
            text_of_file = file.read(LONGEST_PATTERNS + 1)
        if len(text_of_file) > LONGEST_PATTERNS:
            raise ValueError(f"it has more than {LONGEST_PATTERNS} characters")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"pattern file '{text[1:]}' cannot be read ({error})",
            expected="a text file with one pattern per line",
            hint="check the path after @",
        ) from error
    return [line.strip() for line in text_of_file.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def calibration_config(args: argparse.Namespace, method: MethodSpec | None = None) -> CalibrationConfig:
    """Return how to calibrate."""
    config = CalibrationConfig(
        images=calibration_count(args),
        seed=args.seed,
        select=args.calib_select,
        sample=args.sample,
        weight_method=args.weight_method,
    )
    return config if method is None else replace(config, method=method)


def calibration_records(args: argparse.Namespace) -> tuple[ImageRecord, ...]:
    """Return the calibration images, or the candidates for a choice by range.

    Raises:
        DataError: There are too few, or the data set has no training split.
        ConfigError: Neither a YAML nor a directory to take them from was named.
    """
    source, held_out = _calibration_source(args)
    return calibration_images(
        source,
        calibration_count(args),
        args.seed,
        select=args.calib_select,
        skipped=skipped_images(args),
        held_out=held_out,
    )


def training_records(args: argparse.Namespace) -> tuple[ImageRecord, ...]:
    """Return the images to train on without labels: all of what calibration images are taken from.

    Raises:
        DataError: There are none, or the data set has no training split.
        ConfigError: Neither a YAML nor a directory to take them from was named.
    """
    source, held_out = _calibration_source(args)
    return training_images(source, skipped_images(args), held_out=held_out)


def _calibration_source(args: argparse.Namespace) -> tuple[Path, bool]:
    """Return where calibration images are taken from, and whether half of a directory is kept from them.

    Raises:
        ConfigError: Nothing was named.
    """
    source = args.calib_images_dir or args.data
    held_out = source is None and unlabelled(args)
    if held_out:
        source = args.images
    if source is None:
        raise ConfigError(
            f"calibration images are not named (--calib-images-dir is {args.calib_images_dir})",
            expected="a directory of images, because validation images are not calibrated on unless you name them",
            hint="add --calib-images-dir DIR",
        )
    return source, held_out


def calibration_count(args: argparse.Namespace) -> int:
    """Return how many images calibrate: the number asked for, or of a small directory without labels the half there is.

    Raises:
        DataError: The directory is missing, or has fewer than two images.
    """
    asked: int = args.calib_images
    if asked != CalibrationConfig.images or not unlabelled(args) or args.calib_images_dir is not None:
        return asked
    return min(asked, len(halves(args.images)[0]))


def unlabelled(args: argparse.Namespace) -> bool:
    """Return whether images were named without labels."""
    return args.data is None and args.images is not None and args.annotations is None


def comparison_records(args: argparse.Namespace, dataset: DetectionDataset | None) -> tuple[ImageRecord, ...]:
    """Return the images to compare models on: of the validation set, or those without labels that do not calibrate.

    Raises:
        ConfigError: The number of images is no positive whole number.
        DataError: There are too few images, or none were named.
    """
    if dataset is not None:
        return spread(dataset.images, args.fidelity_images)
    held_out = getattr(args, "calib_images_dir", None) is None
    return comparison_images(args.images, args.fidelity_images, held_out=held_out, skipped=skipped_images(args))


def offered_records(args: argparse.Namespace, dataset: DetectionDataset | None) -> tuple[ImageRecord, ...]:
    """Return the images to compare models on of a command that can do without; none where none were named."""
    return comparison_records(args, dataset) if dataset is not None or unlabelled(args) else ()


def dataset(args: argparse.Namespace) -> DetectionDataset | None:
    """Return the validation set, or None where none was named, or images without labels.

    Raises:
        DataError: It cannot be loaded.
    """
    if unlabelled(args) or (args.data is None and args.images is None and args.annotations is None):
        return None
    return required_dataset(args)


def required_dataset(args: argparse.Namespace) -> DetectionDataset:
    """Return the validation set of a command that cannot do without.

    Raises:
        DataError: None was named, or it cannot be loaded.
    """
    return load_dataset(args.data, images=args.images, annotations=args.annotations, skipped=skipped_images(args))


def skipped_images(args: argparse.Namespace) -> list[Path] | None:
    """Return the list of a run that takes the images that do not decode; None where they are refused."""
    if not getattr(args, "skip_bad_images", False):
        return None
    if not hasattr(args, "skipped"):
        args.skipped = []
    skipped: list[Path] = args.skipped
    return skipped


def skipped_count(args: argparse.Namespace) -> dict[str, Any]:
    """Return how many images the run left out because they do not decode, and which, for its result; empty where refused."""
    skipped = skipped_images(args)
    if skipped is None:
        return {}
    files = sorted(set(map(str, skipped)))
    return {"skipped_images": len(files), "skipped_image_files": files}


def skipped_line(args: argparse.Namespace) -> list[str]:
    """Return the line that tells a person of the images that were left out; none where there are none."""
    files = skipped_count(args).get("skipped_image_files")
    return [f"left out images that do not decode: {len(files)}, e.g. '{files[0]}'"] if files else []


def calibrated_with(quantization: Quantization) -> dict[str, Any]:
    """Return the values of the options that a checkpoint was calibrated with, by name, as a parser would have them."""
    return quantization_options(quantization.config) | calibration_options(calibration_of(quantization.calibration))


def calibration_options(config: CalibrationConfig) -> dict[str, Any]:
    """Return the values of the options of a calibration by name, as a parser would have them."""
    return {
        "method": str(config.method),
        "calib_images": config.images,
        "seed": config.seed,
        "calib_select": config.select,
        "sample": config.sample,
        "weight_method": config.weight_method,
    }


def quantization_options(config: QuantConfig) -> dict[str, Any]:
    """Return the values of the options of what is quantized by name, as a parser would have them."""
    return {
        "ignore": list(config.ignore),
        "quantize_head": config.quantize_head,
        "bits": config.activations.bits,
        "per_tensor_weights": config.weights.axis is None,
        "target": config.target,
        "affine": config.target is None and not config.activations.symmetric,
        "adds": config.adds,
        "merge": config.merge,
        "unmerge": list(config.unmerge),
        "attention": config.attention,
        "depthwise": config.depthwise,
    }


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
