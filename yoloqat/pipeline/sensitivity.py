"""A sensitivity scan from a model file to its results: calibrate where needed, scan, rank, write."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from yoloqat.config import EvalConfig, to_dict
from yoloqat.config.checks import check_int
from yoloqat.config.sizes import size_text
from yoloqat.datasets import DetectionDataset, spread, warn_of_names
from yoloqat.datasets.unlabelled import COMPARED
from yoloqat.detectors import Detector, torch_threads
from yoloqat.errors import CheckFailedError
from yoloqat.pipeline.noise_budget import (
    BUDGET_CHART,
    budget_histograms,
    budget_results,
    complete_budget,
    ignore_list,
    item_noise,
    measure_noise,
)
from yoloqat.pipeline.run import Run, dataset_hash
from yoloqat.progress import Progress, note
from yoloqat.provenance import environment, write_text
from yoloqat.quant import state_digest
from yoloqat.report.plots import budget_plot, effects_plot
from yoloqat.results import counted, number
from yoloqat.sensitivity.adaptive import Budget
from yoloqat.sensitivity.items import BASE, Item, item_is_finer
from yoloqat.sensitivity.noise import OTHERS, NoiseBudget, NoiseScan
from yoloqat.sensitivity.noise_pool import NoiseJob
from yoloqat.sensitivity.proxies import Noise, edge_noise, joined, rank_correlation
from yoloqat.sensitivity.ranking import (
    RankedItem,
    bootstrapped,
    evaluations,
    item_results,
    measured,
    rank_items,
    summary,
    with_posterior,
)
from yoloqat.sensitivity.rounds import Rounds, batches_of, run_rounds
from yoloqat.sensitivity.scanner import MEMORY, Scanner
from yoloqat.sensitivity.settings import ScanConfig
from yoloqat.sensitivity.study import Study
from yoloqat.sensitivity.workers import Job, Workers, work, work_of

STUDY, TABLE, CHART, IGNORE = "study.db", "items.csv", "effects.png", "ignore.txt"

_TOP_SHARE = 0.03
"""Share of the time that may go into naming the current top five."""


@dataclass(frozen=True)
class ScanOptions:
    """How a scan is run; none of these changes a number of an item on an image.

    Attributes:
        scan_cost: Share of the exhaustive naive cost that may be spent; None scans everything.
        workers: Local processes, or workers of the Ray cluster.
        ray: Address of a Ray cluster, ``"local"`` for a new one on this machine, None for none.
        memory: Bytes of values that a replay keeps between items.
        top: Items that the bootstrap is run for, and whose order the noise budget settles.
        seed: Seeds the resamples and the order of the images of an adaptive scan.
        fidelity_images: Images that the noise is measured on at most, where labels are scored too.
        max_drop: The expected drop that the ignore-list brings the model within; None takes the knee of the noise curve.
    """

    scan_cost: float | None = None
    workers: int = 1
    ray: str | None = None
    memory: int = MEMORY
    top: int = 10
    seed: int = 0
    fidelity_images: int = COMPARED
    max_drop: float | None = None


@dataclass(frozen=True, eq=False)
class ScanResult:
    """The results of a scan.

    Attributes:
        results: The keys of the result of ``sensitivity``.
        ranking: By falling effect.
    """

    results: dict[str, Any]
    ranking: Sequence[RankedItem]


def run_scan(
    checkpoint: Path,
    dataset: DetectionDataset,
    config: EvalConfig,
    *,
    scan: ScanConfig,
    options: ScanOptions,
    run: Run,
    only: tuple[str, ...] | None = None,
    file: str = STUDY,
) -> ScanResult:
    """Scan a calibrated checkpoint; a scan of the same inputs that was interrupted goes on.

    Args:
        checkpoint: What ``calibrate`` wrote.
        dataset: The validation images.
        config: How to score.
        scan: What to switch, and what to measure.
        options: How to run it.
        run: Where the study lies, device, threads.
        only: Names of the items to scan, without a noise budget of their own; None scans all.
        file: Name of the study's file.

    Raises:
        ConfigError: The study in ``run.out`` was made of other inputs, or a setting does not fit.
        CheckFailedError: The scan changed the model, or its scores are not those of pycocotools.
        YoloqatError: As :class:`~yoloqat.sensitivity.scanner.Scanner`.
    """
    start = time.perf_counter()
    job = Job(checkpoint, dataset, config, scan, run.out / file, {}, str(run.device), options.memory, only)
    if options.scan_cost is not None:
        Budget(options.scan_cost, 1, 1)  # refuse an unfit one before the long part
    check_int("top", options.top, 1)
    check_int("memory", options.memory, 1)
    scanner = job.scanner()
    warn_of_names(dataset, scanner.detector.info.names)
    with (
        run.pooled(options.workers, options.ray) as run,
        torch_threads(run.threads),  # importing Ultralytics may have changed it
    ):
        before = state_digest(scanner.detector.module)
        inputs = study_inputs(before, scanner.config, scanner.scan, run, data=dataset_hash(dataset))
        study = Study(job.study, inputs)
        try:
            job = replace(job, inputs=inputs)
            noises, shares = _noises(study, scanner), _shares(study, scanner)
            budget, noise_scan = None, None
            if only is None:
                images = tuple(spread(dataset.images, options.fidelity_images))
                noise_job = NoiseJob(checkpoint, images, config, scan, options.memory)
                noise_scan = noise_job.scanned(scanner.detector, run.device, run.pool, scanner.graphs)
                budget = measure_noise(study, noise_scan, first=options.top, run=run)
            workers = _workers(job, run, study, scanner)
            if options.scan_cost is None:
                rounds = None
                study.want(scanner.names, range(len(scanner.batches)))
                workers()
            else:
                rounds = run_rounds(
                    study,
                    scanner,
                    workers,
                    share=options.scan_cost,
                    first=options.top,
                    seed=options.seed,
                    costs=shares,
                    priors=_priors(noises, budget),
                )
            chosen = None if rounds is None else batches_of(rounds.rounds)
            known = measured(study, scanner)
            ranking = rank_items(study, scanner, known, noises=noises, shares=shares, chosen=chosen)
            if rounds is None:
                ranking = bootstrapped(ranking, study, known, first=options.top, seed=options.seed)
            else:
                ranking = with_posterior(ranking, rounds.posterior)
            if budget is not None:
                ranking = tied_by_share(ranking, budget, first=0 if rounds is None else rounds.first)
            results = _results(study, scanner, dataset, ranking, rounds)
            if budget is not None and noise_scan is not None:
                model = model_title(scanner.detector, config)
                results |= _with_budget(results, study, noise_scan, budget, ranking, options, run, model)
                results |= budget_histograms(scanner.detector, checkpoint)
            results["timing"] = _timing(study, ranking, intervals=known.seconds, shares=shares)
        finally:
            study.close()
        if state_digest(scanner.detector.module) != before:
            raise CheckFailedError(
                f"the scan changed the model '{checkpoint}'",
                expected="the state it had",
                hint="report this as a defect",
            )
    results |= {"state_hash": before, "state_unchanged": True, "seconds": time.perf_counter() - start}
    if only is None:
        _write(results, run.out, model_title(scanner.detector, config))
    return ScanResult(results, ranking)


def model_title(detector: Detector, config: EvalConfig) -> str:
    """Return what the picture of a model is headed with: the file of its weights, and the size of the images."""
    return f"{Path(detector.source.path).name}, {size_text(config.imgsz)} px"


def _priors(noises: Mapping[str, Noise], budget: NoiseBudget | None) -> list[dict[str, float]]:
    """Return the squares of what rises with an item's effect, by item."""
    found = [{name: noise.nmse for name, noise in noises.items()}]
    if budget is not None:
        found.append({name: budget.d(name).value ** 2 for name in noises})
    return found


