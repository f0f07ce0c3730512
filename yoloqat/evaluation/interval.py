"""The interval of a difference of mAP, from resampling the images: the same resamples for both models.

Percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13) over images. Pairing removes
what both models share, above all which images are hard; unpaired intervals are several times wider.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yoloqat.config.checks import check_int
from yoloqat.errors import DataError
from yoloqat.evaluation.average_precision import mean_average_precision
from yoloqat.evaluation.matching import Matches

LEVEL = 95.0
"""Confidence of the intervals in percent."""

ONE_IMAGE = "one image does not tell how images differ"
"""Why there is no interval where every resample is the same."""


@dataclass(frozen=True)
class Interval:
    """A difference with its 95 % interval, which holds it.

    Attributes:
        difference: The difference on all images.
        low: Lower end; minus infinity of one image.
        high: Upper end; infinity of one image.
    """

    difference: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | list[float]]:
        """Return it as a JSON-able dict: ``difference`` and ``ci95``."""
        return {"difference": self.difference, "ci95": [self.low, self.high]}

    def __str__(self) -> str:
        """Return the difference and its interval with signs."""
        return f"{self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


@dataclass(frozen=True)
class Resampling:
    """Which bootstrap resamples are drawn; equal values draw equal resamples.

    Attributes:
        images: Number of images.
        resamples: Number of resamples.
        seed: Seeds the draw.

    Raises:
        ConfigError: A value is out of range.
    """

    images: int
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        check_int("images", self.images, 1)
        check_int("resamples", self.resamples, 1)
        check_int("seed", self.seed, 0)

    def weights(self) -> NDArray[np.int64]:
        """Return how often each image is drawn in each resample, shape (images, resamples)."""
        drawn = np.random.default_rng(self.seed).integers(self.images, size=(self.resamples, self.images))
        cells = drawn + np.arange(self.resamples)[:, None] * self.images
        counts = np.bincount(cells.ravel(), minlength=self.resamples * self.images)
        return np.ascontiguousarray(counts.reshape(self.resamples, self.images).T)


def bootstrap(matches: Matches, resampling: Resampling) -> NDArray[np.float64]:
    """Return mAP50-95 of each resample, shape (resamples,); NaN where a resample has no object.

    Compute it once for a baseline that many models are compared with, and give it to :func:`difference_interval`.

    Raises:
        DataError: The resampling is for another number of images.
    """
    if resampling.images != len(matches.image_ids):
        raise DataError(
            f"the resampling is for {resampling.images} images and the evaluation has {len(matches.image_ids)}",
            expected="the same number",
            hint="make the resampling for these images",
        )
    return mean_average_precision(matches, resampling.weights())


def difference_interval(
    difference: float, a: NDArray[np.float64], b: NDArray[np.float64], *, images: int, level: float = LEVEL
) -> Interval:
    """Return the percentile interval of ``a - b`` around a measured difference.

    Args:
        difference: The difference on all images.
        a: mAPs of one model by resample, from :func:`bootstrap`.
        b: mAPs of the other model on the same resamples.
        images: How many images were resampled; of one there is no interval.
        level: Confidence in percent.

    Raises:
        DataError: No resample has an object.
    """
    differences = a - b
    valid = differences[np.isfinite(differences)]
    if not valid.size or not np.isfinite(difference):
        raise DataError(
            f"none of {len(differences)} resamples has an object to score",
            expected="images with annotated objects",
            hint="score more images",
        )
    if images < 2:
        return Interval(difference, -math.inf, math.inf)
    low, high = np.percentile(valid, [50.0 - level / 2, 50.0 + level / 2])
    # where few images hold the objects, most resamples can lie on one side of what was measured
    return Interval(difference, min(float(low), difference), max(float(high), difference))


def paired_difference(a: Matches, b: Matches, *, resamples: int = 1000, seed: int = 0) -> Interval:
    """Return mAP50-95 of ``a`` minus that of ``b`` with its 95 % interval over images.

    Raises:
        ConfigError: ``resamples`` or ``seed`` is out of range.
        DataError: The two were scored on different images, or no image has an object.
    """
    if a.image_ids != b.image_ids:
        raise DataError(
            f"the two evaluations are of {len(a.image_ids)} and {len(b.image_ids)} images that are not the same",
            expected="the same images",
            hint="score both models on one data set",
        )
    resampling = Resampling(len(a.image_ids), resamples, seed)
    difference = float(mean_average_precision(a)[0] - mean_average_precision(b)[0])
    resampled = bootstrap(a, resampling), bootstrap(b, resampling)
    return difference_interval(difference, *resampled, images=resampling.images)


def split_halves(images: int, seed: int = 0) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Divide images into two random halves: choose on one, confirm on the other.

    Args:
        images: Number of images, at least 2.
        seed: Seeds the division.

    Returns:
        Two masks, shape (images,), bool, each the other's complement; the second has the odd image.

    Raises:
        ConfigError: There are fewer than two images.
    """
    check_int("images", images, 2)
    first = np.zeros(images, dtype=bool)
    first[np.random.default_rng(seed).permutation(images)[: images // 2]] = True
    return first, ~first
