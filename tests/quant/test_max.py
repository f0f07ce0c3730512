"""The running maximum."""

from __future__ import annotations

import pytest
import torch

from yoloqat.errors import CalibrationError
from yoloqat.quant.calib import MaxCalibrator


def test_the_maximum_runs_over_batches():
    calibrator = MaxCalibrator()
    assert calibrator.compute_amax() is None
    for batch in ([0.5, -1.0], [0.0], [-3.0, 2.0], [1.0]):
        calibrator.collect(torch.tensor(batch, dtype=torch.float16))
    assert calibrator.compute_amax().item() == 3.0
    assert calibrator.compute_amax().dtype == torch.float32
    calibrator.reset()
    assert calibrator.compute_amax() is None


def test_the_maximum_per_channel_broadcasts_to_the_tensor():
    calibrator = MaxCalibrator(axis=1)
    calibrator.collect(torch.tensor([[[1.0, -2.0], [0.0, 0.5]]]))
    calibrator.collect(torch.tensor([[[0.0, 1.0], [-4.0, 0.5]]]))
    assert calibrator.compute_amax().tolist() == [[[2.0], [4.0]]]


@pytest.mark.parametrize(("value", "name"), [(float("nan"), "NaN"), (float("inf"), "Inf"), (-float("inf"), "Inf")])
@pytest.mark.parametrize("axis", [None, 0])
def test_what_is_no_number_is_named_and_not_kept(value, name, axis):
    calibrator = MaxCalibrator(axis=axis)
    calibrator.collect(torch.ones(2, 2))
    with pytest.raises(CalibrationError, match=f"holds {name}"):
        calibrator.collect(torch.tensor([[1.0, value], [2.0, 3.0]]))
    assert calibrator.compute_amax().max() == 1.0


def test_other_channels_are_refused():
    calibrator = MaxCalibrator(axis=0)
    calibrator.collect(torch.ones(2, 2))
    with pytest.raises(
        CalibrationError, match=r"amax has shape \(3, 1\); expected the shape collected before, \(2, 1\)"
    ):
        calibrator.collect(torch.ones(3, 2))


def test_an_empty_tensor_is_named():
    with pytest.raises(CalibrationError, match=r"shape \(0,\)"):
        MaxCalibrator().collect(torch.empty(0))
