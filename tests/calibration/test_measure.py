"""Facts of hand-made tensors against shares and errors that are known without the code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloqat.calibration.measure import (
    affine_grid,
    among,
    channel_facts,
    compact,
    histogram_values,
    method_grid,
    other_ranges,
    range_option,
    symmetric_grid,
    usage,
)
from yoloqat.config import MethodSpec, QuantScheme
from yoloqat.quant.calib import Histogram, HistogramCalibrator
from yoloqat.quant.functional import fake_quant, fake_quant_affine

EIGHT, THREE = QuantScheme(), QuantScheme(bits=3)


def made(shares: dict[float, int], width: float = 1 / 64, low: float = 0.0) -> Histogram:
    """Return a histogram with so many values in the bin that begins at each place."""
    top = max(shares)
    counts = np.zeros(round(top / width) + 1, np.int64)
    for place, count in shares.items():
        counts[round(place / width)] = count
    edges = (np.arange(len(counts) + 1) * width).astype(np.float32)
    return Histogram(counts, edges, low=low, high=float(edges[-1]))


def grid(amax: float, scheme: QuantScheme = THREE):
    return symmetric_grid(np.array(amax), scheme)


def test_shares_of_integers_clipping_and_thirds_are_those_put_in() -> None:
    # a scale of 1: integers 0 to 3; 0.25 rounds to 0, 1.25 to 1, 2.75 to 3, 5 is clipped
    found = usage(histogram_values(made({0.25: 500, 1.25: 300, 2.75: 150, 5.0: 50})), grid(3.0))
    assert (found.zero_share, found.one_share, found.clipped_share) == pytest.approx((0.5, 0.3, 0.05))
    assert found.beyond_third_share == pytest.approx(0.5)
    assert found.integer_shares == pytest.approx((0.5, 0.3, 0.0, 0.2))
    assert (found.reached, found.integers, found.steps) == ((0, 3), (-4, 3), 3)
    entropy = -sum(share * math.log2(share) for share in (0.5, 0.3, 0.2))
    assert (found.entropy_bits, found.most_entropy_bits) == pytest.approx((entropy, 2.0))
    assert found.p50_steps == pytest.approx(0.27, abs=0.02)
    assert found.p99_steps == pytest.approx(5.0, abs=0.02)


def test_the_error_and_its_parts_are_those_of_the_values() -> None:
    found = usage(histogram_values(made({0.25: 500, 1.25: 300, 5.0: 200}, width=1 / 1024)), grid(3.0))
    parts = [0.5 * 0.25**2, 0.3 * 0.25**2, 0.2 * 2.0**2]
    assert found.error == pytest.approx(sum(parts), rel=0.01)
    assert found.clip_error_share == pytest.approx(parts[2] / sum(parts), rel=0.01)
    assert found.zero_error_share == pytest.approx(parts[0] / sum(parts), rel=0.01)
    assert found.absolute_error == pytest.approx(0.5 * 0.25 + 0.3 * 0.25 + 0.2 * 2.0, rel=0.01)
    signal = 0.5 * 0.25**2 + 0.3 * 1.25**2 + 0.2 * 25
    assert found.sqnr_db == pytest.approx(10 * math.log10(signal / sum(parts)), abs=0.05)


def test_even_values_have_the_error_of_rounding() -> None:
    histogram = Histogram(np.full(4096, 9), np.linspace(0, 1, 4097, dtype=np.float32), low=0.0, high=1.0)
    found = usage(histogram_values(histogram), grid(1.0, EIGHT))
    assert found.error == pytest.approx((1 / 127) ** 2 / 12, rel=0.01)
    assert found.entropy_bits == pytest.approx(7.0, abs=0.02)


@pytest.fixture(scope="module")
def activation() -> torch.Tensor:
    return torch.nn.functional.silu(torch.randn(200_000, generator=torch.Generator().manual_seed(0)) * 3)


@pytest.fixture(scope="module")
def collected(activation: torch.Tensor) -> Histogram:
    calibrator = HistogramCalibrator()
    calibrator.collect(activation)
    return calibrator.histogram()


@pytest.mark.parametrize("amax", [2.0, 7.5, 20.0])
def test_a_histogram_tells_the_error_of_the_tensor(activation: torch.Tensor, collected: Histogram, amax: float) -> None:
    expected = float((fake_quant(activation, torch.tensor(amax), EIGHT) - activation).double().square().mean())
    assert usage(histogram_values(collected), grid(amax, EIGHT)).error == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("low", "high"), [(-0.2785, 5.0), (-0.2785, 11.0), (-0.1, 0.1)])
def test_the_error_of_an_affine_range_needs_no_signs(
    activation: torch.Tensor, collected: Histogram, low: float, high: float
) -> None:
    ends = torch.tensor(low), torch.tensor(high)
    quantized = fake_quant_affine(activation, *ends, QuantScheme(symmetric=False))
    expected = float((quantized - activation).double().square().mean())
    found = usage(histogram_values(collected), affine_grid(low, high, 8))
    assert found.error == pytest.approx(expected, rel=0.01)
    assert found.integers[1] - found.integers[0] == 255


@given(
    counts=st.lists(st.integers(0, 1 << 40), min_size=1, max_size=300).filter(any),
    amax=st.floats(1e-3, 1e3),
    bits=st.integers(2, 16),
)
@settings(max_examples=60, deadline=None)
def test_shares_sum_to_one(counts: list[int], amax: float, bits: int) -> None:
    kept = np.array(counts[: max(index for index, count in enumerate(counts) if count) + 1])
    edges = np.arange(len(kept) + 1, dtype=np.float32) / 4
    histogram = Histogram(kept, edges, low=-0.25, high=float(edges[-1]))
    values, range_ = histogram_values(histogram), grid(amax, QuantScheme(bits=bits))
    found = usage(values, range_)
    assert sum(found.integer_shares) == pytest.approx(1.0)
    assert len(found.integer_shares) <= 256
    small = compact(values, range_, steps=False)
    assert sum(small.shares) == pytest.approx(1.0)
    assert (len(small.shares), small.edges[-1], small.clip) == (64, histogram.high, amax)
    assert 0.0 <= found.zero_share + found.one_share <= 1.0 + 1e-9


def test_other_ranges_have_the_amax_of_their_methods_and_ratios_to_the_present(collected: Histogram) -> None:
    present = usage(histogram_values(collected), grid(collected.amax, EIGHT))
    found = {option.name: option for option in other_ranges(collected, EIGHT, present, MethodSpec("max"))}
    for method in ("max", "entropy", "mse", "percentile-99.9", "percentile-99.99"):
        amax = collected.compute_amax(MethodSpec.parse(method))
        assert (found[method].amax, found[method].scale) == pytest.approx((amax, amax / 127))
    assert (found["max"].error_ratio, found["max"].absolute_ratio) == pytest.approx((1.0, 1.0))
    assert found["mse"].error_ratio == min(option.error_ratio for name, option in found.items() if "," not in name)
    # from -0.28 to amax there are twice as many integers as from 0 to amax: half the scale, a quarter of the error
    assert found["affine, max"].error_ratio == pytest.approx(0.25, abs=0.04)
    assert found["percentile-99.9"].clipped_share == pytest.approx(0.001, abs=2e-4)


def test_an_affine_scheme_is_compared_with_the_symmetric_one(collected: Histogram) -> None:
    scheme = QuantScheme(symmetric=False)
    present = usage(histogram_values(collected), method_grid(collected, MethodSpec("max"), scheme, affine=True))
    found = {option.name: option for option in other_ranges(collected, scheme, present, MethodSpec("max"))}
    assert found["max"].error_ratio == pytest.approx(1.0)
    assert found["symmetric, max"].error_ratio == pytest.approx(4.0, abs=0.6)


def test_zeros_have_no_error_and_no_ratio() -> None:
    histogram = Histogram(np.array([8]), np.array([0, 1e-30], np.float32), low=0.0, high=0.0)
    values = histogram_values(histogram)
    found = usage(values, grid(0.0))
    assert (found.error, found.sqnr_db, found.zero_share, found.clipped_share) == (0.0, None, 1.0, 0.0)
    option = range_option("max", values, grid(0.0), found)
    assert (option.error_ratio, option.absolute_ratio, option.sqnr_db) == (None, None, None)
    assert sum(compact(values, grid(0.0), steps=False).shares) == pytest.approx(1.0)


def test_channels_are_compared_with_the_median_of_those_that_are_not_zero() -> None:
    rows = np.array([[0.5, -1], [0, 0], [2, 1], [-40, 3]], np.float32)
    found = channel_facts(rows)
    assert (found.count, found.zero, found.median, found.largest, found.channel) == (4, 1, 2.0, 40.0, 3)
    assert found.largest_over_median == 20.0
    assert channel_facts(np.zeros((2, 3), np.float32)).largest_over_median is None


def test_a_quantizer_is_ranked_among_all() -> None:
    every = [usage(histogram_values(made({place: 1, 0.0: 1})), grid(3.0)) for place in (0.75, 2.75, 1.25)]
    worst = min(every, key=lambda each: each.sqnr_db)
    found = among(worst, every)
    assert (found.count, found.sqnr_rank, found.zero_rank) == (3, 1, 1)
    assert found.zero_median == pytest.approx(0.5)
    assert found.sqnr_median_db == pytest.approx(sorted(each.sqnr_db for each in every)[1])
