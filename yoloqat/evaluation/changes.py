"""What changed from a float model's detections to another model's: boxes lost, gained and moved, scores across a threshold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yoloqat.evaluation.fidelity import matched
from yoloqat.evaluation.overlap import pairwise_iou

KEPT, MOVED, FELL, LOST, ROSE, GAINED, RELABELLED = "kept", "moved", "fell", "lost", "rose", "gained", "relabelled"
KINDS = (LOST, FELL, GAINED, ROSE, RELABELLED, MOVED)
"""Kinds of change: a box that is gone, one whose score fell below the threshold, a box that is new, one whose score rose above
it, one of another class, and one that lies elsewhere. What is :data:`KEPT` is no change."""

FLOOR = 0.01
"""Scores of at most this are taken for no detection."""

SIZES = (("small", 32.0**2), ("medium", 96.0**2), ("large", float("inf")))
"""Names of the sizes of boxes with the area in pixels of the image below which each lies, as COCO divides them."""

Rows = NDArray[np.float32]
"""Detections of one image: x1, y1, x2, y2, score, class; shape (detections, 6)."""


@dataclass(frozen=True)
class Found:
    """A detection of one model.

    Attributes:
        box: x1, y1, x2, y2 in pixels of the image file.
        score: Its confidence.
        label: The class's index.
    """

    box: tuple[float, float, float, float]
    score: float
    label: int


@dataclass(frozen=True)
class Change:
    """One object as two models see it.

    Attributes:
        kind: One of :data:`KINDS`, or :data:`KEPT`.
        floating: The float model's detection, above the threshold unless the score ``rose``; None where it has none.
        other: The other model's, above the threshold unless the score ``fell``; None where it has none.
        overlap: IoU of the two boxes; None where there is one alone.
    """

    kind: str
    floating: Found | None
    other: Found | None
    overlap: float | None

    @property
    def shown(self) -> Found:
        """The float model's detection, or the other's where that model has none."""
        found = self.floating or self.other
        if found is None:
            raise AssertionError(self)
        return found

    @property
    def weight(self) -> float:
        """How much it is, 0 to 1: of a score its change, of a moved box 1 - IoU, of another class the higher score."""
        scores = [0.0 if found is None else found.score for found in (self.floating, self.other)]
        if self.kind == KEPT:
            return 0.0
        if self.kind == MOVED:
            return 1.0 - (self.overlap or 0.0)
        return max(scores) if self.kind == RELABELLED else abs(scores[1] - scores[0])

    @property
    def size(self) -> str:
        """The name of the box's size, from :data:`SIZES`."""
        x1, y1, x2, y2 = self.shown.box
        area = (x2 - x1) * (y2 - y1)
        return next((name for name, limit in SIZES if area < limit), SIZES[-1][0])


@dataclass(frozen=True, eq=False)
class ImageChanges:
    """What changed in one image.

    Attributes:
        image_id: Its id.
        changes: Every object above the threshold in either model, changed or kept.
        sure: How many boxes the float model has above the threshold.
        scores: Scores of the other model's detections, shape (detections,), float64.
        paired: Scores of those among them that are boxes of the float model above the threshold, shape (pairs,), float64.
    """

    image_id: int
    changes: tuple[Change, ...]
    sure: int
    scores: NDArray[np.float64]
    paired: NDArray[np.float64]

    @property
    def disagreement(self) -> float:
        """The sum of the weights of all changes."""
        return sum(change.weight for change in self.changes)

    def of_kind(self, kind: str) -> int:
        """Return how many objects changed in a way."""
        return sum(change.kind == kind for change in self.changes)


def changes_of(image_id: int, floating: Rows, other: Rows, *, conf: float, moved: float) -> ImageChanges:
    """Compare the detections of two models on one image.

    The other model's detections, most confident first, take the float model's box of the same class that they overlap most, from
    an IoU of 0.5; so the pairs above any threshold are those that a matching above that threshold would make.

    Args:
        image_id: Its id.
        floating: Of the float model, also those below the threshold.
        other: Of the other model, likewise.
        conf: The threshold that the models work at.
        moved: A box that overlaps by less than this has moved.
    """
    a, b = floating[floating[:, 4] > FLOOR], other[other[:, 4] > FLOOR]
    above, below = a[a[:, 4] > conf], a[a[:, 4] <= conf]
    partner, own = matched(b, above)
    pairs = dict(zip(own.tolist(), partner.tolist(), strict=True))
    # boxes above the threshold in one model alone, which may be one object under two names
    gone = [index for index in range(len(above)) if index not in pairs or b[pairs[index], 4] <= conf]
    new = [index for index in np.flatnonzero(b[:, 4] > conf).tolist() if index not in set(pairs.values())]
    renamed = dict(zip(*_matched_of_any_class(above, gone, b, new), strict=True))
    new = [index for index in new if index not in set(renamed.values())]
    rising = dict(zip(*(found.tolist() for found in matched(b[new], below)), strict=True))

    def found() -> Iterator[Change]:
        for index, row in enumerate(above):
            if index in renamed:
                yield _change(RELABELLED, row, b[renamed[index]])
            elif index in pairs:
                yield _paired(row, b[pairs[index]], conf, moved)
            else:
                yield _change(LOST, row, None)
        for place, index in enumerate(new):
            known = below[rising[place]] if place in rising else None
            yield _change(GAINED if known is None else ROSE, known, b[index])

    return ImageChanges(
        image_id, tuple(found()), len(above), b[:, 4].astype(np.float64), b[partner, 4].astype(np.float64)
    )


def _matched_of_any_class(a: Rows, gone: list[int], b: Rows, new: list[int]) -> tuple[list[int], list[int]]:
    first, second = a[gone], b[new]
    first[:, 5], second[:, 5] = 0, 0
    own, partner = matched(first, second)
    return [gone[index] for index in own.tolist()], [new[index] for index in partner.tolist()]


def _paired(row: NDArray[np.float32], other: NDArray[np.float32], conf: float, moved: float) -> Change:
    change = _change(KEPT, row, other)
    if other[4] <= conf:
        return Change(FELL, change.floating, change.other, change.overlap)
    kind = MOVED if change.overlap is not None and change.overlap < moved else KEPT
    return Change(kind, change.floating, change.other, change.overlap)


def _change(kind: str, row: NDArray[np.float32] | None, other: NDArray[np.float32] | None) -> Change:
    overlap = None if row is None or other is None else float(pairwise_iou(row[None, :4], other[None, :4])[0, 0])
    return Change(kind, _found(row), _found(other), overlap)


def _found(row: NDArray[np.float32] | None) -> Found | None:
    if row is None:
        return None
    x1, y1, x2, y2, score, label = row.tolist()
    return Found((x1, y1, x2, y2), score, int(label))
