"""The quotient of two means over the same images, with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yoloqat.evaluation.interval import Resampling

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Ratio:
    """The quotient of two means over the same images, with the 95 % interval of a paired bootstrap over them."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, above: Values, below: Values) -> Ratio:
        """Return the mean of the first over that of the second; images where either is NaN are left out."""
        known = np.isfinite(above) & np.isfinite(below)
        above, below = above[known], below[known]
        weights = Resampling(len(above)).weights()
        low, high = np.percentile((above @ weights) / (below @ weights), [2.5, 97.5])
        return cls(float(above.mean() / below.mean()), float(low), float(high))

    def __str__(self) -> str:
        """Return the value and the interval."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def to_dict(self, name: str) -> dict[str, object]:
        """Return the value by a name, and the interval by that name with ``_ci95``."""
        return {name: self.value, f"{name}_ci95": [self.low, self.high]}
