from __future__ import annotations

import numpy as np
import pytest

from yoloqat.engines import bench
from yoloqat.errors import ConfigError
from yoloqat.predictor import ModelInfo

IMAGES = np.zeros((2, 3, 4, 6), dtype=np.float32)


class Recorder:
    def __init__(self, name, calls, **info):
        self.name, self.calls, self.info = name, calls, ModelInfo({0: "a"}, **info)

    def __call__(self, images):
        self.calls.append(self.name)
        return [images]


def test_engines_take_turns_and_warmup_is_not_counted():
    calls, told = [], []
    items = bench(
        {name: Recorder(name, calls) for name in "ABC"},
        IMAGES,
        warmup=1,
        rounds=2,
        progress=lambda step, done, total: told.append((step, done, total)),
    )
    assert "".join(calls) == "ABC" * 3
    assert told == [("bench", 1, 3), ("bench", 2, 3), ("bench", 3, 3)]
    assert [item.artifact for item in items] == ["A", "B", "C"]
    for item in items:
        assert item.batch == 2
        assert 0 < item.latency_ms["p50"] <= item.latency_ms["p95"] <= item.latency_ms["p99"]


def test_figures_come_from_the_clock(monkeypatch):
    ticks = iter([0.0, 0.010, 1.0, 1.030])
    monkeypatch.setattr("yoloqat.engines.latency.time.perf_counter", lambda: next(ticks))
    (item,) = bench({"A": Recorder("A", [])}, IMAGES, warmup=0, rounds=2)
    assert item.latency_ms["p50"] == pytest.approx(20.0)
    assert item.latency_ms["p99"] == pytest.approx(29.8)
    assert item.images_per_second == pytest.approx(2 * 2 / 0.040)


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ({"imgsz": (4, 6)}, {"imgsz": (8, 8)}, r"model 'A' has imgsz \(4, 6\), model 'B' has imgsz \(8, 8\)"),
        ({"batch": 1}, {"batch": 2}, "model 'A' has batch 1, model 'B' has batch 2"),
    ],
)
def test_models_of_different_shape_are_refused(first, second, told):
    with pytest.raises(ConfigError, match=told):
        bench({"A": Recorder("A", [], **first), "B": Recorder("B", [], **second)}, IMAGES)


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match=r"model 'A' takes batch 1 of any size, the images are batch 2 of \(4, 6\)"):
        bench({"A": Recorder("A", [], batch=1)}, IMAGES)


def test_nothing_to_time():
    with pytest.raises(ConfigError, match="there are 0 models to time"):
        bench({}, IMAGES)


def test_counts_out_of_range():
    with pytest.raises(ConfigError, match="rounds is 0"):
        bench({"A": Recorder("A", [])}, IMAGES, rounds=0)
    with pytest.raises(ConfigError, match="warmup is -1"):
        bench({"A": Recorder("A", [])}, IMAGES, warmup=-1)


class Streamer(Recorder):
    requests = 3

    def stream(self, images, calls):
        self.calls.append(f"{self.name}{calls}")
        return [0.002] * calls


def test_throughput_holds_requests_in_flight_where_the_engine_can():
    calls = []
    predictors = {"S": Streamer("S", calls), "R": Recorder("R", calls)}
    streamed, plain = bench(predictors, IMAGES, warmup=0, rounds=2, mode="throughput")
    assert calls == ["S12", *"RRRR", "S12", *"RRRR"]
    assert (streamed.requests, plain.requests) == (3, 1)
    assert streamed.latency_ms == pytest.approx({"p50": 2.0, "p95": 2.0, "p99": 2.0})


def test_throughput_is_calls_over_the_time_of_the_rounds(monkeypatch):
    ticks = iter([0.0, 0.012, 1.0, 1.024])
    monkeypatch.setattr("yoloqat.engines.latency.time.perf_counter", lambda: next(ticks))
    (item,) = bench({"S": Streamer("S", [])}, IMAGES, warmup=0, rounds=2, mode="throughput")
    assert item.images_per_second == pytest.approx(2 * 24 / 0.036)
    assert item.spread == pytest.approx(0.006 / 0.018)


def test_latency_mode_makes_one_call_of_an_engine_that_can_more():
    calls = []
    (item,) = bench({"S": Streamer("S", calls)}, IMAGES, warmup=0, rounds=2)
    assert calls == ["S", "S"]
    assert item.requests == 1


def test_spread_is_none_where_all_rounds_are_alike(monkeypatch):
    ticks = iter([0.0, 0.01, 1.0, 1.01, 2.0, 2.01])
    monkeypatch.setattr("yoloqat.engines.latency.time.perf_counter", lambda: next(ticks))
    (item,) = bench({"A": Recorder("A", [])}, IMAGES, warmup=0, rounds=3)
    assert item.spread == pytest.approx(0.0, abs=1e-9)


def test_unknown_mode():
    with pytest.raises(ConfigError, match="mode is 'fast'"):
        bench({"A": Recorder("A", [])}, IMAGES, mode="fast")
