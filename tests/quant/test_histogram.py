"""The histogram: exact, bounded, the same in any order, and told apart from NaN."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloqat.config import MethodSpec
from yoloqat.errors import CalibrationError, ConfigError
from yoloqat.quant.calib import Histogram, HistogramCalibrator

BINS = 256
VALUE = st.one_of(st.floats(-1e3, 1e3, width=32), st.floats(-(2.0**-10), 2.0**-10, width=32), st.just(0.0))
BATCHES = st.lists(st.lists(VALUE, min_size=1, max_size=8), min_size=1, max_size=6)
FEW = settings(max_examples=60, deadline=None)
METHODS = [MethodSpec("max"), MethodSpec("entropy"), MethodSpec("mse"), MethodSpec("percentile", 99.9)]


def collected(batches, bins: int = BINS) -> HistogramCalibrator:
    calibrator = HistogramCalibrator(num_bins=bins)
    for batch in batches:
        calibrator.collect(torch.as_tensor(batch, dtype=torch.float32))
    return calibrator


def assert_same(first: Histogram, second: Histogram) -> None:
    assert np.array_equal(first.counts, second.counts)
    assert np.array_equal(first.edges, second.edges)
    assert (first.low, first.high) == (second.low, second.high)


@FEW
@given(BATCHES)
def test_numpy_counts_the_same(batches):
    histogram = collected(batches).histogram()
    values = np.concatenate([np.array(batch, np.float32) for batch in batches])
    magnitudes = np.abs(values).astype(np.float64)
    reference = [
        int(((magnitudes >= low) & (magnitudes < high)).sum())
        for low, high in zip(histogram.edges[:-1].astype(float), histogram.edges[1:].astype(float), strict=True)
    ]
    assert histogram.counts.tolist() == reference
    assert histogram.counts.sum() == len(values)
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    assert histogram.amax == magnitudes.max()


@FEW
@given(BATCHES)
def test_bins_are_bounded_and_fine(batches):
    histogram = collected(batches).histogram()
    assert len(histogram.edges) == len(histogram.counts) + 1
    assert histogram.edges[0] == 0.0
    assert len(histogram.counts) <= BINS
    assert histogram.edges[-2] <= histogram.amax < histogram.edges[-1]
    if histogram.amax > 1e-25:
        assert len(histogram.counts) > BINS // 2
        assert np.frexp(histogram.edges[1])[0] == 0.5, "the width is a power of two"


@FEW
@given(st.data(), BATCHES)
def test_the_order_of_the_batches_does_not_matter(data, batches):
    shuffled = data.draw(st.permutations(batches))
    assert_same(collected(batches).histogram(), collected(shuffled).histogram())
    flat = [value for batch in batches for value in batch]
    assert_same(collected(batches).histogram(), collected([flat]).histogram())


@FEW
@given(BATCHES, BATCHES)
def test_merging_is_collecting_together(first, second):
    merged = collected(first)
    other = collected(second)
    before = other.histogram()
    merged.merge(other)
    assert_same(merged.histogram(), collected(first + second).histogram())
    assert_same(other.histogram(), before)


def test_merging_with_nothing_collected():
    batch = [[1.0, -2.0, 3.0]]
    filled, empty = collected(batch), HistogramCalibrator(num_bins=BINS)
    filled.merge(empty)
    assert_same(filled.histogram(), collected(batch).histogram())
    empty.merge(filled)
    assert_same(empty.histogram(), collected(batch).histogram())
    empty.collect(torch.tensor([5.0]))
    assert_same(filled.histogram(), collected(batch).histogram())
    unused = HistogramCalibrator(num_bins=BINS)
    unused.merge(HistogramCalibrator(num_bins=BINS))
    assert unused.histogram() is None


def test_merging_needs_the_same_number_of_bins():
    with pytest.raises(CalibrationError, match="other histogram has 512 bins; expected 256 bins"):
        HistogramCalibrator(num_bins=256).merge(HistogramCalibrator(num_bins=512))


def test_counts_are_exact_beyond_2_to_the_24():
    calibrator = collected([[0.5, 1.0]])
    for _ in range(25):  # a merge with itself doubles every count
        calibrator.merge(calibrator)
    calibrator.collect(torch.tensor([0.5]))
    histogram = calibrator.histogram()
    assert histogram.counts.dtype == np.int64
    assert histogram.counts[histogram.counts > 0].tolist() == [2**25 + 1, 2**25]
    for _ in range(10):
        calibrator.merge(calibrator)
    assert calibrator.histogram().counts.sum() == 2**10 * (2**26 + 1)


def test_a_much_larger_batch_does_not_add_bins():
    calibrator = collected([[0.01], [100.0]], bins=2048)
    histogram = calibrator.histogram()
    assert len(histogram.counts) <= 2048
    assert histogram.counts[0] == 1, "0.01 lies in the first bin of width 1/16"
    assert histogram.edges[1] == 1 / 16


def test_a_first_batch_of_zeros_counts_and_leaves_the_range_open():
    calibrator = collected([[0.0, -0.0, 0.0]])
    zeros = calibrator.histogram()
    assert (zeros.counts.tolist(), zeros.amax) == ([3], 0.0)
    for method in METHODS:
        assert zeros.compute_amax(method) == 0.0
    calibrator.collect(torch.tensor([0.5, -1.0]))
    assert_same(calibrator.histogram(), collected([[0.5, -1.0, 0.0, 0.0, 0.0]]).histogram())


@pytest.mark.parametrize("exponent", [-30, -1, 0, 1, 20])
def test_powers_of_two_and_bin_edges_fall_into_the_bin_above(exponent):
    amax = 2.0**exponent
    width = amax * 2 / BINS
    histogram = collected([[amax, width, 3 * width, np.nextafter(np.float32(width), np.float32(0))]]).histogram()
    assert histogram.edges[1] == width
    assert np.flatnonzero(histogram.counts).tolist() == [0, 1, 3, BINS // 2]


def test_values_below_the_finest_width_are_counted():
    histogram = collected([[1e-38, -1e-40]]).histogram()
    assert histogram.counts.tolist() == [2]
    for method in METHODS:
        assert 0.0 <= histogram.compute_amax(method) <= 1e-38


@pytest.mark.parametrize(("value", "name"), [(float("nan"), "NaN"), (float("inf"), "Inf"), (-float("inf"), "Inf")])
def test_what_is_no_number_is_named_and_not_counted(value, name):
    calibrator = collected([[1.0]])
    with pytest.raises(CalibrationError, match=f"holds {name}"):
        calibrator.collect(torch.tensor([1.0, value, 2.0]))
    assert_same(calibrator.histogram(), collected([[1.0]]).histogram())


def test_an_empty_tensor_is_named():
    with pytest.raises(CalibrationError, match=r"shape \(0, 3\)"):
        HistogramCalibrator().collect(torch.empty(0, 3))


def test_layouts_and_dtypes_count_the_same():
    x = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0)).half().float()
    reference = collected([x]).histogram()
    for same in (x.to(memory_format=torch.channels_last), x.half(), x.permute(3, 1, 0, 2), x.double(), x[:, :, :, ::1]):
        calibrator = HistogramCalibrator(num_bins=BINS)
        calibrator.collect(same)
        assert_same(calibrator.histogram(), reference)
    part = x.to(memory_format=torch.channels_last)[:, 1:2, ::2]
    calibrator = HistogramCalibrator(num_bins=BINS)
    calibrator.collect(part)
    assert_same(calibrator.histogram(), collected([part.contiguous()]).histogram())


def test_collecting_changes_neither_the_tensor_nor_its_graph():
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    HistogramCalibrator().collect(x)
    assert x.tolist() == [-1.0, 2.0]
    assert x.grad_fn is None


def test_inference_mode_and_ordinary_mode_may_alternate():
    calibrator = HistogramCalibrator(num_bins=BINS)
    with torch.inference_mode():
        calibrator.collect(torch.tensor([1.0]))
        calibrator.collect(torch.tensor([300.0]))
    calibrator.collect(torch.tensor([2.0]))
    calibrator.collect(torch.tensor([1000.0]))
    with torch.inference_mode():
        calibrator.collect(torch.tensor([3.0]))
    assert_same(calibrator.histogram(), collected([[1.0, 300.0, 2.0, 1000.0, 3.0]]).histogram())


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_search_leaves_the_histogram_as_it_is(method):
    calibrator = collected([torch.randn(1000, generator=torch.Generator().manual_seed(0))])
    before = calibrator.histogram()
    first = calibrator.compute_amax(method)
    assert_same(calibrator.histogram(), before)
    assert calibrator.compute_amax(method) == first
    assert before.compute_amax(method) == first.item()
    assert 0.0 < first <= before.amax


def test_a_histogram_is_a_snapshot():
    calibrator = collected([[1.0]])
    histogram = calibrator.histogram()
    calibrator.collect(torch.tensor([1.0]))
    assert histogram.counts.sum() == 1


def test_a_percentile_within_the_first_bin_does_not_erase_the_tensor():
    histogram = collected([[0.0] * 5000, [1.0]]).histogram()
    assert histogram.compute_amax(MethodSpec("percentile", 99.9)) == histogram.edges[1]
    tiny = collected([[0.001] * 5000, [1000.0]]).histogram()
    assert 0.001 < tiny.compute_amax(MethodSpec("percentile", 99.9)) <= 1000 / BINS * 2


def test_percentile_100_stays_within_a_bin_of_the_maximum():
    histogram = collected([[0.1, 0.2, 0.9]]).histogram()
    found = histogram.compute_amax(MethodSpec("percentile", 100.0))
    assert histogram.amax - histogram.edges[1] <= found <= histogram.amax


def test_amax_of_a_one_sided_tensor():
    assert collected([[2.0, 3.0]]).histogram().amax == 3.0
    assert collected([[-2.0, -3.0]]).histogram().amax == 3.0


def test_the_names_of_methods_are_taken_too():
    calibrator = collected([torch.linspace(-1, 1, 999)])
    assert calibrator.compute_amax("mse") == calibrator.compute_amax(MethodSpec("mse"))
    assert calibrator.compute_amax("percentile", percentile=90) == calibrator.compute_amax(MethodSpec("percentile", 90))
    assert calibrator.compute_amax("max").item() == 1.0
    with pytest.raises(ConfigError, match="calibration method is 'mean'"):
        calibrator.compute_amax("mean")


def test_integers_of_fewer_bits_take_a_smaller_range():
    x = torch.randn(20000, generator=torch.Generator().manual_seed(0))
    amax = {}
    for bits in (4, 8):
        calibrator = HistogramCalibrator(bits)
        calibrator.collect(x)
        amax[bits] = calibrator.compute_amax("mse").item()
    assert amax[4] < 0.8 * amax[8]
    unsigned = HistogramCalibrator(4, unsigned=True)
    unsigned.collect(x)
    assert amax[4] < unsigned.compute_amax("mse").item() <= amax[8]


def test_before_any_data_and_after_reset_there_is_nothing():
    calibrator = HistogramCalibrator(num_bins=BINS)
    assert calibrator.histogram() is None
    assert calibrator.compute_amax() is None
    calibrator.collect(torch.tensor([100.0]))
    calibrator.reset()
    assert calibrator.histogram() is None
    calibrator.collect(torch.tensor([0.01]))
    assert_same(calibrator.histogram(), collected([[0.01]]).histogram())


@pytest.mark.parametrize("bins", [128, 300, 1 << 21, 512.0, True])
def test_the_number_of_bins_is_checked(bins):
    with pytest.raises(ConfigError, match=f"num_bins is {bins}"):
        HistogramCalibrator(num_bins=bins)
