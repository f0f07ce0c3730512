"""Where two models disagree: the images, classes and sizes whose boxes change most, and the threshold that suits the second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yoloqat.config import EvalConfig
from yoloqat.config.detecting import DiffConfig
from yoloqat.datasets import ImageRecord
from yoloqat.evaluation.changes import KEPT, KINDS, RELABELLED, SIZES, Change, Found, ImageChanges, changes_of
from yoloqat.evaluation.fidelity import NOISE
from yoloqat.evaluation.reference import FIDELITY_MAP, Reference
from yoloqat.evaluation.scoring import check_fit
from yoloqat.evaluation.threshold import score_quantiles, threshold_for
from yoloqat.pipeline.fidelity import check_alike
from yoloqat.pipeline.models import OpenModel
from yoloqat.pipeline.run import Run
from yoloqat.results import Result, Table, number, signed

_SHOWN = 10
"""Rows of a table of images or classes; the result holds all."""


@dataclass(frozen=True, eq=False, repr=False)
class DiffResult(Result):
    """Where two models disagree.

    Attributes:
        images: What was compared, those first whose boxes change most.
        changes: What changed in each.
        names: Class index to class name.
        channels: Of the images that the models take.
        models: What the float model and the other are called.
        config: Thresholds.
        advice: What to do about the confidence threshold, in a sentence.
    """

    images: tuple[ImageRecord, ...]
    changes: tuple[ImageChanges, ...]
    names: dict[int, str]
    channels: int
    models: tuple[str, str]
    config: DiffConfig
    advice: str

    def save(self, directory: str | Path) -> dict[str, Any]:
        """Draw the images where the models disagree most, and write all boxes to a file for FiftyOne.

        Args:
            directory: Made where it is missing; ``pictures`` in it is replaced, and ``fiftyone.json``.

        Returns:
            ``pictures``: for each ``image``, ``file`` and ``tiles``, which the report shows.

        Raises:
            DataError: An image does not decode.
            OutputError: A file cannot be written.
        """
        from yoloqat.pipeline.diff_files import write_fiftyone, write_pictures

        write_fiftyone(self, Path(directory))
        return {"pictures": write_pictures(self, Path(directory))}


def diff_models(
    floating: OpenModel,
    other: OpenModel,
    images: Sequence[ImageRecord],
    scoring: EvalConfig,
    config: DiffConfig,
    *,
    run: Run,
) -> DiffResult:
    """Run two models on the same images and find what changed.

    Args:
        floating: The float model.
        other: The quantized one, or any other of the same classes.
        images: What both run on; labels are not needed.
        scoring: Image size, batch and NMS.
        config: Thresholds.
        run: Who watches.

    Raises:
        ConfigError: The image size does not fit a model.
        DataError: There is no image, or one does not decode.
        ModelError: The two models' classes, tasks or outputs differ.
    """
    check_alike(floating.predictor.info, other.predictor.info, (floating.name, other.name))
    check_fit(other.predictor.info, scoring)
    reference = Reference(floating.predictor, images, scoring, progress=run.labelled(floating.name))
    fidelity = reference.compare(other.predictor, progress=run.labelled(other.name))
    if reference.detections is None or fidelity.detections is None:
        raise AssertionError(reference)
    pairs = zip(reference.image_ids, reference.detections.by_image(), fidelity.detections.by_image(), strict=True)
    found = [changes_of(number, a, b, conf=config.conf, moved=config.moved) for number, a, b in pairs]
    order = sorted(range(len(found)), key=lambda index: -found[index].disagreement)
    noise = fidelity.measures[NOISE].tolist()
    names = floating.predictor.info.names
    per_image = [_image_row(reference.images[index], found[index], noise[index], names) for index in order]
    threshold = threshold_for(found, config.conf)
    all_changes = [change for image in found for change in image.changes]
    per_class = _grouped([(names[change.shown.label], change) for change in all_changes], "class")
    per_size = _grouped([(change.size, change) for change in all_changes], "size")
    per_size.sort(key=lambda row: [name for name, _ in SIZES].index(row["size"]))
    results = {FIDELITY_MAP: None, f"{FIDELITY_MAP}_ci95": None} | fidelity.to_dict()
    results |= {
        "boxes_float": threshold.boxes_float,
        "boxes_quantized": threshold.boxes,
        "changes": _counts(all_changes),
    }
    results |= {"threshold": threshold.to_dict(), "score_quantiles": score_quantiles(found)}
    results |= {"changes_by_class": per_class, "changes_by_size": per_size, "changes_by_image": per_image}
    return DiffResult(
        results,
        _tables(results, fidelity.table(f"{other.name} against {floating.name}")),
        tuple(reference.images[index] for index in order),
        tuple(found[index] for index in order),
        names,
        floating.predictor.info.channels,
        (floating.name, other.name),
        config,
        threshold.sentence,
    )


def _counts(changes: Sequence[Change]) -> dict[str, int]:
    return {kind: sum(change.kind == kind for change in changes) for kind in KINDS}


def _side(found: Found | None, end: str, names: dict[int, str]) -> dict[str, Any]:
    if found is None:
        return {f"class_{end}": None, f"score_{end}": None, f"box_{end}": None}
    return {f"class_{end}": names[found.label], f"score_{end}": found.score, f"box_{end}": list(found.box)}


def _image_row(record: ImageRecord, image: ImageChanges, noise: float, names: dict[int, str]) -> dict[str, Any]:
    changed = sorted((change for change in image.changes if change.kind != KEPT), key=lambda change: -change.weight)
    sides = {"image": str(record.path), "image_id": record.image_id, "d": noise, "disagreement": image.disagreement}
    return {
        **sides,
        "boxes_float": image.sure,
        **_counts(image.changes),
        "details": [
            {"kind": change.kind, "iou": change.overlap, "size": change.size}
            | _side(change.floating, "float", names)
            | _side(change.other, "quantized", names)
            for change in changed
        ],
    }


def _grouped(changes: Sequence[tuple[str, Change]], key: str) -> list[dict[str, Any]]:
    """Return the changes of each class or size, those that change most first."""
    groups: dict[str, list[Change]] = {}
    for name, change in changes:
        groups.setdefault(name, []).append(change)
    rows = []
    for name, group in groups.items():
        known = [change for change in group if change.floating is not None and change.kind != "rose"]
        rows.append(
            {
                key: name,
                "boxes_float": len(known),
                **_counts(group),
                "disagreement": sum(change.weight for change in group),
            }
        )
    return sorted(rows, key=lambda row: -row["disagreement"])


def _tables(results: dict[str, Any], fidelity: Table) -> tuple[Table, ...]:
    counts, conf = results["changes"], results["threshold"]["conf"]
    head = f"{results['boxes_float']} boxes of the float model above {conf:g}"
    columns = ("disagreement", "boxes", *KINDS)

    def table(title: str, key: str, rows: Sequence[dict[str, Any]], caption: str = "") -> Table:
        cells = tuple(
            (
                Path(row[key]).name if key == "image" else row[key],
                number(row["disagreement"], 2),
                str(row["boxes_float"]),
                *(str(row[kind]) for kind in KINDS),
            )
            for row in rows[:_SHOWN]
        )
        more = f" (the first {_SHOWN} of {len(rows)})" if len(rows) > _SHOWN else ""
        return Table(f"{title}{more}", (key, *columns), cells, caption)

    quantiles = tuple(
        (
            f"{100 * row['quantile']:.0f} %",
            number(row["float"], 3),
            number(row["quantized"], 3),
            signed(row["shift"], 3),
        )
        for row in results["score_quantiles"]
    )
    meaning = (
        f"fell, rose: the score crossed {conf:g}; {RELABELLED}: another class; disagreement: the sum of what changed"
    )
    every = Table(f"changes, {head}", ("kind", "boxes"), tuple((kind, str(counts[kind])) for kind in KINDS))
    found = [
        fidelity,
        every,
        table("images that change most", "image", results["changes_by_image"], meaning),
        table("classes", "class", results["changes_by_class"]),
        table("sizes", "size", results["changes_by_size"]),
    ]
    if quantiles:
        found.append(Table("scores of objects that both see", ("quantile", "float", "quantized", "shift"), quantiles))
    return tuple(found)
