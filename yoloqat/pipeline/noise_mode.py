"""The noise budget of a calibrated checkpoint alone, without labels; with labels the mAP drop of its first items."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from yoloqat.config import EvalConfig
from yoloqat.config.checks import check_int
from yoloqat.datasets import DetectionDataset, ImageRecord
from yoloqat.detectors import load_detector, torch_threads
from yoloqat.errors import ConfigError
from yoloqat.pipeline.noise_budget import (
    BUDGET_CHART,
    budget_histograms,
    budget_results,
    by_share,
    complete_budget,
    ignore_list,
    item_noise,
    measure_noise,
)
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.sensitivity import (
    IGNORE,
    STUDY,
    TABLE,
    ScanOptions,
    model_title,
    run_scan,
    study_inputs,
    write_items,
)
from yoloqat.provenance import digest, file_sha256, write_text
from yoloqat.quant import state_digest
from yoloqat.report.plots import budget_plot
from yoloqat.results import counted, number
from yoloqat.sensitivity.items import Item
from yoloqat.sensitivity.noise import OTHERS, BudgetScan
from yoloqat.sensitivity.noise_pool import NoiseJob
from yoloqat.sensitivity.settings import ONE_AT_A_TIME, ScanConfig
from yoloqat.sensitivity.study import Study

MAP_STUDY = "map.db"
"""Study of the mAP drops of a budget's first items."""


def run_noise_budget(
    checkpoint: Path,
    images: Sequence[ImageRecord],
    config: EvalConfig,
    *,
    scan: ScanConfig,
    options: ScanOptions,
    run: Run,
    dataset: DetectionDataset | None = None,
    map_top: int = 0,
) -> dict[str, Any]:
    """Measure the noise budget of a calibrated checkpoint; one of the same inputs that was interrupted goes on.

    Args:
        checkpoint: What ``calibrate`` wrote.
        images: What the noise is measured on; labels are not needed.
        config: Image size and batch.
        scan: The granularity and the bits.
        options: How to run it; the cost of a scan plays no part in the budget.
        run: Where the study lies, device, threads.
        dataset: Labels, for ``map_top``.
        map_top: For so many items, the noisiest first, the drop of mAP is measured too, with the item alone quantized.

    Returns:
        The results of ``sensitivity --mode noise``.

    Raises:
        ConfigError: The study in ``run.out`` was made of other inputs, a setting does not fit, or there are no labels for
            ``map_top``.
        YoloqatError: As :class:`~yoloqat.sensitivity.noise.NoiseScan`.
    """
    check_map_top(map_top, dataset)
    check_int("top", options.top, 1)
    detector = load_detector(checkpoint)
    job = NoiseJob(checkpoint, tuple(images), config, scan, options.memory)
    with run.pooled(options.workers, options.ray) as run, torch_threads(run.threads):

        def score(items: Sequence[Item]) -> dict[str, Any] | None:
            return _scored(checkpoint, dataset, config, scan, options, run, items[:map_top]) if map_top else None

        results = measured_results(
            job.scanned(detector, run.device, run.pool),
            state_digest(detector.module),
            config,
            title=model_title(detector, config),
            scan=scan,
            options=options,
            run=run,
            score=score,
        )
    return results | budget_histograms(detector, checkpoint)


def measured_results(
    noise: BudgetScan,
    state: str,
    config: EvalConfig,
    *,
    title: str,
    scan: ScanConfig,
    options: ScanOptions,
    run: Run,
    score: Callable[[Sequence[Item]], dict[str, Any] | None] = lambda _items: None,
) -> dict[str, Any]:
    """Measure a noise budget, write its study, table, picture and ignore list, and return its results.

    Args:
        noise: The images, and what is switched.
        state: Digest of the model's state.
        config: Image size and batch.
        title: What the picture is headed with.
        scan: The granularity and the bits.
        options: How to run it.
        run: Where the files go.
        score: Returns the mAP scan of items, the noisiest first, or None.

    Raises:
        ConfigError: The study in ``run.out`` was made of other inputs.
        OutputError: A file cannot be written.
    """
    start = time.perf_counter()
    shown = digest([file_sha256(record.path) for record in noise.images])
    study = Study(run.out / STUDY, study_inputs(state, config, scan, run, images=shown))
    try:
        budget = measure_noise(study, noise, first=options.top, run=run)
        order = by_share(budget)
        scored = score([item for item in order if item.name != OTHERS])
        map_float = None if scored is None else scored["baseline"]["map50_95"]
        measured = complete_budget(study, noise, budget, order, run=run, map_float=map_float, max_drop=options.max_drop)
    finally:
        study.close()
    own, effects = item_noise(budget), {} if scored is None else {item["name"]: item for item in scored["items"]}
    items = [_item(item, own[item.name], effects.get(item.name), scored is not None) for item in order]
    results = {
        "mode": scan.mode,
        "granularity": scan.granularity,
        "bits": scan.bits,
        **budget_results(measured, map_float),
        **({} if scored is None else {"baseline": scored["baseline"], "evaluated_images": scored["evaluated_images"]}),
        "items": items,
        "state_hash": state,
        "seconds": time.perf_counter() - start,
    }
    write_items(items, run.out / TABLE)
    write_text(run.out / IGNORE, ignore_list(measured))
    figures = f"d {number(results['d'], 3)} of the whole, {number(results['d_predicted'], 3)} predicted"
    told = f"{title}, {counted(budget.images, 'image')}"
    budget_plot(results, title=f"{told}: {figures}; larger is worse").save(run.out / BUDGET_CHART)
    return results


def check_map_top(map_top: int, dataset: DetectionDataset | None) -> None:
    """Check that the mAP drop of so many items can be measured.

    Raises:
        ConfigError: The number is no whole one from 0, or there are no labels.
    """
    check_int("map_top", map_top, 0)
    if map_top and dataset is None:
        raise ConfigError(
            f"map_top is {map_top} and the images have no labels",
            expected="labels to measure mAP on",
            hint="name a data set, or leave out `map_top`",
        )


def _scored(
    checkpoint: Path,
    dataset: DetectionDataset | None,
    config: EvalConfig,
    scan: ScanConfig,
    options: ScanOptions,
    run: Run,
    items: Sequence[Item],
) -> dict[str, Any]:
    """Return the mAP scan of some items, each alone."""
    if dataset is None:
        raise TypeError("there are no labels")
    only = tuple(item.name for item in items)
    alone = replace(scan, mode=ONE_AT_A_TIME)
    options = replace(options, scan_cost=None)
    return run_scan(
        checkpoint, dataset, config, scan=alone, options=options, run=run, only=only, file=MAP_STUDY
    ).results


def _item(item: Item, own: dict[str, Any], scored: dict[str, Any] | None, any_scored: bool) -> dict[str, Any]:
    found = {"name": item.name, **own, "quantizers": list(item.edges), "layers": list(item.layers)}
    keys = ("map50_95", "drop", "effect", "effect_ci95")
    return found | {key: None if scored is None else scored[key] for key in (keys if any_scored else ())}
