"""Cache of collected statistics, found again by a description of their model, images and settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from yoloqat.calibration import Statistics
from yoloqat.config import CalibrationConfig
from yoloqat.config.sizes import ImageSize, json_size
from yoloqat.datasets import ImageRecord
from yoloqat.detectors import Detector
from yoloqat.errors import CalibrationError
from yoloqat.provenance import digest, file_sha256

_NAMED = 3
"""Number of list entries that a message names."""


def describe(
    detector: Detector, records: Sequence[ImageRecord], config: CalibrationConfig, *, imgsz: ImageSize, batch: int
) -> dict[str, Any]:
    """Describe the inputs of statistics: weights, shared scales, the bytes of the images, sizes and bins.

    Bit widths, the method and the weight schemes have no effect on statistics.

    Args:
        detector: A quantized detector.
        records: The calibration images.
        config: Gives bins and sampling.
        imgsz: Side of the square letterbox in pixels, or (height, width) of another.
        batch: Images per forward.

    Raises:
        DataError: An image cannot be read.
    """
    plan = None if detector.quantization is None else detector.quantization.placement
    groups = () if plan is None else plan.groups
    return {
        "weights": detector.source.sha256,
        "quantizers": {group.owner: [tensor.name for tensor in group.tensors] for group in groups},
        "images": [[record.path.name, file_sha256(record.path)] for record in records],
        "imgsz": json_size(imgsz),
        "batch": batch,
        "bins": config.bins,
        "sample": config.sample,
    }


FILE_PATTERN = "histograms-*.npz"
"""The names that :func:`file_name` gives."""


def file_name(made_of: dict[str, Any]) -> str:
    """Return the file name of statistics with this description."""
    return f"histograms-{digest(made_of)}.npz"


def find_statistics(made_of: dict[str, Any], out: Path) -> tuple[Path, Statistics] | None:
    """Look for statistics in the directory of results and in those beside it.

    Args:
        made_of: Their description, from :func:`describe`.
        out: The directory of results, which need not exist.

    Returns:
        The file and what it holds; None where there is none, or only damaged ones.
    """
    name = file_name(made_of)
    beside = sorted(out.absolute().parent.glob(f"*/{name}"))
    for path in [out / name, *beside]:
        try:
            statistics = Statistics.load(path) if path.is_file() else None
        except CalibrationError:
            continue  # damaged statistics are collected again
        if statistics is not None and statistics.made_of == made_of:
            return path, statistics
    return None


def statistics_of(detector: Detector, checkpoint: Path, named: Path | None = None) -> Statistics:
    """Return the statistics that a calibrated checkpoint rests on.

    Args:
        detector: What the checkpoint holds.
        checkpoint: Its file; statistics lie in its directory or in one beside that.
        named: Their file, where the user names it.

    Raises:
        CalibrationError: There are none, or the named file cannot be read or is of another model or other settings.
    """
    told = {} if detector.quantization is None else detector.quantization.calibration
    groups = () if detector.quantization is None else detector.quantization.placement.groups
    made_of: dict[str, Any] = {
        "weights": detector.source.sha256,
        "quantizers": {group.owner: [tensor.name for tensor in group.tensors] for group in groups},
        **{name: told[name] for name in ("imgsz", "bins", "sample") if name in told},
    }
    if named is not None:
        statistics = Statistics.load(named)
        found = differences(statistics.made_of, made_of)
        if found:
            raise CalibrationError(
                f"histograms '{named}' were collected with {'; '.join(found)}",
                expected=f"the model and settings of '{checkpoint}'",
                hint="name the file that was written when it was calibrated",
            )
        return statistics
    folder = checkpoint.absolute().parent
    for path in [*sorted(folder.glob(FILE_PATTERN)), *sorted(folder.parent.glob(f"*/{FILE_PATTERN}"))]:
        try:
            statistics = Statistics.load(path)
        except CalibrationError:
            continue
        if not differences(statistics.made_of, made_of) and statistics.images == told.get("images", statistics.images):
            return statistics
    raise CalibrationError(
        f"'{checkpoint}' has no statistics of its calibration beside it",
        expected=f"its {FILE_PATTERN} in that directory or in one beside it",
        hint="name the file with `histograms`, or calibrate again",
    )


def load_named(path: Path, made_of: dict[str, Any]) -> Statistics:
    """Read statistics that the user named.

    Raises:
        CalibrationError: The file cannot be read, or its statistics are not of this model, these images or these settings.
    """
    statistics = Statistics.load(path)
    check_made_of(statistics, made_of, f"histograms '{path}'")
    return statistics


def check_made_of(statistics: Statistics, made_of: dict[str, Any], named: str) -> None:
    """Check that statistics are of a model, images and settings.

    Args:
        statistics: Collected before.
        made_of: From :func:`describe`.
        named: Name of the statistics in the message.

    Raises:
        CalibrationError: They are of others.
    """
    found = differences(statistics.made_of, made_of)
    if found:
        raise CalibrationError(
            f"{named} were collected with {'; '.join(found)}",
            expected="the model, images and settings of this run",
            hint="name another file with `histograms`, or leave it out to collect anew",
        )


def save_statistics(statistics: Statistics, path: Path, made_of: dict[str, Any]) -> Statistics:
    """Write statistics with their description, and return them with it.

    Raises:
        OutputError: The file cannot be written.
    """
    described = replace(statistics, made_of=made_of)
    described.save(path)
    return described


def differences(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """Return the differences of two descriptions in words."""
    found = []
    for name, value in ours.items():
        other = theirs.get(name)
        if other == value:
            continue
        if name == "images" and isinstance(other, list):
            missing, more = ([entry[0] for entry in a if entry not in b] for a, b in ((value, other), (other, value)))
            texts = [f"{word} {_listed(names)}" for word, names in (("without", missing), ("with", more)) if names]
            found.append(f"{len(other)} images instead of {len(value)} ({', '.join(texts) or 'in another order'})")
        elif name == "quantizers" and isinstance(other, dict):
            odd = sorted(location for location in {*value, *other} if value.get(location) != other.get(location))
            found.append(f"other tensors at {_listed(odd)}")
        else:
            found.append(f"{name} {_short(other)} instead of {_short(value)}")
    return found


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _short(value: Any) -> str:
    return f"{value[:12]}..." if isinstance(value, str) else str(value)
