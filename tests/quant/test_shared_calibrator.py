from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloqat.errors import CalibrationError
from yoloqat.quant.calib import Histogram, HistogramCalibrator, SharedCalibrator


def assert_same(a: Histogram, b: Histogram) -> None:
    np.testing.assert_array_equal(a.counts, b.counts)
    np.testing.assert_array_equal(a.edges, b.edges)
    assert (a.low, a.high) == (b.low, b.high)


@given(st.lists(st.tuples(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6)), min_size=1, max_size=4), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_each_tensor_and_their_sum_are_what_single_calibrators_collect(
    forwards: list[tuple[float, float]], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    shared, whole = SharedCalibrator(2, num_bins=256), HistogramCalibrator(num_bins=256)
    alone = [HistogramCalibrator(num_bins=256) for _ in range(2)]
    for scales in forwards:
        shared.begin()
        for scale, one in zip(scales, alone, strict=True):
            x = torch.randn(50, generator=generator) * scale
            for calibrator in (shared, whole, one):
                calibrator.collect(x)
    assert_same(shared.histogram(), whole.histogram())
    for found, one in zip(shared.tensors(), alone, strict=True):
        assert_same(found, one.histogram())


@pytest.mark.parametrize("tensors", [1, 3])
def test_another_number_of_tensors_is_counted_but_not_told_apart(tensors: int) -> None:
    shared = SharedCalibrator(2, num_bins=256)
    for count in (2, tensors):
        shared.begin()
        for _ in range(count):
            shared.collect(torch.ones(10))
    assert shared.histogram().counts.sum() == 10 * (2 + tensors)
    assert shared.tensors() is None


def test_nothing_is_no_histogram_also_after_a_reset() -> None:
    shared = SharedCalibrator(2)
    assert (shared.histogram(), shared.tensors(), shared.flag) == (None, None, None)
    shared.collect(torch.ones(3))
    shared.reset()
    assert (shared.histogram(), shared.tensors()) == (None, None)


def test_a_tensor_that_is_not_finite_is_refused() -> None:
    shared = SharedCalibrator(2)
    shared.collect(torch.ones(3))
    with pytest.raises(CalibrationError, match="holds NaN"):
        shared.collect(torch.tensor([float("nan")]))
