"""Latency of several engines, measured so that a drifting machine treats them alike."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from yoloqat.config.checks import check_int
from yoloqat.errors import ConfigError
from yoloqat.predictor import Images, Predictor
from yoloqat.progress import Progress, silent


@dataclass(frozen=True)
class LatencyItem:
    """How fast one engine ran.

    Attributes:
        artifact: The name it was given under.
        batch: Images per call.
        latency_ms: ``p50``, ``p95`` and ``p99`` of one call, in milliseconds.
        images_per_second: Images in all over time in all.
    """

    artifact: str
    batch: int
    latency_ms: dict[str, float]
    images_per_second: float


def _check(predictors: Mapping[str, Predictor], images: Images, warmup: int, rounds: int) -> None:
    check_int("warmup", warmup, 0)
    check_int("rounds", rounds, 1)
    if not predictors:
        raise ConfigError(
            f"there are {len(predictors)} models to time", expected="at least one model", mend="name some"
        )
    taken = (images.shape[0], tuple(images.shape[2:]))
    for name, predictor in predictors.items():
        info = predictor.info
        if info.batch not in (None, taken[0]) or info.imgsz not in (None, taken[1]):
            raise ConfigError(
                f"model '{name}' takes batch {info.batch or 'any'} of {info.imgsz or 'any size'}, "
                f"the images are batch {taken[0]} of {taken[1]}",
                expected="models of one batch and image size",
                mend="export or build them alike",
            )


def _check_alike(predictors: Mapping[str, Predictor]) -> None:
    fixed = [(name, p.info) for name, p in predictors.items()]
    for what in ("imgsz", "batch"):
        known = [(name, getattr(info, what)) for name, info in fixed if getattr(info, what) is not None]
        other = next((entry for entry in known if entry[1] != known[0][1]), None)
        if other is not None:
            raise ConfigError(
                f"model '{known[0][0]}' has {what} {known[0][1]}, model '{other[0]}' has {what} {other[1]}",
                expected="models of one batch and image size",
                mend="export or build them alike",
            )


def bench(
    predictors: Mapping[str, Predictor],
    images: Images,
    *,
    warmup: int = 3,
    rounds: int = 50,
    progress: Progress = silent,
) -> list[LatencyItem]:
    """Time the engines in turn (A B C A B C ...), so that heat and neighbours slow them alike.

    Args:
        predictors: The engines by name; each gets the same images.
        images: One batch, shape (batch, 3, height, width), float32.
        warmup: Untimed rounds at the start.
        rounds: Timed rounds.
        progress: Told after every round.

    Returns:
        One item per engine, in the order given.

    Raises:
        ConfigError: No engine is given, two of them differ in image size or batch, the images do not fit them, or a
            count is out of range.
    """
    _check_alike(predictors)
    _check(predictors, images, warmup, rounds)
    seconds: dict[str, list[float]] = {name: [] for name in predictors}
    for turn in range(warmup + rounds):
        for name, predictor in predictors.items():
            start = time.perf_counter()
            predictor(images)
            elapsed = time.perf_counter() - start
            if turn >= warmup:
                seconds[name].append(elapsed)
        progress("bench", turn + 1, warmup + rounds)
    return [_item(name, images.shape[0], times) for name, times in seconds.items()]


def _item(name: str, batch: int, times: list[float]) -> LatencyItem:
    p50, p95, p99 = (float(value) for value in np.percentile(np.array(times) * 1e3, [50, 95, 99]))
    rate = batch * len(times) / sum(times)
    return LatencyItem(name, batch, {"p50": p50, "p95": p95, "p99": p99}, rate)
