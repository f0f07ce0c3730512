"""The vectorised searches against slow references that follow their definitions word by word."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from yoloqat.quant.calib import amax_entropy, amax_entropy_even, amax_mse, amax_percentile

COUNTS = st.lists(st.one_of(st.just(0), st.integers(0, 9), st.integers(0, 10**6)), min_size=1, max_size=40).filter(any)
WIDTH = st.integers(-8, 8).map(lambda exponent: 2.0**exponent)
FEW = settings(max_examples=80, deadline=None)


def histogram(counts: list[int], width: float) -> tuple[np.ndarray, np.ndarray]:
    return np.array(counts, np.int64), (np.arange(len(counts) + 1) * width).astype(np.float32)


def slow_divergence(counts: list[int], kept: int, levels: int) -> float:
    """KL(first `kept` bins with the rest added to the last || the same bins in `levels` equal groups, averaged)."""
    reference = [float(count) for count in counts[:kept]]
    groups: dict[int, list[int]] = {}
    for index in range(kept):
        if reference[index] > 0:
            groups.setdefault(index * levels // kept, []).append(index)
    quantized = [0.0] * kept
    for members in groups.values():
        for index in members:
            quantized[index] = sum(reference[member] for member in members) / len(members)
    reference[-1] += sum(counts[kept:])
    total_p, total_q = sum(reference), sum(quantized)
    divergence = 0.0
    for p, q in zip(reference, quantized, strict=True):
        if p > 0:
            divergence += math.inf if q == 0 else p / total_p * math.log(p / total_p / (q / total_q))
    return divergence


def slow_error(counts: np.ndarray, centers: np.ndarray, amax: float, high: int) -> float:
    step = amax / high
    quantized = np.clip(np.rint(centers / step), 0, high) * step
    return float((counts * (centers - quantized) ** 2).sum())


@FEW
@given(COUNTS, WIDTH, st.integers(2, 5), st.booleans(), st.integers(1, 4), st.integers(1, 50))
@example([0, 0, 0, 7], 1.0, 3, False, 1, 1)
@example([5], 1.0, 3, False, 1, 128)
@example([0, 3] + [0] * 20 + [1], 1.0, 2, False, 1, 1)
def test_entropy_finds_the_least_divergence(counts, width, bits, unsigned, stride, start):
    found = amax_entropy(*histogram(counts, width), bits=bits, unsigned=unsigned, stride=stride, start_bin=start)
    levels = 2**bits if unsigned else 2 ** (bits - 1)
    filled = [counts[1], *counts[1:]] if len(counts) > 1 else counts
    candidates = range(min(start, len(counts)), len(counts) + 1, stride)
    divergences = {kept * width: slow_divergence(filled, kept, levels) for kept in candidates}
    assert found in divergences
    best = min(divergences.values())
    assert divergences[found] == best or divergences[found] == pytest.approx(best, rel=1e-6, abs=1e-9)
    larger = [value for edge, value in divergences.items() if edge > found]
    assert all(value > best - 1e-9 for value in larger)


def test_entropy_takes_the_largest_of_equal_ranges():
    counts, edges = histogram([4] * 16, 0.5)  # flat: any whole multiple of the levels is exact
    assert amax_entropy(counts, edges, bits=3, start_bin=4) == 8.0


@FEW
@given(COUNTS, WIDTH, st.integers(2, 5), st.booleans(), st.integers(1, 4), st.integers(0, 50))
@example([5], 1.0, 3, False, 1, 128)
@example([0, 0, 0, 7], 1.0, 3, False, 1, 0)
def test_mse_finds_the_least_error(counts, width, bits, unsigned, stride, start):
    counts, edges = histogram(counts, width)
    found = amax_mse(counts, edges, bits=bits, unsigned=unsigned, stride=stride, start_bin=start)
    high = (2**bits if unsigned else 2 ** (bits - 1)) - 1
    centers = (np.arange(len(counts)) + 0.5) * width
    candidates = centers[min(start, len(centers) - 1) :: stride]
    errors = {amax: slow_error(counts, centers, amax, high) for amax in candidates}
    assert found in errors
    scale = float((counts * centers**2).sum())
    assert errors[found] <= min(errors.values()) + 1e-9 * scale


@FEW
@given(COUNTS, WIDTH, st.floats(0.1, 100))
def test_percentile_is_the_lower_edge_of_the_bin_that_reaches_it(counts, width, percentile):
    counts, edges = histogram(counts, width)
    found = amax_percentile(counts, edges, percentile=percentile)
    index = round(found / width)
    share = counts.cumsum() / counts.sum()
    assert index >= len(counts) - 1 or share[index] >= percentile / 100 - 1e-9
    assert index == 0 or share[index - 1] < percentile / 100 + 1e-9


@pytest.mark.parametrize("search", [amax_entropy, amax_mse])
@pytest.mark.parametrize("bits", [12, 16])
def test_wide_integers_are_searched_in_small_blocks(search, bits):
    counts, edges = histogram([1] * 300, 0.01)
    # more levels than bins: nothing is lost by keeping everything
    assert search(counts, edges, bits=bits, start_bin=298) >= 2.98


@pytest.mark.parametrize("mass", [0, 5, 39])
def test_all_mass_in_one_bin_is_inside_the_range(mass):
    counts = [0] * 40
    counts[mass] = 1000
    counts, edges = histogram(counts, 0.25)
    assert 0.0 < amax_mse(counts, edges, start_bin=1) <= 10.0
    assert amax_entropy(counts, edges, start_bin=1) > 0.0
    assert amax_percentile(counts, edges, percentile=99.9) == mass * 0.25


def test_only_zeros_give_the_whole_range():
    counts, edges = histogram([0] * 10, 1.0)
    assert amax_entropy(counts, edges) == 10.0


def slow_even_divergence(counts: list[int], kept: float, levels: int) -> float:
    """The divergence of the first `kept` bins (a fraction of the last) spread over four bins per level."""

    def below(place: float) -> float:
        whole = min(int(place), len(counts))
        return sum(counts[:whole]) + (counts[whole] * (place - whole) if whole < len(counts) else 0)

    resolution = 4 * levels
    places = [kept * index / resolution for index in range(resolution + 1)]
    fine = [below(end) - below(start) for start, end in itertools.pairwise(places)]
    fine = [value if value > 1e-9 * sum(counts) else 0.0 for value in fine]
    quantized = []
    for level in range(levels):
        group = fine[4 * level : 4 * level + 4]
        filled = sum(value > 0 for value in group)
        quantized += [sum(group) / filled if value > 0 else 0.0 for value in group]
    reference = [*fine[:-1], fine[-1] + below(len(counts)) - below(kept)]
    divergence = 0.0
    for p, q in zip(reference, quantized, strict=True):
        if p > 1e-9 * sum(counts):
            divergence += math.inf if q == 0 else p / sum(reference) * math.log(p / sum(reference) * sum(quantized) / q)
    return divergence


@FEW
@given(st.lists(st.integers(1, 10**4), min_size=18, max_size=60), WIDTH, st.integers(2, 3), st.booleans())
def test_even_entropy_finds_the_least_divergence(counts, width, bits, unsigned):
    levels = 2**bits if unsigned else 2 ** (bits - 1)
    found = amax_entropy_even(*histogram(counts, width), bits=bits, unsigned=unsigned, candidates=9, clipped=1.0)
    if 4 * levels >= len(counts):
        assert found == len(counts) * width
        return
    filled = [counts[1], *counts[1:]]
    candidates = np.linspace(4 * levels, len(counts), 9)
    divergences = [slow_even_divergence(filled, kept, levels) for kept in candidates]
    chosen = int(np.abs(candidates * width - found).argmin())
    assert found == pytest.approx(candidates[chosen] * width)
    assert divergences[chosen] == pytest.approx(min(divergences), rel=1e-6, abs=1e-9)


def test_even_entropy_does_not_depend_on_the_number_of_bins():
    fine = np.histogram(np.random.default_rng(0).laplace(size=200_000).clip(-8, 7.999), 2048, (-8, 8))[0]
    counts = fine[1024:] + fine[1023::-1]
    found = [
        amax_entropy_even(*histogram(counts.reshape(-1, size).sum(1).tolist(), 8 / 1024 * size), bits=4, candidates=64)
        for size in (1, 2, 4, 8)
    ]
    assert max(found) - min(found) <= 0.1 * max(found)
    assert max(found) < 8.0


def test_even_entropy_of_zeros_or_of_few_bins_is_the_whole_range():
    assert amax_entropy_even(*histogram([0] * 1000, 1.0)) == 1000.0
    assert amax_entropy_even(*histogram([5], 1.0)) == 1.0
    assert amax_entropy_even(*histogram([3, 1] * 2000, 1.0), bits=16) == 4000.0


def test_even_entropy_leaves_the_histogram_as_it_is():
    counts, edges = histogram(list(range(1000, 0, -1)), 1.0)
    amax_entropy_even(counts, edges)
    assert counts[0] == 1000


def test_even_entropy_takes_the_largest_of_equal_ranges():
    # both half the range and all of it hold everything, evenly: no loss either way
    assert amax_entropy_even(*histogram([4] * 32 + [0] * 32, 1.0), bits=2, candidates=8, clipped=1.0) == 64.0


def test_even_entropy_does_not_clip_what_lies_above_a_spike():
    # a letterboxed image: even brightness from 0 to 255, and a border of one grey value that half of the pixels have
    counts = [8] * 2048
    counts[916] = 8 * 2048
    found = amax_entropy_even(*histogram(counts, 1.0), candidates=256, clipped=1.0)
    assert found == pytest.approx(917, abs=8)
    assert amax_entropy_even(*histogram(counts, 1.0)) > 2000


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("scale", [0.02, 0.2, 1.0])
def test_a_coarse_search_by_mse_finds_what_the_full_one_does(bits, scale):
    values = np.abs(np.random.default_rng(bits).laplace(scale=scale, size=200_000)).clip(max=8.0)
    counts, edges = np.histogram(values, 8192, (0.0, 8.0))
    counts[-1] += 3  # a few values far out
    found = [
        amax_mse(counts.astype(np.int64), edges.astype(np.float32), bits=bits, stride=8, even=True, coarse=coarse)
        for coarse in (1, 8)
    ]
    assert found[1] == pytest.approx(found[0], rel=0.03)
