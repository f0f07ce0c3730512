"""The images that calibrate: a seeded choice from the training split, never from the validation split by default."""

from __future__ import annotations

import os
import random
from pathlib import Path

from yoloqat.config.calibration import SELECTIONS
from yoloqat.config.checks import check_choice, check_int
from yoloqat.datasets.dataset_yaml import read_dataset_file
from yoloqat.datasets.images import find_images, image_size, readable_images
from yoloqat.datasets.records import ImageRecord
from yoloqat.datasets.splits import distinct, split_images
from yoloqat.datasets.unlabelled import halves
from yoloqat.errors import DataError

CANDIDATES = 4
"""Images that are looked at for each that a choice by range keeps."""


def calibration_images(
    source: Path,
    count: int,
    seed: int = 0,
    *,
    select: str = "random",
    skipped: list[Path] | None = None,
    held_out: bool = False,
) -> tuple[ImageRecord, ...]:
    """Choose ``count`` images from a data set's training split, or from a directory.

    The choice depends on the sorted file paths and the seed alone; an image that is listed more than once is one image.

    Args:
        source: An Ultralytics data set YAML, or a directory of images.
        count: How many images to choose.
        seed: Seeds the choice.
        select: ``"random"``; ``"first"`` for the first by path; ``"range"`` for the random candidates of a choice by what
            they bring to the activations, :data:`CANDIDATES` times as many where there are so many.
        skipped: Takes the images that do not decode, in whose place others are chosen; None takes the choice unread.
        held_out: Leave out the half of a directory that :func:`yoloqat.datasets.comparison_images` takes.

    Returns:
        The chosen images, sorted by path, with image ids from 1.

    Raises:
        ConfigError: ``count`` is not a positive whole number, or the way to choose is unknown.
        DataError: There is no training split, an image is missing, or there are fewer than ``count`` images.
    """
    check_int("count", count, 1)
    check_choice("select", select, SELECTIONS)
    paths = halves(source)[0] if held_out else _offered(source)
    if len(paths) < count:
        half = " (the other half measures what that costs)" if held_out else ""
        raise DataError(
            f"'{source}' has {len(paths)} images to calibrate on{half} and {count} were asked for",
            expected=f"at least {count}",
            hint=f"ask for {len(paths)} or less with `count`",
        )
    wanted = min(CANDIDATES * count, len(paths)) if select == "range" else count
    generator = random.Random(seed)  # noqa: S311 - a reproducible choice, no secret
    chosen: list[Path] = []
    rest = sorted(paths) if select == "first" else paths
    while len(chosen) < wanted and rest:
        number = min(wanted - len(chosen), len(rest))
        drawn = rest[:number] if select == "first" else generator.sample(rest, number)
        chosen += readable_images(drawn, skipped)
        seen = set(drawn)
        rest = [path for path in rest if path not in seen] if len(chosen) < wanted else []
    if len(chosen) < count:
        raise DataError(
            f"only {len(chosen)} of the {len(paths)} images of '{source}' decode and {count} were asked for",
            expected=f"at least {count}",
            hint=f"restore them, or ask for {len(chosen)} or less with `count`",
        )
    return tuple(ImageRecord(path, number, *image_size(path)) for number, path in enumerate(sorted(chosen), start=1))


def _offered(source: Path) -> list[Path]:
    return find_images(source) if os.path.isdir(source) else _training_images(source)  # noqa: PTH112 - never fails


def _training_images(path: Path) -> list[Path]:
    if not os.path.exists(path):  # noqa: PTH110 - never fails
        raise DataError(
            f"'{path}' does not exist",
            expected="a directory of images, or a data set YAML",
            hint="check `calibration_images`, or `data`",
        )
    spec = read_dataset_file(path)
    if not spec.train:
        raise DataError(
            f"data set '{path}' has no train split",
            expected="a training split to calibrate on, because validation images must stay unseen",
            hint="add train: to it, or name a directory with `calibration_images`",
        )
    return distinct(split_images(spec.train, spec.root, "train"))
