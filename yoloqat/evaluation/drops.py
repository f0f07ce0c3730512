"""Drops of mAP between models scored on the same images, with their paired intervals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloqat.evaluation import Evaluation, Interval, Resampling, bootstrap, mean_average_precision, subset
from yoloqat.evaluation.interval import ONE_IMAGE, difference_interval
from yoloqat.evaluation.matching import Matches


class Baseline:
    """A model that others are compared with; its resampled mAPs are computed once.

    Args:
        matches: Of the baseline.
        resamples: Bootstrap resamples.
        seed: Seeds the resamples.
    """

    def __init__(self, matches: Matches, *, resamples: int = 1000, seed: int = 0) -> None:
        self._resampling = Resampling(len(matches.image_ids), resamples, seed)
        self._map = float(mean_average_precision(matches)[0])
        self._resampled = bootstrap(matches, self._resampling)

    def drop(self, matches: Matches) -> Interval:
        """Return the baseline's mAP50-95 minus that of ``matches``, with its 95 % paired interval, infinite of one image."""
        difference = self._map - float(mean_average_precision(matches)[0])
        resampled = bootstrap(matches, self._resampling)
        return difference_interval(difference, self._resampled, resampled, images=self._resampling.images)


def drop_results(interval: Interval, name: str = "drop") -> dict[str, Any]:
    """Return the result keys of a drop, or of another difference: its value, and its 95 % interval or why there is none."""
    if math.isfinite(interval.high - interval.low):
        return {name: interval.difference, f"{name}_ci95": [interval.low, interval.high]}
    return {name: interval.difference, f"{name}_ci95": None, f"{name}_ci95_reason": ONE_IMAGE}


def part_map(evaluation: Evaluation, mask: NDArray[np.bool_]) -> float:
    """Return mAP50-95 on the images that ``mask`` names; NaN when they hold no object."""
    return float(mean_average_precision(subset(evaluation.matches, mask))[0])
