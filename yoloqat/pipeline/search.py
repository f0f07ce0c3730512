"""Which layers to leave float: searched along the whole frontier of noise and latency, built, measured, and chosen by a goal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from yoloqat.config import EvalConfig, Recipe
from yoloqat.config.target import TENSORRT
from yoloqat.datasets import DetectionDataset, ImageRecord
from yoloqat.detectors import torch_threads
from yoloqat.errors import ConfigError
from yoloqat.evaluation.drops import Baseline, drop_results
from yoloqat.evaluation.expected_drop import KNOTS, expected_drop
from yoloqat.evaluation.fidelity import NOISE, Mean, mean
from yoloqat.pipeline.models import check_scoring
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.search_engines import Engines
from yoloqat.pipeline.search_model import SearchedModel
from yoloqat.pipeline.search_onnx import SearchedFile
from yoloqat.pipeline.search_torch import SearchedCheckpoint
from yoloqat.pipeline.sensitivity import ScanOptions
from yoloqat.searching import FloatSet, Problem, frontier, least_latency, least_noise
from yoloqat.searching.latency import make_problem
from yoloqat.searching.profiles import ProfileFiles
from yoloqat.searching.settings import SearchConfig
from yoloqat.sensitivity.curve import mac_share
from yoloqat.sensitivity.settings import LAYER

BUDGET = "budget"
"""Directory of the noise budget that a search makes."""

_PROFILES = ", or name `int8_profile` and `float_profile` of engines on your GPU"

TRIES = 4
"""Sets that are built for the goal at most, each corrected by what the former was measured at."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A float set that was built.

    Attributes:
        found: The set with its predictions.
        d: The noise on the images that choose.
        confirmed: The noise on the others.
        latency_ms: Milliseconds of its engine; None where that does not run here.
        int8_mac_share: Share of the multiply-adds of all layers that stay in INT8.
    """

    found: FloatSet
    d: Mean
    confirmed: Mean
    latency_ms: float | None
    int8_mac_share: float

    @property
    def takes_ms(self) -> float:
        """Milliseconds of its engine, predicted where that does not run here."""
        return self.found.latency_ms if self.latency_ms is None else self.latency_ms

    def to_dict(self) -> dict[str, Any]:
        """Return its keys in a result."""
        return {
            "float_layers": list(self.found.layers),
            "d_predicted": self.found.d,
            "latency_predicted_ms": self.found.latency_ms,
            "int8_mac_share": self.int8_mac_share,
            "latency_ms": self.latency_ms,
            **self.d.to_dict("d_choosing"),
            **self.confirmed.to_dict(NOISE),
        }


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search found.

    Attributes:
        results: The keys of the result of ``search``.
        recipe: Makes the chosen engine again.
        chosen: The set that was chosen.
        met: Whether it keeps to the goal on the images that choose.
        engines: Has the chosen engine and every other that was built.
    """

    results: dict[str, Any]
    recipe: Recipe
    chosen: Candidate
    met: bool
    engines: Engines


def divided(images: Sequence[ImageRecord]) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """Divide images in those that choose and those that confirm: every other one.

    Raises:
        ConfigError: There are fewer than two.
    """
    if len(images) < 2:
        raise ConfigError(
            f"fidelity_images gives {len(images)} images",
            expected="at least 2: one half chooses, the other confirms",
            hint="name more images",
        )
    return list(images[::2]), list(images[1::2])


def open_searched(path: Path, run: Run) -> SearchedModel:
    """Open what a search takes: a calibrated checkpoint, or the QDQ file that ``calibrate`` made of a float ONNX file.

    Args:
        path: The file.
        run: Device, threads, where the files of float sets are kept.

    Raises:
        ModelError: It cannot be read, or is not calibrated.
    """
    return SearchedFile(path, run) if path.suffix.lower() == ".onnx" else SearchedCheckpoint(path, run)


