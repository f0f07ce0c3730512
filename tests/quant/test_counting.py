"""The counter of an accelerator against that of the host, and that it never waits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from yoloqat.config import MethodSpec
from yoloqat.errors import CalibrationError, ConfigError
from yoloqat.quant.calib import HistogramCalibrator, MaxCalibrator
from yoloqat.quant.calib.counting import LARGE, Counter, DeviceCounter, HostCounter, flat, merged_bins, sampling_step

BINS = 256
VALUE = st.one_of(
    st.floats(-(2.0**100), 2.0**100, width=32),
    st.floats(-(2.0**-10), 2.0**-10, width=32),
    st.sampled_from([0.0, 1.0, -4.0]),
)
BATCHES = st.lists(st.lists(VALUE, min_size=1, max_size=8), min_size=1, max_size=5)
WAITS = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "bincount", "histc", "masked_select", "unique")


class NeverWaits(TorchDispatchMode):
    """Fails at every operator that would make a device hand a value to the host."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in WAITS, f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


class Deferring(HistogramCalibrator):
    """Counts as on an accelerator, wherever the tensors are."""

    def _make_counter(self, device: torch.device) -> Counter:
        return DeviceCounter(self._num_bins, device)


def assert_same_states(first: Counter, second: Counter) -> None:
    one, two = first.state(), second.state()
    assert torch.equal(one.counts, two.counts)
    assert one.counts.dtype == two.counts.dtype == torch.int64
    assert (one.exponent, one.low, one.high) == (two.exponent, two.low, two.high)


@settings(max_examples=80, deadline=None)
@given(BATCHES, st.integers(1, 3))
def test_both_counters_count_the_same(batches, step):
    host, device = HostCounter(BINS), DeviceCounter(BINS, torch.device("cpu"))
    for batch in batches:
        x = torch.tensor(batch, dtype=torch.float32)
        host.add(x, step)
        device.add(x, step)
    assert_same_states(host, device)


@pytest.mark.parametrize("exponent", [-126, -100, -60, -1, 0, 13, 100, 127])
def test_both_counters_choose_the_same_width_at_powers_of_two(exponent):
    for value in (2.0**exponent, math.nextafter(2.0**exponent, 0), -(2.0**exponent) * 1.5):
        x = torch.tensor([value, value / 3])
        if not x.isfinite().all():
            continue
        host, device = HostCounter(BINS), DeviceCounter(BINS, torch.device("cpu"))
        host.add(x, 1)
        device.add(x, 1)
        assert_same_states(host, device)


def test_layouts_count_the_same_on_an_accelerator():
    x = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    host, device = HostCounter(BINS), DeviceCounter(BINS, torch.device("cpu"))
    host.add(x.contiguous(), 1)
    device.add(x, 1)
    assert_same_states(host, device)


def test_an_accelerator_is_never_waited_for():
    x = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    calibrator, bad = Deferring(num_bins=BINS, sample=2), Deferring(num_bins=BINS)
    with NeverWaits():
        for scale in (1.0, 1e-3, 1e6):
            calibrator.collect(x * scale)
        bad.collect(torch.tensor([1.0, float("nan")]))
        assert calibrator.flag is not None
    assert int(calibrator.flag) == 0
    assert int(bad.flag) != 0


def test_the_guard_of_the_test_before_notices_the_host():
    with NeverWaits(), pytest.raises(AssertionError, match="_local_scalar_dense waits"):
        HistogramCalibrator(num_bins=BINS).collect(torch.ones(3))


@pytest.mark.parametrize(("value", "name"), [(float("nan"), "NaN"), (float("inf"), "Inf"), (-float("inf"), "Inf")])
def test_what_is_not_finite_is_told_later_and_not_counted(value, name):
    calibrator = Deferring(num_bins=BINS)
    calibrator.collect(torch.tensor([1.0, 0.5]))
    before = calibrator._counter.state()
    calibrator.collect(torch.tensor([1e9, value]))
    calibrator.collect(torch.tensor([float("inf") if name == "NaN" else float("nan")]))  # the first is told
    after = calibrator._counter.state()
    assert torch.equal(before.counts, after.counts)
    assert (before.exponent, before.low, before.high) == (after.exponent, after.low, after.high)
    for ask in (calibrator.check, calibrator.histogram, lambda: calibrator.compute_amax("mse")):
        with pytest.raises(CalibrationError, match=f"holds {name}"):
            ask()