def _with_budget(
    results: dict[str, Any],
    study: Study,
    scan: NoiseScan,
    budget: NoiseBudget,
    ranking: Sequence[RankedItem],
    options: ScanOptions,
    run: Run,
    model: str,
) -> dict[str, Any]:
    """Draw the noise budget and write the ignore-list; return the results that it adds or changes."""
    map_float = results["baseline"]["map50_95"]
    measured_budget = complete_budget(
        study,
        scan,
        budget,
        [*float_order(ranking, budget), *(item for item in scan.items if item.name == OTHERS)],
        run=run,
        map_float=map_float,
        max_drop=options.max_drop,
    )
    quantized = results["quantized"]["map50_95"]
    figures = f"mAP {number(map_float)} float, {number(quantized)} quantized"
    title = f"{model}: noise budget on {counted(budget.images, 'image')}, {figures}; a larger share is worse"
    write_text(run.out / IGNORE, ignore_list(measured_budget))
    own = item_noise(budget)
    effects = [entry.estimate for entry in ranking]
    shares = [own[entry.item.name]["share"] or 0.0 for entry in ranking]
    proxies = results["summary"]["proxies"] | {"noise_share": rank_correlation(shares, effects)}
    found = {
        **budget_results(measured_budget, map_float),
        "items": [item | own[item["name"]] for item in results["items"]],
        "summary": results["summary"] | {"proxies": proxies},
    }
    budget_plot(found, title=title).save(run.out / BUDGET_CHART)
    return found


