"""Which number of an evaluation is asked for: over all classes or one, at all IoU thresholds or one, of which sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloqat.datasets import DetectionDataset
from yoloqat.errors import ConfigError
from yoloqat.evaluation.coco import LARGEST_SPAN, Metrics

IOU_THRESHOLDS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
"""The IoU thresholds of COCO, made as pycocotools makes them."""

_CLASS = "class:"

_THRESHOLDS = {"map50": slice(0, 1), "map75": slice(5, 6)}

_AREAS = {
    "map_small": (0.0, 32.0**2),
    "map_medium": (32.0**2, 96.0**2),
    "map_large": (96.0**2, 1e10),
}

KINDS = ("map50_95", *_THRESHOLDS, *_AREAS)


@dataclass(frozen=True)
class Metric:
    """One number of the evaluator.

    Attributes:
        kind: ``"map50_95"``, ``"map50"``, ``"map75"``, ``"map_small"``, ``"map_medium"`` or ``"map_large"``.
        class_name: Mean over all classes when None, else ``map50_95`` of that class alone.

    Raises:
        ConfigError: The kind is unknown, or a class is named with another kind than ``map50_95``.
    """

    kind: str = "map50_95"
    class_name: str | None = None

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.kind not in KINDS or (self.class_name is not None and self.kind != "map50_95"):
            raise ConfigError(
                f"metric is '{self}'" if self.class_name is None else f"metric is '{self.kind}' of one class",
                expected=f"one of {', '.join(KINDS)}, class:NAME",
                hint="choose one of them",
            )

    @classmethod
    def parse(cls, text: str) -> Metric:
        """Read what :meth:`__str__` writes: a kind, or ``class:NAME``.

        Raises:
            ConfigError: The text names no metric.
        """
        if text.startswith(_CLASS):
            return cls(class_name=text.removeprefix(_CLASS))
        return cls(text)

    def __str__(self) -> str:
        """Return the text that :meth:`parse` reads."""
        return self.kind if self.class_name is None else f"{_CLASS}{self.class_name}"

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """The IoU thresholds that are averaged over, rising."""
        return IOU_THRESHOLDS[_THRESHOLDS.get(self.kind, slice(None))]

    @property
    def area(self) -> tuple[float, float]:
        """The least and the largest area of objects that count, in square pixels, both included."""
        return _AREAS.get(self.kind, LARGEST_SPAN)

    def categories(self, dataset: DetectionDataset) -> list[int]:
        """Return the ids of the categories that are averaged over, rising.

        Raises:
            ConfigError: The data set has no class of that name.
        """
        entries = dataset.annotations["categories"]
        names = {entry["name"]: entry["id"] for entry in entries}
        if self.class_name is None:
            return sorted(entry["id"] for entry in entries)
        if self.class_name not in names:
            raise ConfigError(
                f"metric is '{self}'",
                expected=f"one of the classes {', '.join(sorted(names))}",
                hint="name a class of the data set",
            )
        return [names[self.class_name]]

    def read(self, metrics: Metrics) -> float | None:
        """Return this number out of all that an evaluation found; None where there is no object to measure it on."""
        of_all: Any = metrics
        found = (
            getattr(of_all, self.kind) if self.class_name is None else metrics.per_class[self.class_name]["map50_95"]
        )
        return None if found is None else float(found)
