"""Whether a model stays within the loss that was allowed, by an interval and not by one number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

MET, UNDECIDED, EXCEEDED = "met", "not told apart", "exceeded"


@dataclass(frozen=True)
class Verdict:
    """A loss with its interval, against what was allowed.

    Attributes:
        value: The loss: a drop of mAP, or a noise d.
        low: Lower end of its 95 % interval.
        high: Upper end.
        limit: What was allowed.
        images: On how many images it was measured; none of them took part in a choice.
    """

    value: float
    low: float
    high: float
    limit: float
    images: int

    @property
    def word(self) -> str:
        """``"met"``: the whole interval is within the limit; ``"exceeded"``: it is above; else ``"not told apart"``."""
        if self.high <= self.limit:
            return MET
        return EXCEEDED if self.low > self.limit else UNDECIDED

    @property
    def images_to_decide(self) -> int | None:
        """About how many images would tell, were the loss as measured; None where it is told, or no number would.

        The width of an interval falls with the square root of the number of images.
        """
        distance = abs(self.limit - self.value)
        if self.word != UNDECIDED or distance == 0.0 or not math.isfinite(self.high - self.low):
            return None
        width = self.high - self.value if self.value < self.limit else self.value - self.low
        return max(self.images + 1, math.ceil(self.images * (width / distance) ** 2))

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able entries."""
        known = math.isfinite(self.high - self.low)
        return {
            "verdict": self.word,
            "value": self.value,
            "ci95": [self.low, self.high] if known else None,
            "limit": self.limit,
            "images": self.images,
            "images_to_decide": self.images_to_decide,
        }
