"""Images without labels: the half of a directory that calibrates, and the half on which models are compared."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from yoloqat.config.checks import check_int
from yoloqat.datasets.images import find_images, image_size, readable_images
from yoloqat.datasets.records import ImageRecord
from yoloqat.errors import DataError

COMPARED = 64
"""Images that models are compared on by default: the relative standard error of the noise d is 7 to 10 % on 48 images."""

Entry = TypeVar("Entry")


def halves(directory: Path) -> tuple[list[Path], list[Path]]:
    """Divide the images of a directory in two, by chance but always in the same way; the first has the odd one.

    Raises:
        DataError: The directory is missing, or has fewer than two images.
    """
    paths = find_images(directory)
    if len(paths) < 2:
        raise DataError(
            f"'{directory}' has {len(paths)} {'image' if len(paths) == 1 else 'images'}",
            expected="at least two: one half calibrates, the other measures what that costs",
            hint="add images, or name others to calibrate on",
        )
    shuffled = random.Random(0).sample(paths, len(paths))  # noqa: S311 - a reproducible choice, no secret
    middle = (len(paths) + 1) // 2
    return sorted(shuffled[:middle]), sorted(shuffled[middle:])


def comparison_images(
    directory: Path, count: int = COMPARED, *, held_out: bool = False, skipped: list[Path] | None = None
) -> tuple[ImageRecord, ...]:
    """Return images of a directory to compare models on, evenly spread over its sorted paths.

    Args:
        directory: Of images; they need no labels.
        count: How many; all where there are fewer.
        held_out: Take the half that ``calibration_images(..., held_out=True)`` leaves out.
        skipped: Takes the images that do not decode; None takes the choice unread.

    Raises:
        ConfigError: ``count`` is not a positive whole number.
        DataError: The directory is missing or has too few images, or an image does not decode.
    """
    paths = halves(directory)[1] if held_out else find_images(directory)
    chosen = readable_images(list(spread(paths, count)), skipped)
    return tuple(ImageRecord(path, number, *image_size(path)) for number, path in enumerate(chosen, start=1))


def spread(entries: Sequence[Entry], count: int = COMPARED) -> tuple[Entry, ...]:
    """Return ``count`` entries of a sequence, evenly spread over it; all where there are fewer.

    Raises:
        ConfigError: ``count`` is not a positive whole number.
    """
    check_int("fidelity_images", count, 1)
    if len(entries) <= count:
        return tuple(entries)
    return tuple(entries[index * len(entries) // count] for index in range(count))
