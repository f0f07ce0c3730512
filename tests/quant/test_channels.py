"""Searches over many channels at once against one channel at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloqat.config import QuantScheme
from yoloqat.quant.calib import amax_mse, amax_mse_channels, amax_mse_rows, amax_percentile, amax_percentile_rows
from yoloqat.quant.calib.channels import CANDIDATES, LEAST_SHARE, channel_histograms
from yoloqat.quant.functional import fake_quant

ROWS = st.lists(st.lists(st.floats(2.0**-10, 1e3, width=32), min_size=5, max_size=5), min_size=1, max_size=4)
FEW = settings(max_examples=40, deadline=None)


def values(channels: int = 6, count: int = 300) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.abs(rng.standard_t(3, (channels, count)) * rng.uniform(0.01, 10, (channels, 1))).astype(np.float32)


@FEW
@given(ROWS, st.sampled_from([7, 128, 512]))
def test_histograms_are_those_of_numpy(rows, bins):
    array = np.array(rows, np.float32)
    for counts, row in zip(channel_histograms(array, bins), array, strict=True):
        assert counts.tolist() == np.histogram(row, bins=bins, range=(0.0, float(row.max())))[0].tolist()


@pytest.mark.parametrize(("bits", "unsigned"), [(8, False), (4, False), (4, True)])
def test_mse_of_each_row_is_that_of_its_histogram(bits, unsigned):
    rows = values()
    found = amax_mse_rows(rows, 512, bits=bits, unsigned=unsigned)
    for amax, row in zip(found, rows, strict=True):
        counts, edges = np.histogram(row, bins=512, range=(0.0, float(row.max())))
        assert amax == pytest.approx(
            amax_mse(counts.astype(np.int64), edges.astype(np.float32), bits=bits, unsigned=unsigned), rel=1e-6
        )


@pytest.mark.parametrize("percentile", [50.0, 99.0, 100.0])
def test_percentile_of_each_row_is_that_of_its_histogram(percentile):
    rows = values()
    for amax, row in zip(amax_percentile_rows(rows, 512, percentile=percentile), rows, strict=True):
        counts, edges = np.histogram(row, bins=512, range=(0.0, float(row.max())))
        expected = amax_percentile(counts, edges.astype(np.float32), percentile=percentile)
        assert amax == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_mse_of_the_values_is_the_best_of_all_candidates(bits):
    scheme = QuantScheme(bits=bits, narrow_range=True)
    weights = torch.from_numpy(values()) * torch.where(torch.arange(300) % 2 == 0, 1.0, -1.0)
    found = amax_mse_channels(weights, scheme)
    for amax, row in zip(found, weights, strict=True):
        top = row.abs().max()
        tried = top * torch.linspace(1.0, LEAST_SHARE, CANDIDATES)
        errors = [float((fake_quant(row, candidate, scheme) - row).double().square().sum()) for candidate in tried]
        own = float((fake_quant(row, amax, scheme) - row).double().square().sum())
        assert own == pytest.approx(min(errors), rel=1e-5)
        assert own <= errors[0]
    assert (found < weights.abs().amax(1)).any(), "long tails are cut at few bits" if bits < 8 else ""


def test_a_channel_of_zeros_gets_zero_and_equal_errors_the_whole_range():
    weights = torch.tensor([[0.0, 0.0], [1.0, -1.0]])
    assert amax_mse_channels(weights, QuantScheme(bits=8)).tolist() == [0.0, 1.0]


def test_many_values_are_looked_at_in_parts(monkeypatch):
    weights = torch.from_numpy(values())
    whole = amax_mse_channels(weights, QuantScheme(bits=4))
    rows = amax_mse_rows(values(), 512)
    monkeypatch.setattr("yoloqat.quant.calib.channels._BLOCK", 1)
    assert torch.equal(amax_mse_channels(weights, QuantScheme(bits=4)), whole)
    assert np.array_equal(amax_mse_rows(values(), 512), rows)
