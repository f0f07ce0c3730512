"""Latency and throughput of several engines, measured so that a drifting machine treats them alike."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from yoloqat.config.checks import check_int
from yoloqat.errors import ConfigError
from yoloqat.predictor import Images, Predictor
from yoloqat.progress import Progress, silent

Mode = Literal["latency", "throughput"]
MODES = ("latency", "throughput")
_CALLS = 4
"""Calls of one round in throughput mode, for each request in flight."""


@runtime_checkable
class Streaming(Predictor, Protocol):
    """A predictor that runs several requests at a time."""

    @property
    def requests(self) -> int:
        """Requests that it best holds in flight."""
        ...

    def stream(self, images: Images, calls: int) -> list[float]:
        """Run ``calls`` requests on the same images and return the seconds of each."""
        ...


@dataclass(frozen=True)
class LatencyItem:
    """How fast one engine ran.

    Attributes:
        artifact: The name it was given under.
        batch: Images per call.
        latency_ms: ``p50``, ``p95`` and ``p99`` of one call, in milliseconds.
        images_per_second: Images in all over time in all.
        spread: Distance of the quartiles of the rounds' times over their median; what is smaller than this is noise.
        requests: Calls in flight at a time.
    """

    artifact: str
    batch: int
    latency_ms: dict[str, float]
    images_per_second: float
    spread: float
    requests: int = 1


def _check(predictors: Mapping[str, Predictor], images: Images, warmup: int, rounds: int) -> None:
    check_int("warmup", warmup, 0)
    check_int("rounds", rounds, 1)
    if not predictors:
        raise ConfigError(
            f"there are {len(predictors)} models to time", expected="at least one model", hint="name some"
        )
    taken = (images.shape[0], tuple(images.shape[2:]))
    for name, predictor in predictors.items():
        info = predictor.info
        if info.channels != images.shape[1]:
            raise ConfigError(
                f"model '{name}' takes images of {info.channels} channels, the images have {images.shape[1]}",
                expected="models of one number of channels",
                hint="time them in two runs",
            )
        if info.batch not in (None, taken[0]) or info.imgsz not in (None, taken[1]):
            raise ConfigError(
                f"model '{name}' takes batch {info.batch or 'any'} of {info.imgsz or 'any size'}, "
                f"the images are batch {taken[0]} of {taken[1]}",
                expected="models of one batch and image size",
                hint="export or build them alike, or time them in two runs",
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
                hint="export or build them alike, or time them in two runs",
            )


def bench(
    predictors: Mapping[str, Predictor],
    images: Images,
    *,
    warmup: int = 3,
    rounds: int = 50,
    mode: Mode = "latency",
    progress: Progress = silent,
) -> list[LatencyItem]:
    """Time the engines in turn (A B C A B C ...), so that heat and neighbours slow them alike.

    Args:
        predictors: The engines by name; each gets the same images.
        images: One batch, shape (batch, 3, height, width), float32.
        warmup: Untimed rounds at the start.
        rounds: Timed rounds.
        mode: ``"latency"`` makes one call at a time; ``"throughput"`` makes as many as the engine holds best, four for
            each request in flight and round. Engines that take one call at a time take them one after the other.
        progress: Told after every round.

    Returns:
        One item per engine, in the order given.

    Raises:
        ConfigError: No engine is given, two of them differ in image size or batch, the images do not fit them, a count
            is out of range, or the mode is unknown.
    """
    if mode not in MODES:
        raise ConfigError(f"mode is {mode!r}", expected=f"one of {', '.join(MODES)}", hint="choose one of them")
    _check_alike(predictors)
    _check(predictors, images, warmup, rounds)
    times: dict[str, list[_Round]] = {name: [] for name in predictors}
    for turn in range(warmup + rounds):
        for name, predictor in predictors.items():
            measured = _round(predictor, images, mode)
            if turn >= warmup:
                times[name].append(measured)
        progress("bench", turn + 1, warmup + rounds)
    return [_item(name, images.shape[0], times[name], _requests(p, mode)) for name, p in predictors.items()]


@dataclass(frozen=True)
class _Round:
    """Seconds of each call of a round, and of the round as a whole."""

    calls: list[float]
    seconds: float


def _requests(predictor: Predictor, mode: Mode) -> int:
    return predictor.requests if mode == "throughput" and isinstance(predictor, Streaming) else 1


def _round(predictor: Predictor, images: Images, mode: Mode) -> _Round:
    start = time.perf_counter()
    if mode == "throughput" and isinstance(predictor, Streaming):
        calls = predictor.stream(images, _CALLS * predictor.requests)
        return _Round(calls, time.perf_counter() - start)
    calls = []
    for _ in range(_CALLS if mode == "throughput" else 1):
        before = time.perf_counter() if calls else start
        predictor(images)
        calls.append(time.perf_counter() - before)
    return _Round(calls, sum(calls))


def _item(name: str, batch: int, rounds: list[_Round], requests: int) -> LatencyItem:
    calls = [seconds for one in rounds for seconds in one.calls]
    p50, p95, p99 = (float(value) for value in np.percentile(np.array(calls) * 1e3, [50, 95, 99]))
    rate = batch * len(calls) / sum(one.seconds for one in rounds)
    low, middle, high = np.percentile([one.seconds for one in rounds], [25, 50, 75])
    return LatencyItem(
        name, batch, {"p50": p50, "p95": p95, "p99": p99}, rate, float((high - low) / middle), requests=requests
    )
