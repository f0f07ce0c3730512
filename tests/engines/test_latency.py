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