def run_search(
    model: SearchedModel,
    images: Sequence[ImageRecord],
    config: EvalConfig,
    *,
    search: SearchConfig,
    run: Run,
    options: ScanOptions | None = None,
    budget: Mapping[str, Any] | None = None,
    dataset: DetectionDataset | None = None,
    profiles: ProfileFiles | None = None,
) -> SearchResult:
    """Search the float set that keeps to a goal; one that was interrupted goes on.

    Args:
        model: What ``calibrate`` wrote, see :func:`open_searched`.
        images: What the noise is measured on; every other one chooses, the rest confirms. Labels are not needed.
        config: Image size and how mAP is scored.
        search: The goal.
        run: Where everything is kept, device, threads, who watches.
        options: How the noise budget is measured.
        budget: The results of ``sensitivity --mode noise`` on the same model; None measures them.
        dataset: Labels: mAP is measured on the images that do not choose.
        profiles: What trtexec wrote of the model's engines in INT8 and in float, from which latencies are predicted.

    Raises:
        ConfigError: The budget is of another model or of no layers, or a setting does not fit.
        EngineError: An engine cannot be built or run, or a profile does not fit the model.
    """
    start = time.perf_counter()
    check_scoring(model.info, dataset, config)
    choosing, confirming = divided(images)
    engines = Engines(model, config, run=run, rounds=search.rounds, vnni=search.vnni, profiles=profiles)
    if search.max_latency is not None and not engines.measurable and engines.profiles is None:
        raise ConfigError(
            f"max_latency is {search.max_latency:g} and the engine is '{engines.engine}', which is not timed here",
            expected="a goal of noise or drop",
            hint=f"set `max_noise` or `max_drop`{_PROFILES if engines.engine == TENSORRT.name else ''}",
        )
    with torch_threads(run.threads):
        if budget is None:
            budget = model.budget(
                choosing, config, options=options or ScanOptions(), run=replace(run, out=run.out / BUDGET)
            )
        d, shares = budget_figures(budget, model.state)
        table = engines.table()
        problem = make_problem(engines.groups, shares, d, table, engines.passing)
        scored = None if dataset is None else _without(dataset, choosing)
        scoring = replace(engines.config, nms_iou=config.nms_iou)
        baseline = None
        if scored is not None:
            floating = engines.float_predictor
            key = engines.key(engines.layers)
            baseline = run.evaluate(floating, scored, scoring, label="float", model_key=key, file=engines.float_file)
        map_float = None if baseline is None else baseline.metrics.map50_95
        measure = _Measure(engines, problem, (choosing, confirming))
        predicted = frontier(problem)
        measure(_spread(predicted, search.built))
        chosen, met = _choose(measure, search, map_float)
        found: dict[str, Any] = {"map50_95": None, "map_float": map_float, "drop": None, "drop_ci95": None}
        if scored is not None and baseline is not None:
            layers = chosen.found.layers
            mixed, key, file = engines.predictor(layers), engines.key(layers), engines.file(layers)
            evaluation = run.evaluate(mixed, scored, scoring, label="engine", model_key=key, file=file)
            found["map50_95"] = evaluation.metrics.map50_95
            found |= drop_results(Baseline(baseline.matches).drop(evaluation.matches))
    candidates = sorted(measure.found.values(), key=lambda candidate: candidate.found.latency_ms)
    name, value = search.goal
    results = {
        **chosen.to_dict(),
        **found,
        **expected_drop(chosen.confirmed.value, map_float),
        "goal": {name: value},
        "goal_d": None if name == "max_latency" else _limit(search, map_float),
        "met": met,
        "engine": engines.engine,
        "latency_source": table.source,
        "latency_measured": engines.measurable,
        "latency_estimated_layers": list(table.estimated_layers),
        "border_ms": table.border_ms,
        "border_source": table.border_source or table.source,
        "tied_layers": [list(group) for group in engines.groups if len(group) > 1],
        "choosing_images": len(choosing),
        "confirming_images": len(confirming),
        "evaluated_images": None if scored is None else len(scored.images),
        "frontier": [candidate.to_dict() for candidate in candidates],
        "frontier_predicted": [
            {"float_layers": len(point.layers), "d_predicted": point.d, "latency_predicted_ms": point.latency_ms}
            for point in predicted
        ],
        "state_hash": model.state,
        "seconds": time.perf_counter() - start,
    }
    figures = ("d", "d_ci95", "latency_ms", "map50_95", "drop", "drop_ci95", "int8_mac_share")
    recipe = model.recipe(
        config,
        chosen.found.layers,
        predicted={"d": chosen.found.d, "latency_ms": chosen.found.latency_ms},
        measured={figure: results.get(figure) for figure in figures},
    )
    return SearchResult(results, recipe, chosen, met, engines)


def budget_figures(budget: Mapping[str, Any], state: str) -> tuple[float, dict[str, float]]:
    """Return the noise of a budget, and the share of each layer.

    Args:
        budget: The results of ``sensitivity``.
        state: Digest of the model that it must be of.

    Raises:
        ConfigError: It is of another model, of another granularity or of other bits, or nothing was seen on its images.
    """
    hint = "measure it on this model with `mode=noise`, or leave `budget` out"
    for key, wanted in (("state_hash", state), ("granularity", LAYER), ("bits", None)):
        if budget.get(key) != wanted:
            raise ConfigError(f"the noise budget has {key} {budget.get(key)!r}", expected=f"{wanted!r}", hint=hint)
    d, shares = budget.get(NOISE), {}
    for item in budget.get("items") or ():
        for layer in item.get("layers") or ():
            shares[str(layer)] = float(item.get("share") or 0.0)
    if not isinstance(d, float) or not shares:
        raise ConfigError(
            f"the noise budget has d {d!r} and {len(shares)} layers", expected="noises of layers", hint=hint
        )
    return d, shares


def _without(dataset: DetectionDataset, images: Sequence[ImageRecord]) -> DetectionDataset:
    """Return a data set without the images that choose."""
    gone = {record.image_id for record in images}
    kept = tuple(record for record in dataset.images if record.image_id not in gone)
    annotations = dataset.annotations | {
        "images": [entry for entry in dataset.annotations["images"] if entry["id"] not in gone],
        "annotations": [entry for entry in dataset.annotations["annotations"] if entry["image_id"] not in gone],
    }
    return replace(dataset, images=kept, annotations=annotations)


