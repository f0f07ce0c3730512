"""What a comparison of detections leaves on the disk: pictures of both models side by side, and a file for FiftyOne."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

from yoloqat.datasets import ImageRecord
from yoloqat.datasets.images import decode
from yoloqat.evaluation.changes import FELL, GAINED, KEPT, LOST, MOVED, RELABELLED, ROSE, Change, Found, ImageChanges
from yoloqat.pipeline.diff import DiffResult
from yoloqat.provenance import atomic_directory, write_json
from yoloqat.report.drawing import Colour, Mark, beside, drawn

PICTURES, FIFTYONE = "pictures", "fiftyone.json"

_GONE, _NEW, _ELSEWHERE, _NAMED, _SAME = (214, 39, 40), (31, 119, 220), (240, 160, 20), (170, 60, 200), (90, 200, 120)
COLOURS: MappingProxyType[str, Colour] = MappingProxyType(
    {LOST: _GONE, FELL: _GONE, GAINED: _NEW, ROSE: _NEW, MOVED: _ELSEWHERE, RELABELLED: _NAMED, KEPT: _SAME}
)
_LEGEND = (
    ("kept", _SAME),
    ("lost, dashed: gone or below the threshold", _GONE),
    ("gained, dashed: missing or below the threshold", _NEW),
    ("moved, dashed: where the other model has it", _ELSEWHERE),
    ("another class", _NAMED),
)
_PICTURE, _TILE = 900, 480
"""Long sides of an image in the file and in the report, in pixels."""
_TILE_QUALITY, _QUALITY = 72, 88
_DETECTIONS = "fiftyone.core.fields.EmbeddedDocumentField(fiftyone.core.labels.Detections)"


def write_pictures(result: DiffResult, directory: Path) -> list[dict[str, Any]]:
    """Draw the images whose boxes change most, the float model on the left and the other on the right.

    Args:
        result: Of the comparison.
        directory: Gets the directory ``pictures``, whole or not at all.

    Returns:
        For each ``image``, ``file`` and the two ``tiles`` of the report, relative to the directory.

    Raises:
        DataError: An image does not decode.
        OutputError: A file cannot be written.
    """
    worst = [
        (record, image) for record, image in zip(result.images, result.changes, strict=True) if image.disagreement > 0
    ][: result.config.pictures]
    found = []
    with atomic_directory(directory / PICTURES) as temporary:
        for number, (record, image) in enumerate(worst, start=1):
            names = _draw(result, record, image, temporary, number)
            file, *tiles = (f"{PICTURES}/{name}" for name in names)
            found.append({"image": str(record.path), "file": file, "tiles": tiles})
    return found


def _draw(result: DiffResult, record: ImageRecord, image: ImageChanges, folder: Path, number: int) -> tuple[str, ...]:
    pixels = decode(record.path, result.channels)
    stem = f"{number:02d}_{re.sub(r'[^0-9A-Za-z_-]', '_', record.path.stem)[:60]}"
    # what is kept lies at the bottom, what changed most on top
    order = sorted(image.changes, key=lambda change: change.weight)
    sides = [[mark for change in order for mark in marks(change, result.names, side)] for side in (0, 1)]
    titles = (f"float: {result.models[0]}", f"quantized: {result.models[1]}")
    whole = [drawn(pixels, side, longest=_PICTURE) for side in sides]
    names = (f"{stem}.jpg", f"{stem}_float.webp", f"{stem}_quantized.webp")
    beside(list(zip(titles, whole, strict=True)), _LEGEND).save(folder / names[0], quality=_QUALITY)
    for name, side in zip(names[1:], sides, strict=True):
        drawn(pixels, side, longest=_TILE, text=11).save(folder / name, quality=_TILE_QUALITY, method=6)
    return names


def marks(change: Change, names: dict[int, str], side: int) -> Iterator[Mark]:
    """Yield what one side of a picture shows of an object.

    Args:
        change: The object.
        names: Class index to class name.
        side: 0 for the float model, 1 for the other: each has its own box whole, and in dashes the box of the other model that
            it has not, or has elsewhere.
    """
    own, far = (change.floating, change.other) if side == 0 else (change.other, change.floating)
    colour = COLOURS[change.kind]
    absent = change.kind in ((GAINED, ROSE) if side == 0 else (LOST, FELL))
    if change.kind == KEPT:
        if own is not None:
            yield Mark(_outline(own), colour, width=1)
        return
    if absent:
        there = far if far is not None else own
        if there is not None:
            told = f"{names[there.label]} {own.score:.2f}" if own is not None else f"no {names[there.label]}"
            yield Mark(_outline(there), colour, told, dashed=True)
        return
    if change.kind == MOVED and far is not None:
        yield Mark(_outline(far), colour, dashed=True, width=1)
    if own is not None:
        yield Mark(_outline(own), colour, f"{names[own.label]} {own.score:.2f}")


def _outline(found: Found) -> tuple[tuple[float, float], tuple[float, float]]:
    x1, y1, x2, y2 = found.box
    return (x1, y1), (x2, y2)


def write_fiftyone(result: DiffResult, directory: Path) -> None:
    """Write all boxes above the threshold as one data set that ``fiftyone.Dataset.from_json`` reads.

    Each sample has the detections of both models as ``float`` and ``quantized``, each with its ``change``, and the
    ``disagreement`` to sort by.

    Args:
        result: Of the comparison.
        directory: Gets ``fiftyone.json``.

    Raises:
        OutputError: The file cannot be written.
    """
    samples = [
        _sample(record, image, result.names) for record, image in zip(result.images, result.changes, strict=True)
    ]
    fields = {"float": _DETECTIONS, "quantized": _DETECTIONS, "disagreement": "fiftyone.core.fields.FloatField"}
    content = {"name": "yoloqat-diff", "media_type": "image", "num_samples": len(samples), "sample_fields": fields}
    write_json(directory / FIFTYONE, content | {"samples": samples})


def _sample(record: ImageRecord, image: ImageChanges, names: dict[int, str]) -> dict[str, Any]:
    sides = []
    for absent, side in (((ROSE,), "floating"), ((FELL,), "other")):  # what is below the threshold is no detection
        found = [
            _detection(one, change, record, names)
            for change in image.changes
            if (one := getattr(change, side)) is not None and change.kind not in absent
        ]
        sides.append({"_cls": "Detections", "detections": found})
    kinds = sorted({change.kind for change in image.changes} - {KEPT})
    path = str(record.path.absolute())
    return {
        "filepath": path,
        "tags": kinds,
        "disagreement": image.disagreement,
        "float": sides[0],
        "quantized": sides[1],
    }


def _detection(found: Found, change: Change, record: ImageRecord, names: dict[int, str]) -> dict[str, Any]:
    x1, y1, x2, y2 = found.box
    box = [x1 / record.width, y1 / record.height, (x2 - x1) / record.width, (y2 - y1) / record.height]
    about = {"label": names[found.label], "bounding_box": box, "confidence": found.score, "change": change.kind}
    return {"_cls": "Detection", **about, "size": change.size}