def tied_by_share(ranking: Sequence[RankedItem], budget: NoiseBudget, *, first: int) -> list[RankedItem]:
    """Return a ranking in which the items that mAP cannot tell from zero follow the others, by falling share of the noise.

    Args:
        ranking: By falling effect.
        budget: Of the same items.
        first: Items that keep their places: those that an adaptive scan looked for.
    """
    shares = {name: found.value for name, found in budget.shares().items()}
    rest = ranking[first:]
    undecided = [entry for entry in rest if entry.interval[0] <= 0.0 <= entry.interval[1]]
    undecided.sort(key=lambda entry: (-np.nan_to_num(shares[entry.item.name]), entry.item.name))
    names = {entry.item.name for entry in undecided}
    return [*ranking[:first], *(entry for entry in rest if entry.item.name not in names), *undecided]


def float_order(ranking: Sequence[RankedItem], budget: NoiseBudget) -> list[Item]:
    """Return the order in which items are left float: those of an effect, those tied with zero by falling share of the noise.

    Also after an adaptive scan, whose first items keep their places in the ranking. What floating surely harms comes last.
    """
    order = tied_by_share(ranking, budget, first=0)
    return [entry.item for entry in sorted(order, key=lambda entry: entry.interval[1] < 0)]


def study_inputs(weights: str, config: EvalConfig, scan: ScanConfig, run: Run, **data: str) -> dict[str, Any]:
    """Return all that the results of a study depend on.

    Args:
        weights: Digest of the model's state.
        config: How the images are run and scored.
        scan: What is switched, and what is measured.
        run: Device and threads.
        data: Digests of the images, and of their labels where they are used.
    """
    known = environment(device=str(run.device), threads=run.threads)
    return {
        "model": weights,
        **data,
        "evaluation": to_dict(config),
        "scan": to_dict(scan),
        **{name: known[name] for name in ("threads", "device", "processor", "yoloqat", "packages")},
    }


def _workers(job: Job, run: Run, study: Study, scanner: Scanner) -> Workers:
    progress = _with_leaders(study, scanner, run.progress)
    if run.pool is None:
        return partial(work, study, scanner, progress=progress)
    return work_of(job, run.pool, study, progress)


def _noises(study: Study, scanner: Scanner) -> dict[str, Noise]:
    """Return the noise of each item on the first batch, from the study where it is known."""

    def make() -> dict[str, Any]:
        images, _ = scanner.images(0)
        executor, classes = scanner.replay(images).executor, scanner.detector.info.classes
        noises = edge_noise(executor, scanner.edges, images, classes=classes, bits=scanner.scan.bits)
        return {item.name: asdict(joined(noises, item.edges)) for item in scanner.items}

    def read(kept: Any) -> dict[str, Noise]:
        return {
            item.name: Noise(**{name: float(value) for name, value in kept[item.name].items()})
            for item in scanner.items
        }

    return dict(study.once("noise", make, read))


def _shares(study: Study, scanner: Scanner) -> dict[str, float]:
    """Return which share of a forward each item costs, from the study where it is known."""

    def read(kept: Any) -> dict[str, float]:
        return {item.name: float(kept[item.name]) for item in scanner.items}

    return dict(study.once("shares", lambda: scanner.replay(scanner.images(0)[0]).shares(), read))


def _with_leaders(study: Study, scanner: Scanner, progress: Progress) -> Progress:
    """Return a progress that now and then also names the five items of the largest effect."""
    spent, began = [0.0], time.perf_counter()

    def notify(step: str, done: int, total: int) -> None:
        progress(step, done, total)
        start = time.perf_counter()
        if spent[0] <= _TOP_SHARE * (start - began) and len(study.results(BASE)):
            known = measured(study, scanner)
            batches = study.results(BASE).keys()
            effects = {}
            for item in scanner.items:
                results = {batch: found for batch, found in study.results(item.name).items() if batch in batches}
                if results:
                    effects[item.name] = known.effect(results).effect
            best = sorted(effects, key=lambda name: -effects[name])[:5]
            note(progress, step, ", ".join(f"{name} {effects[name]:+.4f}" for name in best))
            spent[0] += time.perf_counter() - start

    return notify