def _spread(points: Sequence[FloatSet], count: int) -> list[FloatSet]:
    """Return so many points of a frontier, the ends among them, about evenly spread over its latencies."""
    latencies = np.array([point.latency_ms for point in points])
    wanted = np.linspace(latencies[0], latencies[-1], count)
    indices = {int(np.abs(latencies - latency).argmin()) for latency in wanted}
    return [points[index] for index in sorted(indices)]


class _Measure:
    """Builds float sets and measures them, each once."""

    def __init__(
        self, engines: Engines, problem: Problem, halves: tuple[Sequence[ImageRecord], Sequence[ImageRecord]]
    ) -> None:
        self.engines, self.problem = engines, problem
        self.found: dict[frozenset[int], Candidate] = {}
        self._choosing = len(halves[0])
        self._reference = engines.run.reference(
            engines.float_predictor, [*halves[0], *halves[1]], engines.config, file=engines.float_file
        )

    def __call__(self, sets: Sequence[FloatSet]) -> None:
        """Measure the sets that are not measured yet."""
        new = {own.chosen: own for own in sets if own.chosen not in self.found}
        engines = self.engines
        for done, own in enumerate(new.values()):
            engines.run.progress("build float sets", done, len(new))
            if engines.measurable:
                engines.build(own.layers)
        layers = [own.layers for own in new.values()]
        latencies: list[float | None] = [*engines.latencies(layers)] if engines.measurable else [None] * len(layers)
        for own, latency in zip(new.values(), latencies, strict=True):
            values = engines.fidelity(own.layers, self._reference, f"{len(own.layers)} float layers").measures[NOISE]
            quantized = set(engines.layers) - set(own.layers)
            share = mac_share(engines.sized.costs, quantized)
            first, second = mean(values[: self._choosing]), mean(values[self._choosing :])
            self.found[own.chosen] = Candidate(own, first, second, latency, share)

    def one(self, own: FloatSet) -> Candidate:
        """Return a set as measured."""
        self([own])
        return self.found[own.chosen]


def _choose(measure: _Measure, search: SearchConfig, map_float: float | None) -> tuple[Candidate, bool]:
    """Return the measured set that is best within the goal, and whether there is one; else the nearest to it.

    What was measured corrects what is predicted, see :func:`_approach`.
    """
    if search.max_latency is not None:
        return _within_latency(measure, search.max_latency)
    limit = _limit(search, map_float)
    solve = partial(least_latency, measure.problem)
    _approach(measure, solve, limit, lambda own: own.d, lambda candidate: candidate.d.value)
    fit = [candidate for candidate in measure.found.values() if candidate.d.value <= limit]
    if not fit:
        return min(measure.found.values(), key=lambda candidate: candidate.d.value), False
    return min(fit, key=lambda candidate: candidate.found.latency_ms), True


def _limit(search: SearchConfig, map_float: float | None) -> float:
    """Return the largest noise that a goal of noise or drop allows."""
    return search.max_noise if search.max_noise is not None else largest_noise(search.max_drop or 0.0, map_float)


def _approach(
    measure: _Measure,
    solve: Callable[[float], FloatSet | None],
    limit: float,
    predicted: Callable[[FloatSet], float],
    measured: Callable[[Candidate], float],
) -> None:
    """Measure the sets that a limit leads to.

    What is asked of the next set is the limit divided by the ratio of measured to predicted: less where a set exceeds the limit,
    and more where it keeps to it and a cheaper one might too.
    """
    asked, seen = limit, set[frozenset[int]]()
    for _ in range(TRIES):
        own = solve(asked)
        if own is None or own.chosen in seen:
            break
        seen.add(own.chosen)
        value, told = measured(measure.one(own)), predicted(own)
        if value <= 0.0 or told <= 0.0 or (value <= limit and not own.layers):
            break
        asked = told * limit / value if value <= limit else min(told * limit / value, 0.98 * told)


def _within_latency(measure: _Measure, limit: float) -> tuple[Candidate, bool]:
    solve = partial(least_noise, measure.problem)
    _approach(measure, solve, limit, lambda own: own.latency_ms, lambda candidate: candidate.takes_ms)
    fit = [candidate for candidate in measure.found.values() if candidate.takes_ms <= limit]
    if not fit:
        return min(measure.found.values(), key=lambda candidate: candidate.takes_ms), False
    return min(fit, key=lambda candidate: candidate.d.value), True


def largest_noise(max_drop: float, map_float: float | None) -> float:
    """Return the largest noise d whose expected drop is within a limit, up to the last that the rule speaks of.

    Args:
        max_drop: The drop of mAP, or as a share of the float model's where that is None.
        map_float: mAP50-95 of the float model.
    """
    name = "expected_relative_drop" if map_float is None else "expected_drop"
    values = np.linspace(0.0, KNOTS[-1], 3001)
    fit = [float(value) for value in values if (expected_drop(float(value), map_float)[name] or 0.0) <= max_drop]
    return max(fit)
