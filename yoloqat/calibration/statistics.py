"""What one collection pass found: a histogram per site, from which every method computes its ranges."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yoloqat.config import MethodSpec
from yoloqat.detectors import Detector
from yoloqat.errors import CalibrationError
from yoloqat.progress import Progress, silent
from yoloqat.provenance import atomic_path
from yoloqat.quant import quantized_layers
from yoloqat.quant.calib import Histogram

_DAMAGE = (OSError, ValueError, LookupError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What NumPy and zipfile raise of a file that was cut short, overwritten, or is of another kind."""


@dataclass(frozen=True)
class Statistics:
    """What one collection pass found.

    Attributes:
        histograms: Layer name to the histogram of its input.
        images: How many images were collected.
        seconds: How long the collection took.
    """

    histograms: dict[str, Histogram]
    images: int
    seconds: float

    def save(self, path: Path) -> None:
        """Write the statistics as one ``.npz``, whole or not at all.

        Raises:
            OutputError: The file cannot be written.
        """
        arrays: dict[str, Any] = {}
        for index, histogram in enumerate(self.histograms.values()):
            arrays[f"counts{index}"] = histogram.counts
            arrays[f"edges{index}"] = histogram.edges
        ranges = {name: [histogram.low, histogram.high] for name, histogram in self.histograms.items()}
        header = json.dumps({"ranges": ranges, "images": self.images, "seconds": self.seconds})
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, header=np.array(header), **arrays)

    @classmethod
    def load(cls, path: Path) -> Statistics:
        """Read what :meth:`save` wrote.

        Raises:
            CalibrationError: The file is missing or holds something else.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                header = json.loads(str(file["header"]))
                histograms = {
                    name: Histogram(file[f"counts{index}"], file[f"edges{index}"], low=low, high=high)
                    for index, (name, (low, high)) in enumerate(header["ranges"].items())
                }
            images, seconds = header["images"], header["seconds"]
        except _DAMAGE as error:
            raise CalibrationError(
                f"statistics '{path}' cannot be read ({error})",
                expected="a file of collected statistics",
                mend="remove it and collect again",
            ) from error
        return cls(histograms, images, seconds)


def apply_method(
    detector: Detector, statistics: Statistics, method: MethodSpec, *, progress: Progress = silent
) -> dict[str, float]:
    """Set the input range of every quantized layer by ``method``; weights keep theirs.

    Args:
        detector: A quantized detector.
        statistics: What was collected on it.
        method: How amax is found.
        progress: Told of every finished layer.

    Returns:
        Layer name to amax.

    Raises:
        CalibrationError: A quantized layer was never reached while statistics were collected.
    """
    layers = list(quantized_layers(detector.module))
    found: dict[str, float] = {}
    for done, (name, layer) in enumerate(layers, start=1):
        histogram = statistics.histograms.get(name)
        if histogram is None:
            raise CalibrationError(
                f"layer '{name}' was not reached by the {statistics.images} calibration images",
                expected="statistics of every quantized layer",
                mend=f"leave it float with --ignore {name}",
            )
        layer._input_quantizer.load_histogram(histogram, method)
        found[name] = float(layer._input_quantizer.amax or 0.0)
        progress(f"amax by {method}", done, len(layers))
    return found