def _results(
    study: Study, scanner: Scanner, dataset: DetectionDataset, ranking: Sequence[RankedItem], rounds: Rounds | None
) -> dict[str, Any]:
    chosen = None if rounds is None else batches_of(rounds.rounds)
    floating, quantized = evaluations(study, scanner, dataset, chosen=chosen)
    metric = scanner.truth.metric
    ends = metric.read(floating.metrics), metric.read(quantized.metrics)
    gap = None if ends[0] is None or ends[1] is None else ends[0] - ends[1]
    finer = item_is_finer(scanner.edges, scanner.scan)
    return {
        "baseline": floating.to_dict(),
        "quantized": quantized.to_dict(),
        "mode": scanner.scan.mode,
        "granularity": scanner.scan.granularity,
        "metric": str(metric),
        "bits": scanner.scan.bits,
        "evaluated_images": max((entry.effect.images for entry in ranking), default=0),
        "summary": summary(ranking),
        "adaptive": None if rounds is None else _spending(rounds, ranking),
        "items": [
            item_results(entry, metric=str(metric), gap=gap, finer=finer, mode=scanner.scan.mode) for entry in ranking
        ],
    }


def _spending(rounds: Rounds, ranking: Sequence[RankedItem]) -> dict[str, Any]:
    """Return what an adaptive scan spent, in forwards of one image, and how sure its first items are."""
    first = [entry.chance or 0.0 for entry in ranking[: rounds.first]]
    naive = rounds.budget.items * rounds.budget.images
    return {
        "budget": rounds.budget.share,
        "spent": rounds.spent / naive,
        "forwards": rounds.spent,
        "naive_forwards": naive,
        "rounds": [
            {"items": len(one.items), "chunks": len(one.batches), "forwards": one.cost} for one in rounds.rounds
        ],
        "first": rounds.first,
        "expected_right": sum(first),
        "least_sure": min(first, default=0.0),
    }


def _timing(
    study: Study, ranking: Sequence[RankedItem], *, intervals: float, shares: dict[str, float]
) -> dict[str, float]:
    """Return where the time of the pieces went, in seconds of whichever processes did them."""
    base = study.results(BASE)
    forward = sum(result.forward for result in base.values())
    batches = sum(len(study.results(entry.item.name)) for entry in ranking)
    items = sum(entry.forward for entry in ranking)
    one = forward / max(len(base), 1)
    return {
        "base_forward_seconds": forward,
        "items_forward_seconds": items,
        "scoring_seconds": sum(entry.scoring for entry in ranking) + sum(result.scoring for result in base.values()),
        "intervals_seconds": intervals,
        "forward_per_item": items / batches / one if batches and one else 0.0,
        "forward_share_planned": sum(shares[entry.item.name] for entry in ranking) / max(len(ranking), 1),
    }


def _write(results: dict[str, Any], out: Path, model: str) -> None:
    """Write the table and the chart of effects."""
    write_items(results["items"], out / TABLE)
    images = counted(results["evaluated_images"], "image")
    title = f"{model}: {results['mode']}, {results['granularity']}, {images}"
    effects_plot(results, title=title).save(out / CHART)


def write_items(items: Sequence[dict[str, Any]], path: Path) -> None:
    """Write items as a CSV file: intervals as two columns, lists joined by blanks.

    Raises:
        OutputError: The file cannot be written.
    """
    if not items:
        return
    buffer = io.StringIO()
    plain = [name for name in items[0] if name not in ("quantizers", "layers") and "_ci95" not in name]
    intervals = [name.removesuffix("_ci95") for name in items[0] if name.endswith("_ci95")]
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*plain, *(f"{name}_{end}" for name in intervals for end in ("low", "high")), "quantizers"])
    for item in items:
        ends = [end for name in intervals for end in (item.get(f"{name}_ci95") or ("", ""))]
        writer.writerow([*(item.get(name) for name in plain), *ends, " ".join(item["quantizers"])])
    write_text(path, buffer.getvalue())