def test_deferred_and_direct_histograms_merge():
    a, b = torch.randn(50, generator=torch.Generator().manual_seed(0)), torch.tensor([700.0])
    direct, deferred, both = (
        HistogramCalibrator(num_bins=BINS),
        Deferring(num_bins=BINS),
        HistogramCalibrator(num_bins=BINS),
    )
    direct.collect(a)
    deferred.collect(b)
    both.collect(torch.cat([a, b]))
    deferred.merge(direct)
    assert np.array_equal(deferred.histogram().counts, both.histogram().counts)
    assert deferred.compute_amax(MethodSpec("mse")) == both.compute_amax(MethodSpec("mse"))


def test_max_on_an_accelerator_is_checked_when_it_is_asked_for():
    calibrator = MaxCalibrator()
    calibrator._calib_amax = torch.tensor(float("nan"))  # as an accelerator leaves it
    with pytest.raises(CalibrationError, match="holds NaN"):
        calibrator.compute_amax()


@given(st.integers(1, 10**7), st.integers(1, 64))
def test_a_sample_passes_over_no_channel(elements, sample):
    step = sampling_step(elements, sample)
    if elements < LARGE or sample == 1:
        assert step == 1
    else:
        assert sample <= step < sample + 40
        assert math.gcd(step, elements) == 1


def test_a_sample_sees_all_channels_and_the_whole_range():
    x = torch.zeros(2, 64, 32, 32).to(memory_format=torch.channels_last)
    x += torch.arange(64.0)[:, None, None]
    x[0, 0, 0, 1] = -100.0
    calibrator = HistogramCalibrator(num_bins=BINS, sample=16)
    calibrator.collect(x)
    histogram = calibrator.histogram()
    assert (histogram.low, histogram.high) == (-100.0, 63.0)
    assert np.count_nonzero(histogram.counts[:128]) == 64
    assert abs(histogram.counts.sum() / x.numel() - 1) < 1e-3, "a sampled element stands for those around it"
    assert histogram.counts.sum() < x.numel() + 17
    small = HistogramCalibrator(num_bins=BINS, sample=16)
    small.collect(x[:, :1, :, :])
    assert small.histogram().counts.sum() == 2 * 32 * 32


def test_a_sampled_range_is_near_that_of_all():
    x = torch.randn(1 << 18, generator=torch.Generator().manual_seed(0))
    found = []
    for sample in (1, 16):
        calibrator = HistogramCalibrator(sample=sample)
        calibrator.collect(x)
        found.append([float(calibrator.compute_amax(name)) for name in ("max", "mse", "entropy")])
    assert found[0][0] == found[1][0]
    assert found[1][1:] == pytest.approx(found[0][1:], rel=0.05)


def test_the_step_of_a_sample_is_checked():
    with pytest.raises(ConfigError, match="sample is 0"):
        HistogramCalibrator(sample=0)


def test_bins_merge_to_few_and_to_one():
    counts = torch.arange(8)
    assert merged_bins(counts, 0) is counts
    assert merged_bins(counts, 1).tolist() == [1, 5, 9, 13, 0, 0, 0, 0]
    assert merged_bins(counts, 3).tolist() == merged_bins(counts, 90).tolist() == [28] + [0] * 7


def test_flat_copies_nothing_where_it_can():
    x = torch.randn(2, 3, 4, 5)
    for same in (x, x.to(memory_format=torch.channels_last)):
        assert flat(same).data_ptr() == same.data_ptr()


@pytest.mark.gpu
def test_cuda_counts_what_the_host_counts():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    generator = torch.Generator().manual_seed(0)
    host, device = HistogramCalibrator(), HistogramCalibrator()
    for scale in (0.01, 3.0, 100.0, 1e-6):
        x = (torch.randn(2, 16, 64, 64, generator=generator) * scale).to(memory_format=torch.channels_last)
        host.collect(x)
        device.collect(x.cuda())
    assert_same_states(host._counter, device._counter)
    device.collect(torch.tensor([float("nan")], device="cuda"))
    with pytest.raises(CalibrationError, match="holds NaN"):
        device.histogram()
