from __future__ import annotations

import itertools

import numpy as np
import pytest
from tiny_detector import IMGSZ, TinyData

from yoloqat.calibration import collect_statistics, greedy_cover, image_ranges
from yoloqat.datasets import ImageRecord, calibration_images
from yoloqat.detectors import Detector, TorchPredictor
from yoloqat.errors import ConfigError
from yoloqat.quant import activation_quantizers


def test_ranges_of_images_make_up_that_of_the_statistics(swapped: Detector, records: tuple[ImageRecord, ...]) -> None:
    predictor = TorchPredictor(swapped)
    ranges = image_ranges(swapped, predictor, records, imgsz=IMGSZ)
    statistics = collect_statistics(swapped, predictor, records, imgsz=IMGSZ, batch=1)
    names = [name for name, _ in activation_quantizers(swapped.module)]
    assert ranges.shape == (len(records), len(names))
    assert ranges.max(axis=0).tolist() == [statistics.histograms[name].amax for name in names]
    assert not any(module._forward_pre_hooks for module in swapped.module.modules())


def share(ranges: np.ndarray, rows: tuple[int, ...] | list[int]) -> float:
    return float((ranges[list(rows)].max(axis=0) / ranges.max(axis=0)).mean())


def test_the_choice_covers_more_than_chance_and_nearly_the_best() -> None:
    rng = np.random.default_rng(0)
    ranges = rng.exponential(size=(12, 20)).astype(np.float32)
    chosen = greedy_cover(ranges, 3)
    all_ = [share(ranges, rows) for rows in itertools.combinations(range(12), 3)]
    assert share(ranges, chosen) >= (1 - 1 / np.e) * max(all_)
    assert share(ranges, chosen) > np.quantile(all_, 0.9)
    assert greedy_cover(ranges, 5)[:3] == chosen
    assert sorted(greedy_cover(ranges, 12)) == list(range(12))


def test_what_reaches_nothing_comes_last_and_dead_quantizers_do_not_matter() -> None:
    ranges = np.array([[0, 0], [0, 2], [0, 1]], np.float32)
    assert greedy_cover(ranges, 3) == [1, 0, 2]


def test_the_number_is_checked(tiny_data: TinyData) -> None:
    with pytest.raises(ConfigError, match="count is 4; expected a whole number from 1 to 3"):
        greedy_cover(np.ones((3, 2), np.float32), 4)
    with pytest.raises(ConfigError, match="select is 'best'"):
        calibration_images(tiny_data.train, 2, select="best")


def test_the_first_and_the_candidates(tiny_data: TinyData) -> None:
    paths = sorted(tiny_data.train.iterdir())
    assert [record.path for record in calibration_images(tiny_data.train, 3, seed=5, select="first")] == paths[:3]
    assert len(calibration_images(tiny_data.train, 1, select="range")) == 4
    assert len(calibration_images(tiny_data.train, 4, select="range")) == len(paths)
