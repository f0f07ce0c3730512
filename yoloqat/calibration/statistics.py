"""Statistics of one collection pass: a histogram per quantizer, from which every method computes ranges."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from yoloqat.config import MethodSpec
from yoloqat.config.method import PER_LAYER
from yoloqat.detectors import Detector
from yoloqat.errors import CalibrationError
from yoloqat.progress import Progress, silent
from yoloqat.provenance import atomic_path
from yoloqat.quant import activation_quantizers
from yoloqat.quant.calib import Histogram

_DAMAGE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError, MemoryError),
    *(OverflowError, zipfile.BadZipFile, zlib.error),
)
"""Exceptions that NumPy and zipfile raise on a truncated, overwritten or foreign file."""


@dataclass(frozen=True)
class Statistics:
    """Statistics of one collection pass.

    Attributes:
        histograms: Name of each quantizer of activations to the histogram of what passes it.
        images: Number of images collected.
        seconds: Time of the collection.
        made_of: JSON-able description of weights, quantizers, images and sizes; empty when unknown.
        tensors: Name of each quantizer that tensors share to the histograms of these by name, whose sum is its own; without
            those of a file of an earlier version.
    """

    histograms: dict[str, Histogram]
    images: int
    seconds: float
    made_of: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, dict[str, Histogram]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the statistics as one ``.npz``, whole or not at all.

        Raises:
            OutputError: The file cannot be written.
        """
        arrays = _arrays(self.histograms, "")
        for index, parts in enumerate(self.tensors.values()):
            arrays |= _arrays(parts, f"tensor{index}_")
        tensors = {name: _ranges(parts) for name, parts in self.tensors.items()}
        header = {"ranges": _ranges(self.histograms), "images": self.images, "seconds": self.seconds}
        header |= {"made_of": self.made_of, "tensors": tensors}
        with atomic_path(path) as temporary, temporary.open("wb") as stream:  # of a path, NumPy would change the suffix
            np.savez_compressed(stream, header=np.array(json.dumps(header)), **arrays)

    def merge(self, other: Statistics) -> Statistics:
        """Return the statistics of the images of both, as if they had been collected together.

        Raises:
            CalibrationError: They are of different quantizers, or their bins do not fit.
        """
        if self.histograms.keys() != other.histograms.keys():
            odd = sorted(self.histograms.keys() ^ other.histograms.keys())
            raise CalibrationError(
                f"quantizer '{odd[0]}' is in one of two statistics alone",
                expected="statistics of the same quantizers",
                hint="collect both on the same model with the same settings",
            )
        merged = _merged(self.histograms, other.histograms)
        tensors = {
            name: _merged(parts, other.tensors[name])
            for name, parts in self.tensors.items()
            if other.tensors.get(name, {}).keys() == parts.keys()
        }
        return Statistics(merged, self.images + other.images, self.seconds + other.seconds, tensors=tensors)

    @classmethod
    def load(cls, path: Path) -> Statistics:
        """Read a file that :meth:`save` wrote.

        Raises:
            CalibrationError: The file is missing or holds something else.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                header = json.loads(str(file["header"]))
                histograms = _read(file, header["ranges"], "")
                tensors = {
                    name: _read(file, ranges, f"tensor{index}_")
                    for index, (name, ranges) in enumerate(header.get("tensors", {}).items())
                }
            images, seconds = int(header["images"]), float(header["seconds"])
            made_of = dict(header.get("made_of", {}))
        except _DAMAGE as error:
            raise CalibrationError(
                f"statistics '{path}' cannot be read ({error})",
                expected="a file of collected statistics",
                hint="remove it and collect again",
            ) from error
        return cls(histograms, images, seconds, made_of, tensors)


def _arrays(histograms: Mapping[str, Histogram], prefix: str) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for index, histogram in enumerate(histograms.values()):
        arrays[f"{prefix}counts{index}"] = histogram.counts
        arrays[f"{prefix}edges{index}"] = histogram.edges
    return arrays


def _ranges(histograms: Mapping[str, Histogram]) -> dict[str, list[float]]:
    return {name: [histogram.low, histogram.high] for name, histogram in histograms.items()}


def _merged(ours: Mapping[str, Histogram], theirs: Mapping[str, Histogram]) -> dict[str, Histogram]:
    return {name: histogram.merge(theirs[name]) for name, histogram in ours.items()}


def _read(file: Mapping[str, Any], ranges: Mapping[str, Any], prefix: str) -> dict[str, Histogram]:
    return {
        name: _checked(
            name, Histogram(file[f"{prefix}counts{index}"], file[f"{prefix}edges{index}"], low=low, high=high)
        )
        for index, (name, (low, high)) in enumerate(ranges.items())
    }


def _checked(name: str, histogram: Histogram) -> Histogram:
    """Return a histogram that was read.

    Raises:
        ValueError: No calibrator could have made it.
    """
    counts, edges, ends = histogram.counts, histogram.edges, (histogram.low, histogram.high)
    if (
        counts.dtype != np.int64
        or edges.dtype != np.float32
        or counts.ndim != 1
        or not len(counts)
        or edges.shape != (len(counts) + 1,)
    ):
        arrays = f"counts {counts.dtype}{counts.shape} and edges {edges.dtype}{edges.shape}"
        raise ValueError(f"the histogram of '{name}' has {arrays}")
    if (counts < 0).any() or not np.isfinite(edges).all() or edges[0] != 0 or (np.diff(edges) <= 0).any():
        raise ValueError(f"the histogram of '{name}' has negative counts, or edges that do not rise from 0")
    if not all(isinstance(end, int | float) and math.isfinite(end) for end in ends) or ends[0] > ends[1]:
        raise ValueError(f"the histogram of '{name}' has the range {list(ends)}")
    return histogram


def apply_method(
    detector: Detector,
    statistics: Statistics,
    method: MethodSpec | Mapping[str, MethodSpec],
    *,
    progress: Progress = silent,
) -> dict[str, float]:
    """Set the range of every quantizer of activations by ``method``; weights keep theirs.

    Args:
        detector: A quantized detector.
        statistics: Statistics collected on it.
        method: One method for all quantizers, or a method per quantizer name.
        progress: Called after every quantizer.

    Returns:
        Name of each quantizer to its amax.

    Raises:
        CalibrationError: A quantizer was never reached while statistics were collected.
    """
    quantizers = list(activation_quantizers(detector.module))
    label = str(method) if isinstance(method, MethodSpec) else PER_LAYER
    found: dict[str, float] = {}
    for done, (name, quantizer) in enumerate(quantizers, start=1):
        histogram = statistics.histograms.get(name)
        if histogram is None:
            raise CalibrationError(
                f"quantizer '{name}' was not reached by the {statistics.images} calibration images",
                expected="statistics of every quantizer",
                hint=f"leave its layer float with `ignore={name.rpartition('.')[0]}`",
            )
        quantizer.load_histogram(histogram, method if isinstance(method, MethodSpec) else method[name])
        found[name] = float(quantizer.amax or 0.0)
        progress(f"amax by {label}", done, len(quantizers))
    return found
