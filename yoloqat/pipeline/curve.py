"""How ranges, noise and mAP settle with the number of calibration images."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from yoloqat.calibration import Statistics, collect_statistics
from yoloqat.config import EvalConfig, MethodSpec
from yoloqat.datasets import DetectionDataset, ImageRecord
from yoloqat.errors import ConfigError
from yoloqat.evaluation.drops import Baseline, drop_results
from yoloqat.evaluation.fidelity import NOISE, mean
from yoloqat.evaluation.reference import Fidelity
from yoloqat.pipeline.fidelity import float_reference, noise_results
from yoloqat.pipeline.models import check_scoring
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run
from yoloqat.provenance import atomic_path
from yoloqat.quant import activation_quantizers, quantization_disabled

FIRST = 8
"""The first number of a curve that stops by itself."""

_DRAWN = {"d": "noise d, lower is better", "drop": "drop of mAP50-95"}
"""What is drawn below the ranges where it was measured, with what its axis says."""


def settling_curve(
    ptq: Ptq,
    method: MethodSpec,
    counts: Sequence[int],
    config: EvalConfig,
    *,
    run: Run,
    dataset: DetectionDataset | None = None,
    compared: Sequence[ImageRecord] = (),
    until_settled: bool = False,
) -> list[dict[str, Any]]:
    """Calibrate on more and more of the calibration images, each of which is collected once, in a seeded order.

    Args:
        ptq: The swapped detector with its calibration images; its ranges are changed.
        method: How amax is found.
        counts: Rising numbers of images, at most as many as there are.
        config: How to score.
        run: Where finished parts are kept.
        dataset: The validation images, or None to score nothing.
        compared: Images to measure the noise on; none measures none.
        until_settled: Stop where more images no longer change d: the paired 95 % interval of its change from the number
            before holds zero.

    Returns:
        One entry per number: ``images``; ``amax_change`` and ``amax_change_max``, the mean and the largest over the
        quantizers of the distance to the last entry's amax, relative to it; with ``compared`` also ``d`` and ``d_ci95``, with
        a data set ``map50_95``, ``drop`` and ``drop_ci95``.

    Raises:
        ConfigError: The numbers do not rise or reach beyond the images, or the curve is to stop by a noise that is not measured.
        CalibrationError: A layer's input holds NaN or Inf.
        DataError: The names of classes and categories do not match, or no object counts.
    """
    check_scoring(ptq.detector.info, dataset, config)
    _check_counts(counts, len(ptq.records))
    if until_settled and not compared:
        raise ConfigError(
            f"the curve is to stop by itself and d is measured on {len(compared)} images",
            expected="images to measure it on",
            hint="leave `no_eval` out, or name the numbers",
        )
    records = random.Random(ptq.config.seed).sample(ptq.records, len(ptq.records))  # noqa: S311 - no secret
    reference = None
    if dataset is not None:
        weights = {"weights": ptq.detector.source.sha256}
        with quantization_disabled(ptq.detector.module):
            floating = run.evaluate(ptq.predictor, dataset, config, label="float", model_key=weights)
        reference = Baseline(floating.matches)
    fidelity = float_reference(ptq, compared, config, run=run)
    found, entries = [], []
    statistics, before = None, None
    for start, count in pairwise((0, *counts)):
        part = _collected(ptq, records[start:count], run)
        statistics = part if statistics is None else statistics.merge(part)
        found.append(_ranges(ptq, method, statistics))
        entry: dict[str, Any] = {"images": count}
        label = f"{count} images"
        measured = None if fidelity is None else fidelity.compare(ptq.predictor, progress=run.labelled(label))
        if measured is not None:
            entry |= noise_results(measured)
        if dataset is not None and reference is not None:
            key = {**ptq.model_key(str(method)), "curve": list(counts), "of_images": count}
            evaluation = run.evaluate(ptq.predictor, dataset, config, label=label, model_key=key)
            entry |= {"map50_95": evaluation.metrics.map50_95, **drop_results(reference.drop(evaluation.matches))}
        entries.append(entry)
        if until_settled and before is not None and measured is not None and is_settled(before, measured):
            break
        before = measured
    changes = [amax_changes(amax, found[-1]) for amax in found]
    return [
        {"images": entry["images"], "amax_change": average, "amax_change_max": largest} | entry
        for entry, (average, largest) in zip(entries, changes, strict=True)
    ]


def doubling(images: int, first: int = FIRST) -> list[int]:
    """Return the numbers of a curve that stops by itself: each twice the one before, and all images at the end."""
    counts = []
    while first < images:
        counts.append(first)
        first *= 2
    return [*counts, images]


def is_settled(before: Fidelity, after: Fidelity) -> bool:
    """Return whether the noise of two models on the same images differs by no more than chance."""
    change = mean(after.measures[NOISE] - before.measures[NOISE])
    return change.images > 1 and change.low <= 0.0 <= change.high


def _check_counts(counts: Sequence[int], images: int) -> None:
    if not counts or counts[0] < 1 or counts[-1] > images or any(b <= a for a, b in pairwise(counts)):
        raise ConfigError(
            f"numbers of calibration images are {', '.join(map(str, counts))}",
            expected=f"rising numbers from 1 to the {images} images there are",
            hint="name fewer, or calibrate on more images",
        )


def _collected(ptq: Ptq, records: Sequence[ImageRecord], run: Run) -> Statistics:
    return collect_statistics(
        ptq.detector,
        ptq.predictor,
        records,
        imgsz=ptq.imgsz,
        batch=ptq.batch,
        bins=ptq.config.bins,
        sample=ptq.config.sample,
        progress=run.labelled("curve"),
    )


def _ranges(ptq: Ptq, method: MethodSpec, statistics: Statistics) -> dict[str, float]:
    ptq.apply(method, statistics)
    return {name: float(quantizer.amax or 0.0) for name, quantizer in activation_quantizers(ptq.detector.module)}


def amax_changes(amax: Mapping[str, float], last: Mapping[str, float]) -> tuple[float, float]:
    """Return the mean and the largest distance of ranges to others, relative to these; ranges of 0 are left out."""
    changes = [abs(value - last[name]) / last[name] for name, value in amax.items() if last[name] > 0]
    return (float(np.mean(changes)), float(np.max(changes))) if changes else (0.0, 0.0)


def draw_curve(curve: Sequence[Mapping[str, Any]], figure: Figure) -> None:
    """Draw the ranges, and the noise and the mAP where they were measured, over the number of images.

    Args:
        curve: What :func:`settling_curve` returned.
        figure: An empty figure.
    """
    images = [entry["images"] for entry in curve]
    more = [(name, label) for name, label in _DRAWN.items() if all(entry.get(name) is not None for entry in curve)]
    axes = figure.subplots(1 + len(more), sharex=True, squeeze=False)[:, 0]
    axes[0].plot(images, [100 * entry["amax_change"] for entry in curve], "o-", label="mean")
    axes[0].plot(images, [100 * entry["amax_change_max"] for entry in curve], "o--", label="largest")
    axes[0].set_ylabel(f"amax, % from that of {images[-1]}")
    axes[0].legend()
    for panel, (name, label) in zip(axes[1:], more, strict=True):
        values = [entry[name] for entry in curve]
        ends = [entry[f"{name}_ci95"] or 2 * [entry[name]] for entry in curve]
        spread = [[value - low, high - value] for value, (low, high) in zip(values, ends, strict=True)]
        panel.errorbar(images, values, yerr=np.transpose(spread), fmt="o-", capsize=3)
        panel.set_ylabel(label)
    axes[-1].set_xscale("log", base=2)
    axes[-1].set_xticks(images, [str(number) for number in images])
    axes[-1].set_xlabel("calibration images")


def save_curve(curve: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the curve as a PNG, whole or not at all.

    Raises:
        OutputError: The file cannot be written.
    """
    figure = Figure(figsize=(7.0, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    draw_curve(curve, figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, metadata={"Software": None})
