"""From finished pieces to each item's effect with its interval."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from yoloqat.errors import DataError
from yoloqat.evaluation.average_precision import mean_average_precision
from yoloqat.evaluation.ground_truth import GroundTruth
from yoloqat.evaluation.image_matches import ImageMatches, unpack
from yoloqat.evaluation.matching import Matches
from yoloqat.evaluation.precision import assemble, influence, mean_precision
from yoloqat.sensitivity.study import WorkResult

Z95 = 1.959963984540054
"""Standard errors on either side of a 95 % interval of a normal distribution."""


@dataclass(frozen=True, eq=False)
class Effect:
    """The effect of an item on the metric.

    Attributes:
        value: The metric of the item on its images; None where they hold no object.
        effect: Metric of the finer model minus that of the coarser, of item and base on the same images.
        error: Standard error of ``effect`` over images; infinite of one image.
        images: Images it was measured on.
        influence: Each image's share in ``effect``, shape (images,), float64.
        positions: The images' positions in the ground truth.
    """

    value: float | None
    effect: float
    error: float
    images: int
    influence: NDArray[np.float64]
    positions: tuple[int, ...]

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the effect; infinite of one image."""
        return self.effect - Z95 * self.error, self.effect + Z95 * self.error

    @property
    def decided(self) -> bool:
        """True where the interval does not hold zero."""
        low, high = self.interval
        return low > 0 or high < 0

    @property
    def images_needed(self) -> int | None:
        r"""Images on which an effect of this size would differ from zero: n (1.96 error / effect)^2; None for no effect."""
        if self.effect == 0 or not math.isfinite(self.error):
            return None
        return math.ceil(self.images * (Z95 * self.error / self.effect) ** 2)


def with_least_error(effects: Sequence[Effect]) -> list[Effect]:
    """Return effects none of which has a smaller error than the images it was measured on can tell.

    An item that changed nothing on the few images it saw has no spread of its own, which does not make its effect known: one
    of n images might have differed as images differ for the other items. So the variance of an image is taken as at
    least 1/n of the mean of all items.
    """
    known = [effect.images * effect.error**2 for effect in effects if math.isfinite(effect.error)]
    pooled = math.fsum(known) / max(len(known), 1)
    return [replace(effect, error=max(effect.error, math.sqrt(pooled) / max(effect.images, 1))) for effect in effects]


class Measured:
    """Effects of items against the base model, on the batches that both have results of.

    Args:
        truth: What was matched with.
        positions: Positions in the ground truth of each batch's images.
        base: Findings of the base model by batch.
        sign: 1 where items are finer than the base, -1 where they are coarser.

    Attributes:
        sign: As given.
        seconds: Spent here so far.
    """

    def __init__(
        self, truth: GroundTruth, positions: Sequence[Sequence[int]], base: Mapping[int, WorkResult], *, sign: int
    ) -> None:
        self._truth, self._positions, self.sign = truth, positions, sign
        self._base = {batch: unpack(result.matches) for batch, result in base.items()}
        self._bases: dict[tuple[int, ...], tuple[float | None, NDArray[np.float64]]] = {}
        self._resampled: dict[tuple[int, ...], NDArray[np.float64]] = {}
        self.seconds = 0.0

    def matches(self, results: Mapping[int, WorkResult] | None = None, batches: Sequence[int] | None = None) -> Matches:
        """Return the matches of an item, or of the base model, on its batches."""
        chosen = sorted(self._base if results is None else results) if batches is None else batches
        found: dict[int, ImageMatches] = {}
        for batch in chosen:
            own = self._base[batch] if results is None else unpack(results[batch].matches)
            positions, bases = self._positions[batch], self._base[batch]
            if not len(positions) == len(own) == len(bases) or None in bases:
                raise DataError(
                    f"the study has matches of {len(own)} and {len(bases)} images on batch {batch}",
                    expected=f"matches of {len(positions)} images, of the base model whole",
                    hint="remove the study and scan again",
                )
            found |= {place: image or base for place, image, base in zip(positions, own, bases, strict=True) if base}
        order = sorted(found)
        return assemble(self._truth, order, [found[position] for position in order])

    def effect(self, results: Mapping[int, WorkResult]) -> Effect:
        """Return the effect of an item on the images of its results."""
        start = time.perf_counter()
        batches = tuple(sorted(results))
        if batches not in self._bases:
            matches = self.matches(batches=batches)
            self._bases[batches] = mean_precision(matches), influence(matches)
        base, base_influence = self._bases[batches]
        matches = self.matches(results)
        value = mean_precision(matches)
        each = self.sign * (influence(matches) - base_influence)
        images = len(each)
        spread = float(np.square(each - each.mean()).sum()) if images else 0.0
        error = math.sqrt(spread * images / (images - 1)) if images > 1 else math.inf
        effect = 0.0 if value is None or base is None else self.sign * (value - base)
        self.seconds += time.perf_counter() - start
        positions = tuple(sorted(position for batch in batches for position in self._positions[batch]))
        return Effect(value, effect, error, images, each, positions)

    def resampled(self, results: Mapping[int, WorkResult], weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the effect of an item on resampled images; NaN where a resample has no object.

        mAP50-95 stands for the metric, over whichever thresholds, sizes and classes that is of.

        Args:
            results: Of the item.
            weights: How often each image of the ground truth counts, shape (images, resamples), whole numbers.

        Returns:
            Shape (resamples,), float64.
        """
        start = time.perf_counter()
        batches = tuple(sorted(results))
        positions = sorted(position for batch in batches for position in self._positions[batch])
        own = weights[positions]
        if batches not in self._resampled:
            self._resampled[batches] = mean_average_precision(self.matches(batches=batches), own)
        result = self.sign * (mean_average_precision(self.matches(results), own) - self._resampled[batches])
        self.seconds += time.perf_counter() - start
        return result


def tied(intervals: Sequence[tuple[float, float]]) -> list[tuple[int, int]]:
    """Return for each interval its rank and with how many others it is tied.

    The rank is one more than the number of intervals that lie wholly above; two are tied where they overlap.
    """
    found = []
    for index, (low, high) in enumerate(intervals):
        above = sum(other_low > high for other_low, _ in intervals)
        overlapping = sum(
            other != index and other_low <= high and low <= other_high
            for other, (other_low, other_high) in enumerate(intervals)
        )
        found.append((1 + above, overlapping))
    return found
